"""Folders of photographs, and ``crop_images_directory``: one row for every image file of them."""

from collections.abc import Iterator, Sequence

import dagster as dg

from curation_assets import integrity
from curation_assets.defs import metadata as md
from curation_assets.defs import speed_history as speeds
from curation_assets.defs.reports import Check, FolderReport, each_folder, tell
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import Context, progress, trying_again
from curation_assets.defs.tags import FOLDERS_A_BACKFILL_RUN, OWNERS
from curation_assets.images.names import printable
from curation_assets.lake.schemas import DIRECTORY
from curation_assets.pipeline import Pipeline
from curation_assets.scan.result import ScanResult, compared_line

NAME = "crop_images_directory"
KEY_UNIQUE, FEW_BAD = "directory_key_is_unique", "few_bad_files"
FEW_BAD_ANYWHERE, ALL_USABLE = "few_bad_files_anywhere", "every_file_is_usable"  # of the whole table

TABLE_VERSION = "checked version"  # among the facts of a check of the whole table

# One partition for each image folder; its key is `partition_keys.key_of` the folder.
FOLDERS = dg.DynamicPartitionsDefinition(name="image_folders")

image_folders = dg.AssetSpec(
    "image_folders",
    description="Folders of photographs under `CURATION_IMAGES_ROOT`, as cameras, phones and drones leave them. "
    "`new_images_sensor` watches them: it adds a partition for each within half a minute, and starts its run. To bring "
    "all in line at once, launch the job `bring_everything_in_line`.",
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
    backfill_policy=FOLDERS_A_BACKFILL_RUN,
    group_name="images",
    owners=OWNERS,
    kinds={"python", "deltalake"},
    description="Every image file of a folder as one row of a Delta table: path, size, times, hash, format, EXIF, "
    "preview, and the file itself as base64. A file that can't be used is a row with its reason. Unchanged files are "
    "not opened again. `new_images_sensor` adds the partitions, one a folder; where none can be chosen yet, no image "
    "folder was found so far.",
    metadata={"dagster/column_schema": md.column_schema(DIRECTORY)},
    check_specs=[
        _check(KEY_UNIQUE, "No file has two rows.", blocking=True),
        _check(FEW_BAD, "Few files of the folder are unusable (CURATION_BAD_FILE_LIMIT)."),
        dg.AssetCheckSpec(
            FEW_BAD_ANYWHERE,
            asset=NAME,
            description="In no folder of the whole table more files are unusable than CURATION_BAD_FILE_LIMIT; names "
            "the worst folders.",
        ),
        dg.AssetCheckSpec(
            ALL_USABLE, asset=NAME, description="No file of the whole table is unusable; names those that are, and why."
        ),
    ],
)
def crop_images_directory(
    context: dg.AssetExecutionContext, curation: CurationResource
) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
    """Scan the run's folders."""
    with trying_again(context):
        reports, failed = scan_folders(context, curation, context.partition_keys)
        yield from tell(context, reports, failed, table_checks(curation.pipeline()))


def scan_folders(
    context: Context, curation: CurationResource, keys: Sequence[str]
) -> tuple[list[FolderReport], dict[str, Exception]]:
    """Bring the rows of some partitions' folders in line with the disk.

    Returns:
        What is to be told of each; and the errors of those that failed.
    """
    pipeline, said = curation.pipeline(), progress(context)
    done, failed = each_folder(context.log, keys, lambda folder: pipeline.scan_one(folder, said))
    for place, reason in {place: why for result in done.values() for place, why in result.unlisted.items()}.items():
        context.log.warning("%s cannot be listed, and keeps its rows: %s", printable(place), reason)
    for path, reason in {path: why for result in done.values() for path, why in result.unread.items()}.items():
        context.log.warning("%s could not be examined, and keeps its row: %s", printable(path), reason)
    now = [speeds.scan_speed(result) for result in done.values()]
    picture = curation.pictures.over_time(context.instance, crop_images_directory.key, now)
    return [_report(pipeline, key, result, picture) for key, result in done.items()], failed


def folder_checks(pipeline: Pipeline, folder: str) -> list[Check]:
    """What must hold of a folder's rows."""
    table, limit = pipeline.tables.directory.latest(), pipeline.settings.bad_file_limit
    return [
        Check(KEY_UNIQUE, integrity.key_is_unique(table, [folder])),
        Check(FEW_BAD, integrity.bad_file_share(table, [folder], limit), blocking=False),
    ]


def table_checks(pipeline: Pipeline) -> list[Check]:
    """What should hold of the whole table, whoever wrote it: seen without looking into partitions."""
    table = pipeline.tables.directory.latest()
    seen: md.Facts = {TABLE_VERSION: dg.MetadataValue.text(f"{table.table_id}.{table.version}")}
    usable = integrity.every_file_is_usable(table)
    bad: md.Facts = {} if usable.passed else {"why bad": md.bad_files(pipeline.tables.bad_files().rows())}
    anywhere = integrity.few_bad_files_anywhere(table, pipeline.settings.bad_file_limit)
    return [
        Check(FEW_BAD_ANYWHERE, anywhere, blocking=False, facts=seen),
        Check(ALL_USABLE, usable, blocking=False, facts=bad | seen),
    ]


def _report(pipeline: Pipeline, key: str, result: ScanResult, picture: md.Facts) -> FolderReport:
    table, folders = pipeline.tables.directory.latest(), [result.folder]
    return FolderReport(
        crop_images_directory.key,
        key,
        pipeline.tables.content_version(folders),
        _facts(pipeline, result),
        md.thumbnails(table, result.folder) | picture,
        folder_checks(pipeline, result.folder),
    )


def _facts(pipeline: Pipeline, result: ScanResult) -> md.Facts:
    snapshot = pipeline.tables.directory.latest()
    facts: md.Facts = {
        "images": dg.MetadataValue.int(result.ok),
        "bad files": dg.MetadataValue.int(result.bad),
        "new": dg.MetadataValue.int(result.new),
        "changed": dg.MetadataValue.int(result.changed),
        "vanished": dg.MetadataValue.int(result.vanished),
        "unchanged": dg.MetadataValue.int(result.unchanged),
    }
    if result.outdated:
        facts["read otherwise by this version"] = dg.MetadataValue.int(result.outdated)
    facts |= speeds.scan_speed(result)
    if result.bad:
        facts["why bad"] = md.bad_files(pipeline.tables.bad_files([result.folder]).rows())
    if told := compared_line(result.compared, result.assumed, result.uncompared):
        facts["compared"] = dg.MetadataValue.text(told)
    if result.unlisted:
        facts["not listed"] = dg.MetadataValue.json(result.unlisted)
    if result.unread:
        facts["not examined"] = dg.MetadataValue.json(result.unread)
    if result.passed_over:
        facts["passed over"] = dg.MetadataValue.json(dict(result.passed_over))
    name = pipeline.settings.full_name(pipeline.settings.directory_table)
    return facts | md.table_facts(pipeline.tables.directory.path, name, snapshot, result.folder)
