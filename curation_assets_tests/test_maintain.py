"""Tidying up a lake: what goes, what stays, and that nobody who reads it notices."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation_assets import ingest
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.commands.ingest import exit_code
from curation_assets.lake import layout
from curation_assets.maintain import MaintenanceReport, maintain
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings
from curation_assets_tests.conftest import copy_registry, jpeg


def run(pipeline: Pipeline, *, curate: bool = True) -> ingest.RunSummary:
    return ingest.run(pipeline, LogProgress(), curate=curate)


def tidy(pipeline: Pipeline, **options: Any) -> MaintenanceReport:
    return maintain(pipeline, LogProgress(), **{"retention_hours": 168} | options)


def rows(pipeline: Pipeline) -> tuple[pl.DataFrame, pl.DataFrame]:
    images = pipeline.tables.directory.snapshot().read(["relative_path", "content_sha256", "image_base64"])
    vectors = pipeline.tables.embeddings.snapshot().read(["relative_path", "model_version", "embeddings"])
    return images.drop("_file").sort("relative_path"), vectors.drop("_file").sort("relative_path", "model_version")


def data_files(pipeline: Pipeline) -> set[str]:
    return {str(path) for path in pipeline.settings.lake_root.rglob("*.parquet") if "_delta_log" not in str(path)}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Pipeline:
    """A folder that grew image by image."""
    home = tmp_path_factory.mktemp("maintain")
    images = home / "images" / "a"
    images.mkdir(parents=True)
    copy_registry(registered_model, home / "mlflow")
    settings = load_settings(
        images_root=home / "images", lake_root=home / "lake", model_source="demo", settle_seconds=0
    )
    pipeline = Pipeline(settings)
    for number in range(4):
        (images / f"{number}.jpg").write_bytes(jpeg(number))
        run(pipeline)
    return pipeline


@pytest.fixture
def lake(grown: Pipeline, tmp_path: Path) -> Pipeline:
    """A copy of its lake, to be tidied."""
    settings = grown.settings
    for place in settings.lake_root.parent.iterdir():
        if place != settings.images_root:
            shutil.copytree(place, tmp_path / "copy" / place.name, symlinks=True)
    return Pipeline(settings.model_copy(update={"lake_root": tmp_path / "copy" / "lake"}))


def test_small_files_are_joined_and_every_row_stays(lake: Pipeline) -> None:
    before = rows(lake)
    assert len(lake.tables.directory.snapshot().files()) == 4
    report = tidy(lake, dry_run=True)
    assert [table.joined for table in report.tables] == [4, 4, 4, 0, 4, 0, 0]
    assert len(lake.tables.directory.snapshot().files()) == 4
    tidy(lake)
    assert len(lake.tables.directory.snapshot().files()) == len(lake.tables.embeddings.snapshot().files()) == 1
    for now, then in zip(rows(lake), before, strict=True):
        assert now.equals(then)
    assert [table.joined for table in tidy(lake).tables] == [0, 0, 0, 0, 0, 0, 0]
    summary = run(Pipeline(lake.settings))
    assert exit_code(summary) == 0
    assert (sum(scan.read for scan in summary.scans), sum(embed.encoded for embed in summary.embeds)) == (0, 0)


def test_files_of_old_versions_go_when_their_time_is_over(lake: Pipeline) -> None:
    tidy(lake)
    there = data_files(lake)
    assert [table.vacuumed for table in tidy(lake).tables] == [0, 0, 0, 0, 0, 0, 0], "time travel needs them for a week"
    assert data_files(lake) == there
    stray = lake.tables.directory.path / "folder=a" / "stray.parquet"
    stray.write_bytes(b"of nobody")
    long_ago = time.time() - 10 * 86_400
    os.utime(stray, (long_ago, long_ago))
    time.sleep(0.01)
    dry = tidy(lake, retention_hours=0, dry_run=True)
    assert data_files(lake) == there | {str(stray)}
    report = tidy(lake, retention_hours=0)
    vacuumed = [[table.vacuumed for table in of.tables] for of in (report, dry)]
    assert vacuumed == [[5, 4, 4, 0, 4, 0, 3]] * 2
    assert sum(table.vacuumed_bytes for table in report.tables) > 0
    assert len(data_files(lake)) == 5
    assert exit_code(run(Pipeline(lake.settings))) == 0


def test_vectors_and_indexes_of_versions_that_nobody_uses_go(lake: Pipeline, tmp_path: Path) -> None:
    versions = []
    for number in (2, 3, 4):
        source = Path(shutil.copytree(DEMO_FOLDER, tmp_path / f"model{number}"))
        weights = bytearray((source / "model.safetensors").read_bytes())
        weights[-4] ^= number
        (source / "model.safetensors").write_bytes(weights)
        lake = Pipeline(lake.settings.model_copy(update={"model_source": str(source)}))
        versions.append(run(lake, curate=False).chosen.model.version)
    assert versions == ["2", "3", "4"]
    of_version = dict(rows(lake)[1].group_by("model_version").len().iter_rows())
    assert of_version == {"1": 4, "2": 4, "3": 4, "4": 4}
    kept = rows(lake)[1].filter(pl.col("model_version").is_in(["3", "4"]))
    indexes = {path.name for path in lake.settings.index_dir.iterdir()}
    dry = tidy(lake, dry_run=True)
    assert (dry.kept, dry.tables[1].dropped_rows, len(dry.indexes)) == (["4", "3"], 8, 2)
    assert {path.name for path in lake.settings.index_dir.iterdir()} == indexes
    report = tidy(lake)
    assert json.dumps(report.indexes) == json.dumps(dry.indexes)
    assert rows(lake)[1].equals(kept), "the champion's, and those that a rollback would need"
    assert {path.name for path in lake.settings.index_dir.iterdir()} == indexes - set(report.indexes)
    assert len(lake.searcher.search("leaf", k=9).rows) == 4
    lake.registry.rollback()
    assert sum(embed.encoded for embed in run(Pipeline(lake.settings), curate=False).embeds) == 0


def test_a_change_writes_a_bounded_part_of_a_folder(images: Path, pipeline: Pipeline) -> None:
    (images / "a").mkdir()
    for number in range(500):
        (images / "a" / f"{number:03}.jpg").write_bytes(jpeg(number % 7) + os.urandom(80_000))
    pipeline.scan(["a"], LogProgress())
    table = pipeline.tables.directory
    whole = table.snapshot().bytes()
    assert whole > 30 * 2**20
    known = {file.path for file in table.snapshot().files()}
    os.utime(images / "a" / "250.jpg", ns=(1, 1))
    pipeline.scan(["a"], LogProgress())
    written = sum(file.size_bytes for file in table.snapshot().files() if file.path not in known)
    assert 0 < written <= layout.FILE_BYTES
    assert max(file.size_bytes for file in table.snapshot().files()) <= layout.FILE_BYTES
    assert len(layout.small_files(table.snapshot().files())) <= 1, "what is left of 500"
