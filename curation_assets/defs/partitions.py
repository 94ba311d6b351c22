"""One partition for each image folder; its key is the folder's name, or what stands for it where Dagster can't hold it."""

from __future__ import annotations

import dagster as dg

from curation_assets.images.names import folder_of_key, key_of

__all__ = ["FOLDERS", "folder_of_key", "key_of"]

FOLDERS = dg.DynamicPartitionsDefinition(name="image_folders")
