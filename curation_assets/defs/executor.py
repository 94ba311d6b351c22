"""How the steps of a run are carried out: a process each only where two of them could run at the same time.

Either executor notes first which process carries the run out, so that a run whose process is gone can be told, and sees
to it that a run which is cancelled ends.
"""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig
from dagster._core.executor.in_process import InProcessExecutor

from curation_assets.defs.cancelling import interrupted_until_it_ends
from curation_assets.defs.workers import record_worker


class OneProcessExecutor(InProcessExecutor):
    """Dagster's in-process executor."""

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        """Carry the plan out."""
        record_worker(plan_context.instance, plan_context.run_id)
        with interrupted_until_it_ends(plan_context.instance, plan_context.run_id):
            yield from super().execute(plan_context, execution_plan)


class FewProcessesExecutor(dg.Executor):
    """Dagster's multiprocess executor, but steps of which each waits for the one before run in the run's own process.

    Starting a process takes seconds, as each imports Dagster and this project anew; and what one step opened or loaded,
    the next has. Limits on tags hold, since one step runs at a time; those on pools are the instance's.

    Args:
        processes: carries out all other plans.
    """

    def __init__(self, processes: dg.Executor) -> None:
        self._processes = processes

    @property
    def retries(self) -> RetryMode:
        """Whether steps may be tried again."""
        return self._processes.retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        """What a step waits for of the steps before."""
        return self._processes.step_dependency_config

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        """Carry the plan out."""
        record_worker(plan_context.instance, plan_context.run_id)
        executor = self._processes
        if all(len(level) == 1 for level in execution_plan.get_steps_to_execute_by_level()):
            executor = InProcessExecutor(self.retries, self.step_dependency_config)
        with interrupted_until_it_ends(plan_context.instance, plan_context.run_id):
            yield from executor.execute(plan_context, execution_plan)


@dg.executor(
    name="multiprocess",  # as which it is configured: the same fields
    config_schema=dg.multiprocess_executor.config_schema.as_field(),
    requirements=dg.multiple_process_executor_requirements(),
)
def few_processes_executor(context: dg.InitExecutorContext) -> FewProcessesExecutor:
    """The executor, with the configuration of Dagster's own."""
    create = dg.multiprocess_executor.executor_creation_fn
    assert create is not None
    return FewProcessesExecutor(create(context))


@dg.executor(
    name="in_process",
    config_schema=dg.in_process_executor.config_schema.as_field(),
)
def one_process_executor(context: dg.InitExecutorContext) -> OneProcessExecutor:
    """The executor of all steps in the run's own process, with the configuration of Dagster's own."""
    create = dg.in_process_executor.executor_creation_fn
    assert create is not None
    own = create(context)
    return OneProcessExecutor(own.retries, own.step_dependency_config)
