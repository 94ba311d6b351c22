"""In which processes the steps of a real run are."""

import signal
import time
from contextlib import suppress

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from curation_assets.defs import cancelling
from curation_assets.defs.tags import EXECUTOR, ONE_PROCESS
from curation_assets.defs.workers import Worker


@dg.op
def first() -> int:
    return 1


@dg.op
def second(number: int) -> int:
    return number + 1


@dg.job(executor_def=EXECUTOR)
def in_turn() -> None:
    second(first())


@dg.job(executor_def=EXECUTOR)
def apart() -> None:
    first.alias("one")()
    first.alias("two")()


@dg.job(executor_def=ONE_PROCESS)
def together() -> None:
    first.alias("one")()
    first.alias("two")()


@dg.op
def goes_on(context: dg.OpExecutionContext) -> None:
    context.instance.report_run_canceling(context.run)
    with suppress(DagsterExecutionInterruptedError):  # as a library may
        signal.raise_signal(signal.SIGINT)
    time.sleep(120)


slept: list[float] = []  # seconds, in this process


class Dropping:
    """Python drops whatever is raised while one of these goes."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@dg.op
def drops_it(context: dg.OpExecutionContext) -> None:
    context.instance.report_run_canceling(context.run)
    Dropping()
    begin = time.monotonic()
    try:
        time.sleep(120)
    finally:
        slept.append(time.monotonic() - begin)


@dg.job(executor_def=EXECUTOR)
def dropped() -> None:
    drops_it()


@dg.job(executor_def=EXECUTOR)
def cancelled() -> None:
    goes_on()


@dg.job(executor_def=EXECUTOR)
def cancelled_apart() -> None:
    goes_on.alias("one")()
    goes_on.alias("two")()


@dg.job(executor_def=ONE_PROCESS)
def cancelled_together() -> None:
    goes_on()


@pytest.fixture
def instance(on_disk: dg.DagsterInstance) -> dg.DagsterInstance:
    return on_disk


@pytest.mark.parametrize(("job", "processes"), [(in_turn, 1), (apart, 3), (together, 1)])
def test_steps_share_the_runs_process_or_have_one_each_and_the_run_notes_which_carries_it_out(
    job: dg.JobDefinition, processes: int, instance: dg.DagsterInstance
) -> None:
    this = Worker.this()
    with dg.execute_job(dg.reconstructable(job), instance) as result:
        assert result.success
        pids = {event.pid for event in result.all_events if event.step_key is not None}
        run = instance.get_run_by_id(result.run_id)
    assert len(pids - {None}) == processes
    assert run is not None
    assert Worker.of(run) == this


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_is_repeated_at_once(instance: dg.DagsterInstance) -> None:
    with dg.execute_job(dg.reconstructable(dropped), instance) as result:
        run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.CANCELED
    assert slept.pop() < cancelling.AGAIN_SECONDS


@pytest.mark.parametrize("job", [cancelled, cancelled_apart, cancelled_together])
def test_a_run_whose_interrupt_was_lost_is_interrupted_again(
    job: dg.JobDefinition, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of two processes the other may still be importing, and would end as one that crashed.
    monkeypatch.setattr(cancelling, "AGAIN_SECONDS", 3.0 if job is cancelled_apart else 0.5)
    with dg.execute_job(dg.reconstructable(job), instance) as result:
        run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.CANCELED
