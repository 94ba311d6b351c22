"""The Spark engine on a real session of two workers: same rows as the local one, whatever happens to its tasks."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest

from curation_assets.clip.encoders import Encoders
from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed import spark as spark_engine
from curation_assets.embed.job import embed_folder
from curation_assets.embed.local import LocalEngine
from curation_assets.embed.result import EmbedResult
from curation_assets.embed.spark import SparkEngine
from curation_assets.errors import CurationError
from curation_assets.lake.layout import SMALL_FILES
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.conftest import GivenEncoders, jpeg
from curation_assets_tests.embed.test_embed import change_stored, leftovers, paths, rows

pytestmark = pytest.mark.slow
Fill = Callable[..., list[Path]]


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_engine, "_LEAST_IMAGES", 2)


@pytest.fixture
def model(ready: Pipeline) -> RegisteredModel:
    return ready.registry.champion()


def encoders_of(pipeline: Pipeline, precision: str = "float32") -> Encoders:
    settings = pipeline.settings
    registry = (settings.registered_model, settings.mlflow_dir, False)
    return Encoders(registry, "cpu", precision, 2, settings.decode_options)


def embed(
    pipeline: Pipeline, spark: Any, folder: str, model: RegisteredModel, by_name: str | None = None, **how: Any
) -> EmbedResult:
    pipeline.tables.embeddings.create()
    engine = SparkEngine(lambda: spark, encoders_of(pipeline), pipeline.source, by_name)
    progress = how.pop("progress", LogProgress())
    return embed_folder(pipeline.tables.directory, pipeline.tables.embeddings, folder, model, engine, progress, **how)


def embedded_here(pipeline: Pipeline, folder: str, model: RegisteredModel, lake: Path) -> pl.DataFrame:
    """What the local engine makes of the same directory table, in another lake."""
    other = Pipeline(pipeline.settings.model_copy(update={"lake_root": lake}))
    other.tables.embeddings.create()
    encoder = pipeline.registry.load_encoder(model, "cpu", "float32")
    engine = LocalEngine(GivenEncoders(given=lambda: [encoder]), pipeline.source, threads=2)
    embed_folder(pipeline.tables.directory, other.tables.embeddings, folder, model, engine, LogProgress())
    return rows(other)


def assert_same_rows(made: pl.DataFrame, expected: pl.DataFrame) -> None:
    others = [c for c in expected.columns if c not in ("embeddings", "embedded_at", "_file")]
    assert made.select(others).equals(expected.select(others))
    left, right = (np.array(table["embeddings"].to_list()) for table in (made, expected))
    assert left.shape == right.shape
    assert (left * right).sum(axis=1).min() >= 0.99999


@pytest.mark.parametrize("folder", ["maize", "a b%20/é#?", "x=1&y", "."])
def test_the_rows_are_those_of_the_local_engine(
    folder: str, ready: Pipeline, spark: Any, model: RegisteredModel, fill: Fill, tmp_path: Path, small_tasks: None
) -> None:
    first, *_ = fill(folder, 13)
    shutil.copy(first, first.with_name("copy of it.jpg"))
    ready.scan([folder], LogProgress())
    result = embed(ready, spark, folder, model)
    assert (result.encoded, result.copied, result.commits, result.rows, result.failed) == (13, 1, 1, 14, [])
    assert_same_rows(rows(ready), embedded_here(ready, folder, model, tmp_path / "other"))
    assert len(ready.tables.embeddings.snapshot().files(folder)) == 5, "a file a task"
    assert leftovers(ready.tables.embeddings) == []
    assert result.computed is not None
    assert (result.computed.devices, result.bytes > 0, result.stages.forward > 0) == (2, True, True)
    again = embed(ready, lambda: pytest.fail("a session was asked for"), folder, model)
    assert (again.commits, again.current) == (0, 14)


def test_a_change_is_one_commit_that_removes_copies_and_adds(
    ready: Pipeline, spark: Any, model: RegisteredModel, fill: Fill, images: Path, tmp_path: Path, small_tasks: None
) -> None:
    first, second, third, *_ = fill("a", 6)
    ready.scan(["a"], LogProgress())
    embed(ready, spark, "a", model)
    first.write_bytes(jpeg(991))
    second.unlink()
    third.rename(images / "a" / "renamed.jpg")
    fill("a", 2, first=6)
    ready.scan(["a"], LogProgress())
    result = embed(ready, spark, "a", model)
    assert (result.encoded, result.copied, result.removed, result.commits, result.rows) == (3, 1, 3, 1, 7)
    assert_same_rows(rows(ready), embedded_here(ready, "a", model, tmp_path / "other"))


def test_a_poisoned_image_is_reported_and_the_others_go_on(
    ready: Pipeline, spark: Any, model: RegisteredModel, fill: Fill, small_tasks: None
) -> None:
    fill("a", 5)
    ready.scan(["a"], LogProgress())
    change_stored(ready.tables.directory, "a", "a/photo_0002.jpg", image_base64="abc")
    result = embed(ready, spark, "a", model)
    assert result.failed == [("a/photo_0002.jpg", "its image_base64 is not base64; rescan the folder")]
    assert paths(ready) == [f"a/photo_{index:04}.jpg" for index in (0, 1, 3, 4)]


def test_images_that_are_not_stored_are_read_by_the_executors(
    ready: Pipeline, spark: Any, model: RegisteredModel, fill: Fill, small_tasks: None
) -> None:
    fill("a", 4)
    without = Pipeline(ready.settings.model_copy(update={"store_images": False}))
    without.scan(["a"], LogProgress())
    assert embed(ready, spark, "a", model).encoded == 4


def workers(of: psutil.Process) -> Iterator[psutil.Process]:
    """Python processes that carry out tasks: children of the daemons that Spark's JVM starts."""
    for process in of.children(recursive=True):
        with suppress(psutil.Error):  # gone, or about to be
            parent = process.parent()
            if parent is not None and all("pyspark.daemon" in each.cmdline() for each in (parent, process)):
                yield process


def test_a_killed_worker_costs_its_task_and_doubles_no_row(
    ready: Pipeline, spark: Any, model: RegisteredModel, fill: Fill, tmp_path: Path
) -> None:
    fill("a", 400)
    ready.scan(["a"], LogProgress())
    killed: list[int] = []

    def kill_one_that_writes() -> None:
        markers = ready.tables.embeddings.path / "_writers"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if list(markers.glob("*/*.parquet")):
                for worker in workers(psutil.Process()):
                    os.kill(worker.pid, signal.SIGKILL)
                    killed.append(worker.pid)
                return
            time.sleep(0.002)

    killer = threading.Thread(target=kill_one_that_writes)
    killer.start()
    result = embed(ready, spark, "a", model)
    killer.join()
    assert killed
    assert (result.encoded, result.rows, result.commits) == (400, 400, 1)
    assert_same_rows(rows(ready), embedded_here(ready, "a", model, tmp_path / "other"))
    assert leftovers(ready.tables.embeddings) == []


def test_a_job_that_fails_commits_nothing_and_leaves_nothing(
    ready: Pipeline, spark: Any, model: RegisteredModel, fill: Fill, small_tasks: None
) -> None:
    first, *_ = fill("a", 9)
    ready.scan(["a"], LogProgress())
    embed(ready, spark, "a", model)
    first.write_bytes(jpeg(991))
    fill("a", 9, first=20)
    ready.scan(["a"], LogProgress())
    before = rows(ready)
    good = {file: file.read_bytes() for file in (ready.tables.directory.path / "folder=a").glob("*.parquet")}

    class Damaging(LogProgress):
        def start(self, task: str, total: int) -> None:  # after the plan was made
            for file, data in good.items():
                file.write_bytes(data[:-100] + b"\0" * 100)

    with pytest.raises(CurationError, match=str(ready.tables.directory.path)):
        embed(ready, spark, "a", model, progress=Damaging())
    assert rows(ready).equals(before)
    assert leftovers(ready.tables.embeddings) == []
    for file, data in good.items():
        file.write_bytes(data)
    assert embed(ready, spark, "a", model).rows == 18


def test_a_model_that_executors_cannot_load_is_said_in_one_line(
    ready: Pipeline, spark: Any, model: RegisteredModel, fill: Fill
) -> None:
    fill("a", 3)
    ready.scan(["a"], LogProgress())
    weights = next(ready.registry.folder.parent.rglob("model.safetensors"), None)
    engine = SparkEngine(lambda: spark, encoders_of(ready, "float16"), ready.source)
    ready.tables.embeddings.create()
    with pytest.raises(CurationError, match="float16 needs a CUDA device"):
        embed_folder(ready.tables.directory, ready.tables.embeddings, "a", model, engine, LogProgress())
    assert paths(ready) == []
    assert weights is None or weights.exists()


def test_many_small_runs_are_merged_by_executors(
    ready: Pipeline, spark: Any, model: RegisteredModel, fill: Fill
) -> None:
    for index in range(SMALL_FILES + 1):
        fill("a", 1, first=index)
        ready.scan(["a"], LogProgress())
        result = embed(ready, spark, "a", model)
    assert len(ready.tables.embeddings.snapshot().files("a")) == 1
    assert (result.commits, result.rows) == (2, SMALL_FILES + 1)
    assert leftovers(ready.tables.embeddings) == []


def test_a_table_of_the_catalog_is_read_by_its_name(
    ready: Pipeline, spark: Any, model: RegisteredModel, fill: Fill, tmp_path: Path
) -> None:
    """A catalog on a plain Spark has no Delta: the table that stands for the directory is of Parquet files."""
    first, *_ = fill("a b/é", 11)
    shutil.copy(first, first.with_name("copy of it.jpg"))
    fill("b", 3)
    folders = ["a b/é", "b"]
    ready.scan(folders, LogProgress())
    directory = ready.tables.directory.snapshot()
    columns = [c.name for c in directory.spec.columns]
    held = directory.read(columns).drop("_file")
    lost = held.filter(pl.col("relative_path") != "a b/é/photo_0004.jpg")
    spark.sql("create database if not exists agriculture")
    for name, table in (("whole", held), ("behind", lost)):
        table.select("folder", "status", *spark_engine._NAMED).write_parquet(tmp_path / f"{name}.parquet")
        frame = spark.read.parquet(str(tmp_path / f"{name}.parquet"))
        frame.createOrReplaceTempView(name)
    result = embed(ready, spark, "a b/é", model, by_name="behind")
    assert (result.encoded, [path for path, _ in result.failed]) == (10, ["a b/é/photo_0004.jpg"])
    assert "reads by name" in result.failed[0][1]
    result = embed(ready, spark, "a b/é", model, by_name="whole")
    assert (result.encoded, result.current, result.rows, result.failed) == (1, 11, 12, [])
    assert_same_rows(rows(ready), embedded_here(ready, "a b/é", model, tmp_path / "other"))
    assert leftovers(ready.tables.embeddings) == []


def test_a_name_that_is_not_in_the_catalog_is_said_in_one_line(
    ready: Pipeline, spark: Any, model: RegisteredModel, fill: Fill
) -> None:
    fill("a", 2)
    ready.scan(["a"], LogProgress())
    with pytest.raises(CurationError, match="not_there"):
        embed(ready, spark, "a", model, by_name="not_there")
