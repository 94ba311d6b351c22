"""Dagster in this process, on an instance that goes with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest

from curation_assets.definitions import build_defs
from curation_assets.pipeline import Pipeline


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
            asset_selection=only,
            tags=tags,
            raise_on_error=False,
        )

    return run
