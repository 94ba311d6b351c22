"""The scan of one folder: list, plan, carry out, commit.

On this machine unit by unit, each committed on its own; on Spark all units at once, and one commit. The listing takes
a few hundred bytes a file.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from curation_assets.images.listing import FolderListing, list_folder
from curation_assets.images.names import text_from_path
from curation_assets.images.record import ReadLimits, read_record
from curation_assets.lake.staging import FolderWriter
from curation_assets.lake.table import FolderChangedError, LakeTable, Snapshot
from curation_assets.progress import Progress
from curation_assets.scan.plan import ScanPlan, known_rows, plan_scan, unreadable
from curation_assets.scan.result import ScanPiece, ScanResult
from curation_assets.scan.rows import write_unit

if TYPE_CHECKING:
    from curation_assets.scan.spark import SparkScan


def scan_folder(
    table: LakeTable,
    root: Path,
    folder: str,
    limits: ReadLimits,
    progress: Progress,
    *,
    threads: int,
    depth: int | None = None,
    rescan: bool = False,
    spark: SparkScan | None = None,
) -> ScanResult:
    """Bring a folder's rows in line with the disk; an unchanged file is not opened.

    The folder is listed when no other process can change its rows, so that an older listing never undoes newer rows.

    Args:
        folder: value of the ``folder`` column; one that is gone loses its rows.
        threads: how many read and decode.
        depth: how many levels name a folder (``FOLDER_DEPTH``); None takes the deepest.
        rescan: read every file again.
        spark: takes the scan of a folder with many files to read.

    Raises:
        CurationError: the table can't be read or written, or the folder can't be listed.
    """
    started = time.monotonic()
    result = ScanResult(folder=folder)
    with table.writer(folder, progress.note) as writer:
        while True:
            try:
                base, listing = table.snapshot(), list_folder(root, folder, depth)
                plan = _plan(base, root, listing, limits, rescan)
                if plan.to_read:
                    progress.start(f"scan {folder}", plan.to_read)
                if spark is not None and spark.takes(plan):
                    pieces = spark.carry_out(plan, table.path, writer, root, limits, progress)
                else:
                    pieces = _carry_out(plan, table.path, writer, root, limits, progress, threads)
                base = _commit_each(pieces, base, table, writer, result)
                break
            except FolderChangedError:
                progress.note(f"{folder}: another process changed the table; planning anew")
    result.passed_over = listing.passed_over
    result.new, result.changed = plan.new, plan.changed
    result.vanished, result.unchanged = plan.vanished, plan.unchanged
    statuses = base.read(["status"], folder)["status"]
    result.statuses = Counter(dict(statuses.value_counts().iter_rows()))
    result.version = base.version
    result.seconds = time.monotonic() - started
    return result


def _plan(base: Snapshot, root: Path, listing: FolderListing, limits: ReadLimits, rescan: bool) -> ScanPlan:
    known = known_rows(base, listing.folder)
    return plan_scan(
        listing.files,
        known,
        base.files(listing.folder),
        text_from_path(str(root)),
        max_pixels=limits.max_pixels,
        max_file_bytes=limits.max_file_bytes,
        read_again=_readable_now(root, unreadable(listing.files, known), limits),
        rescan=rescan,
    )


def _readable_now(root: Path, failed: pl.DataFrame, limits: ReadLimits) -> pl.Series:
    """Of files that could not be read, those for which that has changed; they cost little, as most fail again."""
    records = (
        (read_record(root, path, size, mtime, ctime, limits), error)
        for path, size, mtime, ctime, error in failed.iter_rows()
    )
    different = [r.relative_path for r, error in records if (r.status, r.error) != ("unreadable", error)]
    return pl.Series("relative_path", different, dtype=pl.String)


def _carry_out(
    plan: ScanPlan,
    table: Path,
    writer: FolderWriter,
    root: Path,
    limits: ReadLimits,
    progress: Progress,
    threads: int,
) -> Iterator[ScanPiece]:
    for unit in plan.units:
        scanned = ScanPiece(remove=unit.replaces)
        if not unit.drops_only:
            with writer.file() as stage:
                scanned.counts = write_unit(unit, table, stage, root, limits, threads, progress.advance)
            scanned.add = stage.files
        yield scanned


def _commit_each(
    pieces: Iterator[ScanPiece], base: Snapshot, table: LakeTable, writer: FolderWriter, result: ScanResult
) -> Snapshot:
    for scanned in pieces:
        info = {"job": "scan", "folder": result.folder}
        try:
            base = table.replace(result.folder, base, add=scanned.add, remove=scanned.remove, info=info)
        except FolderChangedError:
            for file in scanned.add:
                writer.discard(file)
            raise
        result.add(scanned.counts)
        result.commits += 1
    return base
