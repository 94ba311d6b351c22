"""Parquet files that are written before they belong to a table, and what is left of them when a writer dies.

A data file is written to its final place, where no reader sees it until a commit names it. Before it is opened, an
empty marker of the same name is put into ``_writers/<hash of partition>/``, and taken away after the commit. Whoever
next gets the right to write the partition finds the markers of the dead: a marked file that the table doesn't name is
deleted. So nothing is left behind for good, and no directory of committed files has to be compared with the log.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation_assets.lake import hive
from curation_assets.lake.columns import conformed
from curation_assets.lake.layout import FILE_BYTES, FILE_ROWS, is_full, is_large_enough
from curation_assets.lake.problems import explained_table
from curation_assets.lake.schemas import TableSpec
from curation_assets.lake.storage import SharedFiles, Storage, StoredFile

ROW_GROUP_BYTES = 32 * 2**20
ROW_GROUP_ROWS = 2048
SWEPT_AGE_SECONDS = 24 * 3600.0  # of what is left where there are no locks: no writer stages a file for so long
_WRITERS, _LOCK = "_writers", "lock"


@dataclass(frozen=True)
class StagedFile:
    """A finished Parquet file that no commit names yet.

    Attributes:
        path: relative to the table, as it lies on disk.
        marker: the file that says it is not committed, relative to the table.
    """

    path: str
    size_bytes: int
    rows: int
    partition: str
    marker: str

    def validate(self, storage: Storage, schema: pa.Schema) -> None:
        """Check what Delta itself doesn't: that the file is there, whole, and of the table's columns.

        Args:
            schema: of the table's files now; one that got a column meanwhile may have it more than the file.

        Raises:
            ValueError: naming the file and the difference.
        """
        with storage.parquet(self.path) as footer:
            columns, rows = footer.schema_arrow, footer.metadata.num_rows
        known = pa.schema([field for field in schema if field.name in columns.names])
        if not columns.equals(known):
            raise ValueError(f"{self.path} has columns {columns}, not the table's")
        if rows != self.rows or storage.size(self.path) != self.size_bytes:
            raise ValueError(f"{self.path} is not the file that was staged")

    def committed(self, storage: Storage) -> None:
        """Take the marker away: the file is the table's now."""
        storage.delete(self.marker)


class PartitionWriter:
    """Stages Parquet files for one partition of a table; made by ``LakeTable.writer``.

    A pickled copy stages files as well, in whichever process, while the one who made it holds the right to write.

    Args:
        schema: of the table's files, users' columns included.
        markers: directory of the partition's markers, relative to the table.
        is_sole: whether the right to write is held by a lock; without one, others may be at work.
    """

    def __init__(
        self, storage: Storage, spec: TableSpec, schema: pa.Schema, partition: str, markers: str, is_sole: bool
    ) -> None:
        self.partition = partition
        self._storage = storage
        self._spec = spec
        self._schema = schema
        self._markers = markers
        self._is_sole = is_sole

    def of(self, partition: str) -> PartitionWriter:
        """What stages files for one partition, of the right to write all of them (``hive.WHOLE``)."""
        return PartitionWriter(self._storage, self._spec, self._schema, partition, self._markers, self._is_sole)

    @contextmanager
    def file(self) -> Iterator[ParquetStage]:
        """Open a new Parquet file, and further ones as rows need them; all are deleted unless the block ends well."""
        stage = ParquetStage(self._new_file, self._schema)
        try:
            yield stage
            stage.close()
        except BaseException:
            stage.abandon()
            raise

    def _new_file(self) -> _NewFile:
        name = f"{uuid.uuid4().hex}.parquet"
        path = hive.file_path(self._spec.partition_column, self.partition, name)
        return _NewFile(self._storage, path, self.partition, self._spec, self._schema, f"{self._markers}/{name}")

    def discard(self, staged: StagedFile) -> None:
        """Delete a finished file that will not be committed."""
        self._storage.delete(staged.path)
        self._storage.delete(staged.marker)

    def sweep(self, referenced: set[str]) -> None:
        """Delete what dead writers staged: all that is marked or, where others may be at work, what is old.

        Args:
            referenced: paths of the partition's files in the table's newest version.
        """
        partition = self.partition or None  # of all partitions at once: the markers say where their files lie
        _sweep(self._storage, self._spec, self._markers, referenced, is_sole=self._is_sole, partition=partition)

    def has_leftovers(self) -> bool:
        """Whether there is something to sweep."""
        return any(True for _ in _left(self._storage, self._markers))

    @property
    def shared(self) -> SharedFiles:
        """Files that the processes of whoever holds the right to write hand each other; a sweep deletes them."""
        return SharedFiles(self._storage, self._markers)


class ParquetStage:
    """Rows being written into Parquet files, in row groups of bounded size; use :meth:`PartitionWriter.file`.

    A file is finished, and the next one begun, when it is as large as a table's files should be.

    Args:
        new_file: begins a new one.
        schema: of the table's files.
    """

    def __init__(self, new_file: Callable[[], _NewFile], schema: pa.Schema) -> None:
        self._new_file = new_file
        self._schema = schema
        self._file: _NewFile | None = new_file()
        self._finished: list[_NewFile] = []
        self.files: list[StagedFile] = []  # finished, as a commit takes them
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = self._waiting_rows = 0

    @property
    def staged(self) -> StagedFile | None:
        """The one file that was finished; None where there were no rows."""
        if not self.files:
            return None
        (staged,) = self.files
        return staged

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows. Columns that the batch lacks are null.

        Raises:
            ValueError: it has a column that the table has not, or of another type.
        """
        if not batch.num_rows:
            return
        batch = conformed(batch, self._schema)
        rows = max(FILE_ROWS // 4, batch.num_rows * FILE_BYTES // max(1, 4 * batch.nbytes))
        for start in range(0, batch.num_rows, rows):
            self._add(batch.slice(start, rows))

    def close(self) -> None:
        """Finish the last file.

        Raises:
            RuntimeError: whoever holds the right to write has swept: this process outlived the work it is part of.
        """
        self._flush()
        self._finish()

    def abandon(self) -> None:
        """Delete all files."""
        for file in [*self._finished, *([self._file] if self._file is not None else [])]:
            file.abandon()
        self._file, self._finished, self.files = None, [], []

    def _add(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        self._waiting_bytes += batch.nbytes
        self._waiting_rows += batch.num_rows
        file = self._file
        held, rows = (file.size_bytes, file.rows) if file is not None else (0, 0)
        if (
            self._waiting_bytes >= ROW_GROUP_BYTES
            or self._waiting_rows >= ROW_GROUP_ROWS
            or is_full(held + self._waiting_bytes, rows + self._waiting_rows)
        ):
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting, self._schema)
            if self._file is None:
                self._file = self._new_file()
            self._file.write(table)
            if is_large_enough(self._file.size_bytes, self._file.rows):
                self._finish()
        self._waiting.clear()
        self._waiting_bytes = self._waiting_rows = 0

    def _finish(self) -> None:
        if self._file is None:
            return
        file = self._file
        self.files += file.finish()
        self._finished.append(file)
        self._file = None


class _NewFile:
    """One Parquet file of a stage, and its marker."""

    def __init__(
        self, storage: Storage, path: str, partition: str, spec: TableSpec, schema: pa.Schema, marker: str
    ) -> None:
        self._storage = storage
        self._path = path
        self._partition = partition
        self._marker = marker
        self.rows = 0
        statistics = [c.name for c in spec.columns if c.name in ("relative_path", "mtime_ns", "size_bytes")]
        with explained_table(storage):
            storage.put(marker, path.encode())
            self._sink = storage.output(path)
            self._writer = pq.ParquetWriter(
                self._sink,
                schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=list(spec.dictionary),
                column_encoding=dict.fromkeys(spec.byte_stream_split, "BYTE_STREAM_SPLIT") or None,
                write_statistics=statistics,
                write_page_checksum=True,
            )

    @property
    def size_bytes(self) -> int:
        """Written so far, without the footer."""
        return int(self._sink.tell())

    def write(self, table: pa.Table) -> None:
        """Add a row group."""
        with explained_table(self._storage):
            self._writer.write_table(table, row_group_size=table.num_rows)
        self.rows += table.num_rows

    def finish(self) -> list[StagedFile]:
        """Close it; one without rows is deleted."""
        with explained_table(self._storage):
            self._close()
        if not self._storage.exists(self._marker):
            raise RuntimeError(f"{self._path} was swept while it was being written")
        if not self.rows:
            self.abandon()
            return []
        return [StagedFile(self._path, self._storage.size(self._path), self.rows, self._partition, self._marker)]

    def abandon(self) -> None:
        """Delete it."""
        with suppress(OSError, pa.ArrowException):  # the footer of a file that goes; on a full disk it can't be written
            self._close()
        self._storage.delete(self._path)
        self._storage.delete(self._marker)

    def _close(self) -> None:
        try:
            self._writer.close()
        finally:
            self._sink.close()


@contextmanager
def right_to_write(
    storage: Storage,
    spec: TableSpec,
    schema: pa.Schema,
    partition: str,
    on_wait: Callable[[str], Any] | None = None,
    *,
    by_lease: bool = False,
) -> Iterator[PartitionWriter]:
    """Hold the lock of a partition of a table; see ``LakeTable.writer``."""
    markers = f"{_WRITERS}/{hashlib.sha256(partition.encode()).hexdigest()[:24]}"

    def told() -> None:
        if on_wait is not None:
            what = f"{spec.partition_column} {partition!r} of " if spec.partition_column and partition else ""
            on_wait(f"waiting for another process that is writing {what}{storage.location.rpartition('/')[2]}")

    with storage.lock(f"{markers}/{_LOCK}", told, by_lease=by_lease) as is_sole:
        yield PartitionWriter(storage, spec, schema, partition, markers, is_sole)


def sweep_free(storage: Storage, spec: TableSpec, referenced: Callable[[], set[str]]) -> int:
    """Delete what dead writers staged for any partition, also one that never comes again; who is at work isn't touched.

    Args:
        referenced: gives the paths of all files of the table's newest version; asked while the right to write is held.

    Returns:
        Bytes that were given back.
    """
    freed = 0
    for name in storage.directories(_WRITERS):
        markers = f"{_WRITERS}/{name}"
        if not any(True for _ in _left(storage, markers)):
            continue
        with storage.lock_if_free(f"{markers}/{_LOCK}") as is_sole:
            if is_sole is not None:
                freed += _sweep(storage, spec, markers, referenced(), is_sole=is_sole)
    return freed


def _left(storage: Storage, markers: str) -> Iterator[StoredFile]:
    return (file for file in storage.list(markers) if not file.path.endswith(f"/{_LOCK}"))


def _sweep(
    storage: Storage,
    spec: TableSpec,
    markers: str,
    referenced: set[str],
    *,
    is_sole: bool,
    partition: str | None = None,
) -> int:
    freed = 0
    for left in _left(storage, markers):
        if not is_sole and left.age_seconds < SWEPT_AGE_SECONDS:
            continue
        name = left.path.rpartition("/")[2]
        if name.endswith(".parquet"):
            for path in _staged_paths(storage, spec, left, name, partition):
                if path not in referenced:
                    with suppress(FileNotFoundError):
                        freed += storage.size(path)
                    storage.delete(path)
        storage.delete(left.path)
    return freed


def _staged_paths(storage: Storage, spec: TableSpec, marker: StoredFile, name: str, partition: str | None) -> list[str]:
    """Where the file of a marker may lie: where it says, in its partition, or in any (0.1.0 wrote empty markers)."""
    of = spec.partition_column
    if partition is not None or of is None:
        return [hive.file_path(of, partition or hive.WHOLE, name)]
    told = storage.get(marker.path).decode("utf-8", "replace")
    if told.startswith(f"{of}=") and told.count("/") == 1 and told.endswith(f"/{name}"):
        return [told]
    return [f"{directory}/{name}" for directory in storage.directories("") if directory.startswith(f"{of}=")]
