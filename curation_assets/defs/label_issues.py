"""``label_issues``: labels and boxes that something speaks against, following annotations, groups and predictions."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from curation_assets.curate.duplicates.overview import waiting
from curation_assets.curate.labels import checks
from curation_assets.curate.labels.issues import KINDS, LabelIssues
from curation_assets.curate.problems import BAD_BOX, CONFLICTING, LEAK, MISLABELLED
from curation_assets.defs import metadata as md
from curation_assets.defs.annotations import image_annotations
from curation_assets.defs.duplicates import image_groups, image_pairs
from curation_assets.defs.following import Remembered
from curation_assets.defs.precision import MEANING, PRECISION, precision_check
from curation_assets.defs.predictions import image_predictions
from curation_assets.defs.reports import AssetReport, Check, Event
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import Context, failing_for_good, progress, trying_again
from curation_assets.defs.runs import data_version, next_run, run_at_work
from curation_assets.defs.tags import ONE_PROCESS, OWNERS
from curation_assets.errors import CurationError
from curation_assets.images.names import printable
from curation_assets.lake.schemas import LABEL_ISSUES
from curation_assets.pipeline import Pipeline
from curation_assets.settings import Settings

NAME = "label_issues"
AS_BEFORE, NO_LEAKS = "label_issues_as_before", "no_leaks"
_ANNOTATED, _KINDS = "annotated images", "images by kind"
_LISTED, _SHOWN, _BESIDE = 20, 4, 4  # rows in a table, images of a kind with pictures, and beside each of these


@dg.asset(
    name=NAME,
    deps=[image_annotations, image_pairs, image_groups, image_predictions],
    group_name="curation",
    owners=OWNERS,
    kinds={"python", "deltalake"},
    description="Labels that something speaks against: a classifier that was fitted to the others (mislabelled), "
    "another image of the same photograph or another source (conflicting); and boxes that lie outside, are there "
    "twice, are tiny or have no label. `curation problems` tells; what a person decided is not asked again.",
    metadata={"dagster/column_schema": md.column_schema(LABEL_ISSUES)},
    check_specs=[
        dg.AssetCheckSpec(AS_BEFORE, asset=NAME, description="No kind of label issue is much more frequent."),
        dg.AssetCheckSpec(
            NO_LEAKS, asset=NAME, description="No photograph or scene is on two sides of a split, if splits are known."
        ),
        dg.AssetCheckSpec(PRECISION, asset=NAME, description=MEANING),
    ],
)
def label_issues(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Find what speaks against labels and boxes."""
    with trying_again(context), failing_for_good():
        return find_issues(context, curation.pipeline()).result()


def issues_found(context: dg.OpExecutionContext, curation: CurationResource) -> Iterator[Event]:
    """Do the same in a job of ops, where there are annotations, and tell of it as the asset's own run would."""
    pipeline = curation.pipeline()
    if not pipeline.tables.annotations.exists():
        return
    with failing_for_good():
        report = find_issues(context, pipeline)
    yield from report.events(context.instance)


def find_issues(context: Context, pipeline: Pipeline) -> AssetReport:
    """Bring the label issues in line."""
    return _report(context.instance, pipeline, pipeline.find_label_issues(progress(context)))


find_label_issues = dg.define_asset_job(
    "find_label_issues",
    selection=[label_issues],
    executor_def=ONE_PROCESS,
    description="Find what speaks against labels and boxes: what `curation curate` does of them.",
)


_leaks = Remembered[str]()


def issues_version(pipeline: Pipeline) -> str:
    """The data version: of the table, and of what is known of leaks."""
    table, leaks = pipeline.tables.label_issues.latest(), pipeline.leaks

    def counts() -> str:
        known = leaks.found()
        told = "" if known is None else repr(known.counts.rows())
        return hashlib.sha256(told.encode()).hexdigest()[:8]

    return f"{table.table_id}.{table.version}.{_leaks.get(table.table_id, leaks.version(), counts)}"


def issues_state(pipeline: Pipeline) -> str:
    """32 hex digits of all that label issues are made of: the same as long as nothing happened that could help."""
    return hashlib.sha256(repr(_made_of(pipeline)).encode()).hexdigest()[:32]


def _made_of(pipeline: Pipeline) -> tuple[Any, ...]:
    tables = pipeline.tables
    made = (tables.directory, tables.annotations, tables.decisions, tables.pairs, tables.groups, tables.predictions)
    return *(table.newest_version() for table in made), tables.directory.latest().table_id, *pipeline.annotation_order


_known = Remembered[int]()


def issues_behind(pipeline: Pipeline) -> int:
    """How many rows are not as they would be now."""
    issues = pipeline.tables.label_issues
    issues.create()
    rows = issues.latest()
    damaged = tuple(file.path for file, _ in rows.broken())
    versions = rows.table_id, rows.version, damaged, *_made_of(pipeline)
    return _known.get(str(issues.path), versions, pipeline.label_issues_behind)


def build_label_issues_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor of the label issues, with the interval of the settings.

    Its truth is what the tables hold: an annotation, a decision, a group or a prediction that changes no label issue
    asks for no run.
    """

    @dg.sensor(
        name="label_issues_sensor",
        job=find_label_issues,
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run of label_issues when annotations, decisions, groups or predictions make others than "
        "there are; tells of what the command line did.",
    )
    def sensor(context: dg.SensorEvaluationContext, curation: CurationResource) -> dg.RunRequest | dg.SkipReason:
        pipeline, instance = curation.pipeline(), context.instance
        if not pipeline.tables.directory.exists():
            return dg.SkipReason("nothing is scanned yet")
        if not pipeline.tables.annotations.exists():
            return dg.SkipReason("there are no annotations")
        followed = (image_annotations.key, image_groups.key, image_predictions.key)
        if at_work := run_at_work(instance, label_issues.key, *followed):
            return dg.SkipReason(f"run {at_work[:8]} is at it, or at what it follows")
        try:
            if behind := issues_behind(pipeline):
                run = next_run(instance, NAME, find_label_issues.name, issues_state(pipeline))
                told = f"{behind} label issues are not as they would be; asked for already; {run}"
                return run if isinstance(run, dg.RunRequest) else dg.SkipReason(told)
            if data_version(instance, label_issues.key) == issues_version(pipeline):
                return dg.SkipReason("label issues are in line")
            for event in _report(instance, pipeline, None).events(instance):
                instance.report_runless_asset_event(event)
        except CurationError as error:
            return dg.SkipReason(f"nothing requested: {error}")
        return dg.SkipReason("label issues are in line; they were told of, which no run of Dagster made")

    return sensor


def _report(instance: dg.DagsterInstance, pipeline: Pipeline, done: LabelIssues | None) -> AssetReport:
    """What is to be told; nothing done where somebody else found them, or there are no annotations."""
    pipeline.tables.label_issues.create()
    rows = pipeline.tables.label_issues.latest().read(LABEL_ISSUES.arrow_schema.names).drop("_file")
    facts = issues_facts(pipeline, rows, done)
    event = instance.get_latest_materialization_event(label_issues.key)
    before = event.asset_materialization.metadata if event is not None and event.asset_materialization else {}
    known, tables = pipeline.leaks.found(), pipeline.tables
    not_compared = waiting(tables.directory, tables.compared, pipeline.agreements) if known is not None else 0
    held = [
        Check(AS_BEFORE, checks.label_issues_as_before(*_shares(facts), *_shares(before)), blocking=False),
        Check(NO_LEAKS, checks.no_leaks(known, pipeline.leaks.why_not(), not_compared), blocking=False),
        precision_check(pipeline, [MISLABELLED, CONFLICTING, BAD_BOX, LEAK]),
    ]
    return AssetReport(label_issues.key, issues_version(pipeline), facts, held)


def _shares(facts: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """Images of each kind, as a page tells, and of how many."""
    if _KINDS not in facts or _ANNOTATED not in facts:
        return {}, 0
    return dict(facts[_KINDS].value), int(facts[_ANNOTATED].value)


def issues_facts(pipeline: Pipeline, rows: pl.DataFrame, done: LabelIssues | None) -> md.Facts:
    """What the asset's page tells: counts, the worst, and pictures of these with what speaks against them.

    Args:
        rows: of the table.
    """
    counts = dict(rows.group_by("kind").agg(pl.col("relative_path").n_unique()).iter_rows())
    worst = rows.with_columns(
        place=pl.col("kind").replace_strict({kind: at for at, kind in enumerate(KINDS)}, default=9)
    )
    worst = worst.sort(
        "place", "label_quality", "number", "relative_path", "field", descending=[False, False, True, False, False]
    )
    facts = _sheets(pipeline, worst)
    if len(rows):
        facts["the worst"] = _table(worst.head(_LISTED))
    facts |= {
        _ANNOTATED: dg.MetadataValue.int(_annotated(pipeline)),
        _KINDS: dg.MetadataValue.json({kind: counts.get(kind, 0) for kind in KINDS}),
    }
    facts |= {kind: dg.MetadataValue.int(counts.get(kind, 0)) for kind in KINDS}
    if done is None:
        there = pipeline.tables.annotations.exists()
        facts["note"] = dg.MetadataValue.text(md.MADE_ELSEWHERE if there else "there are no annotations yet")
    else:
        facts["changed rows"] = dg.MetadataValue.int(done.changed)
        facts["seconds"] = dg.MetadataValue.float(round(done.seconds, 3))
    name = pipeline.settings.full_name(pipeline.settings.label_issues_table)
    return facts | md.whole_table_facts(pipeline.tables.label_issues, name)


def _annotated(pipeline: Pipeline) -> int:
    annotations = pipeline.tables.annotations
    return annotations.latest().read(["relative_path"])["relative_path"].n_unique() if annotations.exists() else 0


def _sheets(pipeline: Pipeline, worst: pl.DataFrame) -> md.Facts:
    """The worst labels, each with what speaks against it: given → suggested."""
    chosen = pl.concat([worst.filter(pl.col("kind") == kind).head(_SHOWN) for kind in (MISLABELLED, CONFLICTING)])
    near = pipeline.nearest(chosen.filter(pl.col("kind") == MISLABELLED)["relative_path"])
    shown: list[tuple[list[str], str]] = []
    for row in chosen.iter_rows(named=True):
        path = row["relative_path"]
        beside: Sequence[str] = row["evidence"] or [other for other, _ in near.get(path, [])]
        label = f"{row['given']} → {row['suggested']}" if row["suggested"] is not None else str(row["given"])
        shown.append(([path, *beside[:_BESIDE]], f"{printable(path)}: {printable(label)}: {printable(row['reason'])}"))
    return md.sheets(pipeline, "the worst labels, each beside what speaks against it", "an image and these", shown)


def _table(rows: pl.DataFrame) -> dg.MetadataValue:
    columns = dict.fromkeys(("kind", "image", "field", "given", "suggested", "why"), "string")
    names = ("kind", "relative_path", "field", "given", "suggested", "reason")
    told = ([printable(value) if value is not None else "" for value in row] for row in rows.select(names).iter_rows())
    return md.records(columns, told)
