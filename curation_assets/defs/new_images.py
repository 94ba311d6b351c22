"""``new_images_sensor``: folders that differ from their rows → runs; and what happened outside Dagster → events.

Its truth is the directory table. It asks for a run as long as a folder on disk differs from its rows, and never because
a partition doesn't exist yet: the daemon stores new partitions before it reserves runs, and if it is killed in between,
a sensor that looks for new partitions only has lost those folders for good. Nor does it matter how a run ended: what
keeps the sensor from asking twice, and lets it ask again later, is in ``asking``. Where messages of a bucket are read,
most ticks look at some folders alone (``looking``), and leave to a look at all what takes to know all.
"""

import itertools
import time
from collections.abc import Iterator

import dagster as dg

from curation_assets.clip.versions import RegisteredModel
from curation_assets.defs.asking import NOT_EMBEDDED, ask
from curation_assets.defs.external_events import materializations, not_embedded, promotion, report_checks
from curation_assets.defs.images import FOLDERS, crop_images_directory
from curation_assets.defs.ingest import ingest_image_folder, ingest_image_folders
from curation_assets.defs.looking import Look, next_look
from curation_assets.defs.model import clip_model, register_clip_model
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.runs import is_asked, latest_run, run_key_is_used
from curation_assets.defs.settling import Cursor, settle
from curation_assets.defs.state import (
    ATTEMPT,
    Attempt,
    again_told,
    folder_tags,
    missing_partitions,
    next_registration,
    rotate,
    unrecorded,
    vanished_partitions,
    waits_told,
)
from curation_assets.defs.tags import PARTITION
from curation_assets.errors import CurationError
from curation_assets.images.listing import TreeListing
from curation_assets.images.names import printable
from curation_assets.partition_keys import key_of
from curation_assets.pipeline import Pipeline
from curation_assets.scan.changes import FolderChange
from curation_assets.settings import Settings

_TICK_SECONDS = 40  # of the 60 that Dagster gives a tick
_FOUND_FOLDERS = 100  # told to Dagster in one tick
_NEW_PARTITIONS = 500  # added in one tick; a thousand take Dagster 7 seconds


def build_new_images_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor, with the interval of the settings."""

    @dg.sensor(
        name="new_images_sensor",
        jobs=[ingest_image_folder, ingest_image_folders, register_clip_model],
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run for image folders that differ from their rows in crop_images_directory, once they "
        "have settled: for a handful of small ones, or a large one. Tells clip_model when another version was "
        "promoted. Adds partitions for new folders, and drops those of folders that are gone.",
    )
    def new_images_sensor(
        context: dg.SensorEvaluationContext, curation: CurationResource
    ) -> dg.SensorResult | dg.SkipReason:
        pipeline, cursor = curation.pipeline(), Cursor.of(context.cursor)
        look = next_look(pipeline, cursor.followed, time.time())
        for warning in look.warnings:
            context.log.warning(warning)
        if look.told:
            context.log.info(look.told)
        result: dg.SensorResult | dg.SkipReason
        if look.folders == []:
            result = dg.SensorResult(
                skip_reason="no message names a folder, and none waits", cursor=look.nothing(cursor)
            )
        else:
            result = _looked(context, pipeline, cursor, look)
        if isinstance(result, dg.SensorResult) and result.cursor and (warning := look.delete_messages(pipeline)):
            context.log.warning(warning)
        return result

    return new_images_sensor


def _looked(
    context: dg.SensorEvaluationContext, pipeline: Pipeline, cursor: Cursor, look: Look
) -> dg.SensorResult | dg.SkipReason:
    """What a tick asks for and tells, of the folders that it looks at."""
    started, looked, is_whole = time.monotonic(), time.time(), look.folders is None
    try:
        tree = pipeline.source.list_folders(look.folders)
        pipeline.tables.directory.create()  # its identity is part of every run key
        changes = look.changes(pipeline, tree)
    except CurationError as error:
        return dg.SkipReason(f"nothing requested: {error}")
    if is_whole and not tree.folders and changes:
        root = pipeline.source.location
        return dg.SkipReason(
            f"nothing requested: {root} holds no images, while the table holds {len(changes)} folders; if that is "
            "meant, backfill their partitions to remove the rows"
        )
    found: list[dg.AssetMaterialization] = []
    try:
        if is_whole:
            if waiting := _model_is_missing(context.instance, pipeline, tree):
                return waiting
            found += promotion(context.instance, pipeline)
            found += materializations(pipeline, _made_elsewhere(context.instance, tree, changes))
        behind = _behind(pipeline, tree, changes)
    except CurationError as error:
        return dg.SkipReason(f"nothing requested: {error}")
    if is_whole:
        _report_checks(context, pipeline, tree, changes)
    certain, question = _without_what_is_in_question(pipeline, tree, changes)
    settling = settle(
        tree,
        certain,
        cursor.looks,
        now=looked,
        seconds=pipeline.settings.settle_seconds,
        limit=pipeline.settings.settle_limit_seconds,
    )
    asking = ask(
        context.instance,
        tree,
        rotate([*settling.ready, *behind], cursor.after),
        pipeline.tables.directory.latest().table_id,
        behind=cursor.behind,
        until=started + _TICK_SECONDS,
        most=pipeline.settings.sensor_max_runs,
        now=looked,
    )
    waiting_for = f"{len(settling.waiting)} still being written, {len(settling.ready)} asked for already"
    differ = f"{len(changes)} of them differ from the table: {waiting_for}" if changes else "all match the table"
    without = f"{len(behind)} match it but lack vectors" if behind else ""
    waits, left = waits_told(asking.waits, looked), _not_done(tree, question)
    if waits:
        context.log.info(waits)
    if left:
        context.log.warning(left)
    where = "image folders on disk" if is_whole else "image folders that messages name or that weren't in line"
    skipped = "; ".join(filter(None, [f"{len(tree.folders)} {where}, {differ}", without, waits, left]))
    partitions = list(_partition_requests(context.instance, pipeline, tree, asking.keys, is_whole=is_whole))
    is_done = time.monotonic() < started + _TICK_SECONDS and len(asking.requests) < pipeline.settings.sensor_max_runs
    is_done = is_done and not found and sum(len(each.partition_keys) for each in partitions) < _NEW_PARTITIONS
    return dg.SensorResult(
        run_requests=asking.requests,
        skip_reason=None if asking.requests else skipped,
        cursor=cursor.text(
            asking.last or cursor.after,
            settling.looks,
            asking.folders,
            asking.behind if is_whole else {**cursor.behind, **asking.behind},
            look.gone_on(tree, certain, behind, is_done=is_done or not is_whole),
        ),
        asset_events=found,
        dynamic_partitions_requests=partitions,
    )


def _report_checks(
    context: dg.SensorEvaluationContext, pipeline: Pipeline, tree: TreeListing, changes: list[FolderChange]
) -> None:
    try:
        report_checks(context.instance, pipeline, tree.folders.keys() - {change.folder for change in changes})
    except Exception:  # what pages show must not keep a folder from its run
        context.log.exception("the checks of what was made outside Dagster could not be reported")


def _behind(pipeline: Pipeline, tree: TreeListing, changes: list[FolderChange]) -> list[FolderChange]:
    """Folders that match their rows, but of which images lack a vector."""
    differing = {change.folder for change in changes}
    without = not_embedded(pipeline, pipeline.registry.champion())
    folders = sorted(folder for folder in without if folder in tree.folders and folder not in differing)
    return [FolderChange(folder, tree.folders[folder].fingerprint, NOT_EMBEDDED) for folder in folders]


def _without_what_is_in_question(
    pipeline: Pipeline, tree: TreeListing, changes: list[FolderChange]
) -> tuple[list[FolderChange], str | None]:
    """Changes that may be asked for, and what somebody has to confirm first."""
    question = pipeline.prune_question(tree, [change.folder for change in changes])
    if question is None:
        return changes, None
    in_question = set(question.folders)
    return [change for change in changes if change.folder not in in_question], (
        f"{question.why}: these folders are not asked for; mount what is missing, or confirm with `curation run "
        "--prune` (or backfill their partitions)"
    )


def _not_done(tree: TreeListing, question: str | None) -> str:
    """What a tick leaves as it is, in a line; empty where that is nothing."""
    told = [question] if question else []
    if tree.unlisted:
        places = [f"{printable(place)!r} ({reason})" for place, reason in itertools.islice(tree.unlisted.items(), 10)]
        more = f" and {len(tree.unlisted) - 10} more" if len(tree.unlisted) > 10 else ""
        told.append(f"cannot be listed, and keep their rows: {', '.join(places)}{more}")
    return "; ".join(told)


def _made_elsewhere(instance: dg.DagsterInstance, tree: TreeListing, changes: list[FolderChange]) -> list[str]:
    """Folders that match their rows, but that Dagster has neither run nor recorded: the command line made them."""
    known = instance.get_materialized_partitions(crop_images_directory.key)
    return [
        folder
        for folder in unrecorded(tree, changes, known)[:_FOUND_FOLDERS]
        if not is_asked(instance, {PARTITION: key_of(folder)}) and not is_asked(instance, folder_tags(key_of(folder)))
    ]


def _partition_requests(
    instance: dg.DagsterInstance, pipeline: Pipeline, tree: TreeListing, asked: list[str], *, is_whole: bool = True
) -> Iterator[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest]:
    existing = set(instance.get_dynamic_partitions(str(FOLDERS.name)))
    if missing := missing_partitions(tree, asked, existing, _NEW_PARTITIONS):
        yield FOLDERS.build_add_request(missing)
    if not is_whole:
        return
    in_tables = {folder for table in pipeline.tables.there for folder in table.latest().folders}
    if gone := vanished_partitions(tree, asked, existing, in_tables):
        yield FOLDERS.build_delete_request(gone)


def _model_is_missing(
    instance: dg.DagsterInstance, pipeline: Pipeline, tree: TreeListing
) -> dg.SensorResult | dg.SkipReason | None:
    """Register the model before the first folder, so that a new project needs no manual first step.

    Both have to know it: the registry, which embeddings read, and Dagster, whose automation waits for all inputs. A
    champion that the command line made vectors with is only told to Dagster, as a promotion is.
    """
    champion = pipeline.selection.current()
    known = instance.get_latest_materialization_event(clip_model.key) is not None
    if champion is not None and (known or _is_in_use(pipeline, champion)):
        return None
    latest, now = latest_run(instance, register_clip_model.name), time.time()
    asset, source = clip_model.key.to_user_string(), pipeline.settings.model_source
    found = next_registration(asset, source, latest, run_key_is_used(instance), now)
    if isinstance(found, Attempt):
        tags = {ATTEMPT: str(found.number)} if found.number > 1 else {}
        request = dg.RunRequest(found.run_key, job_name=register_clip_model.name, tags=tags)
        partitions = list(_partition_requests(instance, pipeline, tree, []))  # people can choose them meanwhile
        return dg.SensorResult(run_requests=[request], dynamic_partitions_requests=partitions)
    hint = f"; see its log, then materialize clip_model; {again_told(found, now)}" if found.finished else ""
    return dg.SkipReason(f"waiting for clip_model: run {found.run_id[:8]} is {found.status}{hint}")


def _is_in_use(pipeline: Pipeline, champion: RegisteredModel) -> bool:
    """Whether there is a folder with all vectors of a model."""
    return not not_embedded(pipeline, champion).issuperset(pipeline.tables.directory.latest().folders)
