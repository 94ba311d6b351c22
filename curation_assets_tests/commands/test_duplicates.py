"""``curation duplicates``: groups, whom to keep and why; lists for one's own script; what people decide is followed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation_assets.curate.duplicates.overview import groups_with
from curation_assets.lake.snapshot import Snapshot
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings
from curation_assets_tests.commands.conftest import Curation, copied
from curation_assets_tests.curate.duplicates.drawn import EDITS, jpeg, photograph


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two names of one file, a mirrored and a smaller copy of it, and one that is alone; and a lake of them."""
    home = tmp_path_factory.mktemp("doubled")
    images = home / "images"
    for folder in ("plot 1", "other"):
        (images / folder).mkdir(parents=True)
    for path, edit in {
        "plot 1/a.jpg": None,
        "other/small.jpg": "a quarter of the size",
        "other/m.jpg": "mirrored",
    }.items():
        image = photograph(0) if edit is None else EDITS[edit](photograph(0))
        (images / path).write_bytes(jpeg(image, 90 if edit is None else 70))
    shutil.copy(images / "plot 1/a.jpg", images / "other/copy.jpg")
    (images / "other/alone.jpg").write_bytes(jpeg(photograph(5)))
    pipeline = Pipeline(load_settings(images_root=images, lake_root=home / "lake", model_source="demo"))
    pipeline.scan(["plot 1", "other"], LogProgress())
    pipeline.compare_all(LogProgress())
    return home


@pytest.fixture
def lake(pipeline: Pipeline, made: Path) -> Pipeline:
    return copied(pipeline, made)


def groups(text: str) -> dict[str, list[dict[str, Any]]]:
    return {group["kind"]: group["images"] for group in json.loads(text)["groups"]}


@pytest.mark.usefixtures("lake")
def test_groups_are_told_with_whom_to_keep_and_how_the_others_differ(curation: Curation) -> None:
    code, text, _ = curation("duplicates", "--json")
    assert code == 0
    found = groups(text)
    assert [image["relative_path"] for image in found["exact"]] == ["plot 1/a.jpg", "other/copy.jpg"]
    assert [image["is_keeper"] for image in found["near"]] == [True, False, False, False]
    assert {image["relative_path"] for image in found["near"]} == {
        "other/copy.jpg",
        "plot 1/a.jpg",
        "other/m.jpg",
        "other/small.jpg",
    }
    how = {image["relative_path"]: image["how"] for image in found["near"]}
    assert "mirrored" in how["other/m.jpg"]
    assert "0.25 × its size" in how["other/small.jpg"]
    assert json.loads(text)["kinds"]["near"] == {"groups": 1, "images": 4, "spare": 3}
    code, text, _ = curation("duplicates")
    assert (code, "near          1 groups of 4 images, 3 to spare" in text) == (0, True)
    assert "keep " in text
    assert curation("duplicates", "--kind", "burst")[1].startswith("burst")


def test_lists_are_paths_alone_for_a_script(curation: Curation, lake: Pipeline, images: Path) -> None:
    code, keep, _ = curation("duplicates", "--list", "keep")
    assert (code, len(keep.splitlines())) == (0, 1)
    remove = curation("duplicates", "--list", "remove")[1].splitlines()
    assert sorted([*keep.splitlines(), *remove]) == ["other/copy.jpg", "other/m.jpg", "other/small.jpg", "plot 1/a.jpg"]
    assert curation("duplicates", "--list", "remove", "--null")[1].split("\0")[:-1] == remove
    assert len(curation("duplicates", "--list", "remove", "--kind", "exact")[1].splitlines()) == 1
    assert sorted(path.name for path in images.rglob("*.jpg")) == [
        "a.jpg",
        "alone.jpg",
        "copy.jpg",
        "m.jpg",
        "small.jpg",
    ]
    del lake


@pytest.mark.usefixtures("lake")
def test_groups_and_keepers_follow_what_people_decide(curation: Curation) -> None:
    assert curation("decisions", "add", "keeper", "other/small.jpg")[0] == 0
    near = groups(curation("duplicates", "--json")[1])["near"]
    assert (near[0]["relative_path"], near[0]["rule"]) == ("other/small.jpg", "a person's word")
    assert curation("decisions", "add", "different", "other/m.jpg", "plot 1/a.jpg")[0] == 0
    assert curation("decisions", "add", "different", "other/m.jpg", "other/small.jpg")[0] == 0
    near = groups(curation("duplicates", "--json")[1])["near"]
    assert {image["relative_path"] for image in near} == {"other/copy.jpg", "other/small.jpg", "plot 1/a.jpg"}
    assert curation("decisions", "add", "keep", "other/copy.jpg", "--field", "duplicate")[0] == 0
    assert "other/copy.jpg" not in curation("duplicates", "--list", "remove")[1]
    for _ in range(4):
        assert curation("decisions", "undo", "--last")[0] == 0
    near = groups(curation("duplicates", "--json")[1])["near"]
    assert (len(near), near[0]["rule"] != "a person's word") == (4, True)


@pytest.mark.usefixtures("lake")
def test_a_person_can_join_what_pixels_do_not(curation: Curation) -> None:
    assert curation("decisions", "add", "same", "other/alone.jpg", "plot 1/a.jpg")[0] == 0
    near = json.loads(curation("duplicates", "--kind", "near", "--json")[1])["groups"]
    assert [
        image["relative_path"]
        for group in near
        for image in group["images"]
        if image["relative_path"] == "other/alone.jpg"
    ] == ["other/alone.jpg"]


def test_the_page_shows_groups_side_by_side(curation: Curation, lake: Pipeline, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "doubles.html"
    code, _, error = curation("duplicates", "--html", str(page))
    assert (code, str(page) in error) == (0, True)
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 6
    assert "keep: " in text
    assert "mirrored" in text
    del lake


def test_images_that_are_not_compared_are_told(curation: Curation, lake: Pipeline, images: Path) -> None:
    (images / "other/new.jpg").write_bytes(jpeg(photograph(7)))
    lake.scan(["other"], LogProgress())
    code, text, error = curation("duplicates", "--json")
    assert (code, json.loads(text)["not_compared"]) == (0, 1)
    assert "1 images are not compared yet; `curation curate` does that" in error
    code, text, _ = curation("curate", "--json")
    assert (code, json.loads(text)["duplicates"]["contents"]) == (0, 5)
    assert json.loads(curation("duplicates", "--json")[1])["not_compared"] == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--kind", "same"], "no kind 'same' of duplicates: choose among exact, near, burst"),
        (["--list", "all"], "'all' is not one of"),
        (["--list", "keep", "--json"], "choose one"),
        (["--null"], "-0 is of --list"),
        (["--html", "."], "is a folder; name the file to write"),
    ],
)
@pytest.mark.usefixtures("lake")
def test_wrong_input_is_one_line(curation: Curation, arguments: list[str], why: str) -> None:
    code, _, error = curation("duplicates", *arguments)
    assert (code, why in " ".join(error.split())) == (2, True)
    assert "Traceback" not in error


def test_nothing_compared_is_told(curation: Curation, pipeline: Pipeline) -> None:
    code, _, error = curation("duplicates")
    assert (code, "no image is compared yet" in error) == (2, True)
    del pipeline


def test_the_keeper_can_be_ranked_otherwise(
    curation: Curation, lake: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATION_KEEPER_ORDER", "path")
    assert curation("curate")[0] == 0
    rows = lake.tables.groups.snapshot().read(["keeper", "kind"])
    assert rows.filter(pl.col("kind") == "near")["keeper"].unique().to_list() == ["other/copy.jpg"]
    monkeypatch.setenv("CURATION_KEEPER_ORDER", "size")
    code, _, error = curation("curate")
    assert (code, "no criterion 'size'" in error) == (2, True)


def test_show_and_status_tell_of_groups_and_of_what_is_not_compared(
    curation: Curation, lake: Pipeline, images: Path
) -> None:
    code, text, _ = curation("show", "other/m.jpg", "--json")
    (group,) = json.loads(text)["groups"]
    assert (code, group["kind"], len(group["images"])) == (0, "near", 4)
    text = curation("show", "other/m.jpg")[1]
    assert "plot 1/a.jpg (keep: " in text
    assert "groups" not in json.loads(curation("show", "other/alone.jpg", "--json")[1])
    lines = [line for line in curation("show", "plot 1/a.jpg")[1].splitlines() if ".jpg" in line and "_" not in line]
    assert sorted(lines) == [
        "copy            other/copy.jpg",
        "exact group     plot 1/a.jpg (keep: earlier)",
        "near group      other/m.jpg (mirrored)",
        "near group      other/small.jpg (0.25 × its size)",
        "near group      plot 1/a.jpg (keep: earlier)",
    ]
    assert "copy            plot 1/a.jpg (keep: earlier)" in curation("show", "other/copy.jpg")[1].splitlines()
    assert "not_compared" not in json.loads(curation("status", "--json")[1])
    (images / "other/new.jpg").write_bytes(jpeg(photograph(7)))
    lake.scan(["other"], LogProgress())
    assert json.loads(curation("status", "--json")[1])["not_compared"] == 1
    assert "1 images are not compared with the others" in curation("status")[1]


def test_of_an_image_only_its_own_groups_and_their_pairs_are_read(
    lake: Pipeline, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, edit in {"other/x.jpg": None, "other/x small.jpg": "a quarter of the size"}.items():
        image = photograph(7) if edit is None else EDITS[edit](photograph(7))
        (images / path).write_bytes(jpeg(image, 80))
    lake.scan(["other"], LogProgress())
    lake.compare_all(LogProgress())
    tables, read = lake.tables, list[int]()
    assert (tables.groups.latest().rows(), tables.pairs.latest().rows()) == (8, 4)
    really_read = Snapshot.read

    def counted(snapshot: Snapshot, *arguments: Any, **options: Any) -> pl.DataFrame:
        found = really_read(snapshot, *arguments, **options)
        read.append(len(found))
        return found

    monkeypatch.setattr(Snapshot, "read", counted)
    (near,) = groups_with(tables.groups, tables.pairs, "other/x small.jpg")
    assert near.images["relative_path"].to_list() == ["other/x.jpg", "other/x small.jpg"]
    assert near.images["how"].to_list() == [None, "0.25 × its size"]
    assert read == [1, 2, 1], "its row, those of its group, their pair"
    read.clear()
    assert groups_with(tables.groups, tables.pairs, "other/alone.jpg") == []
    assert read == [0]


def test_a_lake_that_was_never_compared_says_so_and_how_to(curation: Curation, lake: Pipeline) -> None:
    lake.measure_all(LogProgress())
    assert "not compared" not in curation("status")[1] + curation("problems")[1]
    for table in (lake.tables.compared, lake.tables.groups, lake.tables.pairs):  # as an earlier version leaves it
        shutil.rmtree(table.path)
    line = "4 images are not compared with the others; `curation curate` does that\n"
    for command in ("status", "problems"):
        code, text, error = curation(command)
        assert (code, text.count(line), error) == (0, 1, ""), command
        assert json.loads(curation(command, "--json")[1])["not_compared"] == 4
    assert "duplicates" not in json.loads(curation("problems", "--json")[1])
    assert curation("curate")[0] == 0
    facts = json.loads(curation("problems", "--json")[1])
    assert "not_compared" not in facts
    assert facts["duplicates"]["near"] == {"groups": 1, "images": 4, "spare": 3}
    assert facts["duplicates"]["exact"] == {"groups": 1, "images": 2, "spare": 1}
    assert facts["duplicates"]["burst"] == {"groups": 0, "images": 0, "spare": 0}
    lines = curation("problems")[1].splitlines()
    assert [line.split(": ")[1] for line in lines if line.startswith(("exact ", "near ", "burst "))] == [
        "`curation duplicates --kind exact`",
        "`curation duplicates --kind near`",
    ]


def test_distinct_folds_near_copies_to_the_one_to_keep(curation: Curation, images: Path) -> None:
    for path, edit in {"b.jpg": None, "a small.jpg": "a quarter of the size", "m.jpg": "mirrored"}.items():
        image = photograph(0) if edit is None else EDITS[edit](photograph(0))
        (images / path).write_bytes(jpeg(image, 90 if edit is None else 70))
    shutil.copy(images / "b.jpg", images / "z.jpg")
    (images / "alone.jpg").write_bytes(jpeg(photograph(5)))
    assert curation("run", "--no-curate")[0] == 0

    def asked(*arguments: str) -> dict[str, Any]:
        code, text, error = curation("search", "--json", "--distinct", *arguments)
        assert code == 0, error
        return dict(json.loads(text))

    def found(*arguments: str) -> set[str]:
        return {image["relative_path"] for image in asked(*arguments)["images"]}

    assert found() == {"alone.jpg", "a small.jpg", "b.jpg", "m.jpg"}
    assert asked("a leaf")["folded"] == {"copies": 1, "near_copies": 0}
    note = "note: images are not compared yet, so only copies of the same bytes are folded; `curation curate` compares"
    assert curation("search", "--distinct")[2].startswith(note)
    assert curation("curate")[0] == 0
    assert found() == {"alone.jpg", "b.jpg"}
    answer = asked("a leaf")
    assert {image["relative_path"]: image["near_copies"] for image in answer["images"]} == {"alone.jpg": 0, "b.jpg": 3}
    assert (answer["total"], answer["folded"]) == (2, {"copies": 1, "near_copies": 2})
    everyone = json.loads(curation("search", "a leaf", "--json")[1])
    assert "folded" not in everyone
    scores = {image["relative_path"]: image["score"] for image in everyone["images"]}
    # A photograph has the place and the cosine of its best copy, and is shown as the one to keep.
    copies = {path: score for path, score in scores.items() if path != "alone.jpg"}
    (shown,) = (image for image in answer["images"] if image["relative_path"] == "b.jpg")
    assert shown["score"] == pytest.approx(max(copies.values()), abs=1e-6)
    # Where the one to keep doesn't meet the conditions: of a query the best of the others, of a list the first.
    others = ("--where", "relative_path NOT IN ('b.jpg', 'z.jpg')")
    best = max(("a small.jpg", "m.jpg"), key=lambda path: scores[path])
    assert found("a leaf", *others) == {"alone.jpg", best}
    assert found(*others) == {"alone.jpg", "a small.jpg"}
    assert [image["relative_path"] for image in asked(*others, "--sort", "path:desc")["images"]] == [
        "m.jpg",
        "alone.jpg",
    ]
    assert found("--where", "relative_path != 'b.jpg'") == {"alone.jpg", "a small.jpg"}
    assert found("--where", "near_keeper AND near_copies = 3") == {"b.jpg"}
    _, text, error = curation("search", "--distinct")
    assert text.splitlines() == ["alone.jpg", "b.jpg  (1 copy, 2 alike)"]
    assert error == "folded: 1 copy and 2 near copies; `curation duplicates` shows them\n"
    shutil.copy(images / "m.jpg", images / "m again.jpg")
    assert curation("run", "--no-curate")[0] == 0
    assert found() == {"alone.jpg", "b.jpg"}, "a copy that is not compared yet is one of its content"
