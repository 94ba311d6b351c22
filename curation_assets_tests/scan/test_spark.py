"""The scan on a real Spark session of two workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation_assets.errors import CurationError
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.scan import plan
from curation_assets_tests.conftest import jpeg

pytestmark = pytest.mark.slow
Fill = Callable[..., list[Path]]


class Sum(LogProgress):
    total = done = 0

    def start(self, task: str, total: int) -> None:
        self.total += total

    def advance(self, images: int) -> None:
        self.done += images


@pytest.fixture
def on_spark(ready: Pipeline, spark: Any, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.setattr(plan, "UNIT_FILES", 4)
    settings = ready.settings.model_copy(
        update={"engine": "spark", "spark_scan_files": 5, "lake_root": ready.settings.lake_root.with_name("spark lake")}
    )
    beside = Pipeline(settings, spark=lambda: spark)
    beside.registry.folder.mkdir(exist_ok=True)
    return beside


def table(pipeline: Pipeline) -> pl.DataFrame:
    snapshot = pipeline.tables.directory.snapshot()
    return snapshot.read([c.name for c in snapshot.spec.columns]).drop("_file").sort("relative_path")


@pytest.mark.parametrize("folder", ["maize", "a b%20/é#?", "."])
def test_the_rows_are_those_of_the_scan_here(
    folder: str, on_spark: Pipeline, ready: Pipeline, fill: Fill, images: Path
) -> None:
    first, second, *_ = fill(folder, 11)
    (images / folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (images / folder / "empty.jpg").touch()
    progress = Sum()
    for pipeline, report in ((ready, LogProgress()), (on_spark, progress)):
        (result,) = pipeline.scan([folder], report)
        assert (result.new, result.read, result.ok, result.bad) == (13, 13, 11, 2)
        assert result.bytes_read > 0
    assert result.commits == 1, "one commit, of four units"
    assert (progress.total, progress.done) == (13, 13)
    assert table(on_spark).equals(table(ready))
    first.write_bytes(jpeg(77))
    second.unlink()
    for pipeline in (ready, on_spark):
        (result,) = pipeline.scan([folder], LogProgress())
        assert (result.changed, result.vanished, result.read) == (1, 1, 1)
    assert table(on_spark).equals(table(ready))
    (again,) = on_spark.scan([folder], LogProgress())
    assert again.commits == 0


def test_a_small_folder_asks_for_no_session(on_spark: Pipeline, fill: Fill) -> None:
    fill("a", 4)
    pipeline = Pipeline(on_spark.settings, spark=lambda: pytest.fail("a session was asked for"))
    assert pipeline.scan(["a"], LogProgress())[0].new == 4


def test_a_scan_that_fails_on_the_executors_commits_nothing(
    on_spark: Pipeline, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("a", 12)

    class Stopping(LogProgress):
        def advance(self, images: int) -> None:
            raise CurationError("enough")

    with pytest.raises(CurationError, match="enough"):
        on_spark.scan(["a"], Stopping())
    snapshot = on_spark.tables.directory.snapshot()
    assert snapshot.rows() == 0
    assert not list((on_spark.tables.directory.path / "folder=a").glob("*.parquet"))
    assert on_spark.scan(["a"], LogProgress())[0].ok == 12


def test_a_whole_run_scans_and_embeds_on_spark(on_spark: Pipeline, ready: Pipeline, fill: Fill) -> None:
    for folder in ("a", "b/c"):
        fill(folder, 7)
    summary = run(on_spark, LogProgress(), curate=False)
    assert [scan.commits for scan in summary.scans] == [1, 1]
    assert summary.status.select("embedded", "stale").rows() == [(7, 0), (7, 0)]
    assert not run(on_spark, LogProgress(), curate=False).embeds
