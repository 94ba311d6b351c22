"""``retry_sensor``: what an automation asked for, and a run didn't do.

An automation condition asks once for a change, and not again when that run fails, is killed or cancelled. Folders,
model and index are their sensors' to ask for again; this one asks for what has nothing but its automation.
"""

import time
from collections.abc import Iterator, Sequence

import dagster as dg
from dagster._core.storage.dagster_run import RunRecord

from curation_assets.defs.runs import as_latest
from curation_assets.defs.state import ATTEMPT, Wait, waits_told
from curation_assets.settings import Settings


def build_retry_sensor(settings: Settings, assets: Sequence[dg.AssetsDefinition]) -> dg.SensorDefinition:
    """The sensor of some assets, with the interval of the settings."""

    @dg.sensor(
        name="retry_sensor",
        target=list(assets),
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks again for what a run of an automation did not do, whatever ended that: after a minute, then "
        "each time after twice as long, a day at most.",
    )
    def retry_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        now, requests, waits = time.time(), list[dg.RunRequest](), list[Wait]()
        for asset in assets:
            for key, record in _undone(context.instance, asset):
                name = asset.key.to_user_string() + (f" of {key}" if key else "")
                latest = as_latest(record)
                if not latest.finished:
                    continue
                if now < latest.again_at or len(requests) == settings.sensor_max_runs:
                    waits.append(Wait(name, latest))
                    continue
                requests.append(
                    dg.RunRequest(
                        f"{name}:{latest.run_id[:8]}",
                        partition_key=key,
                        asset_selection=[asset.key],
                        tags={ATTEMPT: str(latest.attempt + 1)},
                    )
                )
        told = waits_told(waits, now, "asset") or "nothing waits to be tried again"
        return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason(told)

    return retry_sensor


def _undone(instance: dg.DagsterInstance, asset: dg.AssetsDefinition) -> Iterator[tuple[str | None, RunRecord]]:
    """Partitions of an asset (None for one without) that the last run which was to make them has not made."""
    storage = instance.event_log_storage
    planned: dict[str | None, str] = {}
    if asset.partitions_def is not None:
        attempts = storage.get_latest_asset_partition_materialization_attempts_without_materializations(asset.key)
        existing = set(asset.partitions_def.get_partition_keys(dynamic_partitions_store=instance))
        planned = {key: run_id for key, (run_id, _) in attempts.items() if key in existing}
    elif (info := storage.get_latest_planned_materialization_info(asset.key)) is not None:
        done = instance.fetch_materializations(asset.key, limit=1).records
        # Never made: then it is a person's to make first, as `clip_endpoint`, which costs money.
        if done and done[0].storage_id < info.storage_id:
            planned = {None: info.run_id}
    for key, run_id in planned.items():
        if (record := instance.get_run_record_by_id(run_id)) is not None:
            yield key, record
