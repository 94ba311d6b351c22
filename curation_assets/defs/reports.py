"""What Dagster is told of a folder: its materialization and its checks, the same whichever kind of run did the work.

A run of one partition hands them to Dagster as its result. A run of many can't: Dagster gives all partitions of a run
one data version and one evaluation a check, and none of them anything if one fails. So such a run records each folder's
own events, and a folder that fails is told of alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent

from curation_assets.defs.metadata import Facts
from curation_assets.defs.tags import DATA_VERSION, INPUT_VERSION
from curation_assets.errors import CurationError
from curation_assets.images.names import printable
from curation_assets.integrity import Outcome
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable
from curation_assets.partition_keys import folder_of_key

Result = TypeVar("Result")
Event = dg.AssetMaterialization | dg.AssetCheckEvaluation


@dataclass(frozen=True)
class Check:
    """A check's outcome for one folder.

    Attributes:
        blocking: what comes after must not run if it fails; else it is a warning.
        facts: beside the outcome's numbers.
        promise: it is an error also where it blocks nothing.
    """

    name: str
    outcome: Outcome
    blocking: bool = True
    facts: Facts = field(default_factory=dict)
    promise: bool = False

    @property
    def severity(self) -> dg.AssetCheckSeverity:
        """As its asset declares it."""
        return dg.AssetCheckSeverity.ERROR if self.blocking or self.promise else dg.AssetCheckSeverity.WARN


class Made(Protocol):
    """What a run did to a table, by the images that it found."""

    version: int
    directory_version: int


def holds(
    check: Callable[[Snapshot, Snapshot], Outcome], images: LakeTable, table: LakeTable, made: Made | None
) -> Outcome:
    """Whether something holds of a table and the images that it is of.

    Where it doesn't hold of the newest, it is asked of what a run made and found: what came or went since is the next
    one's.

    Args:
        check: of images and table.
        made: None: by nobody that is known.
    """
    found = check(images.latest(), table.latest())
    if made is None or found.passed:
        return found
    return check(images.at(made.directory_version), table.at(made.version))


@dataclass(frozen=True)
class FolderReport:
    """What an asset's page is told of one folder.

    Attributes:
        facts: numbers and tables.
        pictures: which take more room.
        data_version: of the folder, not of the run.
        inputs: data versions of what it was made from.
    """

    asset: dg.AssetKey
    key: str
    data_version: str
    facts: Facts
    pictures: Facts = field(default_factory=dict)
    checks: Sequence[Check] = ()
    inputs: Mapping[dg.AssetKey, str] = field(default_factory=dict)

    def materialization(self) -> dg.AssetMaterialization:
        """Its event, with the data versions that the run of its partition alone would give."""
        tags = {f"{INPUT_VERSION}{of.to_user_string()}": version for of, version in self.inputs.items()}
        tags[DATA_VERSION] = self.data_version
        facts = self.pictures | self.facts
        return dg.AssetMaterialization(self.asset, partition=self.key, metadata=facts, tags=tags)

    def events(self, instance: dg.DagsterInstance) -> Iterator[Event]:
        """The materialization, then the checks of it; a blocking one that fails fails the step that yields it."""
        yield self.materialization()
        yield from evaluations(instance, self.asset, self.key, self.checks)


@dataclass(frozen=True)
class AssetReport:
    """What the page of an asset without partitions is told.

    Attributes:
        facts: numbers, tables and pictures.
    """

    asset: dg.AssetKey
    data_version: str
    facts: Mapping[str, Any]
    checks: Sequence[Check] = ()

    def materialization(self) -> dg.AssetMaterialization:
        """Its event, as a job of ops or a sensor records it."""
        return dg.AssetMaterialization(self.asset, metadata=self.facts, tags={DATA_VERSION: self.data_version})

    def events(self, instance: dg.DagsterInstance) -> Iterator[Event]:
        """The materialization, then the checks of it; a blocking one that fails fails the step that yields it."""
        yield self.materialization()
        yield from evaluations(instance, self.asset, None, self.checks)

    def result(self) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """The same, as the asset itself returns it."""
        return dg.MaterializeResult(
            data_version=dg.DataVersion(self.data_version),
            metadata=self.facts,
            check_results=[_result(check) for check in self.checks],
        )


def evaluations(
    instance: dg.DagsterInstance, asset: dg.AssetKey, key: str | None, checks: Sequence[Check]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Events of checks, of a partition's newest materialization, or without a partition of the whole asset."""
    target = None
    chosen = dg.AssetRecordsFilter(asset, asset_partitions=None if key is None else [key])
    if records := instance.fetch_materializations(chosen, limit=1).records:
        of = records[0]
        target = AssetCheckEvaluationTargetMaterializationData(
            storage_id=of.storage_id, run_id=of.run_id, timestamp=of.timestamp
        )
    for check in checks:
        yield dg.AssetCheckEvaluation(
            asset,
            check.name,
            check.outcome.passed,
            metadata={**check.outcome.numbers, **check.facts},
            target_materialization_data=target,
            severity=check.severity,
            description=check.outcome.description,
            blocking=check.blocking,
            partition=key,
        )


def plan(context: dg.OpExecutionContext, assets: Sequence[dg.AssetKey], keys: Sequence[str | None]) -> None:
    """Say which partitions a job of ops is about to materialize, as Dagster says of a job of assets.

    None stands for an asset without partitions.

    Without it a partition isn't in progress while it is worked on, and automation would ask for it a second time; and
    it isn't failed when its run ends without it.
    """
    for asset in assets:
        for key in keys:
            planned = AssetMaterializationPlannedData(asset, partition=key)
            step = context.get_step_execution_context().step.key
            event = DagsterEvent.build_asset_materialization_planned_event(context.job_name, step, planned)
            context.instance.report_dagster_event(event, context.run_id, "DEBUG")


def each_folder(
    log: dg.DagsterLogManager, keys: Sequence[str], work: Callable[[str], Result]
) -> tuple[dict[str, Result], dict[str, Exception]]:
    """Do ``work`` for the folder of every key; one that fails doesn't keep the others from theirs.

    Returns:
        Partition key → result, and partition key → error.
    """
    done: dict[str, Result] = {}
    failed: dict[str, Exception] = {}
    for key in keys:
        try:
            done[key] = work(folder_of_key(key))
        except Exception as error:
            log.exception("folder %s failed", key)
            failed[key] = error
    return done, failed


def tell(
    context: dg.AssetExecutionContext,
    reports: Sequence[FolderReport],
    failed: Mapping[str, Exception],
    whole: Sequence[Check] = (),
) -> Iterator[Any]:
    """Hand a run's reports to Dagster, as an asset yields them: a MaterializeResult, and events.

    Args:
        whole: checks of the whole asset.

    Raises:
        Failure: after all was told, if any folder failed; names them.
    """
    if failed:
        if reports:
            yield from evaluations(context.instance, reports[0].asset, None, whole)
        yield from tell_each(context.instance, reports, failed)
    if context.has_partition_key:
        (report,) = reports
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(report.data_version),
            metadata=report.pictures | report.facts,
            check_results=[_result(check) for check in [*report.checks, *whole]],
        )
        return
    # The step's output comes with a materialization of every partition, in which what is a folder's own can't be; each
    # folder's own event follows and is then the newest. So it is with checks: Dagster would store the evaluation that
    # comes with an output without its partition, so outputs are given bare, and evaluations as events.
    for report in reports:
        context.add_asset_metadata(report.facts, partition_key=report.key)
    yield dg.MaterializeResult()
    for name in sorted(check.name for check in context.selected_asset_check_keys):
        check = dg.AssetCheckKey(context.asset_key, name)
        yield dg.Output(None, output_name=context.assets_def.get_output_name_for_asset_check_key(check))
    yield from tell_each(context.instance, reports, {})
    yield from evaluations(context.instance, context.asset_key, None, whole)


def tell_each(
    instance: dg.DagsterInstance, reports: Sequence[FolderReport], failed: Mapping[str, Exception]
) -> Iterator[Event]:
    """Each folder's own events.

    Raises:
        Failure: then, if any folder failed; names them.
    """
    for report in reports:
        yield from report.events(instance)
    if failed:
        raise failure(failed, len(reports))


def failure(failed: Mapping[str, Exception], done: int = 0) -> dg.Failure:
    """The failure of a step in which folders failed.

    Args:
        done: how many others didn't.
    """
    reasons = "; ".join(f"{printable(key)}: {printable(str(error))}" for key, error in failed.items())
    kept = f" ({done} other folders of this run are done and committed)" if done else ""
    # A wrong setting or a broken table doesn't mend itself; anything else may pass.
    may_pass = not all(isinstance(error, CurationError) for error in failed.values())
    error = dg.Failure(f"{reasons}{kept}", allow_retries=may_pass)
    error.__cause__ = next(iter(failed.values()))
    return error


def _result(check: Check) -> dg.AssetCheckResult:
    """A check's outcome as Dagster takes it of a step of one partition."""
    return dg.AssetCheckResult(
        passed=check.outcome.passed,
        check_name=check.name,
        severity=check.severity,
        description=check.outcome.description,
        metadata={**check.outcome.numbers, **check.facts},
    )
