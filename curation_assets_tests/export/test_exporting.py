"""Exports are whole or not there, hold the lake's bytes, and go on where they were ended."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import threading
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pytest
from PIL import Image

from curation_assets.errors import CurationError
from curation_assets.export import exporting, staging
from curation_assets.export.reading import ImageReader
from curation_assets.export.staging import Stage
from curation_assets.lake.table import LakeTable
from curation_assets.progress import LogProgress
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.export.conftest import IMAGES, Export, pipeline_at, publish_rows, turned


def listed(folder: Path) -> dict[str, dict[str, str]]:
    """The list of an export: path → its row."""
    with (folder / "images.csv").open(encoding="utf-8", newline="") as file:
        return {row["relative_path"]: row for row in csv.DictReader(file)}


def left(home: Path) -> list[str]:
    """What exports left beside their place."""
    return [path.name for path in home.iterdir() if "curation-export" in path.name]


def test_folders_hold_every_image_of_the_version_with_its_bytes_under_its_side_and_class(
    home: Path, export: Export, made: Path
) -> None:
    (home / "out").mkdir()  # an empty one is taken
    done = export("folders")
    assert (done.images, done.files, done.from_table, done.resumed) == (6, 6, 1, 0)
    assert done.notes == ["folders holds no boxes: those of 1 image are not in it"]
    rows = listed(home / "out")
    assert {path: (row["label"], row["split"]) for path, row in rows.items()} == IMAGES
    for path, row in rows.items():
        data = (home / "out" / row["file"]).read_bytes()
        assert data == (made / "images" / path).read_bytes()
        assert row["sha256"] == row["content_sha256"] == hashlib.sha256(data).hexdigest()
        side, label, _ = row["file"].split("/")
        assert (side, unquote(label)) == (row["split"], row["label"])
    assert len({row["file"].casefold() for row in rows.values()}) == 6  # also where Rust is rust
    found = [path for path in (home / "out").rglob("*.*") if path.is_file()]
    own = ("images.csv", "manifest.json", "export.json", "card.md", "card.html", "croissant.json")
    assert len(found) == 6 + len(own)
    assert json.loads((home / "out/manifest.json").read_text())["content_id"] == done.content_id
    assert "blurry | 1 | farm\\_b/blurry.jpg" in (home / "out/card.md").read_text()
    assert (home / "out/card.html").read_text().count("data:image/jpeg;base64") == 6
    assert left(home) == []
    assert not (home / "images/farm_b/gone.jpg").exists()


def test_every_image_is_read_once(home: Path, export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    really = exporting.ImageReader._one
    monkeypatch.setattr(
        ImageReader, "_one", lambda self, row, *rest: (read.append(row["relative_path"]), really(self, row, *rest))[1]
    )
    export("folders")
    assert sorted(read) == sorted(IMAGES)


@pytest.mark.parametrize("link", ["hard", "symlink"])
def test_links_lead_to_the_files_and_what_is_not_on_disk_any_more_is_a_copy(
    home: Path, export: Export, link: str
) -> None:
    export("folders", link=link)
    rows = listed(home / "out")
    for path, row in rows.items():
        file, own = home / "out" / row["file"], home / "images" / path
        if path == "farm_b/gone.jpg":
            assert not file.is_symlink()
            assert file.stat().st_nlink == 1
            continue
        assert file.is_symlink() == (link == "symlink")
        assert os.path.samefile(file, own)


def test_a_moved_file_is_found_by_its_content_and_a_changed_one_comes_out_of_the_table(
    home: Path, export: Export, made: Path
) -> None:
    old = (home / "images/farm_a/001.jpg").read_bytes()
    (home / "images/farm_a/001.jpg").write_bytes(jpeg(70))  # another size
    changed = home / "images/farm_b/001.JPG"
    changed.write_bytes(changed.read_bytes()[:-1] + b"\0")  # the same size
    export("folders")
    for path in IMAGES:
        row = listed(home / "out")[path]
        assert (home / "out" / row["file"]).read_bytes() == (made / "images" / path).read_bytes()
    (home / "images/farm_b/elsewhere.jpg").write_bytes(old)
    pipeline = pipeline_at(home)
    pipeline.scan(["farm_a", "farm_b"], LogProgress())
    reader = ImageReader(pipeline.source, pipeline.tables.directory, 2)
    content = hashlib.sha256(old).hexdigest()
    image = pl.DataFrame(
        {"relative_path": ["farm_a/001.jpg"], "content_sha256": [content], "size_bytes": [len(old)], "data_file": ["-"]}
    )
    assert reader.located(image)["on_disk"].to_list() == ["farm_b/elsewhere.jpg"]


def test_images_that_are_nowhere_are_one_line_and_nothing_is_written(
    home: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LakeTable, "cells", lambda *_: {"farm_b/gone.jpg": None})
    with pytest.raises(CurationError, match=r"1 of 6 images can't be had: farm_b/gone.jpg: its file is gone, and the"):
        export("folders")
    changed = home / "images/farm_b/001.JPG"
    (home / "images/farm_b/gone.jpg").write_bytes(jpeg(5))
    changed.write_bytes(changed.read_bytes()[:-1] + b"\0")
    with pytest.raises(CurationError, match=r"farm_b/001.JPG: its file has other bytes now, and the table holds no"):
        export("folders")
    assert not (home / "out").exists()


def test_an_ended_export_goes_on_and_trusts_nothing_that_is_not_whole(
    home: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, noted, one_at_a_time = Stage.note, list[str](), threading.Lock()

    def note(stage: Stage, name: str, written: Any) -> None:
        with one_at_a_time:
            if len(noted) == 3:
                raise KeyboardInterrupt
            really(stage, name, written)
            noted.append(name)

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "note", note)
        with pytest.raises(KeyboardInterrupt):
            export("folders")
    assert not (home / "out").exists()
    (place,) = left(home)
    with (home / place / "journal.jsonl").open("a") as journal:
        journal.write('["half a li')
    torn = home / place / "files" / noted[0]
    torn.write_bytes(torn.read_bytes()[:-1] + b"\0")
    done = export("folders")
    assert done.resumed == 2
    for row in listed(home / "out").values():
        assert hashlib.sha256((home / "out" / row["file"]).read_bytes()).hexdigest() == row["content_sha256"]
    assert left(home) == []


def test_what_ended_before_anything_was_whole_leaves_nothing(
    home: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "note", note)
        with pytest.raises(KeyboardInterrupt):
            export("folders")
    assert left(home) == []
    assert not (home / "out").exists()


def test_what_an_ended_export_linked_is_never_written_to(
    home: Path, export: Export, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = Stage.note

    def note(*arguments: Any) -> None:
        really(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "note", note)
        with pytest.raises(KeyboardInterrupt):
            export("folders", link="hard")
        (linked,) = left(home)
        with pytest.raises(KeyboardInterrupt):
            export("folders")  # of other options: what the other left is removed
        assert linked not in left(home)
        with pytest.raises(KeyboardInterrupt):
            export("folders", link="hard")
    for file in (home / left(home)[0] / "files").rglob("*.*"):
        if file.is_file():
            with staging.new_file(file) as out:
                out.write(b"another")
    for path in IMAGES:
        if path != "farm_b/gone.jpg":
            assert (home / "images" / path).read_bytes() == (made / "images" / path).read_bytes()


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(
    home: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, opened = staging.new_file, list[Path]()

    def full(path: Path) -> Any:
        opened.append(path)
        if len(opened) > 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return really(path)

    with monkeypatch.context() as patch:
        patch.setattr(staging, "new_file", full)
        with pytest.raises(CurationError, match="No space left on device") as told:
            export("folders")
    assert "\n" not in str(told.value)
    assert not (home / "out").exists()
    assert export("folders").resumed == 4


def test_places_that_hold_something_are_refused(home: Path, export: Export) -> None:
    (home / "out").mkdir()
    (home / "out/mine.txt").write_text("mine")
    (home / "file").write_text("mine")
    (home / "link").symlink_to(home / "nowhere")
    for to, out, said in (
        ("folders", "out", "is not empty"),
        ("folders", "file", "is there already"),
        ("folders", "link", "is there already"),
        ("csv", "file", "is there already"),
        ("csv", "out", "is a folder"),
        ("folders", "no/out", "there is no folder"),
        ("folders", "images/out", "would take its images for new ones"),
        ("folder", "new", "did you mean folders"),
    ):
        with pytest.raises(CurationError, match=said):
            export(to, out)
    assert (home / "out/mine.txt").read_text() == (home / "file").read_text() == "mine"
    assert left(home) == []


def test_something_that_comes_to_the_place_meanwhile_stays(
    home: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = Stage.publish

    def meanwhile(stage: Stage) -> None:
        (home / "out").mkdir()
        (home / "out/mine.txt").write_text("mine")
        really(stage)

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "publish", meanwhile)
        with pytest.raises(CurationError, match="is not empty"):
            export("folders")
    assert [path.name for path in (home / "out").iterdir()] == ["mine.txt"]


def test_a_format_of_one_label_refuses_two_and_images_without_any_beside_others(home: Path, export: Export) -> None:
    pipeline = pipeline_at(home)
    keep = {"recipe": {"labels": {"several": "keep"}}}
    publish_rows(pipeline, {"farm_a/001.jpg": ("rust, miner", None), "farm_b/001.JPG": ("rust", None)}, keep)
    with pytest.raises(CurationError, match=r"an image has several, for example farm_a/001.jpg: rust, miner"):
        export("folders")
    export("jsonl", "list.jsonl")
    rows = [json.loads(line) for line in (home / "list.jsonl").read_text().splitlines()]
    assert [row["labels"] for row in rows] == [["rust", "miner"], ["rust"]]
    publish_rows(pipeline, {"farm_a/001.jpg": (None, None), "farm_b/001.JPG": ("rust", None)})
    with pytest.raises(CurationError, match=r"an image has no label, for example farm_a/001.jpg"):
        export("folders")
    publish_rows(pipeline, {"farm_a/001.jpg": (None, None), "farm_b/001.JPG": (None, None)})
    export("folders")
    assert len(list((home / "out").glob("001~*.[jJ]*"))) == 2
    publish_rows(pipeline, {"farm_a/001.jpg": ("x" * 300, None)})
    with pytest.raises(CurationError, match="too long for a folder's name"):
        export("folders", "other")
    assert left(home) == []


def test_images_are_turned_and_stripped_as_asked(home: Path, export: Export, made: Path) -> None:
    stored = Image.open(BytesIO(turned()))
    assert stored.getexif().get_ifd(0x8825)
    export("folders", strip_metadata=True)
    row = listed(home / "out")["farm_a/turned.jpg"]
    data = (home / "out" / row["file"]).read_bytes()
    image = Image.open(BytesIO(data))
    assert dict(image.getexif()) == {0x0112: 6}  # or it would lie on its side
    assert b"Canon" not in data
    assert b"ana" not in data
    assert image.tobytes() == stored.tobytes()
    assert row["sha256"] == hashlib.sha256(data).hexdigest() != row["content_sha256"]
    done = export("folders", "upright", upright=True)
    rows = listed(home / "upright")
    image = Image.open(home / "upright" / rows["farm_a/turned.jpg"]["file"])
    assert (image.size, dict(image.getexif())) == ((48, 64), {})
    others = {path: row for path, row in rows.items() if path != "farm_a/turned.jpg"}
    assert all(row["sha256"] == row["content_sha256"] for row in others.values())
    assert json.loads((home / "upright/export.json").read_text())["options"]["upright"]
    assert done.bytes == sum(int(row["bytes"]) for row in rows.values())


def test_lists_hold_rows_without_bytes_and_refuse_what_is_of_images(home: Path, export: Export) -> None:
    export("csv", "list.csv")
    export("parquet", "list.parquet")
    export("jsonl", "list.jsonl")
    with (home / "list.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["relative_path"]: (row["label"], row["split"]) for row in csv.DictReader(file)}
    assert rows == IMAGES
    table = pl.read_parquet(home / "list.parquet")
    assert dict(zip(table["relative_path"], table.select("label", "split").rows(), strict=True)) == IMAGES
    assert table.row(by_predicate=pl.col("relative_path") == "farm_a/turned.jpg", named=True)["width"] == 48
    metadata = pl.read_parquet_metadata(home / "list.parquet")
    assert json.loads(metadata["curation_manifest"])["dataset"] == "leaves"
    assert [json.loads(line)["label"] for line in (home / "list.jsonl").read_text().splitlines()] == table[
        "label"
    ].to_list()
    with pytest.raises(CurationError, match="--to csv is a list"):
        export("csv", "other.csv", upright=True)
    with pytest.raises(CurationError, match="--link is of formats whose images are files"):
        export("hf-parquet", link="hard")
    assert left(home) == []
