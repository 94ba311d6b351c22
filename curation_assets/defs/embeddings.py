"""``crop_images_directory_embeddings``: one vector for every usable image and model version."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial

import dagster as dg

from curation_assets import integrity
from curation_assets.clip.versions import RegisteredModel
from curation_assets.defs import metadata as md
from curation_assets.defs import speed_history as speeds
from curation_assets.defs.images import FOLDERS, crop_images_directory
from curation_assets.defs.model import clip_model
from curation_assets.defs.reports import Check, FolderReport, each_folder, holds, tell
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import Context, failing_for_good, progress, trying_again
from curation_assets.defs.tags import FOLDERS_A_BACKFILL_RUN, GPU_OP_TAGS, GPU_POOL, OWNERS
from curation_assets.embed.result import EmbedResult
from curation_assets.lake.schemas import EMBEDDINGS
from curation_assets.pipeline import Pipeline

NAME = "crop_images_directory_embeddings"
KEY_UNIQUE, ALL_EMBEDDED, UNIT = "embeddings_key_is_unique", "every_image_embedded_once", "vectors_are_unit"

# A folder's embeddings are made anew when the model or the folder's content really changed (data versions), or when
# they are missing; not merely because an upstream ran again, which `AutomationCondition.eager()` would do.
WHEN_INPUTS_CHANGED = (
    (
        dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
        | dg.AutomationCondition.newly_missing()
    ).since(dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated())
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.in_progress()
)


def _check(name: str, description: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(name, asset=NAME, partitions_def=FOLDERS, blocking=True, description=description)


@dg.asset(
    name=NAME,
    deps=[crop_images_directory, clip_model],
    partitions_def=FOLDERS,
    backfill_policy=FOLDERS_A_BACKFILL_RUN,
    automation_condition=WHEN_INPUTS_CHANGED,
    op_tags=GPU_OP_TAGS,
    pool=GPU_POOL,
    group_name="embeddings",
    owners=OWNERS,
    kinds={"pytorch", "deltalake"},
    description="A unit-length CLIP vector for every usable image of a folder, as rows of a Delta table. Only images "
    "without a vector of the current model are computed; the same content in two places is computed once.",
    metadata={
        "dagster/column_schema": md.column_schema(EMBEDDINGS),
        "dagster/column_lineage": md.column_lineage(crop_images_directory.key),
    },
    check_specs=[
        _check(KEY_UNIQUE, "No image has two rows for a version."),
        _check(ALL_EMBEDDED, "Every usable image has one vector."),
        _check(UNIT, "Vectors have unit length and the dimension."),
    ],
)
def crop_images_directory_embeddings(
    context: dg.AssetExecutionContext, curation: CurationResource
) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
    """Embed what the run's folders lack."""
    with trying_again(context):
        reports, failed = embed_folders(context, curation, context.partition_keys)
        yield from tell(context, reports, failed)


def embed_folders(
    context: Context, curation: CurationResource, keys: Sequence[str]
) -> tuple[list[FolderReport], dict[str, Exception]]:
    """Bring the vectors of some partitions' folders in line with their rows and the champion.

    Returns:
        What is to be told of each; and the errors of those that failed.
    """
    pipeline, said = curation.pipeline(), progress(context)

    def embed_with(model: RegisteredModel) -> tuple[dict[str, EmbedResult], dict[str, Exception]]:
        return each_folder(context.log, keys, lambda folder: pipeline.embed(folder, model, said))

    model = _champion(pipeline)
    done, failed = embed_with(model)
    while not failed and (newer := _champion(pipeline)) != model:
        # Promoted while this run was embedding: the automation takes this run for the answer to that, so it has to be.
        context.log.info("%s has taken the place of %s; embedding again", newer.uri, model.uri)
        model = newer
        done, failed = embed_with(model)
    now = [speeds.embed_speed(result) for result in done.values()]
    picture = curation.pictures.over_time(context.instance, crop_images_directory_embeddings.key, now)
    run = md.mlflow_run(pipeline, model)
    return [_report(pipeline, key, model, run, result, picture) for key, result in done.items()], failed


def _champion(pipeline: Pipeline) -> RegisteredModel:
    with failing_for_good():
        return pipeline.registry.champion()


def vector_checks(
    pipeline: Pipeline, folder: str, model: RegisteredModel, done: EmbedResult | None = None
) -> list[Check]:
    """What must hold of a folder's vectors.

    Args:
        done: by which run.
    """
    tables, table = pipeline.tables, pipeline.tables.embeddings.latest()
    embedded = partial(integrity.every_image_embedded_once, folders=[folder], model=model)
    return [
        Check(KEY_UNIQUE, integrity.key_is_unique(table, [folder])),
        Check(ALL_EMBEDDED, holds(embedded, tables.directory, tables.embeddings, done)),
        Check(UNIT, integrity.vectors_are_unit(table, [folder], model)),
    ]


def _report(
    pipeline: Pipeline, key: str, model: RegisteredModel, run: dg.MetadataValue, result: EmbedResult, picture: md.Facts
) -> FolderReport:
    images, content = pipeline.tables.directory.latest(), pipeline.tables.content_version([result.folder])
    return FolderReport(
        crop_images_directory_embeddings.key,
        key,
        embeddings_data_version(content, model, result.rows),
        _facts(pipeline, model, run, result),
        md.thumbnails(images, result.folder) | picture,
        vector_checks(pipeline, result.folder, model, result),
        {crop_images_directory.key: content, clip_model.key: model.fingerprint},
    )


def embeddings_data_version(content: str, model: RegisteredModel, vectors: int) -> str:
    """Of a folder's embeddings: changes with its content, the model, or images that could not be embedded before."""
    return hashlib.sha256(f"{content}\0{model.fingerprint}\0{vectors}".encode()).hexdigest()[:32]


def _facts(pipeline: Pipeline, model: RegisteredModel, run: dg.MetadataValue, result: EmbedResult) -> md.Facts:
    facts: md.Facts = {
        "model": dg.MetadataValue.text(model.uri),
        "mlflow run": run,
        "vectors": dg.MetadataValue.int(result.rows),
        "encoded": dg.MetadataValue.int(result.encoded),
        "copied": dg.MetadataValue.int(result.copied),
        "removed": dg.MetadataValue.int(result.removed),
        "already there": dg.MetadataValue.int(result.current),
        "device": dg.MetadataValue.text(result.computed.device if result.computed else "not used"),
        "precision": dg.MetadataValue.text(result.computed.precision if result.computed else "not used"),
    }
    facts |= speeds.embed_speed(result)
    if result.failed:
        facts["not embedded"] = md.bad_files([(path, "not embedded", reason) for path, reason in result.failed])
    if model.demonstration:
        facts["note"] = dg.MetadataValue.md(md.DEMONSTRATION_NOTE)
    table, name = pipeline.tables.embeddings, pipeline.settings.full_name(pipeline.settings.embeddings_table)
    return facts | md.table_facts(table.path, name, table.latest(), result.folder)


embeddings_automation_sensor = dg.AutomationConditionSensorDefinition(
    "embeddings_automation_sensor",
    target=dg.AssetSelection.assets(crop_images_directory_embeddings),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Embeds a folder again when its content or the model really changed.",
)
