"""What a recipe leaves out and why, by steps; and what stays where it is from version to version."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from curation_assets.datasets.building import Built, build
from curation_assets.datasets.comparing import changes as changes_of
from curation_assets.datasets.drift import Drift
from curation_assets.datasets.gate import judge
from curation_assets.datasets.gathering import Gathered
from curation_assets.datasets.reading import parse_recipe
from curation_assets.datasets.recipe import Recipe
from curation_assets.datasets.versions import content_id
from curation_assets.decisions.standing import SCHEMA, Decisions
from curation_assets.errors import CurationError

SPLIT = {"train": 0.6, "val": 0.2, "test": 0.2}
NO_GROUPS = {
    "kind": pl.String,
    "group_id": pl.String,
    "relative_path": pl.String,
    "content_sha256": pl.String,
    "similarity": pl.Float32,
}
NO_PAIRS = {"first": pl.String, "second": pl.String, "kind": pl.String, "similarity": pl.Float32}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def image(path: str, **given: Any) -> dict[str, Any]:
    folder, _, name = path.rpartition("/")
    row: dict[str, Any] = {
        "relative_path": path, "content_sha256": sha(path), "folder": folder or ".", "file_name": name,
        "captured_at": None, "camera": None, "latitude": None, "longitude": None, "size_bytes": 1000, "_file": "part-0",
        "sharpness": 0.5, "decided": 0, "annotated": 1, "pixels": 100, "bytes_a_pixel": 1.0, "taken_at": None,
        "values": [folder.split("/")[-1]], "against": False, "unsure": False, "examined": True, "problem": None,
        "flagged": False, "doubted": False, "given_split": None, "must_have": False,
    }  # fmt: skip
    return row | given


def lake(images: list[dict[str, Any]], groups: dict[str, list[list[str]]] | None = None) -> Gathered:
    """A lake of images; of each kind groups of paths, all of whose members are pairs."""
    schema = {
        "captured_at": pl.Datetime("us", "UTC"), "taken_at": pl.Datetime("us", "UTC"), "camera": pl.String,
        "latitude": pl.Float64, "longitude": pl.Float64, "values": pl.List(pl.String), "problem": pl.String,
        "given_split": pl.String,
    }  # fmt: skip
    rows = pl.DataFrame(images, schema_overrides=schema, infer_schema_length=None).sort("relative_path")
    content = dict(rows.select("relative_path", "content_sha256").iter_rows())
    members, pairs = [], set()
    for kind, lists in (groups or {}).items():
        for number, paths in enumerate(lists):
            members += [(kind, f"{kind}{number}", path, content[path], 0.9) for path in paths]
            contents = sorted({content[path] for path in paths})
            if kind != "exact":
                pairs |= {(one, other, kind, 0.9) for at, one in enumerate(contents) for other in contents[at + 1 :]}
    return Gathered(
        rows,
        pl.DataFrame(members, NO_GROUPS, orient="row"),
        pl.DataFrame(sorted(pairs), NO_PAIRS, orient="row"),
        Decisions(pl.DataFrame(schema=SCHEMA)),
    )


def recipe(**tables: Any) -> Recipe:
    return parse_recipe({"name": "leaves", "labels": {"field": "class"}} | tables, "recipe")


def many(number: int = 60, classes: int = 3) -> list[dict[str, Any]]:
    """Unlike images of some classes."""
    return [image(f"class{at % classes}/photo{chr(97 + at // 26)}{chr(97 + at % 26)}.jpg") for at in range(number)]


def reasons(built: Built) -> dict[str, str | None]:
    return dict(built.rows.select("relative_path", "reason").iter_rows())


def witnesses_are_kept(built: Built) -> None:
    reason = reasons(built)
    for path, why, witness in built.rows.select("relative_path", "reason", "witness").iter_rows():
        assert (why is None) == built.rows.row(by_predicate=pl.col("relative_path") == path, named=True)["kept"]
        if why in ("exact", "near", "burst", "buffer"):
            assert witness is not None
            assert reason[witness] in (None, "subset"), (path, why, witness, reason[witness])
    assert built.rows.filter(~pl.col("kept"))["split"].null_count() == len(built.rows) - len(built.kept)


def test_each_image_that_is_left_out_has_a_reason() -> None:
    images = [
        image("a/kept.jpg"),
        image("a/against.jpg", against=True, problem="blurry"),
        image("a/unsure.jpg", unsure=True),
        image("a/unlabelled.jpg", values=None),
        image("a/empty.jpg", values=[]),
        image("a/two.jpg", values=["a", "b"]),
        image("c/dropped.jpg"),
        image("b/merged.jpg"),
        image("a/blurry.jpg", problem="blurry"),
        image("a/new.jpg", examined=False),
    ]
    built = build(recipe(labels={"field": "class", "merge": {"x": ["a", "b"]}, "drop": ["c"]}), lake(images), None)
    assert reasons(built) == {
        "a/kept.jpg": None,
        "a/against.jpg": "decided",
        "a/unsure.jpg": "unsure",
        "a/unlabelled.jpg": "no label",
        "a/empty.jpg": "no label",
        "a/two.jpg": None,  # both became one
        "c/dropped.jpg": "label dropped",
        "b/merged.jpg": None,
        "a/blurry.jpg": "blurry",
        "a/new.jpg": "not examined",
    }
    assert set(built.kept["label"]) == {"x"}
    assert {name: int(counts["images"].sum()) for name, counts in built.steps.items() if len(counts)} == {
        "decisions": 1, "labels": 4, "problems": 1, "not examined": 1,
    }  # fmt: skip


def test_several_labels_are_left_out_unless_they_are_wanted() -> None:
    images = [image("a/one.jpg"), image("a/two.jpg", values=["b", "a"])]
    assert reasons(build(recipe(), lake(images), None))["a/two.jpg"] == "several labels"
    built = build(recipe(labels={"field": "class", "several": "keep"}), lake(images), None)
    assert built.kept["label"].to_list() == ["a", "a, b"]


def test_of_a_group_the_best_stays_that_no_step_left_out() -> None:
    images = [
        image("a/1.jpg", pixels=900, problem="blurry"),
        image("a/2.jpg", pixels=400),
        image("a/3.jpg", pixels=800),
        image("a/3 copy.jpg", pixels=800, content_sha256=sha("a/3.jpg")),
        image("a/4.jpg", pixels=100),
    ]
    groups = {
        "near": [["a/1.jpg", "a/2.jpg", "a/3.jpg", "a/3 copy.jpg"]],
        "exact": [["a/3.jpg", "a/3 copy.jpg"]],
        "burst": [["a/3.jpg", "a/4.jpg"]],
    }
    built = build(recipe(), lake(images, groups), None)
    assert reasons(built) == {
        "a/1.jpg": "blurry",
        "a/2.jpg": "near",
        "a/3 copy.jpg": None,
        "a/3.jpg": "exact",
        "a/4.jpg": None,
    }
    rows = {row["relative_path"]: row for row in built.rows.iter_rows(named=True)}
    assert rows["a/3.jpg"]["similarity"] == 1
    assert rows["a/2.jpg"]["similarity"] == pytest.approx(0.9)
    witnesses_are_kept(built)
    scene = build(recipe(leave_out={"burst": True}), lake(images, groups), None)
    assert reasons(scene)["a/4.jpg"] is None  # a burst is one of keepers, of which the image is no member any more
    witnesses_are_kept(scene)


def test_a_persons_word_goes_before_all_others() -> None:
    images = [
        image("a/1.jpg", pixels=900),
        image("a/2.jpg", pixels=400, decided=2),
        image("a/3.jpg", decided=-1, pixels=999),
    ]
    built = build(recipe(keep={"order": ["pixels"]}), lake(images, {"near": [["a/1.jpg", "a/2.jpg", "a/3.jpg"]]}), None)
    assert built.kept["relative_path"].to_list() == ["a/2.jpg"]


def test_a_witness_that_was_left_out_later_is_followed() -> None:
    images = [
        image("a/1.jpg", pixels=900),
        image("a/1b.jpg", pixels=900, content_sha256=sha("a/1.jpg")),
        image("a/2.jpg", pixels=950),
    ]
    groups = {"exact": [["a/1.jpg", "a/1b.jpg"]], "near": [["a/1.jpg", "a/1b.jpg", "a/2.jpg"]]}
    built = build(recipe(), lake(images, groups), None)
    assert reasons(built) == {"a/1.jpg": "near", "a/1b.jpg": "exact", "a/2.jpg": None}
    assert built.rows.drop_nulls("witness")["witness"].to_list() == ["a/2.jpg"] * 2


@pytest.mark.parametrize("strategy", ["random", "balanced"])
def test_a_subset_has_its_size_and_each_class_its_least(strategy: str) -> None:
    images = [*many(60, 2), image("rare/x.jpg"), image("rare/y.jpg")]
    built = build(
        recipe(subset={"size": 20, "strategy": strategy, "per_class_at_least": 2, "seed": 4}), lake(images), None
    )
    counts = dict(built.kept["label"].value_counts().iter_rows())
    assert sum(counts.values()) == 20
    assert counts["rare"] == 2
    if strategy == "balanced":
        assert counts["class0"] == counts["class1"] == 9
    again = build(
        recipe(subset={"size": 20, "strategy": strategy, "per_class_at_least": 2, "seed": 5}), lake(images), None
    )
    assert set(again.kept["relative_path"]) != set(built.kept["relative_path"])


def test_sides_hold_what_they_should_and_nothing_leaks() -> None:
    images = many(120, 3)
    paths = sorted(one["relative_path"] for one in images)
    groups = {
        "near": [paths[at : at + 2] for at in range(0, 40, 2)],
        "burst": [paths[at : at + 4] for at in range(60, 100, 4)],
    }
    built = build(recipe(split=SPLIT, leave_out={"near": False}), lake(images, groups), None)
    assert built.leakage is not None
    assert built.leakage.pairs == 0
    assert built.worst < 2
    assert len(built.kept) == 120
    assert dict(built.kept["split"].value_counts().iter_rows()) == {"train": 72, "val": 24, "test": 24}
    witnesses_are_kept(built)
    # Not joined, they would leak, and be seen by the join that looks for it.
    loose = build(
        recipe(split=SPLIT | {"together": {"duplicates": False}}, leave_out={"near": False}), lake(images, groups), None
    )
    assert loose.leakage is not None
    assert loose.leakage.pairs > 0
    assert not next(verdict for verdict in judge(loose, {}, None) if verdict.name == "leaks").passed


def test_what_lies_too_near_to_a_cut_is_left_out_and_an_unused_order_is_told_of() -> None:
    images = [image(f"class{at % 2}/DSC_{at // 2:04}.jpg") for at in range(400)]
    used = build(recipe(split=SPLIT | {"apart": {"numbering": 2}}), lake(images), None)
    assert used.worst < 2
    left = [why for why in reasons(used).values() if why]
    assert left
    assert set(left) == {"buffer"}
    assert len(left) <= 2 * 2 * 2
    (relation,) = [one for one in used.relations if one.used]
    assert (relation.images, relation.series, relation.left_out) == (400, 2, len(left))
    assert relation.across == {"train": 0, "val": 0, "test": 0}
    witnesses_are_kept(used)
    unused = build(recipe(split=SPLIT), lake(images), None)
    assert any("numbers within 2 of each other lie on two sides for" in note for note in unused.notes)


def test_images_of_one_plot_are_never_on_two_sides() -> None:
    images = [image(f"plot{at % 12}/class{at % 3}/x{at:03}.jpg", together_path_0=f"plot{at % 12}") for at in range(240)]
    built = build(recipe(split=SPLIT | {"together": {"path": "{plot}/**"}}), lake(images), None)
    assert not any("together" in note for note in built.notes)
    images += [image(f"other/x{at}y.jpg", together_path_0=None, camera="C", values=["class0"]) for at in range(2)]
    images = [one | {"together_camera": one["camera"]} for one in images]
    asked = {"path": ["{plot}/**", "x/{plot}/*"], "column": "camera"}
    notes = build(recipe(split=SPLIT | {"together": asked}), lake(images), None).notes
    (of_path, of_column) = [note for note in notes if "together" in note]
    assert of_path.startswith(
        "2 of 242 images match no pattern of [split.together] path ({plot}/**, x/{plot}/*), for ex"
    )
    assert "example other/x0y.jpg" in of_path
    assert of_column.startswith("240 of 242 images have no value of [split.together] column camera, for example plot0/")
    plots = built.kept.with_columns(plot=pl.col("relative_path").str.split("/").list.first())
    assert plots.group_by("plot").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 12


def test_a_group_larger_than_a_side_is_told_with_its_weakest_links() -> None:
    images = many(30, 1)
    paths = sorted(one["relative_path"] for one in images)
    with pytest.raises(CurationError, match=r"28 images belong together.*train gets at most 18 of 30.*near 0.900: "):
        build(recipe(split=SPLIT, leave_out={"near": False}), lake(images, {"near": [paths[:28]]}), None)


def test_a_side_that_would_be_empty_is_told() -> None:
    images = many(4, 1)
    paths = sorted(one["relative_path"] for one in images)
    with pytest.raises(CurationError, match="no image is left for"):
        build(recipe(split=SPLIT, leave_out={"near": False}), lake(images, {"near": [paths[:2], paths[2:]]}), None)


def test_nothing_left_is_told_with_why() -> None:
    with pytest.raises(CurationError, match="no image is left: no label 2"):
        build(recipe(), lake([image("a/1.jpg", values=None), image("a/2.jpg", values=None)]), None)


def kept_before(*versions: Built) -> pl.DataFrame:
    """As ``kept_so_far`` reads it."""
    parts = []
    for at, built in enumerate(versions[::-1]):
        kept = built.kept.select("relative_path", "content_sha256", "split", last=pl.lit(at == 0))
        sides = kept.select(witness="relative_path", split="split")
        others = built.rows.filter(pl.col("reason").is_in(["exact", "near", "burst"])).drop("split")
        stood_for = others.join(sides, on="witness").with_columns(last=pl.lit(value=False))
        parts += [kept, stood_for.select(kept.columns)]
    return pl.concat(parts).unique(["relative_path", "content_sha256"], keep="first", maintain_order=True)


def test_over_ten_versions_of_a_growing_lake_no_image_changes_sides() -> None:
    images, versions, sides = [], [], {}
    every = [image(f"class{at % 3}/IMG_{at * 7 % 500:04}.jpg") for at in range(500)]
    groups: dict[str, list[list[str]]] = {"near": []}
    for at in range(10):
        images += every[at * 50 : at * 50 + 50]
        groups["near"].append([images[at]["relative_path"], images[-1 - at]["relative_path"]])  # old and new
        made = recipe(split=SPLIT | {"apart": {"numbering": 1}}, subset={"size": 20 * (at + 1), "strategy": "random"})
        joined = {"near": [group for group in groups["near"] if len(set(group)) > 1]}
        built = build(made, lake(images, joined), kept_before(*versions) if versions else None)
        versions.append(built)
        witnesses_are_kept(built)
        assert built.leakage is not None
        assert built.leakage.pairs == 0
        for path, side in built.kept.select("relative_path", "split").iter_rows():
            assert sides.setdefault(path, side) == side
    changes = changes_of(versions[-2].rows, versions[-1].rows)
    assert "moved" not in set(changes["change"])


def test_what_was_kept_stays_though_others_are_better() -> None:
    old = [image("a/1.jpg", pixels=100), *many(20, 1)]
    first = build(recipe(split=SPLIT), lake(old), None)
    new = [*old, image("a/2.jpg", pixels=900)]
    built = build(recipe(split=SPLIT), lake(new, {"near": [["a/1.jpg", "a/2.jpg"]]}), kept_before(first))
    assert reasons(built)["a/2.jpg"] == "near"
    fresh = build(recipe(split=SPLIT), lake(new, {"near": [["a/1.jpg", "a/2.jpg"]]}), None)
    assert reasons(fresh)["a/1.jpg"] == "near"


def test_an_image_that_was_renamed_keeps_its_side() -> None:
    old = many(30, 1)
    first = build(recipe(split=SPLIT), lake(old), None)
    path = first.kept.filter(pl.col("split") == "test")["relative_path"][0]
    new = [one if one["relative_path"] != path else one | {"relative_path": "moved/here.jpg"} for one in old]
    built = build(recipe(split=SPLIT, subset={"size": 30, "strategy": "random"}), lake(new), kept_before(first))
    assert dict(built.kept.select("relative_path", "split").iter_rows())["moved/here.jpg"] == "test"


def test_what_stands_for_a_photograph_now_lies_where_the_other_lay() -> None:
    images = many(60, 1)
    copy = image("a/copy.jpg", pixels=50)
    every = [*images, copy]
    group = {"near": [[images[0]["relative_path"], "a/copy.jpg"]]}
    for seed in range(6):
        first = build(recipe(split=SPLIT | {"seed": seed}), lake(every, group), None)
        side = dict(first.kept.select("relative_path", "split").iter_rows())[images[0]["relative_path"]]
        assert reasons(first)["a/copy.jpg"] == "near"
        before = kept_before(first)
        # Another is the one to keep; or the one that was kept is gone; and other shares are asked for besides.
        told = [one | ({"decided": 2} if one["relative_path"] == "a/copy.jpg" else {}) for one in every]
        other = recipe(split={"train": 0.2, "val": 0.2, "test": 0.6, "seed": seed})
        for now, groups in ((told, group), (every[1:], {})):
            built = build(other, lake(now, groups), before)
            assert dict(built.kept.select("relative_path", "split").iter_rows())["a/copy.jpg"] == side


def test_two_on_two_sides_that_turn_out_to_be_one_photograph_keep_the_cleaner_one() -> None:
    old = many(40, 1)
    first = build(recipe(split=SPLIT), lake(old), None)
    train, test = (first.kept.filter(pl.col("split") == side)["relative_path"][0] for side in ("train", "test"))
    built = build(
        recipe(split=SPLIT, leave_out={"near": False}), lake(old, {"near": [[train, test]]}), kept_before(first)
    )
    assert reasons(built)[train] == "joins test"
    assert reasons(built)[test] is None
    row = built.rows.row(by_predicate=pl.col("relative_path") == train, named=True)
    assert row["witness"] == test


def test_sides_that_annotations_give_are_kept() -> None:
    images = many(60, 2)
    given = [one | {"given_split": "test"} for one in images[:2]] + images[2:]
    built = build(recipe(split=SPLIT | {"given": "annotations"}), lake(given), None)
    sides = dict(built.kept.select("relative_path", "split").iter_rows())
    assert [sides[one["relative_path"]] for one in images[:2]] == ["test", "test"]


def test_times_of_one_camera_are_kept_apart() -> None:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    images = [
        image(
            f"a/x{chr(97 + at // 26)}{chr(97 + at % 26)}.jpg", camera="C", captured_at=start + timedelta(seconds=5 * at)
        )
        for at in range(200)
    ]
    built = build(recipe(split=SPLIT | {"apart": {"time_s": 20}}), lake(images), None)
    kept = built.kept.join(lake(images).images.select("relative_path", "captured_at"), on="relative_path").sort(
        "captured_at"
    )
    gaps = kept.with_columns(gap=pl.col("captured_at").diff(), other=pl.col("split") != pl.col("split").shift(1))
    assert gaps.filter("other")["gap"].min() > timedelta(seconds=20)  # type: ignore[operator]


def test_a_dataset_is_named_by_what_it_holds() -> None:
    one = build(recipe(split=SPLIT), lake(many()), None)
    other = build(recipe(split=SPLIT), lake(many()[::-1]), None)
    assert content_id(one.rows) == content_id(other.rows)
    relabelled = replace(one, rows=one.rows.with_columns(label=pl.lit("x")))
    assert content_id(relabelled.rows) != content_id(one.rows)


def test_the_gate_says_what_fails_and_for_whom() -> None:
    images = [*many(30, 2), image("rare/1.jpg", flagged=True, doubted=True)]
    made = recipe(
        gate={
            "images": 40,
            "images_per_class": 2,
            "share_flagged": 0.01,
            "undecided_label_issues": 0,
            "missing": 0,
            "drift": 0.6,
        }
    )
    built = build(made, lake(images), None)
    verdicts = {
        one.name: one for one in judge(built, {"rare/1.jpg": "gone"}, Drift(3, 0.71, 0.02, 5, 0.9, [sha("rare/1.jpg")]))
    }
    assert {name for name, one in verdicts.items() if not one.passed} == {*verdicts}
    assert verdicts["images_per_class"].told == "at least 2 of each class; too few: rare 1 of 1"
    named = ("share_flagged", "undecided_label_issues", "missing", "drift")
    assert all(verdicts[name].paths == ["rare/1.jpg"] for name in named)
    assert verdicts["drift"].told == "0.710 ± 0.040 against version 3; of 5 that came alone 0.900, at most 0.6"
    loose = recipe(
        gate={"images": 31, "images_per_class": 1, "share_flagged": 0.1, "undecided_label_issues": 1, "missing": 1}
    )
    assert all(one.passed for one in judge(replace(built, recipe=loose), {}, None))


def test_a_class_of_which_nothing_is_kept_fails_the_gate() -> None:
    images = [
        *many(30, 2),
        image("gone/1.jpg", problem="blurry"),
        image("dropped/1.jpg"),
        image("two/1.jpg", values=["a", "b"]),
    ]
    built = build(
        recipe(labels={"field": "class", "drop": ["dropped"]}, gate={"images_per_class": 1}), lake(images), None
    )
    (verdict,) = [one for one in judge(built, {}, None) if one.name == "images_per_class"]
    assert (verdict.passed, verdict.told) == (False, "at least 1 of each class; too few: gone 0 of 1")


def test_folds_are_alike() -> None:
    built = build(recipe(split={"folds": 5}), lake(many(100, 2)), None)
    assert dict(built.kept["split"].value_counts().iter_rows()) == {f"fold_{number}": 20 for number in range(1, 6)}
    assert built.worst < 2


def farms(number: int, of_each: int, start: int = 0) -> list[dict[str, Any]]:
    """Images of two classes on each of some farms."""
    return [
        image(f"farm{farm}/class{at % 2}/x{chr(97 + at // 26)}{chr(97 + at % 26)}.jpg", of_group=f"farm{farm}")
        for farm in range(start, start + number)
        for at in range(of_each)
    ]


GROUPS = {"groups": "{farm}/**"}


def test_each_group_is_a_side_and_what_belongs_to_two_lies_in_one() -> None:
    images = [*farms(4, 10), image("elsewhere.jpg", of_group=None, values=["class0"])]
    of = {farm: [one["relative_path"] for one in images if one["of_group"] == f"farm{farm}"] for farm in range(4)}
    near = [[of[0][0], *of[1][:2]], [of[2][5], of[3][5]], [of[0][8], of[0][9]]]
    built = build(recipe(split=GROUPS, leave_out={"near": False}), lake(images, {"near": near}), None)
    left = {path: why for path, why in reasons(built).items() if why}
    assert left == {"elsewhere.jpg": "no group", of[0][0]: "joins farm1", of[3][5]: "joins farm2"}
    witness = dict(built.rows.select("relative_path", "witness").iter_rows())
    assert (witness[of[0][0]] in of[1][:2], witness[of[3][5]]) == (True, of[2][5])
    assert dict(built.kept["split"].value_counts().iter_rows()) == {"farm0": 9, "farm1": 10, "farm2": 10, "farm3": 9}
    assert built.kept.select(pl.col("relative_path").str.starts_with(pl.col("split")).all()).item()
    assert built.leakage is not None
    assert built.leakage.pairs == 0
    other = build(recipe(split=GROUPS, leave_out={"near": False}), lake(images[::-1], {"near": near[::-1]}), None)
    assert content_id(other.rows) == content_id(built.rows)


def test_groups_are_kept_apart_in_orders_too() -> None:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    images = [
        one | {"camera": "C", "captured_at": start + timedelta(seconds=10 * at)} for at, one in enumerate(farms(3, 20))
    ]
    built = build(recipe(split=GROUPS | {"apart": {"time_s": 25}}), lake(images), None)
    left = [path for path, why in reasons(built).items() if why == "buffer"]
    assert len(left) == len(built.rows) - len(built.kept) == 4  # two at each of two borders
    witnesses_are_kept(built)
    assert all(share == 0 for one in built.relations if one.used for share in one.across.values())


def test_when_groups_come_nothing_that_was_kept_moves() -> None:
    images, before, sides = farms(2, 12), None, {}
    made = recipe(split=GROUPS, leave_out={"near": False})
    near = []
    for at in range(4):
        images = [*images, *farms(1, 12, 2 + at), image(f"farm0/class0/later{chr(97 + at)}.jpg", of_group="farm0")]
        # A new one is like old ones of two farms in turn, and there are more of it on its own.
        new = [one["relative_path"] for one in images if one["of_group"] == f"farm{2 + at}"]
        near.append([images[at]["relative_path"], *new[:3]])
        built = build(made, lake(images, {"near": near}), before)
        for path, side in built.kept.select("relative_path", "split").iter_rows():
            assert sides.setdefault(path, side) == side
        if before is not None:
            assert before["relative_path"].is_in(built.kept["relative_path"].implode()).all()
            assert {reasons(built)[path] for path in new[:3]} == {"joins farm0"}
        before = kept_before(built)
    again = build(made, lake(images, {"near": near}), before)
    assert content_id(again.rows) == content_id(built.rows)
    # What is said to be of another group now can't lie there, where the model that left it out was trained on it.
    moved = [one | ({"of_group": "farm1"} if "later" in one["relative_path"] else {}) for one in images]
    built = build(made, lake(moved, {"near": near}), before)
    assert {why for path, why in reasons(built).items() if "later" in path} == {"joins farm0"}


def test_too_few_groups_or_far_too_many_are_told() -> None:
    for images, said in (
        (farms(1, 5), "every image is in one group, farm0; to leave one out there have to be two"),
        ([one | {"of_group": None} for one in farms(1, 5)], "no image is left: no group 5"),
        (farms(1001, 1), r"makes 1,001 groups, for example farm0 and farm1; there may be 1,000"),
    ):
        with pytest.raises(CurationError, match=said):
            build(recipe(split=GROUPS), lake(images), None)
    images = farms(2, 1)
    copies = {"near": [[one["relative_path"] for one in images]]}
    with pytest.raises(CurationError, match="belong together or to one group"):
        build(recipe(split=GROUPS, leave_out={"near": False}), lake(images, copies), None)
    images = farms(3, 1)
    copies = {"near": [[one["relative_path"] for one in images[:2]]]}
    built = build(recipe(split=GROUPS, leave_out={"near": False}), lake(images, copies), None)
    assert any("no image is left of 1 groups, for example farm1" in note for note in built.notes)
