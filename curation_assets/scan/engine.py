"""Carry out a scan plan: read and decode in threads, stream to Parquet, commit unit by unit.

Memory is bounded by the records in flight (``_IN_FLIGHT_BYTES`` of files, a few a thread) and one row group, whatever
the folder's size; the listing itself takes a few hundred bytes a file.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curation_assets.images.listing import FolderListing, list_folder
from curation_assets.images.names import text_from_path
from curation_assets.images.record import ImageRecord, ReadLimits, Spent, read_record
from curation_assets.lake.schemas import DIRECTORY
from curation_assets.lake.staging import FolderWriter, ParquetStage
from curation_assets.lake.table import FolderChangedError, LakeTable, Snapshot
from curation_assets.progress import Progress
from curation_assets.scan.plan import ScanPlan, Unit, known_rows, plan_scan, unreadable

_IN_FLIGHT_BYTES = 128 * 2**20
_GROUPS_A_THREAD = 16  # as many as keep the threads busy while a row group is compressed
_GROUP_FILES, _GROUP_BYTES = 16, 2**20
_BATCH_ROWS = 64
_SCHEMA = DIRECTORY.file_schema
_Listed = tuple[str, int | None, int | None, int | None]  # path, size, mtime and ctime of the listing


@dataclass
class UnitCounts(Spent):
    """What carrying out a unit took.

    Attributes:
        read: files opened; ``bytes_read`` their size together.
        read_seconds, decode_seconds: summed over the threads.
        write_seconds: building Arrow and writing Parquet, beside the threads.
    """

    read: int = 0
    bytes_read: int = 0
    write_seconds: float = 0.0


@dataclass
class ScanResult(UnitCounts):
    """What a scan did to one folder.

    Attributes:
        new, changed, vanished, unchanged: files by how they differ from the table.
        passed_over: entries that were no candidates, by reason.
        statuses: rows of the folder now, by status.
        commits: versions written; 0 means the table was up to date.
    """

    folder: str = ""
    new: int = 0
    changed: int = 0
    vanished: int = 0
    unchanged: int = 0
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

    @property
    def images_per_second(self) -> float:
        """Files read a second, listing and planning included; 0 where nothing was read."""
        return self.read / self.seconds if self.read and self.seconds else 0.0

    def shares(self) -> dict[str, float]:
        """Part of the worked seconds that reading, decoding and writing took; empty where nothing was read."""
        stages = {"read": self.read_seconds, "decode": self.decode_seconds, "write": self.write_seconds}
        total = sum(stages.values())
        return {stage: seconds / total for stage, seconds in stages.items()} if total else {}

    def add(self, counts: UnitCounts) -> None:
        """Count a unit in."""
        for part in fields(UnitCounts):
            setattr(self, part.name, getattr(self, part.name) + getattr(counts, part.name))


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
    result = ScanResult(folder=folder)
    with table.writer(folder, progress.note) as writer:
        while True:
            try:
                base, listing = table.snapshot(), list_folder(root, folder, depth)
                plan = _plan(base, root, listing, limits, rescan)
                base = _carry_out(plan, base, table, writer, root, limits, progress, threads, result)
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
    base: Snapshot,
    table: LakeTable,
    writer: FolderWriter,
    root: Path,
    limits: ReadLimits,
    progress: Progress,
    threads: int,
    result: ScanResult,
) -> Snapshot:
    if plan.to_read:
        progress.start(f"scan {result.folder}", plan.to_read)
    for unit in plan.units:
        staged = []
        if not unit.drops_only:
            with writer.file() as stage:
                kept = base.batches(unit.replaces, _BATCH_ROWS)
                result.add(write_unit(unit, kept, stage, root, limits, threads, progress.advance))
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


def write_unit(
    unit: Unit,
    kept: Iterator[pa.RecordBatch],
    stage: ParquetStage,
    root: Path,
    limits: ReadLimits,
    threads: int,
    on_read: Callable[[int], object],
) -> UnitCounts:
    """Write a unit's rows: those that stay, then those of the files it reads, by name.

    Everything it works on is an argument, so it can be called on any machine that sees the images and the table.

    Args:
        kept: the rows of ``unit.replaces``, all columns but ``folder``, as ``Snapshot.batches`` gives them.
        stage: takes the rows; finishing and committing it is the caller's.
        root: images root.
        threads: how many read and decode.
        on_read: called on this thread with the number of files read since the last call; may raise to stop the work.

    Raises:
        CurationError: a file of the table can't be read.
    """
    counts = UnitCounts()
    _copy_kept(unit, kept, stage)
    pool = ThreadPoolExecutor(threads, "scan")
    try:
        for records in _batches(_records(unit.read, root, limits, pool, threads, counts)):
            started = time.perf_counter()
            stage.write(_arrow(records))
            counts.write_seconds += time.perf_counter() - started
            counts.read += len(records)
            counts.bytes_read += sum(record.size_bytes or 0 for record in records)
            on_read(len(records))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return counts


def _copy_kept(unit: Unit, batches: Iterator[pa.RecordBatch], stage: ParquetStage) -> None:
    """Stream the rows that stay from the files that leave, with the path that leads to them now."""
    if not len(unit.keep):
        return
    paths = dict(unit.keep.select("relative_path", "file_path").iter_rows())
    keep = pa.array(unit.keep["relative_path"].to_list(), pa.string())
    for batch in batches:
        kept = batch.filter(pc.is_in(batch["relative_path"], keep))
        moved = pa.array([paths[key] for key in kept["relative_path"].to_pylist()], pa.string())
        stage.write(kept.set_column(kept.schema.get_field_index("file_path"), "file_path", moved))


def _records(
    files: pl.DataFrame, root: Path, limits: ReadLimits, pool: ThreadPoolExecutor, threads: int, counts: UnitCounts
) -> Iterator[ImageRecord]:
    """Records in the order of ``files``, a bounded number of them read ahead."""
    waiting: deque[tuple[Future[tuple[list[ImageRecord], Spent]], int]] = deque()
    in_flight = 0

    def first() -> list[ImageRecord]:
        nonlocal in_flight
        future, paid = waiting.popleft()
        records, spent = future.result()
        in_flight -= paid
        counts.read_seconds += spent.read_seconds
        counts.decode_seconds += spent.decode_seconds
        return records

    for group, cost in _groups(files, limits.max_file_bytes):
        while waiting and (len(waiting) >= _GROUPS_A_THREAD * threads or in_flight + cost > _IN_FLIGHT_BYTES):
            yield from first()
        waiting.append((pool.submit(_read_group, root, group, limits), cost))
        in_flight += cost
    while waiting:
        yield from first()


def _groups(files: pl.DataFrame, max_file_bytes: int) -> Iterator[tuple[list[_Listed], int]]:
    """Files to hand to a thread at once, with their bytes: a small one costs less to read than to hand over."""
    group: list[_Listed] = []
    size = 0
    for file in files.iter_rows():
        cost = min(file[1] or 0, max_file_bytes)
        if group and (len(group) == _GROUP_FILES or size + cost > _GROUP_BYTES):
            yield group, size
            group, size = [], 0
        group.append(file)
        size += cost
    if group:
        yield group, size


def _read_group(root: Path, files: list[_Listed], limits: ReadLimits) -> tuple[list[ImageRecord], Spent]:
    spent = Spent()
    return [read_record(root, *file, limits, spent) for file in files], spent


def _batches(records: Iterator[ImageRecord]) -> Iterator[list[ImageRecord]]:
    """Groups of records small enough to be built into Arrow at once."""
    batch: list[ImageRecord] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.image_base64 or "")
        if len(batch) >= _BATCH_ROWS or size >= 8 * 2**20:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _arrow(records: list[ImageRecord]) -> pa.RecordBatch:
    return pa.record_batch(
        [pa.array([getattr(record, f.name) for record in records], f.type) for f in _SCHEMA], schema=_SCHEMA
    )
