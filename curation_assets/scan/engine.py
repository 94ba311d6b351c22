"""Carry out a scan plan: read and decode in threads, stream to Parquet, commit unit by unit.

Memory is bounded by the records in flight (``_IN_FLIGHT_BYTES`` of files, a few a thread) and one row group, whatever
the folder's size; the listing itself takes a few hundred bytes a file.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curation_assets.images.listing import FolderListing, list_folder
from curation_assets.images.names import text_from_path
from curation_assets.images.record import ImageRecord, ReadLimits, read_record
from curation_assets.lake.staging import FolderWriter, ParquetStage
from curation_assets.lake.table import FolderChangedError, LakeTable, Snapshot
from curation_assets.progress import Progress
from curation_assets.scan.plan import ScanPlan, Unit, known_rows, plan_scan, unreadable

_IN_FLIGHT_BYTES = 128 * 2**20
_FIELDS = tuple(f.name for f in fields(ImageRecord))


@dataclass
class ScanResult:
    """What a scan did to one folder.

    Attributes:
        new, changed, vanished, unchanged: files by how they differ from the table.
        read: files opened; ``bytes_read`` their size together.
        passed_over: entries that were no candidates, by reason.
        statuses: rows of the folder now, by status.
        commits: versions written; 0 means the table was up to date.
    """

    folder: str
    new: int = 0
    changed: int = 0
    vanished: int = 0
    unchanged: int = 0
    read: int = 0
    bytes_read: int = 0
    commits: int = 0
    version: int = 0
    seconds: float = 0.0
    passed_over: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def files(self) -> int:
        """Rows of the folder."""
        return self.statuses.total()

    @property
    def ok(self) -> int:
        """Rows that are images."""
        return self.statuses["ok"]

    @property
    def bad(self) -> int:
        """Rows that are not."""
        return self.files - self.ok


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
) -> ScanResult:
    """Bring a folder's rows in line with the disk; an unchanged file is not opened.

    The folder is listed when no other process can change its rows, so that an older listing never undoes newer rows.

    Args:
        folder: value of the ``folder`` column; one that is gone loses its rows.
        threads: how many read and decode.
        depth: how many levels name a folder (``FOLDER_DEPTH``); None takes the deepest.
        rescan: read every file again.

    Raises:
        CurationError: the table can't be read or written, or the folder can't be listed.
    """
    started = time.monotonic()
    result = ScanResult(folder)
    with table.writer(folder, progress.note) as writer, ThreadPoolExecutor(threads, "scan") as pool:
        try:
            while True:
                try:
                    base, listing = table.snapshot(), list_folder(root, folder, depth)
                    plan = _plan(base, root, listing, limits, rescan)
                    base = _carry_out(plan, base, table, writer, root, limits, progress, pool, threads, result)
                    break
                except FolderChangedError:
                    progress.note(f"{folder}: another process changed the table; planning anew")
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
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
    base: Snapshot,
    table: LakeTable,
    writer: FolderWriter,
    root: Path,
    limits: ReadLimits,
    progress: Progress,
    pool: ThreadPoolExecutor,
    threads: int,
    result: ScanResult,
) -> Snapshot:
    if plan.to_read:
        progress.start(f"scan {result.folder}", plan.to_read)
    for unit in plan.units:
        staged = []
        if not unit.drops_only:
            with writer.file() as stage:
                _copy_kept(unit, base, stage)
                for records in _batches(_records(root, unit.read, limits, pool, threads)):
                    stage.write(_arrow(records, table.spec.file_schema))
                    result.read += len(records)
                    result.bytes_read += sum(record.size_bytes or 0 for record in records)
                    progress.advance(len(records))
            staged = [stage.staged] if stage.staged else []
        try:
            base = table.replace(
                result.folder,
                base,
                add=staged,
                remove=unit.replaces,
                info={"job": "scan", "folder": result.folder},
            )
        except FolderChangedError:
            for file in staged:
                writer.discard(file)
            raise
        result.commits += 1
    return base


def _copy_kept(unit: Unit, base: Snapshot, stage: ParquetStage) -> None:
    """Stream the rows that stay from the files that leave, with the path that leads to them now."""
    if not len(unit.keep):
        return
    paths = dict(unit.keep.select("relative_path", "file_path").iter_rows())
    keep = pa.array(unit.keep["relative_path"].to_list(), pa.string())
    for batch in base.batches(unit.replaces, batch_size=64):
        kept = batch.filter(pc.is_in(batch["relative_path"], keep))
        moved = pa.array([paths[key] for key in kept["relative_path"].to_pylist()], pa.string())
        stage.write(kept.set_column(kept.schema.get_field_index("file_path"), "file_path", moved))


def _records(
    root: Path, files: pl.DataFrame, limits: ReadLimits, pool: ThreadPoolExecutor, threads: int
) -> Iterator[ImageRecord]:
    """Records in the order of ``files``, a bounded number of them read ahead."""
    waiting: deque[tuple[Future[ImageRecord], int]] = deque()
    in_flight = 0
    for path, size, mtime, ctime in files.iter_rows():
        cost = min(size or 0, limits.max_file_bytes)
        while waiting and (len(waiting) >= 8 * threads or in_flight + cost > _IN_FLIGHT_BYTES):
            future, paid = waiting.popleft()
            in_flight -= paid
            yield future.result()
        waiting.append((pool.submit(read_record, root, path, size, mtime, ctime, limits), cost))
        in_flight += cost
    for future, _ in waiting:
        yield future.result()


def _batches(records: Iterator[ImageRecord]) -> Iterator[list[ImageRecord]]:
    """Groups of records small enough to be built into Arrow at once."""
    batch: list[ImageRecord] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.image_base64 or "")
        if len(batch) >= 64 or size >= 8 * 2**20:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _arrow(records: list[ImageRecord], schema: pa.Schema) -> pa.RecordBatch:
    columns = {name: [getattr(record, name) for record in records] for name in _FIELDS}
    return pa.record_batch([pa.array(columns[f.name], f.type) for f in schema], schema=schema)
