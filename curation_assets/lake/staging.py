"""Parquet files that are written before they belong to a table, and what is left of them when a writer dies.

A data file is written to its final place, where no reader sees it until a commit names it. Before it is opened, an
empty marker of the same name is put into ``_writers/<hash of folder>/``, and taken away after the commit. Whoever
next gets the right to write the folder finds the markers of the dead: a marked file that the table doesn't name is
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
from filelock import FileLock, Timeout

from curation_assets.images.names import hive_directory
from curation_assets.lake.schemas import TableSpec

ROW_GROUP_BYTES = 32 * 2**20
ROW_GROUP_ROWS = 2048
_LOCK = "lock"


@dataclass(frozen=True)
class StagedFile:
    """A finished Parquet file that no commit names yet.

    Attributes:
        path: relative to the table, as it lies on disk.
        marker: the file that says it is not committed.
    """

    path: str
    size_bytes: int
    rows: int
    marker: Path

    def validate(self, table: Path, spec: TableSpec) -> None:
        """Check what Delta itself doesn't: that the file is there, whole, and of the table's columns.

        Raises:
            ValueError: naming the file and the difference.
        """
        footer = pq.ParquetFile(table / self.path)
        if not footer.schema_arrow.equals(spec.file_schema):
            raise ValueError(f"{self.path} has columns {footer.schema_arrow}, not the table's")
        if footer.metadata.num_rows != self.rows or (table / self.path).stat().st_size != self.size_bytes:
            raise ValueError(f"{self.path} is not the file that was staged")

    def committed(self) -> None:
        """Take the marker away: the file is the table's now."""
        self.marker.unlink(missing_ok=True)


class FolderWriter:
    """Stages Parquet files for one folder of a table; made by ``LakeTable.writer``.

    A pickled copy stages files as well, in whichever process, while the one who made it holds the right to write.
    """

    def __init__(self, table: Path, spec: TableSpec, folder: str, markers: Path) -> None:
        self._table = table
        self._spec = spec
        self._directory = hive_directory(folder)
        self._markers = markers

    @contextmanager
    def file(self) -> Iterator[ParquetStage]:
        """Open one new Parquet file; it is deleted unless the block ends well."""
        name = f"{uuid.uuid4().hex}.parquet"
        marker = self._markers / name
        marker.touch()
        (self._table / self._directory).mkdir(exist_ok=True)
        path = f"{self._directory}/{name}"
        stage = ParquetStage(self._table / path, path, self._spec, marker)
        try:
            yield stage
            stage.close()
        except BaseException:
            stage.abandon()
            raise

    def discard(self, staged: StagedFile) -> None:
        """Delete a finished file that will not be committed."""
        (self._table / staged.path).unlink(missing_ok=True)
        staged.marker.unlink(missing_ok=True)

    def sweep(self, referenced: set[str]) -> None:
        """Delete what dead writers staged.

        Args:
            referenced: paths of the folder's files in the table's newest version.
        """
        for left in self._left():
            path = f"{self._directory}/{left.name}"
            if left.suffix == ".parquet" and path not in referenced:
                (self._table / path).unlink(missing_ok=True)
            left.unlink(missing_ok=True)

    def has_leftovers(self) -> bool:
        """Whether there is something to sweep."""
        return any(True for _ in self._left())

    @property
    def scratch(self) -> Path:
        """Folder for files that whoever holds the right to write may need; a sweep empties it."""
        return self._markers

    def _left(self) -> Iterator[Path]:
        return (path for path in self._markers.iterdir() if path.name != _LOCK)


class ParquetStage:
    """A Parquet file being written, in row groups of bounded size; use :meth:`FolderWriter.file`."""

    def __init__(self, absolute: Path, path: str, spec: TableSpec, marker: Path) -> None:
        self._absolute = absolute
        self._path = path
        self._spec = spec
        self._marker = marker
        self._rows = 0
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = self._waiting_rows = 0
        self._writer = pq.ParquetWriter(
            absolute,
            spec.file_schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=list(spec.dictionary),
            column_encoding=dict.fromkeys(spec.byte_stream_split, "BYTE_STREAM_SPLIT") or None,
            write_statistics=[c.name for c in spec.columns if c.name in ("relative_path", "mtime_ns", "size_bytes")],
        )
        self.staged: StagedFile | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows, columns as in ``TableSpec.file_schema``."""
        if not batch.num_rows:
            return
        self._waiting.append(batch)
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
        if not self._marker.exists():
            raise RuntimeError(f"{self._path} was swept while it was being written")
        if self._rows:
            size = self._absolute.stat().st_size
            self.staged = StagedFile(self._path, size, self._rows, self._marker)
        else:
            self.abandon()

    @property
    def files(self) -> list[StagedFile]:
        """What a commit takes: the finished file, or nothing where it has no rows."""
        return [self.staged] if self.staged else []

    def abandon(self) -> None:
        """Delete the file."""
        self._writer.close()
        self._absolute.unlink(missing_ok=True)
        self._marker.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting, self._spec.file_schema)
            self._writer.write_table(table, row_group_size=table.num_rows)
            self._rows += table.num_rows
        self._waiting.clear()
        self._waiting_bytes = self._waiting_rows = 0


@contextmanager
def open_folder_writer(
    table: Path, spec: TableSpec, folder: str, on_wait: Callable[[str], Any] | None = None
) -> Iterator[FolderWriter]:
    """Hold the lock of a folder of a table; see ``LakeTable.writer``."""
    markers = table / "_writers" / hashlib.sha256(folder.encode()).hexdigest()[:24]
    markers.mkdir(parents=True, exist_ok=True)
    lock = FileLock(markers / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if on_wait is not None:
            on_wait(f"waiting for another process that is writing folder {folder!r} of {table.name}")
        lock.acquire(poll_interval=0.2)
    try:
        yield FolderWriter(table, spec, folder, markers)
    finally:
        lock.release()
