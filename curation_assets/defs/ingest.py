"""Folders → runs: the job on one image folder, and ``new_images_sensor``, which starts it.

The sensor's truth is the directory table. It asks for a run as long as a folder on disk differs from its rows, and
never because a partition doesn't exist yet: the daemon stores new partitions before it reserves runs, and if it is
killed in between, a sensor that looks for new partitions only has lost those folders for good. Run keys keep it from
asking twice.
"""

import time
from collections.abc import Iterator

import dagster as dg

from curation_assets.defs.embeddings import crop_images_directory_embeddings
from curation_assets.defs.external_events import materializations, promotion
from curation_assets.defs.images import FOLDERS, crop_images_directory
from curation_assets.defs.model import clip_model, register_clip_model
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.runs import latest_run, run_key_is_used
from curation_assets.defs.state import (
    missing_partitions,
    model_run_key,
    rotate,
    run_key_for,
    settled,
    unrecorded,
    vanished_partitions,
)
from curation_assets.defs.tags import PARTITION
from curation_assets.errors import CurationError
from curation_assets.images.listing import TreeListing
from curation_assets.partition_keys import key_of
from curation_assets.pipeline import Pipeline
from curation_assets.scan.changes import FolderChange
from curation_assets.settings import Settings

_TICK_SECONDS = 40  # of the 60 that Dagster gives a tick
_FOUND_FOLDERS = 100  # told to Dagster in one tick
_NEW_PARTITIONS = 500  # added in one tick; a thousand take Dagster 7 seconds

ingest_image_folder = dg.define_asset_job(
    "ingest_image_folder",
    selection=[crop_images_directory, crop_images_directory_embeddings],
    partitions_def=FOLDERS,
    description="Scan one image folder and embed what is new in it.",
)


def build_new_images_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor, with the interval of the settings."""

    @dg.sensor(
        name="new_images_sensor",
        jobs=[ingest_image_folder, register_clip_model],
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run for every image folder that differs from its rows in crop_images_directory, once it "
        "has settled; tells clip_model when another version was promoted. Adds partitions for new folders, and drops "
        "those of folders that are gone.",
    )
    def new_images_sensor(
        context: dg.SensorEvaluationContext, curation: CurationResource
    ) -> dg.SensorResult | dg.SkipReason:
        started = time.monotonic()
        pipeline = curation.pipeline()
        try:
            tree = pipeline.source.list_folders()
            pipeline.tables.directory.create()  # its identity is part of every run key
            changes = pipeline.folder_changes(tree)
        except CurationError as error:
            return dg.SkipReason(f"nothing requested: {error}")
        if not tree.folders and changes:
            root = pipeline.settings.images_root
            return dg.SkipReason(
                f"nothing requested: {root} holds no images, while the table holds {len(changes)} folders; if that is "
                "meant, backfill their partitions to remove the rows"
            )
        try:
            if waiting := _model_is_missing(context.instance, pipeline):
                return waiting
            found = list(promotion(context.instance, pipeline))
            found += materializations(pipeline, _made_elsewhere(context.instance, tree, changes))
        except CurationError as error:
            return dg.SkipReason(f"nothing requested: {error}")
        ready, unsettled = settled(tree, changes, pipeline.settings.settle_seconds)
        table_id = pipeline.tables.directory.snapshot().table_id
        requests: list[dg.RunRequest] = []
        cursor = context.cursor
        for change in rotate(ready, cursor):
            if len(requests) >= pipeline.settings.sensor_max_runs or time.monotonic() - started > _TICK_SECONDS:
                break
            if request := _request(context.instance, change, table_id):
                requests.append(request)
                cursor = change.folder
        asked = [str(request.partition_key) for request in requests]
        waiting_for = f"{len(unsettled)} still being written, {len(ready)} asked for already"
        differ = f"{len(changes)} of them differ from the table: {waiting_for}" if changes else "all match the table"
        skipped = f"{len(tree.folders)} image folders on disk, {differ}"
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else skipped,
            cursor=cursor,
            asset_events=found,
            dynamic_partitions_requests=list(_partition_requests(context.instance, pipeline, tree, asked)),
        )

    return new_images_sensor


def _request(instance: dg.DagsterInstance, change: FolderChange, table_id: str) -> dg.RunRequest | None:
    """The run that a change asks for, if any; a table that was made anew has run keys of its own."""
    key = key_of(change.folder)
    latest = latest_run(instance, ingest_image_folder.name, {PARTITION: key})
    run_key = run_key_for(key, f"{change.fingerprint}.{table_id[:8]}", latest, run_key_is_used(instance))
    if run_key is None:
        return None
    tags = {"curation/change": change.what}
    return dg.RunRequest(run_key, job_name=ingest_image_folder.name, partition_key=key, tags=tags)


def _made_elsewhere(instance: dg.DagsterInstance, tree: TreeListing, changes: list[FolderChange]) -> list[str]:
    """Folders that match their rows, but that Dagster has neither run nor recorded: the command line made them."""
    known = instance.get_materialized_partitions(crop_images_directory.key)
    return [
        folder
        for folder in unrecorded(tree, changes, known)[:_FOUND_FOLDERS]
        if not instance.get_runs_count(dg.RunsFilter(tags={PARTITION: key_of(folder)}))
    ]


def _partition_requests(
    instance: dg.DagsterInstance, pipeline: Pipeline, tree: TreeListing, asked: list[str]
) -> Iterator[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest]:
    existing = set(instance.get_dynamic_partitions(str(FOLDERS.name)))
    if missing := missing_partitions(tree, asked, existing, _NEW_PARTITIONS):
        yield FOLDERS.build_add_request(missing)
    every = (pipeline.tables.directory, pipeline.tables.embeddings, pipeline.tables.zero_shot_labels)
    in_tables = {folder for table in every if table.exists() for folder in table.latest().folders}
    if gone := vanished_partitions(tree, asked, existing, in_tables):
        yield FOLDERS.build_delete_request(gone)


def _model_is_missing(instance: dg.DagsterInstance, pipeline: Pipeline) -> dg.SensorResult | dg.SkipReason | None:
    """Register the model before the first folder, so that a new project needs no manual first step.

    Both have to know it: the registry, which embeddings read, and Dagster, whose automation waits for all inputs.
    """
    known = instance.get_latest_materialization_event(clip_model.key) is not None
    if known and pipeline.selection.current() is not None:
        return None
    latest = latest_run(instance, register_clip_model.name)
    base = f"{clip_model.key.to_user_string()}:{pipeline.settings.model_source}"
    run_key = model_run_key(base, latest, run_key_is_used(instance))
    if run_key is not None:
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key, job_name=register_clip_model.name)])
    assert latest is not None
    hint = "; see its log, then materialize clip_model" if latest.finished else ""
    return dg.SkipReason(f"waiting for clip_model: run {latest.run_id[:8]} is {latest.status}{hint}")
