"""In which processes the steps of a real run are."""

from __future__ import annotations

import dagster as dg
import pytest

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
