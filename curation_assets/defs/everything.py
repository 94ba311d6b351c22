"""``bring_everything_in_line``: what ``curation run`` does, as one job without a partition to choose.

It scans every folder that differs from its rows, registers the model, embeds what lacks a vector, measures what is not
measured, brings index and map in line, and finds duplicates; each folder is told of by itself, as its own run would.
Where nothing is to be done it says so in seconds.
"""

from collections.abc import Iterator

import dagster as dg

from curation_assets.defs.annotations import annotated
from curation_assets.defs.duplicates import compared, image_groups, image_pairs
from curation_assets.defs.embeddings import crop_images_directory_embeddings, embed_folders
from curation_assets.defs.external_events import not_embedded
from curation_assets.defs.images import FOLDERS, crop_images_directory, scan_folders, table_checks
from curation_assets.defs.label_issues import issues_found
from curation_assets.defs.model import clip_model, model_facts
from curation_assets.defs.predictions import classified, image_predictions
from curation_assets.defs.quality import image_quality, measure, quality_standing
from curation_assets.defs.reports import Event, evaluations, plan, tell_each
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import failing_for_good, progress, trying_again
from curation_assets.defs.scores import image_scores, scored
from curation_assets.defs.search import index_refresh, map_refresh
from curation_assets.defs.tags import DATA_VERSION, GPU_OP_TAGS, GPU_POOL, ONE_PROCESS
from curation_assets.partition_keys import key_of
from curation_assets.scan.changes import ABSENT

_FOLDERS_A_STEP = 25
Due = dg.DynamicOutput[list[str]]


@dg.op(
    out=dg.DynamicOut(list[str]),
    description="Choose the model, and find the folders that differ from their rows, lack vectors or are not measured.",
)
def find_what_is_due(
    context: dg.OpExecutionContext, curation: CurationResource
) -> Iterator[dg.AssetMaterialization | Due]:
    """Partitions to bring in line, some a step."""
    pipeline = curation.pipeline()
    with trying_again(context), failing_for_good():
        chosen = pipeline.selection.choose()  # asked for first: without a model all else would be in vain
        facts = model_facts(pipeline, chosen.model, chosen.overruled) | {"new version": chosen.is_new}
        yield dg.AssetMaterialization(clip_model.key, metadata=facts, tags={DATA_VERSION: chosen.model.fingerprint})
        tree = pipeline.source.list_folders()
        pipeline.tables.directory.create()
        changes = pipeline.folder_changes(tree)
        question = pipeline.prune_question(tree, [change.folder for change in changes])
        kept = set(question.folders) if question else set()
        # Folders that are gone go first: their images may come back in others.
        ordered = sorted(changes, key=lambda change: (change.fingerprint != ABSENT, change.folder))
        due = [change.folder for change in ordered if change.folder not in kept]
        differing = {change.folder for change in changes}
        behind = {*not_embedded(pipeline, chosen.model), *quality_standing(pipeline).behind}
        due += sorted(behind & tree.folders.keys() - differing)
    context.log.info("%d image folders on disk; %d are due", len(tree.folders), len(due))
    keys = [key_of(folder) for folder in due]
    on_disk = dict.fromkeys([*keys, *map(key_of, tree.folders)])
    context.instance.add_dynamic_partitions(str(FOLDERS.name), list(on_disk))
    plan(context, [crop_images_directory.key, crop_images_directory_embeddings.key, image_quality.key], keys)
    plan(context, [image_pairs.key, image_groups.key, image_scores.key, image_predictions.key], [None])
    for first in range(0, len(keys), _FOLDERS_A_STEP):
        yield dg.DynamicOutput(keys[first : first + _FOLDERS_A_STEP], mapping_key=f"from_{first + 1}")


@dg.op(description="Scan some folders, and check their rows.")
def scan_some(
    context: dg.OpExecutionContext, curation: CurationResource, keys: list[str]
) -> Iterator[Event | dg.Output[list[str]]]:
    """As ``crop_images_directory`` does of partitions."""
    with trying_again(context):
        reports, failed = scan_folders(context, curation, keys)
        yield from evaluations(context.instance, crop_images_directory.key, None, table_checks(curation.pipeline()))
        yield from tell_each(context.instance, reports, failed)
        yield dg.Output(keys)


@dg.op(tags=GPU_OP_TAGS, pool=GPU_POOL, description="Embed what some folders lack, and check their vectors.")
def embed_some(
    context: dg.OpExecutionContext, curation: CurationResource, keys: list[str]
) -> Iterator[Event | dg.Output[int]]:
    """As ``crop_images_directory_embeddings`` does of partitions."""
    with trying_again(context):
        yield from tell_each(context.instance, *embed_folders(context, curation, keys))
        yield dg.Output(len(keys))


@dg.op(description="Bring the search index and the map in line with the tables.")
def refresh_index_and_map(
    context: dg.OpExecutionContext, curation: CurationResource, done: list[int]
) -> Iterator[dg.AssetMaterialization | dg.Output[int]]:
    """As ``image_search_index`` and ``image_map`` do."""
    pipeline = curation.pipeline()
    with trying_again(context):
        if pipeline.tables.embeddings.newest_version() >= 1:
            with index_refresh(context, pipeline) as told:
                yield told.materialization()
            with failing_for_good():
                mapped = map_refresh(pipeline, progress(context))
            yield mapped.materialization()
        yield dg.Output(sum(done))


@dg.op(
    ins={"measured": dg.In(dg.Nothing), "refreshed": dg.In(dg.Nothing)},
    description="Follow annotations, compare what is new, form groups, score, cluster, classify, find label issues; "
    "say what was left as it is.",
)
def compare_what_is_new(context: dg.OpExecutionContext, curation: CurationResource) -> Iterator[Event | dg.Output[int]]:
    """As ``image_annotations`` and the assets that follow it and the search index do, up to ``label_issues``.

    Raises:
        Failure: rows should not go without a question; all else is done.
    """
    with trying_again(context):
        yield from annotated(context, curation)
        yield from compared(context, curation)
        yield from scored(context, curation)
        yield from classified(context, curation)
        yield from issues_found(context, curation)
        pipeline = curation.pipeline()
        tree = pipeline.source.list_folders()
        changes = pipeline.folder_changes(tree)
        if question := pipeline.prune_question(tree, [change.folder for change in changes]):
            raise dg.Failure(
                f"{question.why}: their rows were kept, all else is done; mount what is missing, or confirm with "
                "`curation run --prune` (or backfill their partitions)",
                allow_retries=False,
            )
        yield dg.Output(0)


@dg.job(
    executor_def=ONE_PROCESS,
    description="One click: scan every image folder that differs from its rows, register the model, embed what lacks a "
    "vector, measure what is not measured, refresh search index and map, find duplicates, score and cluster. What "
    "`curation run` does, with each folder's events and checks. Where all is in line, it takes seconds and changes "
    "nothing.",
)
def bring_everything_in_line() -> None:
    """The steps of some folders each, and two for all of them."""
    scanned = find_what_is_due().map(scan_some)
    measured, embedded = scanned.map(measure), scanned.map(embed_some)
    compare_what_is_new(measured=measured.collect(), refreshed=refresh_index_and_map(embedded.collect()))
