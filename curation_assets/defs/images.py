"""Folders of photographs, and ``crop_images_directory``: one row for every image file of them."""

import dagster as dg

from curation_assets import integrity
from curation_assets.defs import metadata as md
from curation_assets.defs import speed_history as speeds
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import each_folder, progress
from curation_assets.defs.tags import OWNERS, RETRIES
from curation_assets.lake.schemas import DIRECTORY
from curation_assets.partition_keys import folder_of_key
from curation_assets.pipeline import Pipeline
from curation_assets.scan.result import ScanResult

NAME = "crop_images_directory"
KEY_UNIQUE, FEW_BAD = "directory_key_is_unique", "few_bad_files"

# One partition for each image folder; its key is `partition_keys.key_of` the folder.
FOLDERS = dg.DynamicPartitionsDefinition(name="image_folders")

image_folders = dg.AssetSpec(
    "image_folders",
    description="Folders of photographs under `CURATION_IMAGES_ROOT`, as cameras, phones and drones leave them. "
    "`new_images_sensor` watches them.",
    group_name="images",
    owners=OWNERS,
    kinds={"file"},
    partitions_def=FOLDERS,
)


def _check(name: str, description: str, *, blocking: bool = False) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(name, asset=NAME, partitions_def=FOLDERS, blocking=blocking, description=description)


@dg.asset(
    name=NAME,
    deps=[image_folders],
    partitions_def=FOLDERS,
    # One folder a run: a run has one data version for all its partitions, and embeddings go by the folder's own.
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
    retry_policy=RETRIES,
    group_name="images",
    owners=OWNERS,
    kinds={"python", "deltalake"},
    description="Every image file of a folder as one row of a Delta table: path, size, times, hash, format, EXIF, "
    "preview, and the file itself as base64. A file that can't be used is a row with its reason. Unchanged files are "
    "not opened again.",
    metadata={"dagster/column_schema": md.column_schema(DIRECTORY)},
    check_specs=[
        _check(KEY_UNIQUE, "No file has two rows.", blocking=True),
        _check(FEW_BAD, "Few files are unusable (CURATION_BAD_FILE_LIMIT)."),
    ],
)
def crop_images_directory(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Scan the run's folders."""
    pipeline = curation.pipeline()
    report = progress(context)
    results = each_folder(context, lambda folder: pipeline.scan([folder], report)[0])
    picture = speeds.over_time(context.instance, context.asset_key, [speeds.scan_speed(scan) for _, scan in results])
    for key, result in results:
        context.add_asset_metadata(_facts(pipeline, result) | picture, partition_key=key)
    folders = [folder_of_key(key) for key in context.partition_keys]
    table, limit = pipeline.tables.directory.snapshot(), pipeline.settings.bad_file_limit
    return dg.MaterializeResult(
        data_version=dg.DataVersion(pipeline.tables.content_version(folders)),
        check_results=[
            md.check_result(KEY_UNIQUE, integrity.key_is_unique(table, folders)),
            md.check_result(FEW_BAD, integrity.bad_file_share(table, folders, limit), warning=True),
        ],
    )


def _facts(pipeline: Pipeline, result: ScanResult) -> dict[str, dg.MetadataValue]:
    snapshot = pipeline.tables.directory.snapshot()
    facts = md.thumbnails(snapshot, result.folder) | {
        "images": dg.MetadataValue.int(result.ok),
        "bad files": dg.MetadataValue.int(result.bad),
        "new": dg.MetadataValue.int(result.new),
        "changed": dg.MetadataValue.int(result.changed),
        "vanished": dg.MetadataValue.int(result.vanished),
        "unchanged": dg.MetadataValue.int(result.unchanged),
    }
    facts |= speeds.scan_speed(result)
    if result.bad:
        facts["why bad"] = md.bad_files(pipeline.tables.bad_files([result.folder]).rows())
    if result.passed_over:
        facts["passed over"] = dg.MetadataValue.json(dict(result.passed_over))
    name = pipeline.settings.full_name(pipeline.settings.directory_table)
    return facts | md.table_facts(pipeline.tables.directory.path, name, snapshot, result.folder)
