"""Jobs that bring folders in: scan, embed, measure, search index, duplicates, all in the run's own process.

``ingest_image_folder`` is a job of assets, of one partition. ``ingest_image_folders`` does several small folders that
landed together, and is a job of ops, because Dagster gives the partitions of one run of assets a common fate and data
version, and takes only neighbouring ones: here each folder has steps of its own, which fail, are retried and are
executed again by themselves, and are told of as the assets' own runs would.
"""

import re
from collections.abc import Iterator
from typing import Any

import dagster as dg

from curation_assets.defs.duplicates import compared, image_groups, image_pairs
from curation_assets.defs.embeddings import crop_images_directory_embeddings, embed_folders
from curation_assets.defs.images import FOLDERS, crop_images_directory, scan_folders, table_checks
from curation_assets.defs.predictions import classified, image_predictions
from curation_assets.defs.quality import image_quality, measure
from curation_assets.defs.reports import Event, evaluations, plan, tell_each
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import trying_again
from curation_assets.defs.scores import image_scores, scored
from curation_assets.defs.search import image_search_index, index_refresh
from curation_assets.defs.tags import GPU_OP_TAGS, GPU_POOL, ONE_PROCESS

ingest_image_folder = dg.define_asset_job(
    "ingest_image_folder",
    selection=[
        crop_images_directory,
        crop_images_directory_embeddings,
        image_quality,
        image_search_index,
        image_pairs,
        image_groups,
        image_scores,
        image_predictions,
    ],
    partitions_def=FOLDERS,
    executor_def=ONE_PROCESS,  # its steps could run at the same time: a process each would cost more than they do
    description="Scan one image folder, embed and measure what is new in it, bring the search index in line, find "
    "duplicates, score, cluster and classify.",
)


class FoldersConfig(dg.Config):
    """Which folders a run of ``ingest_image_folders`` brings in.

    Attributes:
        keys: their partition keys.
    """

    keys: list[str]


@dg.op(out=dg.DynamicOut(str), description="The folders of the run's configuration.")
def folders(context: dg.OpExecutionContext, config: FoldersConfig) -> Iterator[dg.DynamicOutput[str]]:
    """Say what the run is about to materialize, and begin each folder."""
    plan(context, [crop_images_directory.key, crop_images_directory_embeddings.key, image_quality.key], config.keys)
    plan(context, [image_pairs.key, image_groups.key, image_scores.key, image_predictions.key], [None])
    for number, key in enumerate(config.keys, 1):
        yield dg.DynamicOutput(key, mapping_key=f"{number}_{re.sub('[^A-Za-z0-9_]', '_', key)[:60]}")


@dg.op(description="Scan one folder, and check its rows.")
def scan(context: dg.OpExecutionContext, curation: CurationResource, key: str) -> Iterator[Event | dg.Output[str]]:
    """As ``crop_images_directory`` does of a partition."""
    with trying_again(context):
        reports, failed = scan_folders(context, curation, [key])
        yield from evaluations(context.instance, crop_images_directory.key, None, table_checks(curation.pipeline()))
        yield from tell_each(context.instance, reports, failed)
        yield dg.Output(key)


@dg.op(tags=GPU_OP_TAGS, pool=GPU_POOL, description="Embed what one folder lacks, and check its vectors.")
def embed(context: dg.OpExecutionContext, curation: CurationResource, key: str) -> Iterator[Event | dg.Output[str]]:
    """As ``crop_images_directory_embeddings`` does of a partition."""
    with trying_again(context):
        yield from tell_each(context.instance, *embed_folders(context, curation, [key]))
        yield dg.Output(key)


@dg.op(description="Bring the search index in line with the tables.")
def refresh(
    context: dg.OpExecutionContext, curation: CurationResource, keys: list[str]
) -> Iterator[dg.AssetMaterialization | dg.Output[int]]:
    """As ``image_search_index`` does."""
    with trying_again(context), index_refresh(context, curation.pipeline()) as told:
        yield told.materialization()
        yield dg.Output(len(keys))


@dg.op(
    ins={"measured": dg.In(dg.Nothing), "refreshed": dg.In(dg.Nothing)},
    description="Compare what is new with all images, form the groups, score, cluster and classify.",
)
def compare(context: dg.OpExecutionContext, curation: CurationResource) -> Iterator[Event | dg.Output[int]]:
    """As ``image_pairs``, ``image_groups``, ``image_scores`` and ``image_predictions`` do."""
    with trying_again(context):
        yield from compared(context, curation)
        yield from scored(context, curation)
        yield from classified(context, curation)
        yield dg.Output(0)


@dg.job(
    executor_def=ONE_PROCESS,
    description="Scan several image folders and embed what is new in them, each for itself; then measure what is new, "
    "bring the search index in line, find duplicates, score and cluster.",
)
def ingest_image_folders() -> None:
    """The steps of each folder, and three for all of them."""
    scanned = folders().map(scan)
    compare(measured=measure(scanned.collect()), refreshed=refresh(scanned.map(embed).collect()))


def folders_config(keys: list[str]) -> dict[str, Any]:
    """Run configuration for some partitions."""
    return {"ops": {folders.name: {"config": {"keys": keys}}}}
