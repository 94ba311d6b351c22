"""``image_predictions``: what classifiers fitted to the annotations say of each image; following by state."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any

import dagster as dg
import polars as pl

from curation_assets.curate.labels import prediction_checks as checks
from curation_assets.curate.labels.overview import FieldReport, reports_of
from curation_assets.curate.labels.predicting import Predictions
from curation_assets.curate.scores.scoring import images_of
from curation_assets.defs import metadata as md
from curation_assets.defs.annotations import image_annotations
from curation_assets.defs.duplicates import image_pairs, index_is_in_line, searched_index
from curation_assets.defs.following import Remembered
from curation_assets.defs.reports import AssetReport, Check, Event
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import Context, failing_for_good, progress, trying_again
from curation_assets.defs.runs import data_version, next_run, run_at_work
from curation_assets.defs.search import image_search_index, index_version
from curation_assets.defs.tags import ONE_PROCESS, OWNERS
from curation_assets.errors import CurationError
from curation_assets.images.names import printable
from curation_assets.lake.schemas import PREDICTIONS
from curation_assets.pipeline import Pipeline
from curation_assets.settings import Settings

NAME = "image_predictions"
WHOLE, AS_BEFORE = "predictions_are_whole", "accuracy_as_before"
_IMAGES, _RIGHT = "images", "labels predicted, of how many"
_PICTURES, _CLASSES, _CONFUSIONS, _BESIDE = 4, 20, 4, 6  # fields, classes of a picture, confusions, images of each
_DIGITS_UP_TO = 12  # classes: of more the numbers don't fit into the cells


@dg.asset(
    name=NAME,
    deps=[image_search_index, image_annotations, image_pairs],  # vectors, labels, and what belongs together
    group_name="curation",
    owners=OWNERS,
    kinds={"python", "deltalake", "scikitlearn"},
    description="Of every image with a vector what a classifier fitted to the annotations says it shows, for each "
    "field that has two classes with five labelled images: the likeliest class with a calibrated confidence. "
    "Labelled images are judged by one that was fitted without them and their near copies, and how likely their "
    "label is right. `curation classify` tells.",
    metadata={"dagster/column_schema": md.column_schema(PREDICTIONS)},
    check_specs=[
        dg.AssetCheckSpec(
            WHOLE,
            asset=NAME,
            blocking=True,
            description="Every image with a vector has one row a field, with confidences from 0 to 1.",
        ),
        dg.AssetCheckSpec(AS_BEFORE, asset=NAME, description="Labels are told about as well as the last time."),
    ],
)
def image_predictions(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Fit classifiers where labels changed, and predict what is new."""
    with trying_again(context), failing_for_good():
        return classify_images_of(context, curation.pipeline()).result()


def classified(context: dg.OpExecutionContext, curation: CurationResource) -> Iterator[Event]:
    """Bring the predictions in line in a job of ops, and tell of them as the asset's own run would."""
    with failing_for_good():
        report = classify_images_of(context, curation.pipeline())
    yield from report.events(context.instance)


def classify_images_of(context: Context, pipeline: Pipeline) -> AssetReport:
    """Bring the predictions in line with the search index and the annotations."""
    done = pipeline.classify(progress(context)) if pipeline.has_labels else None
    return _report(context.instance, pipeline, done)


classify_images = dg.define_asset_job(
    "classify_images",
    selection=[image_predictions],
    executor_def=ONE_PROCESS,
    description="Fit classifiers to the annotations and predict the images: what `curation classify` does.",
)


def predictions_version(pipeline: Pipeline) -> str:
    """The data version: of the table."""
    predictions = pipeline.tables.predictions.latest()
    return f"{predictions.table_id}.{predictions.version}"


def predictions_state(pipeline: Pipeline) -> str:
    """32 hex digits of all that predictions are made of: the same as long as nothing happened that could help."""
    tables, index = pipeline.tables, searched_index(pipeline)
    said = [table.newest_version() for table in (tables.annotations, tables.decisions, tables.pairs)]
    state = None if index is None else index_version(index), said, pipeline.annotation_order
    return hashlib.sha256(repr(state).encode()).hexdigest()[:32]


_known = Remembered[bool]()


def predictions_behind(pipeline: Pipeline) -> bool:
    """Whether classifying would do something."""
    predictions = pipeline.tables.predictions
    damaged: tuple[str, ...] = ()
    version: tuple[str, int] | None = None
    if predictions.exists():
        rows = predictions.latest()
        damaged, version = tuple(file.path for file, _ in rows.broken()), (rows.table_id, rows.version)
    versions = version, damaged, predictions_state(pipeline)
    return _known.get(str(predictions.path), versions, pipeline.predictions_are_behind)


def build_predictions_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor of the predictions, with the interval of the settings.

    Its truth is what the table holds. Runs that bring folders in classify images themselves, as ``curation run`` does;
    what is left to it is other annotations or decisions, a promoted model, and whatever those runs did not come to.
    """

    @dg.sensor(
        name="image_predictions_sensor",
        job=classify_images,
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run of image_predictions when an image is not predicted as it is, by classifiers of the "
        "model that is searched with and of the labels there are; tells of what the command line did.",
    )
    def sensor(context: dg.SensorEvaluationContext, curation: CurationResource) -> dg.RunRequest | dg.SkipReason:
        pipeline, instance = curation.pipeline(), context.instance
        if not pipeline.tables.directory.exists():
            return dg.SkipReason("nothing is scanned yet")
        if not pipeline.has_labels:
            return dg.SkipReason("nothing is annotated yet")
        if at_work := run_at_work(instance, image_predictions.key):
            return dg.SkipReason(f"run {at_work[:8]} is at it")
        try:
            if pipeline.champion_index() is None or not index_is_in_line(pipeline):
                return dg.SkipReason("the search index is not in line yet")
            if predictions_behind(pipeline):
                run = next_run(instance, NAME, classify_images.name, predictions_state(pipeline))
                return run if isinstance(run, dg.RunRequest) else dg.SkipReason(f"asked for already; {run}")
            if not pipeline.tables.predictions.exists():
                return dg.SkipReason("no field has two classes with five labelled images")
            if data_version(instance, image_predictions.key) == predictions_version(pipeline):
                return dg.SkipReason("predictions are in line")
            for event in _report(instance, pipeline, None).events(instance):
                instance.report_runless_asset_event(event)
        except CurationError as error:
            return dg.SkipReason(f"nothing requested: {error}")
        return dg.SkipReason("predictions are in line; they were told of, which no run of Dagster made")

    return sensor


def _report(instance: dg.DagsterInstance, pipeline: Pipeline, done: Predictions | None) -> AssetReport:
    """What is to be told; nothing was done where somebody else did it, or nothing is embedded or annotated."""
    table = pipeline.tables.predictions
    table.create()
    made = table.latest() if done is None or done.index is None else table.at(done.version)
    rows = made.read(PREDICTIONS.arrow_schema.names).drop("_file")
    reports = reports_of(rows, pipeline.said_of_labels())
    now = {one.field: (round(one.accuracy * one.labelled), one.labelled) for one in reports}
    images, fields = rows.select("relative_path", "content_sha256").clear(), list[str]()
    if done is not None:  # another run may have brought the index further meanwhile, which the next one follows
        fields = [one.field for one in done.fields if one.why_not is None]
        images = images if done.index is None else images_of(done.index)
    elif (found := pipeline.champion_index()) is not None:
        images = images_of(found[1])
        fields = [each.field for each in pipeline.examples(found[1]) if each.why_not is None]
    event = instance.get_latest_materialization_event(image_predictions.key)
    told = event.asset_materialization.metadata if event is not None and event.asset_materialization else {}
    held = [
        Check(WHOLE, checks.predictions_are_whole(rows, images, fields)),
        Check(AS_BEFORE, checks.accuracy_as_before(now, _before(told)), blocking=False),
    ]
    facts = predictions_facts(pipeline, rows, reports, done)
    facts[_RIGHT] = dg.MetadataValue.json(now)
    return AssetReport(image_predictions.key, predictions_version(pipeline), facts, held)


def _before(told: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    value = told[_RIGHT].value if _RIGHT in told else {}
    return {str(field): (int(right), int(images)) for field, (right, images) in json.loads(json.dumps(value)).items()}


def predictions_facts(
    pipeline: Pipeline, rows: pl.DataFrame, reports: list[FieldReport], done: Predictions | None
) -> md.Facts:
    """What the asset's page tells: how well each field is told, its classes, and pictures of what is confused."""
    facts: md.Facts = {}
    for one in reports[:_PICTURES]:
        shown = md.picture(confusion_picture(one), f"confusions of {printable(one.field)}", "png")
        facts[f"confusions of {printable(one.field)}"] = shown
        facts |= _sheets(pipeline, one)
    if reports:
        facts |= {"fields": _fields(reports), "weakest classes": _weakest(reports)}
    facts[_IMAGES] = dg.MetadataValue.int(rows["relative_path"].n_unique())
    for one in reports:
        facts |= {
            f"accuracy {printable(one.field)}": dg.MetadataValue.float(round(one.accuracy, 4)),
            f"labels likely wrong {printable(one.field)}": dg.MetadataValue.int(len(one.suspected)),
        }
    if done is None:
        facts["note"] = dg.MetadataValue.text(
            md.MADE_ELSEWHERE if len(rows) else "nothing is embedded or annotated yet"
        )
    else:
        facts |= {
            "contents fitted to": dg.MetadataValue.int(sum(one.fitted for one in done.fields)),
            "contents predicted": dg.MetadataValue.int(sum(one.predicted for one in done.fields)),
            "changed rows": dg.MetadataValue.int(done.changed),
            "seconds": dg.MetadataValue.float(round(done.seconds, 3)),
        }
        if not_fitted := [one.why_not for one in done.fields if one.why_not is not None]:
            facts["not classified"] = dg.MetadataValue.text(printable("; ".join(not_fitted)))
    name = pipeline.settings.full_name(pipeline.settings.predictions_table)
    return facts | md.whole_table_facts(pipeline.tables.predictions, name)


def _sheets(pipeline: Pipeline, one: FieldReport) -> md.Facts:
    shown = [
        (
            one.confused(label, predicted)["relative_path"].head(_BESIDE).to_list(),
            f"{printable(label)} taken for {printable(predicted)}, {number:,}",
        )
        for label, predicted, number in one.confusions[:_CONFUSIONS]
    ]
    return md.sheets(pipeline, f"most confused of {printable(one.field)}", "images of a confusion", shown)


def _fields(reports: list[FieldReport]) -> dg.MetadataValue:
    columns = {
        "field": "string",
        "labelled": "int",
        "classes": "int",
        "accuracy": "float",
        "balanced": "float",
        "calibration error": "float",
        "likely wrong": "int",
    }
    return md.records(
        columns,
        [
            (
                printable(one.field),
                one.labelled,
                len(one.classes),
                round(one.accuracy, 4),
                round(one.balanced_accuracy, 4),
                round(one.calibration_error, 4),
                len(one.suspected),
            )
            for one in reports
        ],
    )


def _weakest(reports: list[FieldReport]) -> dg.MetadataValue:
    columns = {"field": "string", "class": "string", "labelled": "int", "precision": "float", "recall": "float"}
    return md.records(
        columns,
        [
            (
                printable(one.field),
                printable(each.name),
                each.images,
                round(each.precision or 0.0, 4),
                round(each.recall, 4),
            )
            for one in reports
            for each in one.weakest[:_CLASSES]
        ],
    )


def confusion_picture(one: FieldReport) -> bytes:
    """A PNG of labels (rows) and predictions (columns), the classes with the most images; shares of each row."""
    from matplotlib.figure import Figure

    largest = sorted(one.classes, key=lambda each: (-each.images, each.name))[:_CLASSES]
    names = sorted(each.name for each in largest)
    place = {each.name: at for at, each in enumerate(one.classes)}
    at = [place[name] for name in names]
    counts = one.matrix[at][:, at]
    shares = counts / one.matrix[at].sum(axis=1, keepdims=True).clip(1)
    side = 2.2 + 0.36 * len(names)
    figure = Figure(figsize=(side, side), dpi=90, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1)
    shown = [name if len(name) <= 24 else f"{name[:23]}…" for name in map(printable, names)]
    axes.set_xticks(range(len(names)), shown, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(names)), shown, fontsize=8, parse_math=False)
    axes.set_xlabel("predicted, out of fold")
    axes.set_ylabel("label")
    if len(names) <= _DIGITS_UP_TO:
        for row, column in zip(*counts.nonzero(), strict=True):
            colour = "white" if shares[row, column] > 0.6 else "#1d2419"
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=7, color=colour)
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
