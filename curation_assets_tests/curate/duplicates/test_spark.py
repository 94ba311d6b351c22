"""Comparing on a real Spark session of two workers: the same lists, pairs and groups as here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation_assets.curate.neighbours.refresh import refresh_neighbours
from curation_assets.curate.neighbours.spark import SparkLists
from curation_assets.curate.neighbours.stored import location_of
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.search.index import SearchIndex
from curation_assets_tests.curate.duplicates.test_comparison import NEAR, grouped, put, state

pytestmark = pytest.mark.slow


def test_pairs_and_groups_are_those_that_are_found_here(
    ready: Pipeline, images: Path, spark: Any, tmp_path: Path
) -> None:
    put(images)
    run(ready, LogProgress())
    assert grouped(ready) == NEAR
    here = state(ready)
    settings = ready.settings.model_copy(
        update={
            "engine": "spark",
            "spark_scan_files": 5,
            "pairs_table": "pairs_on_spark",
            "compared_table": "compared_on_spark",
            "groups_table": "groups_on_spark",
        }
    )
    on_spark = Pipeline(settings, spark=lambda: spark)
    done = on_spark.compare_all(LogProgress())
    assert done.comparison.verified > 0
    assert state(on_spark)[0].equals(here[0])
    assert state(on_spark)[1].equals(here[1])
    assert on_spark.compare_all(LogProgress()).comparison.verified == 0
    del tmp_path


def test_the_graph_is_the_one_that_is_made_here(ready: Pipeline, images: Path, spark: Any) -> None:
    put(images)
    run(ready, LogProgress(), curate=False)
    model = ready.selection.current()
    assert model is not None
    index = SearchIndex.open(ready.searcher.location_of(model))
    assert index is not None
    assert index.path is not None
    here = refresh_neighbours(index, LogProgress()).neighbours
    lists, cosines = np.array(here.indices), np.array(here.cosines)
    (location_of(index.path) / "current.json").unlink()
    there = refresh_neighbours(index, LogProgress(), spark=SparkLists(lambda: spark, 2))
    assert there.rebuilt
    assert np.array_equal(there.neighbours.indices, lists)
    assert np.array_equal(there.neighbours.cosines, cosines)
    assert sorted(path.suffix for path in location_of(index.path).iterdir()) == [".arrow", ".json", ".lock"]
