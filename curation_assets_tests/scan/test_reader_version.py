"""After an update, files that are read otherwise now are read again once; vectors follow where the pixels did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
from PIL import Image

from curation_assets.images import colour, record
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.scan import plan
from curation_assets.scan.changes import folder_changes
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.gallery.conftest import client_of
from curation_assets_tests.images.test_colour import DISPLAY_P3, matrix_profile
from curation_assets_tests.images.test_decode import encoded

Fill = Callable[..., list[Path]]


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The first version's reading: it knew no profiles. What is patched here is undone by ``undo``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "READER_VERSION", 1)
        patch.setattr(plan, "READER_VERSION", 1)
        patch.setattr(plan, "READ_ALIKE_SINCE", {})
        patch.setattr(colour, "to_srgb", lambda *_: None)
        yield patch


def changes(pipeline: Pipeline) -> list[tuple[str, str]]:
    tree = pipeline.source.list_folders()
    found = folder_changes(tree, pipeline.tables.directory.snapshot(), pipeline.source, pipeline._limits)
    return [(change.folder, change.what) for change in found]


def wide(images: Path) -> Path:
    path = images / "maize" / "wide.png"
    profile = matrix_profile(DISPLAY_P3, 2.2)
    path.write_bytes(encoded(Image.new("RGB", (64, 48), (60, 160, 70)), "PNG", icc_profile=profile))
    return path


def vectors(pipeline: Pipeline) -> dict[str, Any]:
    rows = pipeline.tables.embeddings.snapshot().read(["relative_path", "embeddings", "embedded_at", "pixels_as"])
    return {row["relative_path"]: row for row in rows.to_dicts()}


def test_files_are_read_again_once_and_only_other_pixels_are_encoded(
    ready: Pipeline, images: Path, fill: Fill, opened: list[str], as_before: pytest.MonkeyPatch
) -> None:
    fill("maize", 3)
    fill("rice", 2)
    (images / "rice" / "flat.bmp").write_bytes(encoded(Image.new("RGB", (8, 8), (1, 2, 3)), "BMP"))
    (images / "rice" / "cut.jpg").write_bytes(jpeg()[:500])
    wide(images)
    run(ready, LogProgress(), curate=False)
    before = vectors(ready)
    versions = ready.tables.content_version(["rice"]), ready.tables.content_version(["maize"])
    assert changes(ready) == []
    as_before.undo()

    assert changes(ready) == [("maize", "read otherwise now"), ("rice", "read otherwise now")]
    opened.clear()
    summary = run(ready, LogProgress(), curate=False)
    assert len(opened) == len(set(opened)) == 7, "all but the bitmap, which is read as ever"
    assert "rice/flat.bmp" not in opened
    assert sum(scan.outdated for scan in summary.scans) == 7
    assert sum(scan.changed for scan in summary.scans) == 0
    assert sum(embed.encoded for embed in summary.embeds) == 1
    after = vectors(ready)
    assert {path for path in after if before[path]["embedded_at"] != after[path]["embedded_at"]} == {"maize/wide.png"}
    assert after["maize/wide.png"]["pixels_as"] == "profile"
    assert float(np.dot(before["maize/wide.png"]["embeddings"], after["maize/wide.png"]["embeddings"])) < 0.99999
    assert ready.tables.content_version(["rice"]) == versions[0]
    assert ready.tables.content_version(["maize"]) != versions[1]

    opened.clear()
    again = run(ready, LogProgress(), curate=False)
    assert (opened, changes(ready)) == ([], [])
    assert sum(scan.commits for scan in again.scans) + sum(embed.commits for embed in again.embeds) == 0


def test_a_copy_of_a_content_takes_the_vector_of_the_same_picture_alone(
    ready: Pipeline, images: Path, fill: Fill, as_before: pytest.MonkeyPatch
) -> None:
    fill("maize", 1)
    data = wide(images).read_bytes()
    run(ready, LogProgress(), curate=False)
    as_before.undo()
    (images / "oats").mkdir()
    (images / "oats" / "copy.png").write_bytes(data)
    first = run(ready, LogProgress(), folders=["oats"])
    assert sum(embed.encoded for embed in first.embeds) == 1, "the vector of maize is of the other picture"
    second = run(ready, LogProgress(), curate=False)
    assert sum(embed.encoded for embed in second.embeds) == 0
    assert sum(embed.copied for embed in second.embeds) == 1
    found = vectors(ready)
    assert found["maize/wide.png"]["embeddings"] == found["oats/copy.png"]["embeddings"]


def test_other_bands_read_the_rasters_that_they_concern_again(
    pipeline: Pipeline, images: Path, fill: Fill, opened: list[str]
) -> None:
    fill("maize", 2)
    cube = np.random.default_rng(0).integers(0, 4095, (32, 32, 5), np.uint16)
    tifffile.imwrite(images / "maize" / "five.tif", cube, photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(images / "maize" / "one.tif", cube[..., 0], photometric="minisblack")
    pipeline.scan(["maize"], LogProgress())
    assert changes(pipeline) == []
    other = Pipeline(pipeline.settings.model_copy(update={"bands": (5, 3, 2)}))
    assert changes(other) == [("maize", "read otherwise now")]
    opened.clear()
    other.scan(["maize"], LogProgress())
    assert opened == ["maize/five.tif"]
    assert changes(other) == []
    rows = other.tables.directory.snapshot().read(["file_name", "pixels_as"], where=pl.col("pixels_as").is_not_null())
    assert dict(rows.select("file_name", "pixels_as").iter_rows()) == {"five.tif": "bands 5,3,2", "one.tif": "scaled"}


def test_what_is_doubtful_stands_in_the_row_and_can_be_asked_for(ready: Pipeline, images: Path, fill: Fill) -> None:
    fill("maize", 2)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8))
    data = encoded(noise, "JPEG")
    (images / "maize" / "hole.jpg").write_bytes(data[:9000] + bytes(64) + data[9064:])
    summary = run(ready, LogProgress(), curate=False)
    assert sum(scan.ok for scan in summary.scans) == 3
    found = ready.searcher.search(where="warning IS NOT NULL")
    assert found.rows["relative_path"].to_list() == ["maize/hole.jpg"]
    row = ready.tables.row("maize/hole.jpg")
    assert row is not None
    assert row["warning"].startswith("its pixels are partly invented: ")
    client = client_of(ready)
    facts = client.get("/api/image", params={"key": "maize/hole.jpg"}).json()
    assert facts["columns"]["warning"] == row["warning"]
    page = client.get("/image", params={"key": "maize/hole.jpg"}, headers={"accept": "text/html"}).text
    assert row["warning"] in page
