"""Measuring on a real Spark session of two workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.curate.test_quality import EARLIER, edit, rows

pytestmark = pytest.mark.slow
Fill = Callable[..., list[Path]]


@pytest.fixture
def on_spark(pipeline: Pipeline, spark: Any) -> Pipeline:
    """The same tables of images, and a table of quality of its own."""
    settings = pipeline.settings.model_copy(
        update={"engine": "spark", "spark_scan_files": 3, "quality_table": "quality_on_spark"}
    )
    return Pipeline(settings, spark=lambda: spark)


def measured(pipeline: Pipeline) -> Any:
    return rows(pipeline).drop("measured_at")


def test_the_rows_are_those_that_are_measured_here(pipeline: Pipeline, on_spark: Pipeline, fill: Fill) -> None:
    first, second, *_ = fill("a b%20/é#?", 7)
    pipeline.scan(["a b%20/é#?"], LogProgress())
    edit(pipeline, **EARLIER)
    for each in (pipeline, on_spark):
        (result,) = each.measure_all(LogProgress())
        assert (result.measured, result.done.read_again, result.commits) == (7, 7, 1)
    assert measured(on_spark).equals(measured(pipeline))
    first.write_bytes(jpeg(77))
    second.unlink()
    fill("a b%20/é#?", 3, first=20)
    pipeline.scan(["a b%20/é#?"], LogProgress())
    for each in (pipeline, on_spark):
        (result,) = each.measure_all(LogProgress())
        assert (result.measured, result.removed, result.commits) == (4, 2, 1)
    assert measured(on_spark).equals(measured(pipeline))
    assert on_spark.measure_all(LogProgress()) == []


def test_few_images_are_measured_without_a_session(pipeline: Pipeline, fill: Fill) -> None:
    fill("maize", 3)
    pipeline.scan(["maize"], LogProgress())
    settings = pipeline.settings.model_copy(update={"engine": "spark", "spark_scan_files": 4})
    here = Pipeline(settings, spark=lambda: pytest.fail("a session was asked for"))
    assert [result.measured for result in here.measure_all(LogProgress())] == [3]


def test_what_executors_cannot_measure_is_told_and_costs_nothing_else(on_spark: Pipeline, fill: Fill) -> None:
    fill("maize", 4)
    on_spark.scan(["maize"], LogProgress())
    edit(on_spark, preview="X'00'")
    edit(on_spark, **EARLIER, image_base64="'abc'")
    (result,) = on_spark.measure_all(LogProgress())
    assert (result.measured, len(result.done.failed)) == (4, 4)
    assert rows(on_spark)["error"].str.starts_with("its image_base64 is not base64").all()
    assert on_spark.measure_all(LogProgress()) == []


def test_rows_of_an_earlier_version_stay_until_executors_measured_them_again(
    on_spark: Pipeline, spark: Any, fill: Fill
) -> None:
    away, *_ = fill("maize", 4)
    without = Pipeline(on_spark.settings.model_copy(update={"store_images": False}), spark=lambda: spark)
    without.scan(["maize"], LogProgress())
    without.measure_all(LogProgress())
    edit(without, **EARLIER)
    DeltaTable(without.tables.quality.path).update(updates={"measures_version": "0"})
    away.unlink()
    for commits in (1, 0):
        (result,) = without.measure_all(LogProgress())
        assert (result.rows, result.commits, list(result.done.waiting)) == (4, commits, ["maize/photo_0000.jpg"])
    found = rows(without)
    assert (found["measures_version"] == 0).to_list() == [True, False, False, False]
