"""Sensors: changed folders → runs; a promoted model → its data version; a changed model → new embeddings; new
embeddings → the search index.

The truth of ``new_images_sensor`` is the directory table. It asks for a run as long as a folder on disk differs from
its rows, and never because a partition doesn't exist yet: the daemon stores new partitions before it reserves runs,
and if it is killed in between, a sensor that looks for new partitions only has lost those folders for good. Run keys
keep it from asking twice.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from curation_assets.defs.clip_model import clip_model
from curation_assets.defs.crop_images_directory import crop_images_directory
from curation_assets.defs.crop_images_directory_embeddings import crop_images_directory_embeddings
from curation_assets.defs.external_events import materializations, promotion
from curation_assets.defs.image_search_index import covered, image_search_index
from curation_assets.defs.jobs import ingest_image_folder, refresh_search_index, register_clip_model
from curation_assets.defs.partitions import FOLDERS
from curation_assets.defs.resources import CurationResource
from curation_assets.errors import CurationError
from curation_assets.images.listing import TreeListing
from curation_assets.partition_keys import folder_of_key, key_of
from curation_assets.pipeline import Pipeline
from curation_assets.scan.changes import FolderChange
from curation_assets.settings import Settings

_RUN_KEY, _PARTITION = "dagster/run_key", "dagster/partition"
_TICK_SECONDS = 40  # of the 60 that Dagster gives a tick
_FOUND_FOLDERS = 100  # told to Dagster in one tick
_NEW_PARTITIONS = 500  # added in one tick; a thousand take Dagster 7 seconds


@dataclass(frozen=True)
class LatestRun:
    """The newest run of a partition."""

    run_id: str
    run_key: str | None
    finished: bool


def run_key_for(key: str, fingerprint: str, latest: LatestRun | None, is_used: Callable[[str], bool]) -> str | None:
    """Run key for a folder that differs from its rows; None where a run is under way or this state was tried.

    A state that comes back (a folder removed, then restored as it was) has its old fingerprint, and Dagster never
    starts a run key twice: the run that lay between makes it a new one.
    """
    base = f"{key}:{fingerprint}"
    if latest is None:
        return base
    if not latest.finished or (latest.run_key or "").startswith(base):
        return None
    return f"{base}:{latest.run_id[:8]}" if is_used(base) else base


def rotate(changes: Sequence[FolderChange], after: str | None) -> list[FolderChange]:
    """Changes in the order of their names, beginning behind ``after``, so that no folder waits for ever."""
    later = [change for change in changes if after is None or change.folder > after]
    return later + [change for change in changes if not (after is None or change.folder > after)]


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
            found += materializations(pipeline, _unknown(context.instance, tree, changes))
        except CurationError as error:
            return dg.SkipReason(f"nothing requested: {error}")
        settle = pipeline.settings.settle_seconds
        unsettled = [c for c in changes if c.folder in tree.folders and not tree.folders[c.folder].settled(settle)]
        ready = [change for change in changes if change not in unsettled]
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


def build_search_index_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor of the search index, with the interval of the settings.

    Its truth is what the tables hold and what the last materialization covered, never an event: one that comes while
    the index is being refreshed is not lost.
    """

    @dg.sensor(
        name="search_index_sensor",
        job=refresh_search_index,
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run of image_search_index and image_map when the tables or the champion are others than "
        "those that the last one covered.",
    )
    def search_index_sensor(
        context: dg.SensorEvaluationContext, curation: CurationResource
    ) -> dg.RunRequest | dg.SkipReason:
        pipeline = curation.pipeline()
        tables = pipeline.tables
        if tables.embeddings.newest_version() < 1 or (champion := pipeline.selection.current()) is None:
            return dg.SkipReason("nothing is embedded yet")
        try:
            embeddings, directory = tables.embeddings.snapshot(), tables.directory.snapshot()
        except CurationError as error:
            return dg.SkipReason(f"nothing requested: {error}")
        wanted = covered(embeddings.table_id, embeddings.version, directory.version, champion.fingerprint)
        event = context.instance.get_latest_materialization_event(image_search_index.key)
        known = (event.asset_materialization.tags or {}) if event and event.asset_materialization else {}
        if known.get("dagster/data_version") == wanted:
            return dg.SkipReason(f"the index covers version {embeddings.version} of the embeddings")
        runs = context.instance.get_runs(dg.RunsFilter(job_name=refresh_search_index.name), limit=1)
        latest = LatestRun(runs[0].run_id, runs[0].tags.get(_RUN_KEY), runs[0].is_finished) if runs else None
        key = run_key_for(
            image_search_index.key.to_user_string(),
            wanted,
            latest,
            lambda used: context.instance.get_runs_count(dg.RunsFilter(tags={_RUN_KEY: used})) > 0,
        )
        if key is None:
            return dg.SkipReason(f"asked for already; run {latest.run_id[:8]} tells" if latest else "asked for already")
        return dg.RunRequest(key)

    return search_index_sensor


def _request(instance: dg.DagsterInstance, change: FolderChange, table_id: str) -> dg.RunRequest | None:
    """The run that a change asks for, if any; a table that was made anew has run keys of its own."""
    key = key_of(change.folder)
    runs = instance.get_runs(dg.RunsFilter(tags={_PARTITION: key}, job_name=ingest_image_folder.name), limit=1)
    latest = LatestRun(runs[0].run_id, runs[0].tags.get(_RUN_KEY), runs[0].is_finished) if runs else None
    run_key = run_key_for(
        key,
        f"{change.fingerprint}.{table_id[:8]}",
        latest,
        lambda used: instance.get_runs_count(dg.RunsFilter(tags={_RUN_KEY: used})) > 0,
    )
    if run_key is None:
        return None
    tags = {"curation/change": change.what}
    return dg.RunRequest(run_key, job_name=ingest_image_folder.name, partition_key=key, tags=tags)


def _unknown(instance: dg.DagsterInstance, tree: TreeListing, changes: list[FolderChange]) -> list[str]:
    """Folders that match their rows, but that Dagster has neither run nor recorded: the command line made them."""
    differing = {change.folder for change in changes}
    known = instance.get_materialized_partitions(crop_images_directory.key)
    candidates = [folder for folder in tree.folders if folder not in differing and key_of(folder) not in known]
    return [
        folder
        for folder in candidates[:_FOUND_FOLDERS]
        if not instance.get_runs_count(dg.RunsFilter(tags={_PARTITION: key_of(folder)}))
    ]


def _partition_requests(
    instance: dg.DagsterInstance, pipeline: Pipeline, tree: TreeListing, asked: list[str]
) -> Iterator[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest]:
    name = str(FOLDERS.name)
    existing = set(instance.get_dynamic_partitions(name))
    others = [key_of(folder) for folder in tree.folders]
    missing = [key for key in dict.fromkeys(asked + others) if key not in existing]
    if missing:
        yield FOLDERS.build_add_request(missing[: max(_NEW_PARTITIONS, len(asked))])
    every = (pipeline.tables.directory, pipeline.tables.embeddings, pipeline.tables.zero_shot_labels)
    tables = [table.snapshot() for table in every if table.exists()]
    alive = {*tree.folders, *(folder for table in tables for folder in table.folders)}
    gone = [key for key in existing if folder_of_key(key) not in alive and key not in asked]
    if gone:
        yield FOLDERS.build_delete_request(sorted(gone))


def _model_is_missing(instance: dg.DagsterInstance, pipeline: Pipeline) -> dg.SensorResult | dg.SkipReason | None:
    """Register the model before the first folder, so that a new project needs no manual first step.

    Both have to know it: the registry, which embeddings read, and Dagster, whose automation waits for all inputs.
    """
    known = instance.get_latest_materialization_event(clip_model.key) is not None
    if known and pipeline.selection.current() is not None:
        return None
    base = f"{clip_model.key.to_user_string()}:{pipeline.settings.model_source}"
    runs = instance.get_runs(dg.RunsFilter(job_name=register_clip_model.name), limit=1)
    latest = runs[0] if runs else None
    if latest is not None:
        tried = latest.tags.get(_RUN_KEY, "").startswith(base)
        if not latest.is_finished or (tried and not latest.is_success):
            hint = "; see its log, then materialize clip_model" if latest.is_finished else ""
            state = latest.status.value.lower()
            return dg.SkipReason(f"waiting for clip_model: run {latest.run_id[:8]} is {state}{hint}")
    # It may have been registered before, in a registry that is there no more: Dagster starts no run key twice.
    used = latest is not None and instance.get_runs_count(dg.RunsFilter(tags={_RUN_KEY: base})) > 0
    run_key = f"{base}:{latest.run_id[:8]}" if latest is not None and used else base
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key, job_name=register_clip_model.name)])


embeddings_automation_sensor = dg.AutomationConditionSensorDefinition(
    "embeddings_automation_sensor",
    target=dg.AssetSelection.assets(crop_images_directory_embeddings),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Embeds a folder again when its content or the model really changed.",
)
