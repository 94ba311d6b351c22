"""Rows of the directory table: files read and decoded in threads, in their order, into a staged file.

Memory is bounded by the records in flight (``_IN_FLIGHT_BYTES`` of files, a few a thread) and one row group, whatever
the folder's size.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curation_assets.images.listing import ListedFile
from curation_assets.images.record import ImageRecord, ReadLimits, Spent, read_record
from curation_assets.images.source import FileReader, ImageSource
from curation_assets.lake.schemas import DIRECTORY
from curation_assets.lake.snapshot import TableReader
from curation_assets.lake.staging import ParquetStage, PartitionWriter, StagedFile
from curation_assets.scan.plan import Unit
from curation_assets.scan.result import ScanPiece, UnitCounts

_IN_FLIGHT_BYTES = 128 * 2**20
_GROUPS_A_THREAD = 16  # as many as keep the threads busy while a row group is compressed
_GROUP_FILES, _GROUP_BYTES = 16, 2**20
_BATCH_ROWS = 64
_SCHEMA = DIRECTORY.file_schema


def write_unit(
    unit: Unit,
    table: TableReader,
    stage: ParquetStage,
    source: ImageSource,
    limits: ReadLimits,
    threads: int,
    on_read: Callable[[int], object],
) -> UnitCounts:
    """Write a unit's rows: those that stay, then those of the files it reads, by name.

    Everything it works on is an argument, so it can be called on any machine that sees the images and the table.

    Args:
        table: reads the directory table, for the rows that stay and for what users added to those that are read again.
        stage: takes the rows; finishing and committing it is the caller's.
        source: of the images.
        threads: how many read and decode.
        on_read: called on this thread with the number of files read since the last call; may raise to stop the work.

    Raises:
        CurationError: a file of the table can't be read.
    """
    counts = UnitCounts()
    _copy_kept(unit, table, stage)
    added = _users_columns(unit, table)
    unread: dict[str, ImageRecord] = {}
    pool, stop = ThreadPoolExecutor(threads, "scan"), threading.Event()
    try:
        for records in _batches(_records(unit.read, source, limits, pool, threads, counts, stop)):
            unread |= {r.relative_path: r for r in records if r.may_pass and r.relative_path in unit.may_stay}
            started = time.perf_counter()
            told = [record for record in records if record.relative_path not in unread]
            stage.write(added.attached(_arrow(told)))
            counts.write_seconds += time.perf_counter() - started
            counts.read += len(records)
            counts.bytes_read += sum(record.size_bytes or 0 for record in records)
            on_read(len(records))
    finally:
        stop.set()  # nobody waits for what is still being decoded
        pool.shutdown(wait=False, cancel_futures=True)
    if unread:
        counts.unread = _copy_unread(unread, unit, table, stage, added)
    return counts


def written_piece(unit: Unit, files: list[StagedFile], counts: UnitCounts, writer: PartitionWriter) -> ScanPiece:
    """What a commit takes of a unit that was written; nothing where all its rows stayed as they were."""
    if not unit.changes_anyway and len(counts.unread) == len(unit.read):
        for file in files:
            writer.discard(file)
        return ScanPiece(counts=counts)
    return ScanPiece(files, unit.replaces, counts)


def _copy_unread(
    unread: dict[str, ImageRecord], unit: Unit, table: TableReader, stage: ParquetStage, added: _UsersColumns
) -> dict[str, str]:
    """Let the good rows stay of files that could not be examined, unless their bytes were read and are others.

    Returns:
        The files of those rows, and why they could not be examined.
    """
    stayed: dict[str, str] = {}
    paths = pa.array(list(unread), pa.string())
    for batch in table.batches(unit.replaces, _BATCH_ROWS):
        rows = batch.filter(pc.is_in(batch["relative_path"], paths))
        hashes = zip(rows["relative_path"].to_pylist(), rows["content_sha256"].to_pylist(), strict=True)
        same = [unread[path].content_sha256 in (None, content) for path, content in hashes]
        rows = rows.filter(pa.array(same, pa.bool_()))
        stayed |= {path: str(unread[path].error) for path in rows["relative_path"].to_pylist()}
        stage.write(rows)
    if others := [record for path, record in unread.items() if path not in stayed]:
        stage.write(added.attached(_arrow(others)))
    return stayed


def _copy_kept(unit: Unit, table: TableReader, stage: ParquetStage) -> None:
    """Stream the rows that stay from the files that leave, with the path that leads to them now."""
    if not len(unit.keep):
        return
    paths = dict(unit.keep.select("relative_path", "file_path").iter_rows())
    keep = pa.array(unit.keep["relative_path"].to_list(), pa.string())
    for batch in table.batches(unit.replaces, _BATCH_ROWS):
        kept = batch.filter(pc.is_in(batch["relative_path"], keep))
        moved = pa.array([paths[key] for key in kept["relative_path"].to_pylist()], pa.string())
        stage.write(kept.set_column(kept.schema.get_field_index("file_path"), "file_path", moved))


@dataclass(frozen=True)
class _UsersColumns:
    """What users added to the rows of files that are read again: it stays with the path.

    Attributes:
        rows: users' columns, a row a path; None where users added none.
        place: row in it, by ``relative_path``.
    """

    rows: pa.Table | None
    place: dict[str, int]

    def attached(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows with what users had added to them."""
        if self.rows is None:
            return batch
        places = pa.array([self.place.get(path) for path in batch["relative_path"].to_pylist()], pa.int64())
        (found,) = self.rows.take(places).combine_chunks().to_batches() or [None]
        if found is None:
            return batch
        for name in found.schema.names:
            batch = batch.append_column(found.schema.field(name), found[name])
        return batch


def _users_columns(unit: Unit, table: TableReader) -> _UsersColumns:
    names = [name for name in table.schema.names if name not in _SCHEMA.names]
    if not names or not unit.replaces:
        return _UsersColumns(None, {})
    again = pa.array(unit.read["relative_path"].to_list(), pa.string())
    batches = [
        batch.filter(pc.is_in(batch["relative_path"], again))
        for batch in table.batches(unit.replaces, _BATCH_ROWS, ["relative_path", *names])
    ]
    rows = pa.Table.from_batches(batches)
    place = {path: number for number, path in enumerate(rows["relative_path"].to_pylist())}
    return _UsersColumns(rows.select(names), place)


def _records(
    files: pl.DataFrame,
    source: ImageSource,
    limits: ReadLimits,
    pool: ThreadPoolExecutor,
    threads: int,
    counts: UnitCounts,
    stop: threading.Event,
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
        reader = source.begun(file for file in group if (file.size_bytes or 0) <= limits.max_file_bytes)
        waiting.append((pool.submit(_read_group, reader, group, limits, stop), cost))
        in_flight += cost
    while waiting:
        yield from first()


def _groups(files: pl.DataFrame, max_file_bytes: int) -> Iterator[tuple[list[ListedFile], int]]:
    """Files to hand to a thread at once, with their bytes: a small one costs less to read than to hand over."""
    group: list[ListedFile] = []
    size = 0
    for file in map(ListedFile._make, files.iter_rows()):
        cost = min(file.size_bytes or 0, max_file_bytes)
        if group and (len(group) == _GROUP_FILES or size + cost > _GROUP_BYTES):
            yield group, size
            group, size = [], 0
        group.append(file)
        size += cost
    if group:
        yield group, size


def _read_group(
    source: FileReader, files: list[ListedFile], limits: ReadLimits, stop: threading.Event
) -> tuple[list[ImageRecord], Spent]:
    spent = Spent()
    return [read_record(source, file, limits, spent, stop) for file in files], spent


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
