"""Unity Catalog's volumes: how a folder in one is called, and whether this machine has it mounted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from curation_assets.stores.address import UNMOUNTED, StoreAddress

_MARK, _START = "dbfs:", "/Volumes/"


@dataclass(frozen=True)
class VolumeAddress(StoreAddress):
    """A folder in a volume that is read and written through Databricks' Files API.

    As text it is the path that a mount would give it, so that the tables say the same with and without one.

    Attributes:
        bucket: ``catalog/schema/volume``.
    """

    @classmethod
    def parse(cls, text: str) -> VolumeAddress:
        """Read the path of a folder in a volume, with or without ``dbfs:``.

        Raises:
            ValueError: it is none, in one line.
        """
        path = without_mark(text)
        parts = path.removeprefix(_START).rstrip("/").split("/")
        if not path.startswith(_START) or len(parts) < 3:
            raise ValueError("name a volume, or a folder in it: dbfs:/Volumes/catalog/schema/volume/folder")
        if any(part in ("", ".", "..") for part in parts):
            raise ValueError("a path in a volume has no empty part, '.' or '..'")
        return cls("dbfs", "/".join(parts[:3]), prefix="/".join(parts[3:]))

    def __str__(self) -> str:
        return f"{_START}{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def written(self) -> str:
        """As a setting says it: to be read through the Files API also where there is a mount."""
        return f"{_MARK}{self}"


def without_mark(text: str) -> str:
    """The path of what is named in a volume, as the tables tell it; any other text as it is."""
    return text.removeprefix(_MARK) if text.startswith(UNMOUNTED) else text


def in_volume(location: str) -> bool:
    """Whether a location that the tables tell lies in a volume, mounted or not."""
    return location.startswith(_START)


def unmounted(folder: Path | str) -> VolumeAddress | None:
    """A folder, or file, in a volume that isn't mounted on this machine; None of any other.

    Where the catalog's directory is there, so is the mount; or it is a disk of a Mac.
    """
    try:
        address = VolumeAddress.parse(str(folder))
    except ValueError:
        return None
    catalog = _START + address.bucket.partition("/")[0]
    return None if os.path.isdir(str(address.root)) or os.path.isdir(catalog) else address


def needed(folder: Path) -> str:
    """For people: what a folder in a volume that isn't mounted would take to be had; empty of any other."""
    if (address := unmounted(folder)) is None:
        return ""
    return (
        f"the volume {address.root} isn't mounted here; to have it through Databricks' Files API set DATABRICKS_HOST "
        "and DATABRICKS_TOKEN, or DATABRICKS_CONFIG_PROFILE"
    )
