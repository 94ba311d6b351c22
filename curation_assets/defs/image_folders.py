"""The source: folders of photographs, which nobody here makes."""

from __future__ import annotations

import dagster as dg

from curation_assets.defs.partitions import FOLDERS
from curation_assets.defs.tags import OWNERS

image_folders = dg.AssetSpec(
    "image_folders",
    description="Folders of photographs under `CURATION_IMAGES_ROOT`, as cameras, phones and drones leave them. "
    "`new_images_sensor` watches them.",
    group_name="images",
    owners=OWNERS,
    kinds={"file"},
    partitions_def=FOLDERS,
)
