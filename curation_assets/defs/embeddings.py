"""``crop_images_directory_embeddings``: one vector for every usable image and model version."""

import dagster as dg

from curation_assets import integrity
from curation_assets.clip.versions import RegisteredModel
from curation_assets.defs import metadata as md
from curation_assets.defs import speed_history as speeds
from curation_assets.defs.images import FOLDERS, crop_images_directory
from curation_assets.defs.model import clip_model
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import each_folder, failing_for_good, progress
from curation_assets.defs.tags import EMBED_FOLDERS_A_RUN, GPU_OP_TAGS, GPU_POOL, OWNERS, RETRIES
from curation_assets.embed.result import EmbedResult
from curation_assets.lake.schemas import EMBEDDINGS
from curation_assets.partition_keys import folder_of_key
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
    backfill_policy=dg.BackfillPolicy.multi_run(EMBED_FOLDERS_A_RUN),
    retry_policy=RETRIES,
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
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Embed what the run's folders lack."""
    pipeline = curation.pipeline()
    model = _champion(pipeline)
    results = _embed(context, pipeline, model)
    while (newer := _champion(pipeline)) != model:
        # Promoted while this run was embedding: the automation takes this run for the answer to that, so it has to be.
        context.log.info("%s has taken the place of %s; embedding again", newer.uri, model.uri)
        model = newer
        results = _embed(context, pipeline, model)
    run = md.mlflow_run(pipeline, model)
    picture = speeds.over_time(context.instance, context.asset_key, [speeds.embed_speed(done) for _, done in results])
    for key, result in results:
        context.add_asset_metadata(_facts(pipeline, model, run, result) | picture, partition_key=key)
    folders = [folder_of_key(key) for key in context.partition_keys]
    images, table = pipeline.tables.directory.snapshot(), pipeline.tables.embeddings.snapshot()
    once = integrity.every_image_embedded_once(images, table, folders, model)
    return dg.MaterializeResult(
        check_results=[
            md.check_result(KEY_UNIQUE, integrity.key_is_unique(table, folders)),
            md.check_result(ALL_EMBEDDED, once),
            md.check_result(UNIT, integrity.vectors_are_unit(table, folders, model)),
        ],
    )


def _embed(
    context: dg.AssetExecutionContext, pipeline: Pipeline, model: RegisteredModel
) -> list[tuple[str, EmbedResult]]:
    report = progress(context)
    return each_folder(context, lambda folder: pipeline.embed(folder, model, report))


def _champion(pipeline: Pipeline) -> RegisteredModel:
    with failing_for_good():
        return pipeline.registry.champion()


def _facts(
    pipeline: Pipeline, model: RegisteredModel, run: dg.MetadataValue, result: EmbedResult
) -> dict[str, dg.MetadataValue]:
    facts = md.thumbnails(pipeline.tables.directory.snapshot(), result.folder) | {
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
    name = pipeline.settings.full_name(pipeline.settings.embeddings_table)
    return facts | md.table_facts(
        pipeline.tables.embeddings.path, name, pipeline.tables.embeddings.snapshot(), result.folder
    )


embeddings_automation_sensor = dg.AutomationConditionSensorDefinition(
    "embeddings_automation_sensor",
    target=dg.AssetSelection.assets(crop_images_directory_embeddings),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Embeds a folder again when its content or the model really changed.",
)
