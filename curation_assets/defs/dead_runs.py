"""``dead_runs_sensor``: runs whose process is gone, ended as failed, and their slots given back.

A run that a power cut or ``kill -9`` of the whole of Dagster ended counts as started for ever: it keeps its slot, and
its folder is never asked for. A sensor finds it, because sensors work with all slots taken, and whatever the instance's
``dagster.yaml`` says. What it decides by is in ``workers``, how in ``state.verdict``.
"""

import time
from collections.abc import Iterator

import dagster as dg
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.dagster_run import ACTIVE_RUN_STATUSES, FINISHED_STATUSES, RunRecord
from dagster._core.storage.tags import GRPC_INFO_TAG

from curation_assets.defs.state import Signs, Verdict, verdict
from curation_assets.defs.workers import Worker, ask_server, told_process_runs
from curation_assets.settings import Settings

_LOOKING_SECONDS = 30  # of the 60 that Dagster gives a tick
_KEPT_SLOT_SECONDS = 60  # that a run which ended may keep its slots
_TOLD = 5
_UNDER_WAY = [*ACTIVE_RUN_STATUSES, dg.DagsterRunStatus.NOT_STARTED]


def build_dead_runs_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor, with the interval of the settings."""

    @dg.sensor(
        name="dead_runs_sensor",
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ends runs whose process is gone (after a power cut, or when Dagster was killed whole) as failed, "
        "and gives their slots back; what they were to do is then asked for again. A run whose process is alive, or "
        "another machine's, is left alone.",
    )
    def dead_runs_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        ended = end_dead_runs(context.instance, _location(context))
        for line in ended:
            context.log.warning(line)
        give_back_slots(context.instance)
        more = f" and {len(ended) - _TOLD} more" if len(ended) > _TOLD else ""
        return dg.SkipReason("; ".join(ended[:_TOLD]) + more if ended else "no run is dead")

    return dead_runs_sensor


def end_dead_runs(instance: dg.DagsterInstance, location: str | None = None) -> list[str]:
    """End the dead ones of the runs under way.

    Args:
        location: whose runs; None means all, of any code location.

    Returns:
        A line for each that was ended.
    """
    return list(_end_dead_runs(instance, location))


def _end_dead_runs(instance: dg.DagsterInstance, location: str | None) -> Iterator[str]:
    deadline = time.monotonic() + _LOOKING_SECONDS
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNDER_WAY)):
        if time.monotonic() > deadline:
            return
        run = record.dagster_run
        if location is not None and _location_of(run) != location:
            continue
        decided = verdict(_signs(instance, record))
        if decided is Verdict.LEAVE:
            continue
        now = instance.get_run_by_id(run.run_id)
        if now is None or now.is_finished:  # it ended while it was looked at
            continue
        was = now.status.value
        told = f"run {run.run_id[:8]} of {run.job_name} was {was}, but its process is gone"
        if decided is Verdict.CANCEL:
            instance.report_run_canceled(now, f"This run was to be cancelled, and its process is gone: {told}.")
        else:
            message = f"The process of this run is gone (a power cut, or Dagster was killed): {told}."
            instance.report_run_failed(now, message)
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        yield told


def give_back_slots(instance: dg.DagsterInstance) -> None:
    """Free the slots of pools that runs kept when they ended, which Dagster does only where it is set so."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits or not (held := storage.get_concurrency_run_ids()):
        return
    ended = instance.get_run_records(dg.RunsFilter(run_ids=list(held), statuses=FINISHED_STATUSES))
    for record in ended:
        if time.time() - _changed(record) > _KEPT_SLOT_SECONDS:
            storage.free_concurrency_slots_for_run(record.dagster_run.run_id)


def _signs(instance: dg.DagsterInstance, record: RunRecord) -> Signs:
    run = record.dagster_run
    status, quiet = run.status.value, time.time() - _changed(record)
    if run.status is dg.DagsterRunStatus.NOT_STARTED:
        return Signs(status, quiet)
    launched = GRPC_INFO_TAG in run.tags
    worker = Worker.of(run)
    if worker is not None and not worker.is_here():
        return Signs(status, quiet, launched, elsewhere=True)
    if worker is not None and worker.runs():
        return Signs(status, quiet, launched, worker_runs=True)
    if not launched and worker is None and not isinstance(instance.run_launcher, DefaultRunLauncher):
        return Signs(status, quiet, elsewhere=True)  # its launcher looks after it
    return Signs(
        status,
        quiet,
        launched,
        worker_runs=None if worker is None else False,
        told_process_runs=worker is None and told_process_runs(instance, run.run_id),
        server=ask_server(run),
    )


def _changed(record: RunRecord) -> float:
    """When a run's record last changed, in seconds since 1970."""
    return record.update_timestamp.timestamp()


def _location(context: dg.SensorEvaluationContext) -> str | None:
    origin = context.code_location_origin
    return None if origin is None else origin.location_name


def _location_of(run: dg.DagsterRun) -> str | None:
    origin = run.remote_job_origin
    return None if origin is None else origin.location_name
