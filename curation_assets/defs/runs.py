"""What the instance knows of runs and materializations, as sensors ask it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import dagster as dg
from dagster._core.storage.dagster_run import RunRecord

from curation_assets.defs.state import ATTEMPT, Attempt, LatestRun, Wait, next_attempt
from curation_assets.defs.tags import DATA_VERSION, RUN_KEY


def latest_run(
    instance: dg.DagsterInstance,
    job_name: str,
    tags: Mapping[str, str] | None = None,
    run_key: str = RUN_KEY,
    attempt: str = ATTEMPT,
) -> LatestRun | None:
    """The newest run of a job, or of those of its runs that have these tags.

    Args:
        run_key: the tag that says what it was asked for.
        attempt: the tag that says how often that was asked for.
    """
    chosen = dg.RunsFilter(job_name=job_name, tags=dict(tags or {}))
    records = instance.get_run_records(chosen, limit=1)
    return as_latest(records[0], run_key, attempt) if records else None


def as_latest(record: RunRecord, run_key: str = RUN_KEY, attempt: str = ATTEMPT) -> LatestRun:
    """What sensors need to know of a run."""
    run, number = record.dagster_run, record.dagster_run.tags.get(attempt, "")
    return LatestRun(
        run.run_id,
        run.tags.get(run_key),
        run.is_finished,
        run.is_success,
        run.status.value.lower(),
        record.create_timestamp.timestamp(),
        (record.end_time or record.update_timestamp.timestamp()) if run.is_finished else 0,
        int(number) if number.isdecimal() else 1,
    )


def is_asked(instance: dg.DagsterInstance, tags: Mapping[str, str]) -> bool:
    """Whether there is a run with these tags, whatever became of it."""
    return instance.get_runs_count(dg.RunsFilter(tags=dict(tags))) > 0


def run_key_is_used(instance: dg.DagsterInstance) -> Callable[[str], bool]:
    """Whether Dagster has a run of a key, which it then never starts again."""
    return lambda key: is_asked(instance, {RUN_KEY: key})


def data_version(instance: dg.DagsterInstance, asset: dg.AssetKey) -> str | None:
    """Of an asset's newest materialization."""
    event = instance.get_latest_materialization_event(asset)
    known = event.asset_materialization if event else None
    return (known.tags or {}).get(DATA_VERSION) if known else None


def run_at_work(instance: dg.DagsterInstance, *assets: dg.AssetKey) -> str | None:
    """Id of a run that is to make one of some assets and hasn't ended, whoever started it."""
    for asset in assets:
        planned = instance.get_latest_planned_materialization_info(asset)
        run = instance.get_run_by_id(planned.run_id) if planned else None
        if run is not None and not run.is_finished:
            return run.run_id
    return None


def next_run(instance: dg.DagsterInstance, name: str, job_name: str, state: str) -> dg.RunRequest | str:
    """The run to ask for, of something that is not in line; or what is waited for, for people.

    Args:
        name: of what it is to bring in line.
        state: of what that is made of: the same as long as nothing happened that could help it.
    """
    now = time.time()
    found = next_attempt(name, state, latest_run(instance, job_name), run_key_is_used(instance), now)
    if isinstance(found, Attempt):
        return dg.RunRequest(found.run_key, tags={ATTEMPT: str(found.number)} if found.number > 1 else {})
    return Wait(name, found).told(now) if found.finished else f"run {found.run_id[:8]} is at it"
