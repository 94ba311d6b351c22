"""The scan of one folder: list, plan, carry out, commit.

On this machine unit by unit, each committed on its own; on Spark all units at once, and one commit. The listing takes
a few hundred bytes a file.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from curation_assets.images.listing import FolderListing
from curation_assets.images.record import ReadLimits, read_record
from curation_assets.images.source import ImageSource
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress
from curation_assets.scan.plan import ScanPlan, known_rows, plan_scan, unreadable
from curation_assets.scan.result import ScanPiece, ScanResult
from curation_assets.scan.rows import write_unit

if TYPE_CHECKING:
    from curation_assets.scan.spark import SparkScan


def scan_folder(
    table: LakeTable,
    source: ImageSource,
    folder: str,
    limits: ReadLimits,
    progress: Progress,
    *,
    threads: int,
    rescan: bool = False,
    spark: SparkScan | None = None,
) -> ScanResult:
    """Bring a folder's rows in line with the disk; an unchanged file is not opened.

    The folder is listed when no other process can change its rows, so that an older listing never undoes newer rows.

    Args:
        folder: value of the ``folder`` column; one that is gone loses its rows.
        threads: how many read and decode.
        rescan: read every file again.
        spark: takes the scan of a folder with many files to read.

    Raises:
        CurationError: the table can't be read or written, or the folder can't be listed.
    """
    started = time.monotonic()
    result = ScanResult(folder=folder)
    job = _Job(source, limits, progress, result, threads, rescan, spark)
    made = rewrite(table, folder, job.bring_up_to_date, info={"job": "scan", "folder": folder}, progress=progress)
    statuses = made.read(["status"], folder)["status"]
    result.statuses = Counter(dict(statuses.value_counts().iter_rows()))
    result.version = made.version
    result.seconds = time.monotonic() - started
    return result


@dataclass
class _Job:
    source: ImageSource
    limits: ReadLimits
    progress: Progress
    result: ScanResult
    threads: int
    rescan: bool
    spark: SparkScan | None

    def bring_up_to_date(self, rows: Rewrite) -> Snapshot:
        listing = self.source.list_folder(self.result.folder)
        plan = self._plan(rows.base, listing)
        if plan.to_read:
            self.progress.start(f"scan {self.result.folder}", plan.to_read)
        for piece in self._carry_out(plan, rows):
            rows.commit(piece.add, piece.remove)
            self.result.add(piece.counts)
            self.result.commits += 1
        self.result.passed_over = listing.passed_over
        self.result.new, self.result.changed = plan.new, plan.changed
        self.result.vanished, self.result.unchanged = plan.vanished, plan.unchanged
        return rows.base

    def _plan(self, base: Snapshot, listing: FolderListing) -> ScanPlan:
        known = known_rows(base, listing.folder)
        return plan_scan(
            listing.files,
            known,
            base.files(listing.folder),
            self.source.location,
            max_pixels=self.limits.max_pixels,
            max_file_bytes=self.limits.max_file_bytes,
            read_again=self._readable_now(unreadable(listing.files, known)),
            rescan=self.rescan,
        )

    def _readable_now(self, failed: pl.DataFrame) -> pl.Series:
        """Of files that could not be read, those for which that has changed; they cost little, as most fail again."""
        records = (
            (read_record(self.source, path, size, mtime, ctime, self.limits), error)
            for path, size, mtime, ctime, error in failed.iter_rows()
        )
        different = [r.relative_path for r, error in records if (r.status, r.error) != ("unreadable", error)]
        return pl.Series("relative_path", different, dtype=pl.String)

    def _carry_out(self, plan: ScanPlan, rows: Rewrite) -> Iterator[ScanPiece]:
        reader = rows.base.reader
        if self.spark is not None and self.spark.takes(plan):
            yield from self.spark.carry_out(plan, reader, rows.writer, self.source, self.limits, self.progress)
            return
        for unit in plan.units:
            piece = ScanPiece(remove=unit.replaces)
            if not unit.drops_only:
                with rows.writer.file() as stage:
                    piece.counts = write_unit(
                        unit, reader, stage, self.source, self.limits, self.threads, self.progress.advance
                    )
                piece.add = stage.files
            yield piece
