"""``image_labels``: zero-shot labels of every embedded image, where ``CURATION_LABELS`` names some."""

import hashlib

import dagster as dg

from curation_assets.defs import metadata as md
from curation_assets.defs.embeddings import WHEN_INPUTS_CHANGED, crop_images_directory_embeddings
from curation_assets.defs.images import FOLDERS
from curation_assets.defs.reports import each_folder, failure
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import failing_for_good, trying_again
from curation_assets.defs.tags import FOLDERS_A_BACKFILL_RUN, OWNERS
from curation_assets.images.names import printable
from curation_assets.lake.schemas import ZERO_SHOT_LABELS
from curation_assets.pipeline import Pipeline
from curation_assets.search.zero_shot_table import LabelResult
from curation_assets.settings import Settings

NAME = "image_labels"


def build_zero_shot_labels(settings: Settings) -> dg.AssetsDefinition:
    """The asset, whose code version is the texts: other texts make every partition out of date."""
    texts = "\0".join(settings.labels)

    @dg.asset(
        name=NAME,
        deps=[crop_images_directory_embeddings],  # whose data version changes with the model's
        partitions_def=FOLDERS,
        backfill_policy=FOLDERS_A_BACKFILL_RUN,
        code_version=hashlib.sha256(texts.encode()).hexdigest()[:12],
        automation_condition=WHEN_INPUTS_CHANGED | dg.AutomationCondition.code_version_changed(),
        group_name="search",
        owners=OWNERS,
        kinds={"python", "deltalake"},
        description="Which of the texts of `CURATION_LABELS` each image's vector is nearest to, with the cosine and "
        f"the margin to the second: {', '.join(settings.labels)}.",
        metadata={"dagster/column_schema": md.column_schema(ZERO_SHOT_LABELS)},
    )
    def zero_shot_labels(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """Label the run's folders."""
        with trying_again(context):
            pipeline = curation.pipeline()
            with failing_for_good():
                model = pipeline.registry.champion()
            keys = context.partition_keys
            done, failed = each_folder(context.log, keys, lambda folder: pipeline.label_zero_shot(folder, model))
            if failed:
                raise failure(failed, len(done))
            for key, result in done.items():
                context.add_asset_metadata(_facts(pipeline, result), partition_key=key)
        return dg.MaterializeResult()

    return zero_shot_labels


def _facts(pipeline: Pipeline, result: LabelResult) -> md.Facts:
    records = [
        dg.TableRecord({"label": printable(label), "images": images, "median margin": round(margin, 4)})
        for label, images, margin in result.counts.iter_rows()
    ]
    schema = dg.TableSchema(
        [dg.TableColumn("label"), dg.TableColumn("images", "int"), dg.TableColumn("median margin", "float")]
    )
    name = pipeline.settings.full_name(pipeline.settings.labels_table)
    facts: md.Facts = {"changed": dg.MetadataValue.bool(result.changed)}
    if records:
        facts["labels"] = dg.MetadataValue.table(records, schema)
    table = pipeline.tables.zero_shot_labels
    return facts | md.table_facts(table.path, name, table.latest(), result.folder)


def build_labels_sensor(asset: dg.AssetsDefinition) -> dg.AutomationConditionSensorDefinition:
    """Labels folders again when their embeddings or the texts changed."""
    return dg.AutomationConditionSensorDefinition(
        "labels_automation_sensor",
        target=dg.AssetSelection.assets(asset),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Labels a folder again when its embeddings or CURATION_LABELS changed.",
    )
