"""Everything Dagster loads, assembled in one place."""

from __future__ import annotations

import dagster as dg

from curation_assets.defs.annotations import build_annotations_sensor, follow_annotations, image_annotations
from curation_assets.defs.datasets import build_datasets, build_datasets_sensor
from curation_assets.defs.dead_runs import build_dead_runs_sensor
from curation_assets.defs.duplicates import build_duplicates_sensor, find_duplicates, image_groups, image_pairs
from curation_assets.defs.embeddings import crop_images_directory_embeddings, embeddings_automation_sensor
from curation_assets.defs.everything import bring_everything_in_line
from curation_assets.defs.images import crop_images_directory, image_folders
from curation_assets.defs.ingest import ingest_image_folder, ingest_image_folders
from curation_assets.defs.label_issues import build_label_issues_sensor, find_label_issues, label_issues
from curation_assets.defs.model import clip_endpoint, clip_model, endpoint_automation_sensor, register_clip_model
from curation_assets.defs.new_images import build_new_images_sensor
from curation_assets.defs.predictions import build_predictions_sensor, classify_images, image_predictions
from curation_assets.defs.quality import build_quality_sensor, image_quality, measure_image_quality
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.retries import build_retry_sensor
from curation_assets.defs.scores import build_scores_sensor, image_scores, score_images
from curation_assets.defs.search import build_search_index_sensor, image_map, image_search_index, refresh_search_index
from curation_assets.defs.tags import EXECUTOR
from curation_assets.defs.upkeep import lake_maintenance, maintain_lake, maintain_lake_weekly
from curation_assets.defs.zero_shot_labels import build_labels_sensor, build_zero_shot_labels
from curation_assets.settings import Settings, load_settings
from curation_assets.workspace import workspace_uri


def build_defs(settings: Settings | None = None) -> dg.Definitions:
    """Definitions for some settings; None reads them from the environment.

    ``clip_endpoint`` is among them where MLflow's variables name a Databricks workspace's registry, ``image_labels``
    where ``LABELS`` names some.
    """
    settings = settings or load_settings()
    labels = build_zero_shot_labels(settings) if settings.labels else None
    datasets = build_datasets(settings)
    on_databricks = workspace_uri() is not None
    automated = [*([labels] if labels else []), *([clip_endpoint] if on_databricks else [])]
    return dg.Definitions(
        assets=[
            image_folders,
            crop_images_directory,
            clip_model,
            crop_images_directory_embeddings,
            image_quality,
            image_annotations,
            image_search_index,
            image_map,
            image_pairs,
            image_groups,
            image_scores,
            image_predictions,
            label_issues,
            lake_maintenance,
            *automated,
            *datasets,
        ],
        jobs=[
            bring_everything_in_line,
            ingest_image_folder,
            ingest_image_folders,
            register_clip_model,
            measure_image_quality,
            refresh_search_index,
            find_duplicates,
            follow_annotations,
            score_images,
            classify_images,
            find_label_issues,
            maintain_lake,
        ],
        schedules=[maintain_lake_weekly],
        sensors=[
            build_dead_runs_sensor(settings),
            build_new_images_sensor(settings),
            embeddings_automation_sensor,
            build_quality_sensor(settings),
            build_search_index_sensor(settings),
            build_annotations_sensor(settings),
            build_duplicates_sensor(settings),
            build_scores_sensor(settings),
            build_predictions_sensor(settings),
            build_label_issues_sensor(settings),
            *([build_labels_sensor(labels)] if labels else []),
            *([endpoint_automation_sensor] if on_databricks else []),
            *([build_datasets_sensor(datasets)] if datasets else []),
            *([build_retry_sensor(settings, automated)] if automated else []),
        ],
        resources={"curation": CurationResource.of(settings)},
        executor=EXECUTOR,
    )


defs = build_defs()
