"""Assets by folder that follow the tables by state: what an asset repeats of that, beside its own work and facts.

Their truth is the tables, never an event: a folder is behind as long as its rows say so, whatever became of the runs
that were to bring it in line. Runs that bring folders in do it themselves; what is left to the sensor is a lake of an
earlier version, a new version of what is computed, and whatever those runs did not come to. It asks for one run at a
time, which does all folders that are behind, a handful at once. What the command line brought in line it tells Dagster.
"""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import dagster as dg

from curation_assets.defs.reports import Event, FolderReport, failure, plan, tell_each
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.runs import next_run
from curation_assets.errors import CurationError
from curation_assets.partition_keys import key_of
from curation_assets.pipeline import Pipeline
from curation_assets.settings import Settings

FOLDERS_AT_ONCE = 100  # whose reports are made and told together, with one reading of the whole table
_FOUND_FOLDERS = 50  # told to Dagster in one tick

Found = TypeVar("Found")
# Brings the folders of some partitions in line: what is to be told of each, and the errors of those that failed.
Work = Callable[
    [dg.OpExecutionContext, CurationResource, Sequence[str]], tuple[list[FolderReport], dict[str, Exception]]
]


@dataclass(frozen=True)
class Standing:
    """How the folders of a lake stand.

    Attributes:
        behind: that have to be brought in line.
        in_line: the others.
        state: of those that are behind: the same as long as nothing happened that could help them.
    """

    behind: Sequence[str]
    in_line: Sequence[str]
    state: str


def standing(folders: Iterable[str], behind: Sequence[str], files: Iterable[str], version: object) -> Standing:
    """The standing of folders.

    Args:
        folders: all that there are.
        files: of the tables that those that are behind are made of.
        version: of what is computed.
    """
    state = hashlib.sha256("\0".join([str(version), *behind, *sorted(files)]).encode()).hexdigest()[:32]
    known = set(behind)
    return Standing(behind, [folder for folder in folders if folder not in known], state)


@dataclass
class Remembered(Generic[Found]):
    """What was found of a lake, while its tables stay as they are: a sensor asks at every tick, and reading is slow."""

    _of: dict[str, tuple[Hashable, Found]] = field(default_factory=dict)

    def get(self, place: str, versions: Hashable, find: Callable[[], Found]) -> Found:
        """What was found at these versions, or is now."""
        known = self._of.get(place)
        if known is None or known[0] != versions:
            known = self._of[place] = versions, find()
        return known[1]


def bring_in_line(
    context: dg.OpExecutionContext, curation: CurationResource, asset: dg.AssetKey, keys: Sequence[str], work: Work
) -> Iterator[Event]:
    """Do some partitions of an asset in a job of ops, and tell of each as its own run would.

    Raises:
        Failure: after all was done and told, if any folder failed.
    """
    plan(context, [asset], keys)
    failed: dict[str, Exception] = {}
    for first in range(0, len(keys), FOLDERS_AT_ONCE):
        reports, wrong = work(context, curation, keys[first : first + FOLDERS_AT_ONCE])
        yield from tell_each(context.instance, reports, {})
        failed |= wrong
    if failed:
        raise failure(failed, len(keys) - len(failed))


def build_following_sensor(
    settings: Settings,
    name: str,
    asset: dg.AssetsDefinition,
    job: dg.JobDefinition,
    stand: Callable[[Pipeline], Standing],
    found: Callable[[dg.DagsterInstance, Pipeline, Sequence[str]], Sequence[FolderReport]],
) -> dg.SensorDefinition:
    """The sensor of an asset that follows.

    Args:
        job: brings in line what is behind.
        found: reports of partitions whose folders somebody else brought in line.
    """
    told_as = asset.key.to_user_string()

    @dg.sensor(
        name=name,
        job=job,
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Starts a run that brings every folder of {told_as} in line that its tables say is behind and no "
        "run is at; tells of those that the command line did.",
    )
    def sensor(context: dg.SensorEvaluationContext, curation: CurationResource) -> dg.RunRequest | dg.SkipReason:
        pipeline, instance = curation.pipeline(), context.instance
        if not pipeline.tables.directory.exists():
            return dg.SkipReason("nothing is scanned yet")
        try:
            stands, busy = stand(pipeline), under_way(instance, asset.key)
            known = instance.get_materialized_partitions(asset.key) | busy
            new = [key for folder in stands.in_line if (key := key_of(folder)) not in known][:_FOUND_FOLDERS]
            for report in found(instance, pipeline, new):
                for event in report.events(instance):
                    instance.report_runless_asset_event(event)
        except CurationError as error:
            return dg.SkipReason(f"nothing requested: {error}")
        told = f"; {len(new)} of them were told of, which no run of Dagster did" if new else ""
        behind = [folder for folder in stands.behind if key_of(folder) not in busy]
        if not behind:
            others = f"; runs are at {len(stands.behind)} others" if stands.behind else ""
            return dg.SkipReason(f"{len(stands.in_line)} folders are in line{told}{others}")
        run = next_run(instance, told_as, job.name, stands.state)
        return (
            run if isinstance(run, dg.RunRequest) else dg.SkipReason(f"{len(behind)} folders are behind; {run}{told}")
        )

    return sensor


def under_way(instance: dg.DagsterInstance, asset: dg.AssetKey) -> set[str]:
    """Partitions of an asset that a run is to make which hasn't ended."""
    find = instance.event_log_storage.get_latest_asset_partition_materialization_attempts_without_materializations
    planned = find(asset)
    runs = {run_id for run_id, _ in planned.values()}
    open_runs = instance.get_runs(dg.RunsFilter(run_ids=list(runs))) if runs else []
    alive = {run.run_id for run in open_runs if not run.is_finished}
    return {key for key, (run_id, _) in planned.items() if run_id in alive}
