"""Which folders differ between disk and table: one small read for the whole tree, shared by sensor and command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from curation_assets.images.listing import TreeListing, fingerprint
from curation_assets.images.names import text_from_path
from curation_assets.lake.table import Snapshot

ABSENT = "absent"


@dataclass(frozen=True)
class FolderChange:
    """A folder whose rows are not what lies on disk.

    Attributes:
        fingerprint: of the folder on disk; ``absent`` if it is gone.
        what: for people: ``new``, ``changed``, ``gone``, ``moved`` or ``unreadable files``.
    """

    folder: str
    fingerprint: str
    what: str


def folder_changes(tree: TreeListing, table: Snapshot | None, root: Path) -> list[FolderChange]:
    """Compare every folder of a tree with the directory table.

    Args:
        tree: all folders, as listed just now.
        table: the directory table; None where it doesn't exist yet.
        root: images root; rows that name another one have to follow it.

    Returns:
        The folders that differ, sorted by name.
    """
    known = _known_folders(table, root) if table is not None else {}
    changes = []
    for folder in sorted(tree.folders.keys() | known.keys()):
        listed, in_table = tree.folders.get(folder), known.get(folder)
        if listed is None:
            changes.append(FolderChange(folder, ABSENT, "gone"))
            continue
        now = listed.fingerprint
        if in_table is None:
            changes.append(FolderChange(folder, now, "new"))
        elif now != in_table.fingerprint:
            changes.append(FolderChange(folder, now, "changed"))
        elif in_table.moved:
            changes.append(FolderChange(folder, now, "moved"))
        elif in_table.unreadable:
            changes.append(FolderChange(folder, now, "unreadable files"))
    return changes


@dataclass(frozen=True)
class _Known:
    fingerprint: str
    moved: bool
    unreadable: bool


def _known_folders(table: Snapshot, root: Path) -> dict[str, _Known]:
    columns = ["folder", "relative_path", "size_bytes", "mtime_ns", "file_path", "status"]
    rows = table.read(columns).drop("_file")
    prefix = text_from_path(str(root)).rstrip("/") + "/"
    rows = rows.with_columns(_moved=pl.concat_str(pl.lit(prefix), pl.col("relative_path")) != pl.col("file_path"))
    return {
        str(folder): _Known(
            fingerprint(group), bool(group["_moved"].any()), bool((group["status"] == "unreadable").any())
        )
        for (folder,), group in rows.partition_by("folder", as_dict=True).items()
    }
