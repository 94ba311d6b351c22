"""One partition for each image folder; its key is ``partition_keys.key_of`` the folder."""

from __future__ import annotations

import dagster as dg

FOLDERS = dg.DynamicPartitionsDefinition(name="image_folders")
