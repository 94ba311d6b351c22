"""What the instance knows of runs and materializations, as sensors ask it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import dagster as dg

from curation_assets.defs.state import LatestRun
from curation_assets.defs.tags import DATA_VERSION, RUN_KEY


def latest_run(instance: dg.DagsterInstance, job_name: str, tags: Mapping[str, str] | None = None) -> LatestRun | None:
    """The newest run of a job, or of those of its runs that have these tags."""
    runs = instance.get_runs(dg.RunsFilter(job_name=job_name, tags=dict(tags or {})), limit=1)
    if not runs:
        return None
    run = runs[0]
    return LatestRun(run.run_id, run.tags.get(RUN_KEY), run.is_finished, run.is_success, run.status.value.lower())


def run_key_is_used(instance: dg.DagsterInstance) -> Callable[[str], bool]:
    """Whether Dagster has a run of a key, which it then never starts again."""
    return lambda key: instance.get_runs_count(dg.RunsFilter(tags={RUN_KEY: key})) > 0


def data_version(instance: dg.DagsterInstance, asset: dg.AssetKey) -> str | None:
    """Of an asset's newest materialization."""
    event = instance.get_latest_materialization_event(asset)
    known = event.asset_materialization if event else None
    return (known.tags or {}).get(DATA_VERSION) if known else None
