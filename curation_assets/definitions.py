"""Everything Dagster loads, assembled in one place."""

from __future__ import annotations

import dagster as dg

from curation_assets.defs.clip_endpoint import clip_endpoint, endpoint_automation_sensor
from curation_assets.defs.clip_model import clip_model
from curation_assets.defs.crop_images_directory import crop_images_directory
from curation_assets.defs.crop_images_directory_embeddings import crop_images_directory_embeddings
from curation_assets.defs.image_folders import image_folders
from curation_assets.defs.image_search_index import image_map, image_search_index
from curation_assets.defs.jobs import ingest_image_folder, refresh_search_index, register_clip_model
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.sensors import (
    build_new_images_sensor,
    build_search_index_sensor,
    embeddings_automation_sensor,
)
from curation_assets.defs.tags import EXECUTOR
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
    on_databricks = workspace_uri() is not None
    return dg.Definitions(
        assets=[
            image_folders,
            crop_images_directory,
            clip_model,
            crop_images_directory_embeddings,
            image_search_index,
            image_map,
            *([labels] if labels else []),
            *([clip_endpoint] if on_databricks else []),
        ],
        jobs=[ingest_image_folder, register_clip_model, refresh_search_index],
        sensors=[
            build_new_images_sensor(settings),
            embeddings_automation_sensor,
            build_search_index_sensor(settings),
            *([build_labels_sensor(labels)] if labels else []),
            *([endpoint_automation_sensor] if on_databricks else []),
        ],
        resources={"curation": CurationResource.of(settings)},
        executor=EXECUTOR,
    )


defs = build_defs()
