"""Jobs that sensors start."""

from __future__ import annotations

import dagster as dg

from curation_assets.defs.clip_model import clip_model
from curation_assets.defs.crop_images_directory import crop_images_directory
from curation_assets.defs.crop_images_directory_embeddings import crop_images_directory_embeddings
from curation_assets.defs.image_search_index import image_map, image_search_index
from curation_assets.defs.partitions import FOLDERS

ingest_image_folder = dg.define_asset_job(
    "ingest_image_folder",
    selection=[crop_images_directory, crop_images_directory_embeddings],
    partitions_def=FOLDERS,
    description="Scan one image folder and embed what is new in it.",
)

refresh_search_index = dg.define_asset_job(
    "refresh_search_index",
    selection=[image_search_index, image_map],
    description="Bring the search index in line with the tables, then the map.",
)

register_clip_model = dg.define_asset_job(
    "register_clip_model", selection=[clip_model], description="Register the CLIP model of CURATION_MODEL_SOURCE."
)
