"""``image_annotations``: what sources say is on images, following the sources of the setting and moved images."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from curation_assets.annotations.checks import annotations_have_images, labels_as_before
from curation_assets.annotations.configured import Followed, places_note, sources_behind, state_of
from curation_assets.annotations.following import movable
from curation_assets.annotations.overview import SourceField, disagreements, overview
from curation_assets.defs import metadata as md
from curation_assets.defs.following import Remembered
from curation_assets.defs.images import crop_images_directory
from curation_assets.defs.reports import AssetReport, Check, Event
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import failing_for_good, progress, trying_again
from curation_assets.defs.runs import data_version, next_run, run_at_work
from curation_assets.defs.tags import ONE_PROCESS, OWNERS
from curation_assets.errors import CurationError
from curation_assets.images.names import printable
from curation_assets.lake.schemas import ANNOTATIONS
from curation_assets.pipeline import Pipeline
from curation_assets.settings import Settings

NAME = "image_annotations"
HAVE_IMAGES, AS_BEFORE = "annotations_have_images", "labels_as_before"
_IMAGES, _LABELS = "annotated images", "labels"
_MOST = 100  # labels of a field whose numbers are told


@dg.asset(
    name=NAME,
    deps=[crop_images_directory],
    group_name="curation",
    owners=OWNERS,
    kinds={"python", "deltalake"},
    description="What each source says is on an image: labels, boxes, the split. Follows the sources of "
    "CURATION_ANNOTATIONS when their files or the images change, and images that move; `curation annotate` imports "
    "others by hand.",
    metadata={"dagster/column_schema": md.column_schema(ANNOTATIONS)},
    check_specs=[
        dg.AssetCheckSpec(HAVE_IMAGES, asset=NAME, description="Every row is of an image as it is now."),
        dg.AssetCheckSpec(AS_BEFORE, asset=NAME, description="No label is much more frequent than the last time."),
    ],
)
def image_annotations(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Read the sources that changed, and let annotations go where their images are."""
    with trying_again(context), failing_for_good():
        pipeline = curation.pipeline()
        done = pipeline.follow_annotations(progress(context))
        if done.failed:
            raise CurationError("; ".join(f"source {source!r}: {why}" for source, why in done.failed.items()))
        pipeline.tables.annotations.create()
        return _report(context.instance, pipeline, done).result()


follow_annotations = dg.define_asset_job(
    "follow_annotations",
    selection=[image_annotations],
    executor_def=ONE_PROCESS,
    description="Read the sources of annotations that changed, and let annotations go where their images are.",
)


def annotated(context: dg.OpExecutionContext, curation: CurationResource) -> Iterator[Event]:
    """Do the same in a job of ops, where there are annotations; a source that can't be read is logged.

    The sensor asks for a run of its own then, which fails with the reason.
    """
    pipeline = curation.pipeline()
    if not pipeline.has_annotations:
        return
    with failing_for_good():
        done = pipeline.follow_annotations(progress(context))
    for source, why in done.failed.items():
        context.log.error("annotations of %s were left as they are: %s", printable(source), printable(why))
    if pipeline.tables.annotations.exists():
        yield from _report(context.instance, pipeline, done).events(context.instance)


def annotations_version(pipeline: Pipeline) -> str:
    """The data version: of the table."""
    table = pipeline.tables.annotations.latest()
    return f"{table.table_id}.{table.version}"


def annotations_state(pipeline: Pipeline) -> str:
    """32 hex digits of all that the annotations are made of: the same as long as nothing happened that could help."""
    directory = pipeline.tables.directory
    states = []
    for source in pipeline.settings.annotations:
        try:
            states.append(state_of(source, directory))
        except OSError as error:
            states.append(str(error))
    images = directory.latest()
    said = (images.table_id, images.version, pipeline.tables.annotations.newest_version(), states)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:32]


_known = Remembered[int]()


def annotations_behind(pipeline: Pipeline) -> tuple[list[str], int]:
    """Sources to be read, and how many rows would go where their image is now."""
    tables, settings = pipeline.tables, pipeline.settings
    sources = sources_behind(tables.directory, settings.annotations, settings.annotations_note)
    if not tables.annotations.exists():
        return sources, 0
    images, rows = tables.directory.latest(), tables.annotations.latest()
    note = places_note(settings.annotations_note)
    versions = images.table_id, images.version, rows.table_id, rows.version
    return sources, _known.get(
        str(tables.annotations.path), versions, lambda: movable(tables.directory, tables.annotations, note)
    )


def build_annotations_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor of the annotations, with the interval of the settings."""

    @dg.sensor(
        name="image_annotations_sensor",
        job=follow_annotations,
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run of image_annotations when a source of CURATION_ANNOTATIONS or the images changed, or "
        "an annotated image moved; tells of what the command line did.",
    )
    def sensor(context: dg.SensorEvaluationContext, curation: CurationResource) -> dg.RunRequest | dg.SkipReason:
        pipeline, instance = curation.pipeline(), context.instance
        if not pipeline.tables.directory.exists():
            return dg.SkipReason("nothing is scanned yet")
        if not pipeline.has_annotations:
            return dg.SkipReason("there are no annotations")
        if at_work := run_at_work(instance, image_annotations.key):
            return dg.SkipReason(f"run {at_work[:8]} is at it")
        try:
            sources, moved = annotations_behind(pipeline)
            if not sources and not moved:
                return dg.SkipReason(f"annotations are in line{_tell_of_what_is_new(instance, pipeline)}")
            run = next_run(instance, NAME, follow_annotations.name, annotations_state(pipeline))
        except CurationError as error:
            return dg.SkipReason(f"nothing requested: {error}")
        if isinstance(run, dg.RunRequest):
            return run
        return dg.SkipReason(
            f"{len(sources)} sources are to be read, {moved} rows to be moved; asked for already; {run}"
        )

    return sensor


def _tell_of_what_is_new(instance: dg.DagsterInstance, pipeline: Pipeline) -> str:
    """Tell Dagster of annotations that somebody else read, of which it knows nothing yet."""
    if not pipeline.tables.annotations.exists():
        return ""
    if data_version(instance, image_annotations.key) == annotations_version(pipeline):
        return ""
    for event in _report(instance, pipeline, None).events(instance):
        instance.report_runless_asset_event(event)
    return "; they were told of, which no run of Dagster made"


def _report(instance: dg.DagsterInstance, pipeline: Pipeline, done: Followed | None) -> AssetReport:
    """What is to be told; nothing done where somebody else read them."""
    tables = pipeline.tables
    found = overview(tables.directory, tables.annotations, pipeline.annotation_order)
    unlike = len(disagreements(tables.directory, tables.annotations))
    labels = {
        f"{each.field} {label} ({each.source})": number
        for each in found
        for label, number in list(each.labels.items())[:_MOST]
    }
    images = max((each.images for each in found), default=0)
    facts: md.Facts = {
        "sources": _sources(found),
        _IMAGES: dg.MetadataValue.int(images),
        "images that sources disagree about": dg.MetadataValue.int(unlike),
        _LABELS: dg.MetadataValue.json(labels),
    }
    if done is None:
        facts["note"] = dg.MetadataValue.text(md.MADE_ELSEWHERE)
    else:
        facts |= {
            "sources read": dg.MetadataValue.int(len(done.imports)),
            "rows added": dg.MetadataValue.int(sum(each.added for each in done.imports)),
            "rows changed": dg.MetadataValue.int(sum(each.changed for each in done.imports)),
            "rows removed": dg.MetadataValue.int(sum(each.removed for each in done.imports)),
            "rows that went with their image": dg.MetadataValue.int(done.places.moved),
        }
    event = instance.get_latest_materialization_event(image_annotations.key)
    before = event.asset_materialization.metadata if event is not None and event.asset_materialization else {}
    checks = [
        Check(HAVE_IMAGES, annotations_have_images(found), blocking=False),
        Check(AS_BEFORE, labels_as_before(labels, images, *_before(before)), blocking=False),
    ]
    table = tables.annotations.latest()
    facts |= {
        "dagster/uri": dg.MetadataValue.text(tables.annotations.path.as_uri()),
        "dagster/table_name": dg.MetadataValue.text(pipeline.settings.full_name(pipeline.settings.annotations_table)),
        "dagster/row_count": dg.MetadataValue.int(table.rows()),
        "table version": dg.MetadataValue.int(table.version),
    }
    return AssetReport(image_annotations.key, annotations_version(pipeline), facts, checks)


def _before(facts: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """Labels and images that a page told the last time."""
    if _LABELS not in facts or _IMAGES not in facts:
        return {}, 0
    return dict(facts[_LABELS].value), int(facts[_IMAGES].value)


def _sources(found: list[SourceField]) -> dg.MetadataValue:
    columns = {"source": "string", "field": "string"} | dict.fromkeys(("images", "labels", "boxes", "waiting"), "int")
    records = [
        dg.TableRecord(
            {
                "source": printable(each.source),
                "field": each.field,
                "images": each.images,
                "labels": len(each.labels),
                "boxes": each.boxes,
                "waiting": each.waiting,
            }
        )
        for each in found
    ]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(name, of) for name, of in columns.items()]))
