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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation_assets.lake import hive
from curation_assets.lake.columns import conformed
from curation_assets.lake.schemas import TableSpec
from curation_assets.lake.storage import Storage, StoredFile

ROW_GROUP_BYTES = 32 * 2**20
ROW_GROUP_ROWS = 2048
SWEPT_AGE_SECONDS = 24 * 3600.0  # of what is left where there are no locks: no writer stages a file for so long
_LOCK = "lock"


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

    @contextmanager
    def file(self) -> Iterator[ParquetStage]:
        """Open one new Parquet file; it is deleted unless the block ends well."""
        name = f"{uuid.uuid4().hex}.parquet"
        marker = f"{self._markers}/{name}"
        self._storage.put(marker)
        path = hive.file_path(self._spec.partition_column, self.partition, name)
        stage = ParquetStage(self._storage, path, self.partition, self._spec, self._schema, marker)
        try:
            yield stage
            stage.close()
        except BaseException:
            stage.abandon()
            raise

    def discard(self, staged: StagedFile) -> None:
        """Delete a finished file that will not be committed."""
        self._storage.delete(staged.path)
        self._storage.delete(staged.marker)

    def sweep(self, referenced: set[str]) -> None:
        """Delete what dead writers staged: all that is marked or, where others may be at work, what is old.

        Args:
            referenced: paths of the partition's files in the table's newest version.
        """
        for left in self._left():
            if not self._is_sole and left.age_seconds < SWEPT_AGE_SECONDS:
                continue
            name = left.path.rpartition("/")[2]
            path = hive.file_path(self._spec.partition_column, self.partition, name)
            if name.endswith(".parquet") and path not in referenced:
                self._storage.delete(path)
            self._storage.delete(left.path)

    def has_leftovers(self) -> bool:
        """Whether there is something to sweep."""
        return any(True for _ in self._left())

    @property
    def scratch(self) -> Path:
        """Folder for files that whoever holds the right to write may need; a sweep empties it."""
        return self._storage.scratch(self._markers)

    def _left(self) -> Iterator[StoredFile]:
        return (file for file in self._storage.list(self._markers) if not file.path.endswith(f"/{_LOCK}"))


class ParquetStage:
    """A Parquet file being written, in row groups of bounded size; use :meth:`PartitionWriter.file`."""

    def __init__(
        self, storage: Storage, path: str, partition: str, spec: TableSpec, schema: pa.Schema, marker: str
    ) -> None:
        self._storage = storage
        self._path = path
        self._partition = partition
        self._schema = schema
        self._marker = marker
        self._rows = 0
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = self._waiting_rows = 0
        self._sink = storage.output(path)
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=list(spec.dictionary),
            column_encoding=dict.fromkeys(spec.byte_stream_split, "BYTE_STREAM_SPLIT") or None,
            write_statistics=[c.name for c in spec.columns if c.name in ("relative_path", "mtime_ns", "size_bytes")],
        )
        self.staged: StagedFile | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows. Columns that the batch lacks are null.

        Raises:
            ValueError: it has a column that the table has not, or of another type.
        """
        if not batch.num_rows:
            return
        self._waiting.append(conformed(batch, self._schema))
        self._waiting_bytes += batch.nbytes
        self._waiting_rows += batch.num_rows
        if self._waiting_bytes >= ROW_GROUP_BYTES or self._waiting_rows >= ROW_GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Finish the file; ``staged`` is then what a commit takes, or None if it has no rows.

        Raises:
            RuntimeError: whoever holds the right to write has swept: this process outlived the work it is part of.
        """
        self._flush()
        self._writer.close()
        self._sink.close()
        if not self._storage.exists(self._marker):
            raise RuntimeError(f"{self._path} was swept while it was being written")
        if self._rows:
            size = self._storage.size(self._path)
            self.staged = StagedFile(self._path, size, self._rows, self._partition, self._marker)
        else:
            self.abandon()

    @property
    def files(self) -> list[StagedFile]:
        """What a commit takes: the finished file, or nothing where it has no rows."""
        return [self.staged] if self.staged else []

    def abandon(self) -> None:
        """Delete the file."""
        self._writer.close()
        self._sink.close()
        self._storage.delete(self._path)
        self._storage.delete(self._marker)

    def _flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting, self._schema)
            self._writer.write_table(table, row_group_size=table.num_rows)
            self._rows += table.num_rows
        self._waiting.clear()
        self._waiting_bytes = self._waiting_rows = 0


@contextmanager
def right_to_write(
    storage: Storage,
    spec: TableSpec,
    schema: pa.Schema,
    partition: str,
    on_wait: Callable[[str], Any] | None = None,
) -> Iterator[PartitionWriter]:
    """Hold the lock of a partition of a table; see ``LakeTable.writer``."""
    markers = f"_writers/{hashlib.sha256(partition.encode()).hexdigest()[:24]}"

    def told() -> None:
        if on_wait is not None:
            what = f"{spec.partition_column} {partition!r} of " if spec.partition_column else ""
            on_wait(f"waiting for another process that is writing {what}{storage.location.rpartition('/')[2]}")

    with storage.lock(f"{markers}/{_LOCK}", told) as is_sole:
        yield PartitionWriter(storage, spec, schema, partition, markers, is_sole)
