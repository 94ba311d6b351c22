"""``curation annotate``, and where annotations show: conditions, ``show``, what ``curate`` follows, upkeep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curation_assets.annotations.record import read_rows
from curation_assets.decisions.record import append
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.repair import repair
from curation_assets_tests.commands.conftest import Curation, copied, pipeline_of
from curation_assets_tests.conftest import jpeg

FIRST, SECOND, OTHER = "rust/photo_0000.jpg", "rust/photo_0001.jpg", "miner/photo_0000.jpg"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Path:
    """A lake of two photographs of rust and one of a miner."""
    home = tmp_path_factory.mktemp("annotated")
    for seed, name in enumerate(("rust/photo_0000.jpg", "rust/photo_0001.jpg", "miner/photo_0000.jpg")):
        (home / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "images" / name).write_bytes(jpeg(seed))
    run(pipeline_of(home, registered_model), LogProgress())
    return home


@pytest.fixture
def lake(ready: Pipeline, made: Path) -> Pipeline:
    return copied(ready, made)


def told(curation: Curation, *arguments: str, code: int = 0) -> dict[str, Any]:
    """What a command prints as JSON."""
    found, text, error = curation(*arguments, "--json")
    assert found == code, error
    said: dict[str, Any] = json.loads(text)
    return said


FOLDERS = ("annotate", "--from", "folders", "--pattern", "{class}/*")


def test_folders_are_read_listed_and_taken_out(curation: Curation, lake: Pipeline) -> None:
    dry = told(curation, *FOLDERS, "--dry-run")
    assert (dry["added"], dry["dry_run"]) == (3, True)
    assert not lake.tables.annotations.exists()
    done = told(curation, *FOLDERS)
    assert set(done) == {
        *("source", "rows", "images", "added", "changed", "removed", "labels", "splits", "boxes", "notes", "dry_run"),
        "label_issues",
    }
    assert (done["source"], done["rows"], done["labels"]) == ("folders", 3, {"class": {"rust": 2, "miner": 1}})
    (listed,) = told(curation, "annotate", "--list")["sources"]
    assert (listed["images"], listed["labels"], listed["waiting"]) == (3, {"rust": 2, "miner": 1}, 0)
    code, text, _ = curation("annotate", "--list")
    assert (code, text) == (0, "folders  class: 3 images; rust 2, miner 1\n")
    done = told(curation, "annotate", "--remove", "folders")
    assert done.pop("label_issues")["rows"] == 0
    assert done == {"source": "folders", "removed": 3, "dry_run": False}
    assert curation("annotate", "--list")[1] == "no annotations; `curation annotate --from …` reads some\n"


def test_a_faulty_file_is_told_fault_by_fault_and_ends_with_2(
    curation: Curation, lake: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(f"path,class\n{FIRST},rust\ngone.jpg,rust\nphoto_0000.jpg,rust\n")
    code, text, error = curation("annotate", str(tmp_path / "a.csv"), "--from", "csv")
    assert (code, text) == (2, "")
    assert error.splitlines() == [
        f"line 4: 'photo_0000.jpg' may be {OTHER}, {FIRST}; write more of its path",
        f"error: {tmp_path}/a.csv: 2 faults, nothing was imported: line 3: there is no image 'gone.jpg'",
    ]
    assert not lake.tables.annotations.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say what it is from: folders, csv, parquet, coco, yolo, label-studio"),
        (["--from", "xml", "f"], "from: Input should be 'folders', 'csv'"),
        (["--from", "folders"], "folders take a pattern of paths"),
        (["--from", "folders", "--pattern", "{class}/*", "f.csv"], "folders take a pattern of paths"),
        (["--from", "csv"], "csv takes a file, and no pattern"),
        (["--from", "csv", "no/such.csv"], "no/such.csv: No such file or directory"),
        (["--from", "coco", "no/such.json"], "no/such.json: No such file or directory"),
        (["--from", "yolo", "no/such.yaml"], "no/such.yaml: No such file or directory"),
        (["--from", "parquet", "no/such.parquet"], "no/such.parquet: No such file or directory"),
        (["--from", "coco", "f.json", "--separator", ";"], "separator is of csv and parquet"),
        (["--from", "csv", "f.csv", "--annotator", "3"], "annotator is of label-studio"),
        (["--from", "coco", "f.json", "--field", "a", "--field", "b"], "several fields are of csv and parquet"),
        (["--from", "csv", "f.csv", "--field", "a b"], "a field can't be called 'a b'"),
        (["--from", "csv", "f.csv", "--source", "decided"], "a source can't be called 'decided'"),
        (["--from", "csv", "f.csv", "--source", "a,b"], "a source can't be called 'a,b'"),
        (["--from", "coco", "f.json", "--orientation", "left"], "orientation: Input should be 'upright' or 'stored'"),
        (["--source", "anna"], "say what it is --from"),
        (["--list", "--from", "csv"], "--list goes alone, without --from"),
        (["--list", "--conflicts"], "--list goes alone, without --conflicts"),
        (["--list", "--dry-run"], "--list writes nothing in any case"),
        (["--remove", "anna"], "there is no source of annotations 'anna'; there are: none"),
    ],
)
def test_a_wrong_call_is_one_line(curation: Curation, lake: Pipeline, arguments: list[str], said: str) -> None:
    code, text, error = curation("annotate", *arguments)
    assert (code, text) == (2, "")
    assert said in error
    assert len(error.splitlines()) == 1


def test_without_images_it_says_what_makes_them(curation: Curation, ready: Pipeline) -> None:
    code, _, error = curation(*FOLDERS)
    assert code == 2
    assert "`curation run` creates it" in error


def test_labels_and_splits_are_conditions(curation: Curation, lake: Pipeline, tmp_path: Path) -> None:
    def paths(where: str) -> list[str]:
        return [row["relative_path"] for row in told(curation, "search", "--where", where)["images"]]

    assert paths("label_class = 'rust'") == [], "the column is there before anything is"
    (tmp_path / "a.csv").write_text(f"path,class,damage\n{FIRST},rust,leaf;stem\n{OTHER},miner,\n")
    told(curation, "annotate", str(tmp_path / "a.csv"), "--from", "csv", "--separator", ";", "--split", "val")
    assert paths("label_class = 'rust'") == [FIRST]
    assert paths("label_damage LIKE '%stem%' AND split = 'val'") == [FIRST]
    assert paths("label_class IS NULL") == [SECOND]
    code, _, error = curation("search", "--where", "label_colour = 'red'")
    assert code == 2
    assert "there is no column label_colour" in error
    content = lake.tables.contents([SECOND])[SECOND]
    word = {"decided_by": "ann", "kind": "relabel", "content_sha256": content, "field": "colour", "value": "red"}
    append(lake.tables.decisions, lambda _: [word])
    assert paths("label_colour = 'red'") == [SECOND]


def test_show_tells_what_each_source_says_and_what_counts(
    curation: Curation, lake: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "annotations" not in told(curation, "show", FIRST)
    told(curation, *FOLDERS)
    (tmp_path / "a.csv").write_text(f"path,class,x,y,width,height\n{FIRST},phoma,1,2,3,4\n")
    told(curation, "annotate", str(tmp_path / "a.csv"), "--from", "csv", "--source", "zoe", "--split", "val")
    found = told(curation, "show", FIRST)["annotations"]
    assert [(one["source"], one["values"], one["counts"]) for one in found] == [
        ("folders", ["rust"], True),
        ("zoe", ["phoma"], False),
    ]
    assert "class: phoma, 1 boxes, split val (zoe, overruled)" in curation("show", FIRST)[1]
    conflicts = told(curation, "annotate", "--conflicts")
    assert conflicts["conflicts"] == [
        {"relative_path": FIRST, "field": "class", "labels": {"folders": "rust", "zoe": "phoma"}}
    ]
    assert told(curation, "annotate", "--list")["conflicts"] == {"class": 1}
    monkeypatch.setenv("CURATION_ANNOTATIONS", '["zoe"]')
    assert [one["counts"] for one in told(curation, "show", FIRST)["annotations"]] == [True, False]
    assert curation("annotate", "--conflicts")[1] == f"{FIRST}  class: phoma (zoe), rust (folders)\n"
    told(curation, "decisions", "add", "relabel", FIRST, "--field", "class", "--value", "miner")
    first, *others = told(curation, "show", FIRST)["annotations"]
    assert (first["source"], first["values"], first["counts"]) == ("decided", ["miner"], True)
    assert not any(one["counts"] for one in others)
    where = ("search", "--where", "label_class = 'miner'")
    assert FIRST in [row["relative_path"] for row in told(curation, *where)["images"]]


def test_configured_sources_are_followed_by_curate_and_run(
    curation: Curation, lake: Pipeline, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_text(f"path,grade\n{FIRST},3\n")
    sources = [
        {"from": "folders", "pattern": "{class}/*"},
        {"source": "anna", "from": "csv", "path": f"{tmp_path}/a.csv"},
    ]
    monkeypatch.setenv("CURATION_ANNOTATIONS", json.dumps(sources))
    first = told(curation, "curate")["annotations"]
    assert [(done["source"], done["added"]) for done in first["read"]] == [("folders", 3), ("anna", 1)]
    assert told(curation, "curate")["annotations"] == {
        "read": [], "unchanged": ["folders", "anna"], "failed": [], "moved": 0, "waiting": 0
    }  # fmt: skip
    (tmp_path / "a.csv").write_text(f"path,grade\n{FIRST},4\n")
    again = told(curation, "curate")["annotations"]
    assert ([done["source"] for done in again["read"]], again["unchanged"]) == (["anna"], ["folders"])
    (images / OTHER).rename(images / "rust" / "moved.jpg")
    done = told(curation, "run", "--prune")["annotations"]
    assert (done["moved"], done["failed"]) == (1, [])
    rows = read_rows(Pipeline(lake.settings).tables.annotations).sort("relative_path", "field")
    assert rows.select("relative_path", "field", "values").rows() == [
        ("rust/moved.jpg", "class", ["rust"]),
        (FIRST, "class", ["rust"]),
        (FIRST, "grade", ["4"]),
        (SECOND, "class", ["rust"]),
    ]
    (tmp_path / "a.csv").write_text(f"path,colour\n{FIRST},red\n")
    assert [done["removed"] for done in told(curation, "curate")["annotations"]["read"]] == [1], "grade goes"
    (tmp_path / "a.csv").write_text("path,grade\ngone.jpg,4\n")
    code, text, _ = curation("curate")
    assert code == 1
    assert "bad    annotations of anna" in text
    assert "line 2: there is no image 'gone.jpg'" in text
    assert len(read_rows(Pipeline(lake.settings).tables.annotations)) == 4, "what it said before stays"
    (tmp_path / "a.csv").unlink()
    failed = told(curation, "curate", code=1)["annotations"]["failed"]
    assert failed == [{"source": "anna", "error": f"{tmp_path}/a.csv: No such file or directory"}]
    code, _, error = curation("annotate", "--remove", "anna")
    assert code == 2
    assert "CURATION_ANNOTATIONS names 'anna', so it would come back" in error


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{}", "give a JSON list"),
        ('[{"from": "folders"}]', "folders take a pattern"),
        ('[{"form": "csv"}]', "form: Extra inputs are not permitted"),
        ('["anna", "anna"]', "two sources are called 'anna'"),
        ("[3]", "3: give an object, or the name of a source"),
    ],
)
def test_a_wrong_setting_is_one_line(
    curation: Curation, ready: Pipeline, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    monkeypatch.setenv("CURATION_ANNOTATIONS", value)
    code, _, error = curation("annotate", "--list")
    assert code == 2
    assert said in error
    assert len(error.splitlines()) == 1


def test_annotations_that_a_disk_lost_are_told_by_repair(curation: Curation, lake: Pipeline) -> None:
    told(curation, *FOLDERS)
    table = lake.tables.annotations
    (file,) = table.latest().files("rust")
    (table.path / file.path).write_bytes(b"")
    lines = repair(Pipeline(lake.settings), LogProgress()).not_mended
    assert lines == [
        "crop_images_directory_annotations: 2 annotations of folder rust are lost; `curation annotate` brings them "
        "back from their source, and `curation curate` those of CURATION_ANNOTATIONS"
    ]
    assert told(curation, *FOLDERS)["added"] == 2
    assert len(read_rows(Pipeline(lake.settings).tables.annotations)) == 3


def test_of_copies_the_annotated_one_is_kept(curation: Curation, lake: Pipeline, images: Path, tmp_path: Path) -> None:
    (images / "rust" / "zz.jpg").write_bytes((images / FIRST).read_bytes())
    (tmp_path / "a.csv").write_text("path,class\nrust/zz.jpg,rust\n")
    told(curation, "run")
    told(curation, "annotate", str(tmp_path / "a.csv"), "--from", "csv")
    told(curation, "curate")
    (group,) = told(curation, "show", FIRST)["groups"]
    kept = {image["relative_path"]: (image["is_keeper"], image["rule"]) for image in group["images"]}
    assert kept == {"rust/zz.jpg": (True, "annotated"), FIRST: (False, "annotated")}


def test_upkeep_joins_files_and_changes_no_row(curation: Curation, lake: Pipeline, tmp_path: Path) -> None:
    for name in ("anna", "berta", "carl"):
        (tmp_path / name).write_text(f"path,class\n{FIRST},{name}\n")
        told(curation, "annotate", str(tmp_path / name), "--from", "csv")
    table = lake.tables.annotations
    before = read_rows(table).sort("source")
    assert len(table.latest().files()) == 3
    assert curation("maintain")[0] == 0
    table = Pipeline(lake.settings).tables.annotations
    assert len(table.latest().files()) == 1
    assert read_rows(table).sort("source").equals(before)
    told(curation, "annotate", "--remove", "berta")
    assert sorted(read_rows(Pipeline(lake.settings).tables.annotations)["source"]) == ["anna", "carl"]


def test_a_training_copy_that_is_deleted_leaves_the_test_image_its_own(
    curation: Curation, lake: Pipeline, images: Path, tmp_path: Path
) -> None:
    (images / "val").mkdir()
    (images / "val/x.jpg").write_bytes((images / FIRST).read_bytes())
    assert curation("run")[0] == 0
    train, val = tmp_path / "a_train.csv", tmp_path / "b_val.csv"
    train.write_text(f"path,class,split\n{FIRST},pear,train\n{SECOND},pear,train\n")
    val.write_text("path,class,split\nval/x.jpg,apple,val\n")
    for file in (train, val):
        assert curation("annotate", str(file), "--from", "csv")[0] == 0
    (images / FIRST).unlink()
    text = curation("run")[1]
    assert "1 wait for an image that is gone or changed" in text
    assert "went with their images" not in text
    (said,) = told(curation, "show", str(images / "val/x.jpg"))["annotations"]
    assert (said["source"], said["values"], said["split"]) == ("b_val.csv", ["apple"], "val")
    (images / SECOND).rename(images / "val/moved.jpg")
    code, _, error = curation("run")
    assert code != 0
    assert "still there but empty" in error  # so the table has it at both places, which makes it no copy
    assert "1 went with their images" in curation("run", "--prune")[1]
    (said,) = told(curation, "show", str(images / "val/moved.jpg"))["annotations"]
    assert (said["values"], said["split"]) == (["pear"], "train")
