"""Which folders differ between disk and table: one small read for the whole tree, shared by sensor and command."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import polars as pl

from curation_assets.images.listing import FolderListing, TreeListing, at_or_below, fingerprint
from curation_assets.images.record import READER_VERSION, ReadLimits
from curation_assets.images.source import ImageSource
from curation_assets.lake.snapshot import Snapshot
from curation_assets.scan.comparison import TIMES_COLUMNS, ComparedNotes, may_differ, to_compare
from curation_assets.scan.plan import now_admitted, read_otherwise
from curation_assets.scan.volume_times import as_known

ABSENT = "absent"


@dataclass(frozen=True)
class FolderChange:
    """A folder whose rows are not what lies on disk.

    Attributes:
        fingerprint: of the folder on disk, and of whatever else the rows have to follow; ``absent`` if it is gone.
        what: for people: ``new``, ``changed``, ``gone``, ``moved``, ``limits raised``, ``read otherwise now``,
            ``times changed`` (of files' inodes alone) or ``unreadable files``.
    """

    folder: str
    fingerprint: str
    what: str


def folder_changes(
    tree: TreeListing, table: Snapshot | None, source: ImageSource, limits: ReadLimits
) -> list[FolderChange]:
    """Compare every folder of a tree with the directory table.

    Args:
        tree: all folders, as listed just now.
        table: the directory table; None where it doesn't exist yet. Rows of what can't be listed are left aside.
        source: that was listed; rows whose locations are another's have to follow it.
        limits: rows refused under lower ones have to be read again.

    Returns:
        The folders that differ, sorted by name.
    """
    known = _known_folders(table, tree, source, limits) if table is not None else {}
    notes = ComparedNotes(table.storage) if table is not None else None
    changes = []
    for folder in sorted(tree.folders.keys() | known.keys()):
        listed, in_table = tree.folders.get(folder), known.get(folder)
        if listed is None:
            changes.append(FolderChange(folder, ABSENT, "gone"))
            continue
        if in_table is not None:
            listed = replace(listed, files=as_known(listed.files, in_table.rows, source.location))
        now = listed.fingerprint
        if in_table is None:
            changes.append(FolderChange(folder, now, "new"))
        elif now != in_table.fingerprint:
            changes.append(FolderChange(folder, now, "changed"))
        elif in_table.moved:
            changes.append(FolderChange(folder, f"{now}@{_short_hash(source.location)}", "moved"))
        elif in_table.admitted:
            changes.append(FolderChange(folder, f"{now}@{_short_hash(str(limits))}", "limits raised"))
        elif in_table.outdated:
            version = f"reader {READER_VERSION} {limits.bands}"
            changes.append(FolderChange(folder, f"{now}@{_short_hash(version)}", "read otherwise now"))
        elif notes is not None and (times := _other_times(listed, in_table, notes)):
            changes.append(FolderChange(folder, f"{now}@{_short_hash(times)}", "times changed"))
        elif in_table.unreadable:
            changes.append(FolderChange(folder, now, "unreadable files"))
    return changes


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _other_times(listed: FolderListing, known: _Known, notes: ComparedNotes) -> str | None:
    """What is to be compared, as a text that changes with it; None where nothing is."""
    if not may_differ(listed.files, known.rows):
        return None
    until = notes.read(listed.folder)
    files = to_compare(listed.files, known.rows, until)
    return f"{until} {files.row(-1)}" if len(files) else None


@dataclass(frozen=True)
class _Known:
    rows: pl.DataFrame
    fingerprint: str
    moved: bool
    admitted: bool
    outdated: bool
    unreadable: bool


def _known_folders(table: Snapshot, tree: TreeListing, source: ImageSource, limits: ReadLimits) -> dict[str, _Known]:
    columns = ["folder", "relative_path", "size_bytes", "mtime_ns", "etag", "file_path", "status", "width", "height"]
    columns += ["format", "reader_version", "pixels_as", "created_at"]
    rows = table.read(columns).drop("_file")
    rows = rows.filter(~at_or_below(rows["relative_path"], tree.unlisted))
    rows = rows.with_columns(
        _moved=pl.concat_str(pl.lit(source.location + "/"), pl.col("relative_path")) != pl.col("file_path"),
        _admitted=now_admitted(limits),
        _outdated=read_otherwise(limits),
    )
    return {
        str(folder): _Known(
            group.select(TIMES_COLUMNS),
            fingerprint(group),
            moved=bool(group["_moved"].any()),
            admitted=bool(group["_admitted"].any()),
            outdated=bool(group["_outdated"].any()),
            unreadable=bool((group["status"] == "unreadable").any()),
        )
        for (folder,), group in rows.partition_by("folder", as_dict=True).items()
    }
