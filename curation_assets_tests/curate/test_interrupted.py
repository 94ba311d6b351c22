"""What ends measuring early, or stands in its way: kills, damaged cells, files that are away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, Field

from curation_assets.curate import measuring, quality
from curation_assets.lake.broken import BrokenFiles
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.repair import repair
from curation_assets_tests.curate.killed import AFTER_THE_COMMIT, BEFORE_THE_COMMIT, kill

Fill = Callable[..., list[Path]]

PLACES = {
    "in the midst of measuring": ("curation_assets.curate.measuring", "", "_arrow"),
    "before the commit": BEFORE_THE_COMMIT,
    "after the commit": AFTER_THE_COMMIT,
}


def rows(pipeline: Pipeline) -> pl.DataFrame:
    columns = ["relative_path", "content_sha256", "sharpness", "brightness", "error"]
    return pipeline.tables.quality.snapshot().read(columns).drop("_file").sort("relative_path")


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_process_leaves_the_table_whole_and_the_next_one_finishes(
    place: str, pipeline: Pipeline, fill: Fill, images: Path
) -> None:
    fill("maize", 3)
    pipeline.scan(["maize"], LogProgress())
    pipeline.measure_all(LogProgress())
    before = rows(pipeline)
    (images / "maize" / "photo_0001.jpg").unlink()
    fill("maize", 2, first=7)
    pipeline.scan(["maize"], LogProgress())
    kill(pipeline.settings, "measure_all", PLACES[place])
    again = Pipeline(pipeline.settings)
    is_there = place == "after the commit"
    assert rows(again).equals(before) is not is_there, "all of a commit or none of it"
    results = again.measure_all(LogProgress())
    assert [result.measured for result in results] == ([] if is_there else [2])
    expected = [f"maize/photo_000{n}.jpg" for n in (0, 2, 7, 8)]
    assert rows(again)["relative_path"].to_list() == expected
    again.measure(["maize"], LogProgress())  # nothing to do, but the right to write sweeps what was left
    assert not list(again.tables.quality.path.glob("_writers/*/*.parquet"))
    known = {file.path for file in again.tables.quality.snapshot().files()}
    found = {str(path.relative_to(again.tables.quality.path)) for path in again.tables.quality.path.rglob("*.parquet")}
    removed = {path for path in found - known if path.startswith("folder=")}
    assert len(removed) <= 1, "of the version before; maintain deletes it"


def test_a_cell_that_is_not_base64_is_a_row_with_a_reason_and_costs_nothing_else(
    pipeline: Pipeline, fill: Fill
) -> None:
    fill("maize", 3)
    pipeline.scan(["maize"], LogProgress())
    table = DeltaTable(pipeline.tables.directory.path)
    table.update(updates={"scan_sharpness": "NULL", "scan_sharpness_version": "NULL"})
    table.update(updates={"image_base64": "'abc'"}, predicate="relative_path = 'maize/photo_0001.jpg'")
    (result,) = pipeline.measure_all(LogProgress())
    assert result.done.failed == {"maize/photo_0001.jpg": "its image_base64 is not base64; rescan the folder"}
    found = rows(pipeline)
    assert found["sharpness"].is_null().to_list() == [False, True, False]
    assert found["brightness"].null_count() == 0
    assert pipeline.measure_all(LogProgress()) == []


def test_waiting_for_a_file_writes_nothing_at_the_next_run(pipeline: Pipeline, fill: Fill) -> None:
    without = Pipeline(pipeline.settings.model_copy(update={"store_images": False}))
    away, *_ = fill("maize", 2)
    without.scan(["maize"], LogProgress())
    DeltaTable(without.tables.directory.path).update(
        updates={"scan_sharpness": "NULL", "scan_sharpness_version": "NULL"}
    )
    away.unlink()
    without.measure_all(LogProgress())
    version = without.tables.quality.latest().version
    (result,) = without.measure_all(LogProgress())
    assert (result.commits, list(result.done.waiting)) == (0, ["maize/photo_0000.jpg"])
    assert without.tables.quality.latest().version == version
    assert rows(without)["relative_path"].to_list() == ["maize/photo_0001.jpg"]


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [emptied, Path.unlink])
@pytest.mark.parametrize("damaged", ["quality", "directory"])
def test_a_repair_makes_the_measures_of_damaged_files_anew(
    damaged: str, spoil: Callable[[Path], None], pipeline: Pipeline, fill: Fill
) -> None:
    fill("maize", 3)
    fill("oats", 2)
    pipeline.scan(["maize", "oats"], LogProgress())
    pipeline.measure_all(LogProgress())
    before = rows(pipeline)
    table = getattr(pipeline.tables, damaged)
    (file,) = table.snapshot().files("maize")
    spoil(table.path / file.path)
    BrokenFiles.of(str(table.path))._found.clear()
    again = Pipeline(pipeline.settings)
    report = repair(again, LogProgress())
    assert [(found.table, found.partition) for found in report.found] == [(table.path.name, "maize")]
    assert report.measured == (3 if damaged == "quality" else 0), "the content is what it was"
    assert report.not_mended == []
    assert rows(again).equals(before)
    assert again.measure_all(LogProgress()) == []


def test_a_new_version_of_the_measures_costs_no_row_and_no_column_while_files_are_away(
    pipeline: Pipeline, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = Pipeline(pipeline.settings.model_copy(update={"store_images": False}))
    _, second, _ = fill("maize", 3)
    without.scan(["maize"], LogProgress())
    without.measure_all(LogProgress())
    before = rows(without)
    table = DeltaTable(without.tables.quality.path)
    table.alter.add_columns([Field("looked_at_by", "string")])
    table.update(new_values={"looked_at_by": "Ada"})

    def added() -> dict[str, str | None]:
        columns = ["relative_path", "looked_at_by"]
        return dict(without.tables.quality.snapshot().read(columns).select(columns).iter_rows())

    everyone = dict.fromkeys(before["relative_path"], "Ada")
    monkeypatch.setattr(measuring, "SHARPNESS_VERSION", measuring.SHARPNESS_VERSION + 1)
    newer = measuring.MEASURES_VERSION + 1000
    for module in (measuring, quality):
        monkeypatch.setattr(module, "MEASURES_VERSION", newer)
    data = second.read_bytes()
    second.unlink()
    (result,) = without.measure_all(LogProgress())
    assert (result.measured, result.removed, result.rows, len(result.done.waiting)) == (2, 2, 3, 1)
    assert rows(without).equals(before)
    assert added() == everyone
    version = without.tables.quality.latest().version
    (result,) = without.measure_all(LogProgress())
    assert (result.measured, result.commits, len(result.done.waiting)) == (0, 0, 1)
    assert without.tables.quality.latest().version == version
    second.write_bytes(data)
    (result,) = without.measure_all(LogProgress())
    assert (result.measured, result.rows) == (1, 3)
    assert added() == everyone
    assert without.measure_all(LogProgress()) == []


def test_a_new_version_of_the_measures_takes_rows_over_piece_by_piece(
    pipeline: Pipeline, fill: Fill, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first in range(0, 8, 2):  # a Parquet file each
        fill("maize", 2, first=first)
        pipeline.scan(["maize"], LogProgress())
    fill("oats", 2)
    pipeline.scan(["oats"], LogProgress())
    pipeline.measure_all(LogProgress())
    table = DeltaTable(pipeline.tables.quality.path)
    table.alter.add_columns([Field("looked_at_by", "string")])
    table.update(new_values={"looked_at_by": "Ada"})
    before = rows(pipeline)
    monkeypatch.setattr(quality, "_PIECE_ROWS", 2)
    for module in (measuring, quality):
        monkeypatch.setattr(module, "MEASURES_VERSION", 10**6)
    (images / "maize" / "photo_0000.jpg").unlink()  # a row that has to go meanwhile
    pipeline.scan(["maize"], LogProgress())

    class Stopped(LogProgress):
        done = 0

        def advance(self, images: int) -> None:
            self.done += images
            if self.done >= 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.measure(["maize", "oats"], Stopped())
    columns = ["relative_path", "measures_version", "looked_at_by"]
    there = pipeline.tables.quality.snapshot().read(columns)
    paths = before["relative_path"].to_list()
    assert set(there["relative_path"]) in ({*paths}, {*paths[1:]}), "no row is gone that is not measured again"
    assert len(there) == there["relative_path"].n_unique()
    assert there["looked_at_by"].null_count() == 0
    pipeline.measure(["maize", "oats"], LogProgress())
    there = pipeline.tables.quality.snapshot().read(columns).sort("relative_path")
    assert there["relative_path"].to_list() == paths[1:]
    assert there["measures_version"].unique().to_list() == [10**6]
    assert there["looked_at_by"].unique().to_list() == ["Ada"]
    assert rows(pipeline).equals(before[1:])
    assert pipeline.measure_all(LogProgress()) == []
