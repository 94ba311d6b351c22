"""One partition for each image folder; its key is ``images.names.key_of`` the folder."""

from __future__ import annotations

import dagster as dg

FOLDERS = dg.DynamicPartitionsDefinition(name="image_folders")
