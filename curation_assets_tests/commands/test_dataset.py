"""``curation dataset``: from a lake to versions, and what is refused in one line."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from curation_assets.datasets.versions import pinned_files, read_manifest, read_version, versions
from curation_assets.ingest import run
from curation_assets.lake import hive
from curation_assets.lake.rewrite import rewrite
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings
from curation_assets_tests.commands.conftest import Curation
from curation_assets_tests.curate.duplicates.drawn import EDITS, jpeg, photograph

RECIPE = """
[labels]
path = "{class}/*"

[split]
train = 0.5
test = 0.5
"""


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "leaves.toml").write_text(RECIPE)
    monkeypatch.setenv("CURATION_RECIPES", str(folder))
    return folder


def built(curation: Curation, *options: str, code: int = 0) -> dict[str, Any]:
    found, text, said = curation("dataset", "build", "leaves", "--json", *options)
    assert found == code, said
    told: dict[str, Any] = json.loads(text)
    return told


def test_a_recipe_becomes_versions_that_are_listed_shown_and_compared(
    curation: Curation, lake: Pipeline, recipes: Path, tmp_path: Path
) -> None:
    told = built(curation, "--dry-run")
    assert (told["images"], told["leaks"], told["passed"], told["published"]) == (10, 0, True, None)
    assert told["compared_anew"] > 10
    assert {name: sum(row["images"] for row in rows) for name, rows in told["left_out"].items() if rows} == {
        "exact": 1,
        "near": 1,
    }
    assert {side: sum(labels.values()) for side, labels in told["sides"].items()} == {"train": 5, "test": 5}
    assert versions(lake.tables.datasets) == []
    first = built(curation, "--no-curate")
    assert first["published"]["version"] == 1
    assert built(curation, "--no-curate")["published"] == first["published"] | {"is_new": False}
    dropped = built(curation, "--no-curate", "--what-if", 'labels.drop=["rust"]')
    assert "no image is left of rust, of which version 1 had some" in dropped["notes"]
    (recipes / "leaves.toml").write_text(RECIPE + "\n[leave_out]\nexact = false\n")
    assert built(curation, "--no-curate")["published"]["version"] == 2
    (recipes / "fixed.csv").write_text("relative_path\nrust/b.jpg\nminer/a.jpg\nrust/gone.jpg\n")
    (recipes / "fixed.toml").write_text(RECIPE + 'given = "fixed.csv"\n')
    code, text, _ = curation("dataset", "build", "fixed", "--no-curate")
    assert "note: 1 of 3 images of fixed.csv are not among those that are looked at, for example rust/gone.jpg" in text
    manifest = json.loads(curation("dataset", "show", "fixed", "--json")[1])["manifest"]
    digest = hashlib.sha256((recipes / "fixed.csv").read_bytes()).hexdigest()
    assert manifest["given"] == {"file": "fixed.csv", "images": 2, "sha256": digest}
    assert str(tmp_path) not in json.dumps(manifest)
    code, text, _ = curation("dataset", "list", "--json")
    assert code == 0
    listed = json.loads(text)["versions"]
    listed = [one for one in listed if one["dataset"] == "leaves"]
    assert [(one["version"], one["images"], one["left_out"]) for one in listed] == [(2, 11, 1), (1, 10, 2)]
    code, text, _ = curation("dataset", "diff", "leaves@1", "2")
    assert code == 0
    assert "came  1 images" in text
    assert "miner/copy.jpg: exact → " in text
    assert "recipe leave_out.exact true → false" in text
    told = json.loads(curation("dataset", "diff", "leaves@1", "2", "--json")[1])
    (change,) = told.pop("changes")
    assert told == {"counts": {"came": 1}, "why": {"came": {"recipe leave_out.exact": 1}}}
    assert change == {
        "relative_path": "miner/copy.jpg",
        "change": "came",
        "before": "exact",
        "after": change["after"],
        "witness": None,
        "why": "recipe leave_out.exact true → false",
        "table": None,
        "decision": None,
        "recipe_key": "leave_out.exact",
        "threshold": None,
    }
    code, text, _ = curation("dataset", "show", "leaves@1", "--csv", str(tmp_path / "list.csv"))
    assert code == 0
    assert "left out  near" in text
    assert "for rust/" in text
    rows = list(csv.DictReader((tmp_path / "list.csv").open()))
    assert len(rows) == 10
    assert {row["label"] for row in rows} == {"rust", "miner"}
    assert {row["split"] for row in rows} == {"train", "test"}
    curation("dataset", "show", "leaves@1", "--csv", str(tmp_path / "list.csv"), "--all")
    whole = {row["relative_path"]: row for row in csv.DictReader((tmp_path / "list.csv").open())}
    assert len(whole) == 12
    near = next(row for row in whole.values() if row["reason"] == "near")
    assert whole[near["witness"]]["kept"] == "true"
    manifest = json.loads(curation("dataset", "show", "leaves", "--json")[1])["manifest"]
    assert (manifest["version"], manifest["line"], manifest["leakage"]["pairs"]) == (2, 1, 0)
    assert str(tmp_path) not in json.dumps(manifest)


def test_labels_are_zero_shot_ones_or_predictions_where_there_are_none(
    curation: Curation, lake: Pipeline, recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = "\n[leave_out]\nexact = false\nnear = false\n"
    (recipes / "leaves.toml").write_text("[labels]\nzero_shot = true" + every)
    code, _, said = curation("dataset", "build", "leaves")
    assert (code, "CURATION_LABELS gives the texts" in said) == (2, True)
    monkeypatch.setenv("CURATION_LABELS", '["a leaf", "the night sky"]')
    built(curation)
    chosen = dict(lake.tables.zero_shot_labels.latest().read(["relative_path", "label"]).drop("_file").iter_rows())
    kept = read_version(lake.tables.datasets, "leaves").filter("kept")
    assert len(kept) == 12
    assert dict(kept.select("relative_path", "label").iter_rows()) == chosen
    assert set(chosen.values()) <= {"a leaf", "the night sky"}

    labelled = sorted(set(chosen) - {"rust/mirrored.jpg", "miner/copy.jpg"})
    (tmp_path / "labels.csv").write_text("path,class\n" + "".join(f"{p},{p.split('/')[0]}\n" for p in labelled))
    code, _, said = curation("annotate", str(tmp_path / "labels.csv"), "--from", "csv", "--field", "class")
    assert code == 0, said
    assert curation("classify")[0] == 0
    (recipes / "leaves.toml").write_text('[labels]\nfield = "class"\npredictions = 0.0' + every)
    built(curation, "--no-curate")
    rows = lake.tables.predictions.latest().read(["relative_path", "predicted"]).drop("_file")
    predicted = dict(rows.iter_rows())
    kept = read_version(lake.tables.datasets, "leaves").filter("kept")
    assert len(kept) == 12
    for path, label in kept.select("relative_path", "label").iter_rows():
        assert label == (path.split("/")[0] if path in labelled else predicted[path])
    sure = built(curation, "--no-curate", "--what-if", "labels.predictions=1.0")
    assert {one["reason"] for one in sure["left_out"]["labels"]} == {"no label"}
    assert sure["images"] == 10


def test_bytes_that_are_gone_or_others_are_found(
    curation: Curation, lake: Pipeline, images: Path, recipes: Path
) -> None:
    assert recipes.is_dir()
    built(curation, "--no-curate")
    assert curation("dataset", "verify", "leaves")[0] == 0
    kept = read_version(lake.tables.datasets, "leaves").filter("kept")["relative_path"].to_list()
    (images / kept[0]).unlink()
    (images / kept[1]).write_bytes(jpeg(photograph(50)))
    code, text, _ = curation("dataset", "verify", "leaves")
    assert code == 1
    assert f"gone   {kept[0]}: No such file" in text
    assert f"other  {kept[1]}" in text
    assert "8 of 10 images are there as they were" in text
    code, text, _ = curation("dataset", "verify", "leaves@1", "--json")
    assert json.loads(text) == {
        "dataset": "leaves",
        "version": 1,
        "forgotten": 0,
        "images": 10,
        "gone": {kept[0]: "No such file or directory"},
        "other": [kept[1]],
    }


def test_bytes_that_are_gone_are_had_from_the_table_as_long_as_a_version_holds_them(
    curation: Curation, lake: Pipeline, images: Path, recipes: Path, tmp_path: Path
) -> None:
    assert recipes.is_dir()
    built(curation, "--no-curate")
    assert "every image is there" in curation("dataset", "restore", "leaves", "--out", str(tmp_path / "back"))[1]
    version = read_version(lake.tables.datasets, "leaves").filter("kept")
    gone, other = version["relative_path"][0], version["relative_path"][9]
    before = {path: (images / path).read_bytes() for path in (gone, other)}
    (images / gone).unlink()
    (images / other).write_bytes(jpeg(photograph(50)))
    run(lake, LogProgress(), prune=True, curate=False)
    assert curation("maintain", "--retention-hours", "0")[0] == 0
    code, text, _ = curation("dataset", "restore", "leaves", "--out", str(tmp_path / "back"))
    assert (code, "2 of 2 images written" in text) == (0, True)
    assert {path: (tmp_path / "back" / path).read_bytes() for path in before} == before
    assert curation("dataset", "withdraw", "leaves@1", "--because", "a first try")[0] == 0
    assert "leaves@1 was withdrawn: a first try" in curation("dataset", "restore", "leaves@1", "--out", "x")[2]
    assert pinned_files(lake.tables.datasets, lake.tables.directory) == set()


def test_what_would_be_otherwise_is_told_and_nothing_is_written(
    curation: Curation, lake: Pipeline, recipes: Path
) -> None:
    assert recipes.is_dir()
    told = built(curation, "--no-curate", "--what-if", "leave_out.near=false")
    assert [one["before"] for one in told["changes"] if one["change"] == "came"] == ["near"]
    assert told["changes"][0]["why"] == "recipe leave_out.near true → false"
    assert told["why"]["came"] == {"recipe leave_out.near": 1}
    assert (told["dry_run"], told["published"]) == (True, None)
    groups = "split={groups='left(folder, 1)', together={column='size_bytes'}}"
    told = built(curation, "--no-curate", "--what-if", groups)
    assert {side: sum(labels.values()) for side, labels in told["sides"].items()} == {"m": 5, "r": 5}
    curation("decisions", "add", "remove", "rust/d.jpg", "--reason", "too far away", "--by", "ana")
    before = built(curation, "--no-curate", "--what-if", "decisions@0")["changes"]
    (came,) = [one for one in before if one["change"] == "came"]
    assert (came["relative_path"], came["table"]) == ("rust/d.jpg", "decisions")
    assert "remove does not count any more, by ana" in came["why"]
    text = curation("dataset", "build", "leaves", "--no-curate", "--what-if", "split.together.duplicates=true")[1]
    assert "nothing is otherwise" in text
    assert versions(lake.tables.datasets) == []
    for assignment, said in (
        ("near", "write KEY=VALUE"),
        ("leave_out.neer=false", "did you mean near?"),
        ("name.x=1", "is no table"),
        ("decision@1", "there is no table 'decision'; did you mean decisions?"),
        ("decisions@7", "has no version 7; it has 0 to 1"),
        ("decisions@x", "write TABLE@VERSION"),
        ("directory@1", "the index is made of it"),
    ):
        refused(curation, said, "build", "leaves", "--no-curate", "--what-if", assignment)


def test_a_ci_reads_the_gates_verdicts(curation: Curation, lake: Pipeline, recipes: Path, tmp_path: Path) -> None:
    assert lake.tables.directory.exists()
    (recipes / "leaves.toml").write_text(RECIPE + "\n[gate]\nimages = 50\n")
    built(curation, "--no-curate", "--report", str(tmp_path / "gate.xml"), code=1)
    suite = ElementTree.parse(tmp_path / "gate.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    failure = suite.find("testcase[@name='images']/failure")
    assert failure is not None
    assert failure.get("message") == "10 images, at least 50"
    built(curation, "--no-curate", "--report", str(tmp_path / "gate.json"), code=1)
    assert [one["passed"] for one in json.loads((tmp_path / "gate.json").read_text())] == [False, True, True]


def test_a_gate_that_fails_publishes_nothing_unless_it_is_let_pass_with_a_reason(
    curation: Curation, lake: Pipeline, recipes: Path
) -> None:
    (recipes / "leaves.toml").write_text(RECIPE + "\n[gate]\nimages = 50\n")
    code, text, _ = curation("dataset", "build", "leaves", "--no-curate")
    assert code == 1
    assert "gate  FAILS  images: 10 images, at least 50" in text
    assert "nothing is published" in text
    assert versions(lake.tables.datasets) == []
    told = built(curation, "--no-curate", "--override", "images", "--because", "a first try")
    assert told["published"]["version"] == 1
    assert read_manifest(lake.tables.datasets, "leaves", 1)["overridden"] == {"images": "a first try"}
    assert "let pass  images: a first try" in curation("dataset", "show", "leaves")[1]


def test_a_leak_that_no_pair_tells_of_is_seen_on_the_pixels(curation: Curation, lake: Pipeline, recipes: Path) -> None:
    (recipes / "leaves.toml").write_text(RECIPE + "\n[leave_out]\nexact = false\nnear = false\n")
    assert built(curation, "--no-curate")["passed"]
    for table in (lake.tables.pairs, lake.tables.groups):  # as if the two had never been compared
        rewrite(table, hive.WHOLE, lambda change: change.commit([], change.base.named_files()), info={"job": "test"})
    for seed in range(8):  # until chance parts them
        text = RECIPE.replace("[split]", f"[split]\nseed = {seed}")
        (recipes / "leaves.toml").write_text(text + "\n[leave_out]\nexact = false\nnear = false\n")
        code, text, _ = curation("dataset", "build", "leaves", "--no-curate", "--fresh", "--dry-run")
        if code:
            break
    assert code == 1
    assert "FAILS  leaks: 1 pairs across sides" in text
    assert "rust/mirrored.jpg" in text


def test_a_copied_lake_gives_the_same_manifest_to_the_byte(
    curation: Curation, lake: Pipeline, recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(
        lake.settings.lake_root.parent, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("elsewhere", "recipes")
    )
    built(curation, "--no-curate")
    monkeypatch.setenv("CURATION_RECIPES", str(recipes))
    copy = Pipeline(
        load_settings(
            images_root=tmp_path / "elsewhere/images", lake_root=tmp_path / "elsewhere/lake", model_source="demo"
        )
    )
    from curation_assets.datasets.reading import read_recipe

    outcome = copy.build_dataset(read_recipe(recipes / "leaves.toml"), LogProgress())
    assert outcome.published is not None
    one, other = (
        table.latest().read(["manifest"], "leaves")["manifest"][0]
        for table in (lake.tables.datasets, copy.tables.datasets)
    )
    assert one == other


def test_a_lake_that_is_behind_is_brought_in_line_or_refused(
    curation: Curation, lake: Pipeline, images: Path, recipes: Path
) -> None:
    assert recipes.is_dir()
    (images / "rust/new.jpg").write_bytes(jpeg(photograph(60)))
    lake.scan(["rust"], LogProgress())
    code, _, said = curation("dataset", "build", "leaves", "--no-curate")
    assert code == 2
    assert "curation curate" in said
    # What has no vector is compared by its picture all the same.
    assert built(curation)["images"] == 11


def test_a_first_recipe_is_written_and_can_be_built(curation: Curation, lake: Pipeline, recipes: Path) -> None:
    assert lake.tables.directory.exists()
    curation("annotate", "--from", "folders", "--pattern", "{class}/*")
    code, text, _ = curation("dataset", "init", "first")
    assert code == 0
    assert str(recipes / "first.toml") in text
    assert "miner 6, rust 6" in (recipes / "first.toml").read_text()
    code, text, _ = curation("dataset", "build", "first", "--no-curate", "--dry-run")
    assert (code, "nothing is written" in text) == (0, True)
    code, _, said = curation("dataset", "init", "first")
    assert (code, "is there already" in said) == (2, True)


def test_wrong_input_is_one_line(curation: Curation, lake: Pipeline, recipes: Path) -> None:
    assert lake.tables.directory.exists()
    assert recipes.is_dir()
    override = ("--no-curate", "--override", "leak", "--because", "x")
    for arguments, said in (
        (("build", "leavs"), "did you mean leaves?"),
        (("build", "nowhere/x.toml"), "there is no recipe nowhere/x.toml"),
        (("build", "leaves", "--override", "leaks"), "--override and --because go together"),
        (("build", "leaves", *override), "has no condition 'leak'; it has images, leaks"),
        (("build", "leaves", "--report", "nowhere/gate.xml"), "there is no folder nowhere"),
        (("init", "a b"), "as in a_b"),
        (("show", "leaves"), "there is no dataset 'leaves'; none was built yet"),
        (("show", "leaves@x"), "write NAME@VERSION"),
        (("verify", "leaves@2"), "there is no dataset 'leaves'"),
        (("diff", "leaves@1", "2"), "there is no dataset 'leaves'"),
    ):
        refused(curation, said, *arguments)


def test_a_recipe_that_does_not_fit_the_lake_is_one_line(curation: Curation, lake: Pipeline, recipes: Path) -> None:
    halves = "[split]\ntrain = 0.5\ntest = 0.5\n[split.together]\n"
    for text, said in (
        ('[images]\nfolders = ["nowhere"]\n', "nowhere"),
        ('[images]\nwhere = "width > 10000"\n', "none is chosen"),
        ('[images]\nwhere = "widht > 10"\n', "widht"),
        ('[labels]\nfield = "sort"\n', "no image has an annotation of 'sort'"),
        ('[labels]\npath = "{class}/{class}/*"\n', "stands twice"),
        ('[labels]\npath = "nowhere/{class}/*"\n', "no image is left: no label 12"),
        ("[labels]\nzero_shot = true\n", "no image has a zero-shot label"),
        (halves + 'column = "plot"\n', "no column plot"),
        (halves + 'path = "x/{plot}/*"\n', "matches no image"),
        ('[split]\ngroups = "x/{plot}/*"\n', "split.groups: 'x/{plot}/*' matches no image"),
        ('[split]\ngroups = "season"\n', "split.groups: 'season': there is no column season"),
        ('[split]\ngroups = "substr("\n', "split.groups: 'substr(': "),
        ('[split]\ngroups = "camera"\n', "split.groups: no image has a value of 'camera'"),
        ('[images]\nfolders = ["rust"]\n[split]\ngroups = "{class}/*"\n', "every image is in one group, rust"),
    ):
        (recipes / "leaves.toml").write_text(text)
        refused(curation, said, "build", "leaves", "--no-curate")
    assert versions(lake.tables.datasets) == []


def refused(curation: Curation, said: str, *arguments: str) -> None:
    code, _, told = curation("dataset", *arguments)
    assert code == 2, arguments
    assert said in told
    assert told.count("\n") == 1


def test_a_subset_by_vectors_says_how_well_it_stands_for_the_rest(
    curation: Curation, lake: Pipeline, recipes: Path
) -> None:
    for strategy in ("diverse", "representative"):
        asked = f'\n[subset]\nsize = 4\nstrategy = "{strategy}"\nper_class_at_least = 2\n'
        (recipes / "leaves.toml").write_text('[labels]\npath = "{class}/*"\n' + asked)
        told = built(curation, "--no-curate", "--fresh")
        assert (told["images"], told["subset"]["strategy"]) == (4, strategy)
        assert told["subset"]["largest"] >= told["subset"]["mean"] > 0
        rows = read_version(lake.tables.datasets, "leaves")
        left = rows.filter(rows["reason"] == "subset")
        assert set(left["witness"].drop_nulls()) <= set(rows.filter("kept")["relative_path"])
        number = told["published"]["version"]
        assert read_manifest(lake.tables.datasets, "leaves", number)["subset"]["chosen"] == told["subset"]["chosen"]
        assert f"subset  {strategy}: of " in curation("dataset", "show", "leaves")[1]
        assert built(curation, "--no-curate")["published"]["is_new"] is False


def test_images_are_mined_that_are_near_to_failures_and_neither_tested_nor_labelled(
    curation: Curation, lake: Pipeline, recipes: Path, tmp_path: Path
) -> None:
    images = lake.settings.images_root
    (recipes / "leaves.toml").write_text(RECIPE)
    built(curation, "--no-curate")
    split = dict(
        read_version(lake.tables.datasets, "leaves").filter("kept").select("relative_path", "split").iter_rows()
    )
    free = sorted(path for path, side in split.items() if side == "train" and path not in ("rust/b.jpg", "miner/a.jpg"))
    failed, labelled, *others = free
    (tmp_path / "labels.csv").write_text(f"path,class\n{labelled},rust\n")
    assert curation("annotate", str(tmp_path / "labels.csv"), "--from", "csv", "--field", "class")[0] == 0
    outside = tmp_path / "outside.jpg"  # shows what one of the lake shows
    outside.write_bytes(jpeg(EDITS["mirrored"](photograph(ord(others[0].split("/")[1][0]) - 97))))
    (tmp_path / "failed.csv").write_text(f"path,loss\n{failed},2\noutside.jpg,1\n")
    page, table = tmp_path / "mined.html", tmp_path / "mined.csv"
    ask = ("mine", "--failed", str(tmp_path / "failed.csv"), "--size", "20")
    code, text, said = curation(*ask, "--json", "--html", str(page), "--csv", str(table))
    assert code == 0, said
    told = json.loads(text)
    paths = {row["relative_path"] for row in told["images"]}
    assert not paths & {failed, labelled, others[0]}
    assert "test" not in {split[path] for path in paths if path in split}
    assert (told["failures"], told["outside"]) == (2, 1)
    assert told["left_aside"]["test"] >= 5
    assert told["left_aside"]["failed"] == 2
    assert told["left_aside"]["labelled"] == 1
    assert {row["failed"] for row in told["images"]} <= {failed, "outside.jpg"}
    assert [row["relative_path"] for row in csv.DictReader(table.open())] == [
        row["relative_path"] for row in told["images"]
    ]
    assert "near to" in page.read_text()
    with_labelled = json.loads(curation(*ask, "--json", "--labelled")[1])
    assert {row["relative_path"] for row in with_labelled["images"]} == paths | {labelled}
    of_class = json.loads(curation(*ask, "--json", "--field", "class")[1])
    assert {row["relative_path"] for row in of_class["images"]} == paths
    for given, wrong in (
        (("--not-in", "leaves"), "no image is left to mine: "),
        (("--not-in", "none"), "there is no dataset 'none'"),
        (("--failed", "nothing.jpg"), "nothing.jpg: there is no such image, neither in the lake nor as a file"),
        (("--failed", str(tmp_path / "labels.csv"), "--where", "nothing > 1"), "there is no column nothing"),
        (("--failed", str(recipes / "leaves.toml")), "leaves.toml: not an image"),
        (("--csv", str(tmp_path)), "is a folder"),
        (("--field", "clas"), "no image has an annotation of 'clas'; fields are class"),
    ):
        code, _, said = curation(*ask, *given)
        assert code == 2
        assert wrong in said, said
        assert "Traceback" not in said
    assert images.is_dir()
