"""The scan of some folders: list, plan, carry out, commit.

On this machine unit by unit, each committed on its own; on Spark all units at once, and one commit. The listing takes
a few hundred bytes a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from curation_assets.images.listing import FolderListing, ListedFile, at_or_below
from curation_assets.images.names import printable
from curation_assets.images.record import ReadLimits, read_record
from curation_assets.images.source import ImageSource
from curation_assets.lake.rewrite import Rewrite, rewrite_each
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress
from curation_assets.scan.comparison import Allowance, Compared, ComparedNotes, compare, to_compare
from curation_assets.scan.plan import ScanPlan, dropped, known_rows, plan_scan, read_otherwise, unreadable
from curation_assets.scan.result import ScanPiece, ScanResult
from curation_assets.scan.rows import write_unit, written_piece
from curation_assets.scan.volume_times import as_known

if TYPE_CHECKING:
    from curation_assets.scan.spark import SparkScan


def scan_folders(
    table: LakeTable,
    source: ImageSource,
    folders: Sequence[str],
    limits: ReadLimits,
    progress: Progress,
    *,
    threads: int,
    rescan: bool = False,
    repair: bool = False,
    spark: SparkScan | None = None,
    staying: pl.DataFrame | None = None,
) -> list[ScanResult]:
    """Bring the rows of some folders in line with the disk; an unchanged file is not opened.

    A folder is listed when no other process can change its rows, so that an older listing never undoes newer rows.
    Several folders share their commits, as small ones cost little else.

    Args:
        folders: values of the ``folder`` column; one that is gone loses its rows.
        threads: how many read and decode.
        rescan: read every file again, and repair.
        repair: replace data files of the table that can't be read; otherwise a folder with one is left as it is.
        spark: takes the scan of a folder with many files to read.
        staying: ``relative_path`` of rows that stay although their files are gone.

    Returns:
        What was done to each.

    Raises:
        CurationError: the table can't be read or written, or the tree can't be listed; what was finished stays.
    """
    kept = None if staying is None else staying["relative_path"]
    notes = ComparedNotes(table.storage)
    job = _Job(source, limits, progress, threads, rescan, rescan or repair, spark, kept, notes)
    listed = source.list_folders(folders).folders if len(folders) > 1 else {}
    sizes = {name: listing.size_bytes for name, listing in listed.items()}
    results = {folder: ScanResult(folder=folder) for folder in folders}
    place = {folder: number for number, folder in enumerate(folders, 1)}

    def work(rows: Rewrite, folder: str) -> None:
        progress.step("scan", place[folder], len(folders))
        job.bring_up_to_date(rows, results[folder])

    for group in rewrite_each(table, folders, sizes, work, info={"job": "scan"}, progress=progress):
        made = group.snapshot
        statuses = made.read(["folder", "status"], files=made.files_of(group.partitions))
        for (folder, status), rows in statuses.group_by("folder", "status"):
            results[str(folder)].statuses[str(status)] = len(rows)
        for folder, seconds in group.seconds.items():
            results[folder].version, results[folder].seconds = made.version, seconds
            results[folder].broken = group.broken.get(folder)
            if folder in job.until and folder not in group.broken:  # only now that the different ones are in the table
                with suppress(OSError):
                    notes.write(folder, job.until.pop(folder))
    return list(results.values())


def scan_folder(table: LakeTable, source: ImageSource, folder: str, *arguments: Any, **options: Any) -> ScanResult:
    """:func:`scan_folders` of one folder."""
    (result,) = scan_folders(table, source, [folder], *arguments, **options)
    return result.checked()


@dataclass
class _Job:
    source: ImageSource
    limits: ReadLimits
    progress: Progress
    threads: int
    rescan: bool
    repair: bool
    spark: SparkScan | None
    staying: pl.Series | None
    notes: ComparedNotes
    allowance: Allowance = field(default_factory=Allowance)
    until: dict[str, Compared] = field(default_factory=dict)  # to be noted, by folder
    announced: bool = False

    def bring_up_to_date(self, rows: Rewrite, result: ScanResult) -> None:
        listing = self.source.list_folder(result.folder)
        plan = self._plan(rows.base, listing, result)
        if not self.repair:
            rows.base.refuse_broken(result.folder)
        elif broken := rows.base.broken(result.folder):
            result.lost |= {file.path: reason for file, reason in broken}
            plan.units.insert(0, dropped([file for file, _ in broken]))
        if plan.outdated and not self.announced:
            self.announced = True
            self.progress.note(
                "files are read again, once, whose formats this version or other bands read otherwise "
                f"({plan.outdated:,} in {printable(result.folder)})"
            )
        if plan.to_read:
            self.progress.start(f"scan {result.folder}", plan.to_read)
        for piece in self._carry_out(plan, rows, result.folder):
            result.commits += rows.commit(piece.add, piece.remove)
            result.add(piece.counts)
        result.passed_over, result.unlisted = listing.passed_over, listing.unlisted
        result.new, result.changed, result.outdated = plan.new, plan.changed, plan.outdated
        result.vanished, result.staying, result.unchanged = plan.vanished, plan.staying, plan.unchanged

    def _plan(self, base: Snapshot, listing: FolderListing, result: ScanResult) -> ScanPlan:
        known = known_rows(base, listing.folder)
        listing = replace(listing, files=as_known(listing.files, known, self.source.location))
        paths = known["relative_path"]
        stays = at_or_below(paths, listing.unlisted)
        if self.staying is not None:
            stays |= paths.is_in(self.staying.implode())
        again = self._readable_now(unreadable(listing.files, known))
        if not self.rescan:
            again = pl.concat([again, self._edited(base, listing, known, result)])
        return plan_scan(
            listing.files,
            known,
            base.files(listing.folder),
            self.source.location,
            limits=self.limits,
            read_again=again,
            staying=paths.filter(stays),
            rescan=self.rescan,
        )

    def _readable_now(self, failed: pl.DataFrame) -> pl.Series:
        """Of files that could not be read, those for which that has changed; they cost little, as most fail again."""
        records = (
            (read_record(self.source, ListedFile._make(listed), self.limits), error)
            for *listed, error in failed.iter_rows()
        )
        different = [r.relative_path for r, error in records if (r.status, r.error) != ("unreadable", error)]
        return pl.Series("relative_path", different, dtype=pl.String)

    def _edited(self, base: Snapshot, listing: FolderListing, known: pl.DataFrame, result: ScanResult) -> pl.Series:
        """Of files whose inode alone has changed, those whose bytes are others now."""
        until = self.notes.read(listing.folder)
        # What is read again in any case need not be compared before.
        files = to_compare(listing.files, known.filter(~read_otherwise(self.limits)), until)
        if not len(files):
            return pl.Series("relative_path", [], dtype=pl.String)
        asked = pl.col("relative_path").is_in(files["relative_path"].implode())
        rows = base.read(["relative_path", "content_sha256"], listing.folder, where=asked).drop("_file")
        found = compare(files, dict(rows.iter_rows()), len(listing.files), until, self.source, self.allowance)
        result.compared, result.assumed, result.uncompared = found.compared, found.assumed, found.waiting
        result.unread |= found.unread
        self.until[listing.folder] = found.until
        return pl.Series("relative_path", found.different, dtype=pl.String)

    def _carry_out(self, plan: ScanPlan, rows: Rewrite, folder: str) -> Iterator[ScanPiece]:
        reader, writer = rows.base.reader, rows.writers[folder]
        if self.spark is not None and self.spark.takes(plan.to_read):
            yield from self.spark.carry_out(plan, reader, writer, self.source, self.limits, self.progress)
            return
        for unit in plan.units:
            if unit.drops_only:
                yield ScanPiece(remove=unit.replaces)
                continue
            with writer.file() as stage:
                counts = write_unit(unit, reader, stage, self.source, self.limits, self.threads, self.progress.advance)
            yield written_piece(unit, stage.files, counts, writer)
