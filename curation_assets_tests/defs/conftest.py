"""Dagster in this process, on an instance that goes with the test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.event_log import in_memory as events
from dagster._core.storage.runs import in_memory as runs
from sqlalchemy import NullPool, create_engine

from curation_assets.definitions import build_defs
from curation_assets.defs.resources import CurationResource
from curation_assets.pipeline import Pipeline
from curation_assets.settings import Settings


def _keep_connections_to_memory() -> None:
    """Each event would open a database in memory anew, and each instance ask alembic for the newest revision."""

    @contextmanager
    def connected(storage: Any) -> Iterator[Any]:
        with storage._db_lock:  # one thread at a time, whichever
            if storage._kept is None:
                elsewhere = {"check_same_thread": False}
                storage._kept = create_engine(storage._engine.url, connect_args=elsewhere, poolclass=NullPool).connect()
            with storage._kept.begin():
                yield storage._kept

    storage_type: Any = events.InMemoryEventLogStorage
    storage_type._kept, storage_type._connect = None, connected
    for module in (events, runs):
        module.stamp_alembic_rev = lambda *_: None  # type: ignore[attr-defined]


_keep_connections_to_memory()


def report_model(instance: dg.DagsterInstance, pipeline: Pipeline) -> None:
    """Tell Dagster of the champion, as a run of clip_model does."""
    tags = {"dagster/data_version": pipeline.registry.champion().fingerprint}
    instance.report_runless_asset_event(dg.AssetMaterialization("clip_model", tags=tags))


def folders_of(request: dg.RunRequest | dg.DagsterRun) -> list[str]:
    """Partition keys that a run was asked for: one of a job of assets, or those in its configuration."""
    if keys := request.run_config.get("ops", {}).get("folders", {}).get("config", {}).get("keys"):
        return list(keys)
    partition = request.tags.get("dagster/partition") or getattr(request, "partition_key", None)
    return [str(partition)] if partition else []


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture(scope="session")
def empty_instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of an instance on disk; made once, as its databases take a while."""
    home = tmp_path_factory.mktemp("instance")
    with dg.DagsterInstance.local_temp(str(home)):
        return home


@pytest.fixture
def on_disk(empty_instance: Path, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance on disk, where events are stored as they are in service."""
    shutil.copytree(empty_instance, tmp_path / "dagster_instance")
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster_instance")) as made:
        yield made


class Following:
    """What follows the tables of a lake: a job, run in this process, and the sensor that asks for it."""

    def __init__(self, job: str, sensor: Callable[[Settings], dg.SensorDefinition]) -> None:
        self._job = job
        self._sensor = sensor

    def materialize(
        self, lake: Pipeline, instance: dg.DagsterInstance, run_key: str | None = None
    ) -> dg.ExecuteInProcessResult:
        """Run the job, as if asked for by a sensor."""
        tags = {} if run_key is None else {"dagster/run_key": run_key}
        job = build_defs(lake.settings).resolve_job_def(self._job)
        return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)

    def tick(self, lake: Pipeline, instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
        """Evaluate the sensor once."""
        resource = CurationResource.of(lake.settings)
        answer = self._sensor(lake.settings)(dg.build_sensor_context(instance=instance), curation=resource)
        assert isinstance(answer, dg.RunRequest | dg.SkipReason)
        return answer


def meanwhile(patch: pytest.MonkeyPatch, work: str, happens: Callable[[Pipeline], object]) -> None:
    """From now on something happens whenever a pipeline has done some work, before that is told of."""
    really = getattr(Pipeline, work)

    def done(pipeline: Pipeline, *asked: Any) -> Any:
        result = really(pipeline, *asked)
        happens(pipeline)
        return result

    patch.setattr(Pipeline, work, done)


@pytest.fixture
def defs(ready: Pipeline) -> dg.Definitions:
    """The project's definitions on the test's folders, with the demo model in the registry."""
    return build_defs(ready.settings)


@pytest.fixture
def materialize(defs: dg.Definitions, instance: dg.DagsterInstance) -> Callable[..., Any]:
    """Run a job in this process; ``partition`` is added if it is new."""

    def run(job: str, partition: str | None = None, run_config: Any = None, only: Any = None, **tags: str) -> Any:
        if partition is not None:
            instance.add_dynamic_partitions("image_folders", [partition])
        return defs.resolve_job_def(job).execute_in_process(
            run_config=run_config,
            instance=instance,
            partition_key=partition,
            asset_selection=None if job == SEVERAL else only,
            op_selection=only if job == SEVERAL else None,
            tags=tags,
            raise_on_error=False,
        )

    return run


SEVERAL = "ingest_image_folders"
# Of jobs that bring folders in, what makes the rows of the two tables that all else is made of.
ROWS: dict[str, list[Any]] = {
    "ingest_image_folder": [dg.AssetKey("crop_images_directory"), dg.AssetKey("crop_images_directory_embeddings")],
    SEVERAL: ["folders", "scan", "embed"],
}


@pytest.fixture
def materialize_rows(materialize: Callable[..., Any]) -> Callable[..., Any]:
    """As ``materialize``, but folders are only scanned and embedded: what else their runs do isn't looked at."""

    def run(job: str, partition: str | None = None, run_config: Any = None, **tags: str) -> Any:
        return materialize(job, partition, run_config, only=ROWS.get(job), **tags)

    return run
