"""The quality table follows the directory table by state: what is new or other is measured, once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field
from PIL import Image

from curation_assets.curate import measuring, quality
from curation_assets.curate.checks import scores_are_finite
from curation_assets.curate.measuring import CARRIED, MEASURED, MEASURES_VERSION
from curation_assets.curate.overview import judged_rows
from curation_assets.curate.quality import QualityResult, folders_behind
from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.conftest import jpeg

Fill = Callable[..., list[Path]]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is measured: ``preview`` or ``picture``, an item each."""
    seen: list[str] = []
    for name, what in (("tones", "preview"), ("with_picture", "picture")):
        really = getattr(measuring, name)

        def noted(*given: Any, really: Any = really, what: str = what) -> Any:
            seen.append(what)
            return really(*given)

        monkeypatch.setattr(measuring, name, noted)
    return seen


def scan(pipeline: Pipeline, *folders: str) -> None:
    pipeline.scan(folders, LogProgress())


def measure(pipeline: Pipeline) -> list[QualityResult]:
    return pipeline.measure_all(LogProgress())


def rows(pipeline: Pipeline) -> pl.DataFrame:
    names = [column.name for column in pipeline.tables.quality.spec.columns]
    return pipeline.tables.quality.snapshot().read(names).drop("_file").sort("relative_path")


def edit(pipeline: Pipeline, **values: str) -> None:
    """Put a SQL expression into a column of every row of the directory table."""
    DeltaTable(pipeline.tables.directory.path).update(updates=values)


EARLIER = {
    "scan_sharpness": "NULL",
    "scan_sharpness_version": "NULL",
}  # as the scan of a version without it leaves them


def test_each_usable_image_is_measured_once_and_followed(
    pipeline: Pipeline, fill: Fill, images: Path, decoded: list[str]
) -> None:
    first, second, third = fill("maize", 3)
    fill("oats", 2)
    (images / "maize" / "cut.jpg").write_bytes(jpeg(9)[:200])
    scan(pipeline, "maize", "oats")
    results = {result.folder: result for result in measure(pipeline)}
    assert {folder: (r.rows, r.measured, r.removed) for folder, r in results.items()} == {
        "maize": (3, 3, 0),
        "oats": (2, 2, 0),
    }
    assert decoded == ["preview"] * 5, "the scan has measured the sharpness"
    found = rows(pipeline)
    assert found["relative_path"].to_list() == [f"maize/photo_{n:04}.jpg" for n in range(3)] + [
        f"oats/photo_{n:04}.jpg" for n in range(2)
    ]
    assert found["measures_version"].unique().to_list() == [MEASURES_VERSION]
    assert found["error"].null_count() == 5
    for name in MEASURED:
        assert found[name].null_count() == 0, name
        assert found[name].is_between(0, 200).all(), name
    assert found["aspect_ratio"].to_list() == pytest.approx([64 / 48] * 5)
    decoded.clear()
    version = pipeline.tables.quality.latest().version
    assert measure(pipeline) == []
    first.write_bytes(jpeg(77))
    second.unlink()
    third.rename(images / "maize" / "moved.jpg")
    fill("maize", 1, first=8)
    scan(pipeline, "maize")
    (result,) = measure(pipeline)
    assert (result.folder, result.measured, result.removed, result.rows, result.commits) == ("maize", 3, 3, 3, 1)
    assert decoded == ["preview"] * 3
    assert pipeline.tables.quality.latest().version == version + 1
    shutil.rmtree(images / "oats")
    scan(pipeline, "oats")
    (result,) = measure(pipeline)
    assert (result.folder, result.rows, result.removed) == ("oats", 0, 2)
    assert set(rows(pipeline)["relative_path"]) == {
        "maize/photo_0000.jpg",
        "maize/moved.jpg",
        "maize/photo_0008.jpg",
    }


def test_the_rows_are_a_function_of_the_images_whatever_came_first(
    pipeline: Pipeline, fill: Fill, tmp_path: Path
) -> None:
    other = Pipeline(pipeline.settings.model_copy(update={"lake_root": tmp_path / "other lake"}))
    fill("maize", 6)
    scan(other, "maize")
    measure(other)
    for path in sorted((pipeline.settings.images_root / "maize").iterdir()):
        path.rename(path.with_name(f"later {path.name}"))
    for path in sorted((pipeline.settings.images_root / "maize").iterdir(), reverse=True):
        path.rename(path.with_name(path.name.removeprefix("later ")))
        scan(pipeline, "maize")
        measure(pipeline)
    columns = ["relative_path", *CARRIED, *MEASURED, "aspect_ratio"]
    assert rows(pipeline).select(columns).equals(rows(other).select(columns))


def test_a_lake_of_an_earlier_version_is_measured_from_its_stored_images_once(
    pipeline: Pipeline, fill: Fill, decoded: list[str]
) -> None:
    photos = fill("maize", 3)
    scan(pipeline, "maize")
    now = pipeline.tables.directory.snapshot().read(["relative_path", "scan_sharpness"]).sort("relative_path")
    edit(pipeline, **EARLIER)
    for photo in photos:
        photo.unlink()  # nothing is read where the table has it
    (result,) = measure(pipeline)
    assert (result.measured, result.done.read_again) == (3, 3)
    assert sorted(decoded) == ["picture"] * 3 + ["preview"] * 3
    assert rows(pipeline)["sharpness"].to_list() == now["scan_sharpness"].to_list()
    assert measure(pipeline) == []


def test_images_that_are_not_stored_are_read_from_their_files_and_waited_for_where_those_are_away(
    pipeline: Pipeline, fill: Fill
) -> None:
    pipeline = Pipeline(pipeline.settings.model_copy(update={"store_images": False}))
    here, away, other = fill("maize", 3)
    scan(pipeline, "maize")
    edit(pipeline, **EARLIER)
    data = away.read_bytes()
    away.unlink()
    other.write_bytes(jpeg(5))
    (result,) = measure(pipeline)
    assert (result.measured, result.rows) == (1, 1)
    assert set(result.done.waiting) == {"maize/photo_0001.jpg", "maize/photo_0002.jpg"}
    assert "vanished" in result.done.waiting["maize/photo_0001.jpg"]
    assert "another now" in result.done.waiting["maize/photo_0002.jpg"]
    away.write_bytes(data)
    (result,) = measure(pipeline)
    assert (result.measured, set(result.done.waiting)) == (1, {"maize/photo_0002.jpg"})
    assert here.exists()


def test_a_preview_that_does_not_decode_is_a_row_with_a_reason_and_not_tried_again(
    pipeline: Pipeline, fill: Fill
) -> None:
    fill("maize", 2)
    scan(pipeline, "maize")
    edit(pipeline, preview="X'00'")
    (result,) = measure(pipeline)
    assert result.measured == 2
    assert len(result.done.failed) == 2
    found = rows(pipeline)
    assert found["error"].str.starts_with("its preview doesn't decode").all()
    assert found["sharpness"].null_count() == 0, "what could be measured is there"
    assert found["brightness"].null_count() == 2
    assert measure(pipeline) == []


def test_a_new_version_of_the_measures_measures_every_row_again(
    pipeline: Pipeline, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("maize", 3)
    scan(pipeline, "maize")
    measure(pipeline)
    for module in (measuring, quality):
        monkeypatch.setattr(module, "MEASURES_VERSION", MEASURES_VERSION + 1)
    (result,) = measure(pipeline)
    assert (result.measured, result.removed, result.rows) == (3, 3, 3)
    assert rows(pipeline)["measures_version"].unique().to_list() == [MEASURES_VERSION + 1]


def test_columns_that_users_added_stay_with_the_path(pipeline: Pipeline, fill: Fill) -> None:
    first, *_ = fill("maize", 3)
    scan(pipeline, "maize")
    measure(pipeline)
    table = DeltaTable(pipeline.tables.quality.path)
    table.alter.add_columns([Field("looked_at_by", "string")])
    table.update(new_values={"looked_at_by": "Ada"})
    first.write_bytes(jpeg(70))
    fill("maize", 1, first=7)
    scan(pipeline, "maize")
    measure(pipeline)
    found = pipeline.tables.quality.snapshot().read(["relative_path", "looked_at_by"]).sort("relative_path")
    assert found["looked_at_by"].to_list() == ["Ada", "Ada", "Ada", None]


def test_a_row_that_another_writer_doubled_is_one_again(pipeline: Pipeline, fill: Fill) -> None:
    fill("maize", 3)
    scan(pipeline, "maize")
    measure(pipeline)
    before = rows(pipeline)
    doubled = pl.concat([before.head(2), before.head(1)])
    from deltalake import write_deltalake

    write_deltalake(pipeline.tables.quality.path, pa.table(doubled.to_arrow()), mode="append")
    assert len(rows(pipeline)) == 6
    measure(pipeline)
    assert rows(pipeline).equals(before)
    assert measure(pipeline) == []


def test_work_is_committed_piece_by_piece_and_what_is_stopped_goes_on_from_there(
    pipeline: Pipeline, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("maize", 12)
    for first in range(0, 12, 3):  # a Parquet file each
        for path in sorted((pipeline.settings.images_root / "maize").iterdir())[first + 3 :]:
            path.rename(path.with_suffix(".later"))
        scan(pipeline, "maize")
        for path in (pipeline.settings.images_root / "maize").glob("*.later"):
            path.rename(path.with_suffix(".jpg"))
    scan(pipeline, "maize")
    monkeypatch.setattr(quality, "_PIECE_ROWS", 3)

    class Stopped(LogProgress):
        done = 0

        def advance(self, images: int) -> None:
            self.done += images
            if self.done >= 8:
                raise KeyboardInterrupt

    stopped = Stopped()
    with pytest.raises(KeyboardInterrupt):
        pipeline.measure_all(stopped)
    there = len(rows(pipeline))
    assert 3 <= there <= stopped.done
    (result,) = measure(pipeline)
    assert (result.current, result.measured, result.rows) == (there, 12 - there, 12)


@pytest.mark.parametrize("photographs", [0, 1])
def test_a_lake_of_one_image_or_none(photographs: int, pipeline: Pipeline, fill: Fill) -> None:
    fill("maize", photographs)
    scan(pipeline, "maize")
    results = measure(pipeline)
    assert sum(result.rows for result in results) == photographs
    if photographs:
        found = judged_rows(pipeline.tables.quality, pipeline.thresholds, pipeline.tables.decisions)
        assert found["odd_size"].to_list() == [False]
    else:
        with pytest.raises(CurationError, match="no image is measured yet"):
            judged_rows(pipeline.tables.quality, pipeline.thresholds, pipeline.tables.decisions)


def test_a_broken_file_costs_its_folder_only_and_is_made_anew(pipeline: Pipeline, fill: Fill) -> None:
    fill("maize", 3)
    fill("oats", 2)
    scan(pipeline, "maize", "oats")
    measure(pipeline)
    (file,) = pipeline.tables.quality.snapshot().files("maize")
    (pipeline.tables.quality.path / file.path).write_bytes(b"")
    again = Pipeline(pipeline.settings)
    results = {result.folder: result for result in again.measure(["maize", "oats"], LogProgress())}
    assert results["maize"].broken is not None
    assert results["oats"].broken is None
    assert len(rows(again)) == 2
    (result,) = again.measure(["maize"], LogProgress(), repair=True)
    assert (result.broken, result.measured, list(result.lost)) == (None, 3, [file.path])
    assert len(rows(again)) == 5


def test_many_small_files_are_joined(pipeline: Pipeline, fill: Fill) -> None:
    for number in range(12):
        fill("maize", 1, first=number)
        scan(pipeline, "maize")
        measure(pipeline)
    assert len(pipeline.tables.quality.snapshot().files()) < 10
    assert len(rows(pipeline)) == 12


def test_behind_are_folders_with_something_to_do(pipeline: Pipeline, fill: Fill) -> None:
    def behind() -> list[str]:
        return folders_behind(pipeline.tables.directory.snapshot(), pipeline.tables.quality.snapshot())

    fill("maize", 2)
    fill("oats", 2)
    scan(pipeline, "maize", "oats")
    pipeline.tables.quality.create()
    assert behind() == ["maize", "oats"]
    pipeline.measure(["oats"], LogProgress())
    assert behind() == ["maize"]


@pytest.fixture(autouse=True)
def _no_leftovers(pipeline: Pipeline) -> Iterator[None]:
    yield
    if pipeline.tables.quality.exists():
        assert not list(pipeline.tables.quality.path.glob("_writers/*/*.parquet"))


@pytest.mark.parametrize("colour", ["white", "black", "red", "lime", "blue"])
def test_the_scores_of_a_picture_of_one_colour_are_within_their_scales(
    colour: str, pipeline: Pipeline, images: Path
) -> None:
    (images / "a").mkdir()
    Image.new("RGB", (300, 200), colour).save(images / "a" / "plain.png")
    scan(pipeline, "a")
    measure(pipeline)
    tables = pipeline.tables
    assert scores_are_finite(tables.directory.snapshot(), tables.quality.snapshot(), ["a"]).passed
    assert rows(pipeline)["sharpness"].to_list() == [None]
