"""One Delta table partitioned by image folder: created once, read by snapshot, changed by one kind of commit."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction
from filelock import FileLock
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from curation_assets.errors import CurationError, first_line
from curation_assets.lake.schemas import PARTITION_COLUMN, TableSpec
from curation_assets.lake.staging import FolderWriter, StagedFile, open_folder_writer

_COMMIT_PATIENCE_SECONDS = 300
# deltalake 1.6 decodes %20 and \ in the path of a table, and refuses control characters and bytes that aren't UTF-8.
_IMPOSSIBLE = re.compile(r"%[0-9A-Fa-f]{2}|[\\\x00-\x1f\x7f\ud800-\udfff]")
_COMMIT = re.compile(r"\d{20}\.json")
_LAKE_ERRORS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)


class FolderChangedError(Exception):
    """Another process changed the folder since it was read; read it again and plan anew."""


@dataclass(frozen=True)
class DataFile:
    """A Parquet file of a snapshot.

    Attributes:
        path: relative to the table, as it lies on disk.
        rows: number of rows.
    """

    path: str
    folder: str
    size_bytes: int
    rows: int


class Snapshot:
    """A table at one version. Reading touches only the columns and folders that are asked for."""

    def __init__(self, root: Path, spec: TableSpec, table: DeltaTable) -> None:
        self.root = root
        self.spec = spec
        self.version: int = table.version()
        self.table_id = str(table.metadata().id)
        self._files: dict[str, list[DataFile]] = {}
        actions = pa.table(table.get_add_actions(flatten=True))
        names = ("path", f"partition.{PARTITION_COLUMN}", "size_bytes", "num_records")
        if actions.num_rows:
            for path, folder, size, rows in zip(*(actions[n].to_pylist() for n in names), strict=True):
                self._files.setdefault(folder, []).append(DataFile(unquote(path), folder, size, rows or 0))

    @property
    def folders(self) -> list[str]:
        """Folders that have rows, sorted."""
        return sorted(self._files)

    def files(self, folder: str | None = None) -> list[DataFile]:
        """Parquet files of one folder or of all."""
        return self.files_of(self._files if folder is None else (folder,))

    def files_of(self, folders: Iterable[str]) -> list[DataFile]:
        """Parquet files of some folders."""
        return [file for folder in folders for file in self._files.get(folder, ())]

    def rows(self, folder: str | None = None) -> int:
        """Number of rows of one folder or of all, from the log alone."""
        return sum(file.rows for file in self.files(folder))

    def bytes(self, folder: str | None = None) -> int:
        """Size of the Parquet files of one folder or of all."""
        return sum(file.size_bytes for file in self.files(folder))

    def read(
        self,
        columns: Sequence[str],
        folder: str | None = None,
        files: Sequence[DataFile] | None = None,
        where: pl.Expr | None = None,
    ) -> pl.DataFrame:
        """Read rows, with a column ``_file`` that holds each row's ``DataFile.path``.

        Args:
            columns: columns of the table, ``folder`` allowed.
            folder: only this folder's rows.
            files: only these files' rows.
            where: only rows for which this holds; pushed down to the files.

        Raises:
            CurationError: a file of the table is missing or broken.
        """
        with _understandable_errors(self.root):
            if where is None:
                return self.scan(columns, folder, files).collect(engine="streaming")
            needed = [*columns, *(c for c in where.meta.root_names() if c not in columns)]
            found = self.scan(needed, folder, files).filter(where)
            return found.select(*columns, "_file").collect(engine="streaming")

    def scan(
        self, columns: Sequence[str], folder: str | None = None, files: Sequence[DataFile] | None = None
    ) -> pl.LazyFrame:
        """Like :meth:`read`, lazily."""
        chosen = self.files(folder) if files is None else list(files)
        if not chosen:
            schema = pl.Schema(pl.DataFrame(self.spec.arrow_schema.empty_table()).schema)
            return pl.LazyFrame(schema={c: schema[c] for c in columns} | {"_file": pl.String})
        paths = [str(self.root / file.path) for file in chosen]
        frame = pl.scan_parquet(paths, glob=False, hive_partitioning=False, include_file_paths="_path")
        of_path = pl.LazyFrame(
            {
                "_path": paths,
                "_file": [file.path for file in chosen],
                PARTITION_COLUMN: [file.folder for file in chosen],
            }
        )
        in_file = [c for c in columns if c != PARTITION_COLUMN]
        joined = frame.select(*in_file, "_path").join(of_path, on="_path", maintain_order="left")
        return joined.select(*columns, "_file")


def folders_in_parts(*snapshots: Snapshot, rows: int = 250_000) -> Iterator[list[str]]:
    """All folders of some tables, sorted, in lists of about ``rows`` rows: for questions about a whole tree.

    Args:
        rows: of the largest of the tables; a folder of more is a list of its own.
    """
    part: list[str] = []
    held = 0
    for folder in sorted({folder for snapshot in snapshots for folder in snapshot.folders}):
        number = max(snapshot.rows(folder) for snapshot in snapshots)
        if part and held + number > rows:
            yield part
            part, held = [], 0
        part.append(folder)
        held += number
    if part:
        yield part


class LakeTable:
    """A Delta table on a local or mounted file system, partitioned by ``folder``.

    Args:
        path: the table's folder, ``<LAKE_ROOT>/<catalog>/<schema>/<table>``.
        spec: its columns and properties.
    """

    def __init__(self, path: Path, spec: TableSpec) -> None:
        if found := _IMPOSSIBLE.search(str(path)):
            reason = f"a Delta table can't lie in a path with {found[0]!r}"
            raise CurationError(f"lake {str(path)!r}: {reason}; choose another CURATION_LAKE_ROOT")
        self.path = path
        self.spec = spec

    def exists(self) -> bool:
        """Whether the table has been created."""
        return DeltaTable.is_deltatable(str(self.path))

    def create(self) -> None:
        """Create the table where it doesn't exist; under a lock, because two creators at once break each other.

        Raises:
            CurationError: the lake can't be written, or a table of other columns is there.
        """
        with _understandable_errors(self.path):
            if not self.exists():
                self.path.mkdir(parents=True, exist_ok=True)
                with FileLock(self.path / "_create.lock"):
                    DeltaTable.create(
                        str(self.path),
                        schema=Schema.from_arrow(self.spec.arrow_schema),
                        partition_by=[PARTITION_COLUMN],
                        mode="ignore",
                        name=self.path.name,
                        description=self.spec.description,
                        configuration=self.spec.configuration,
                    )
            columns = {field.name for field in self._open().schema().fields}
        missing = {column.name for column in self.spec.columns} - columns
        if missing:
            raise CurationError(f"table {self.path} lacks the columns {', '.join(sorted(missing))}")

    def snapshot(self, version: int | None = None) -> Snapshot:
        """The newest version, or an earlier one.

        Args:
            version: its number.

        Raises:
            CurationError: there is no table or no such version, or it can't be read.
        """
        with _understandable_errors(self.path):
            if not self.exists():
                raise CurationError(f"there is no table at {self.path}; `curation run` creates it")
            newest = self.newest_version()
            if version is not None and not 0 <= version <= newest:
                raise CurationError(f"table {self.path} has the versions 0 to {newest}, and no {version}")
            return Snapshot(self.path, self.spec, self._open(version))

    def commit_times(self) -> dict[int, datetime]:
        """When each version was committed, UTC, as far back as the log goes.

        It is what the commits say: the times of the log's files, which delta-rs goes by, change when a lake is copied.
        """
        with _understandable_errors(self.path):
            # Of the newest version: deltalake 1.6.6 counts the history of an earlier one wrongly.
            commits = self._open().history()
            return {c["version"]: datetime.fromtimestamp(c["timestamp"] / 1000, UTC) for c in commits}

    def newest_version(self) -> int:
        """Number of the newest version, from the names in the log alone: asked at every query; -1 without a table."""
        try:
            names = os.listdir(self.path / "_delta_log")
        except OSError:
            return -1
        return max((int(name[:20]) for name in names if _COMMIT.fullmatch(name)), default=-1)

    def cells(self, file: str, column: str, keys: Sequence[str]) -> dict[str, Any]:
        """One column of some rows of a data file.

        Args:
            file: ``DataFile.path``, of any snapshot.
            keys: ``relative_path`` of the rows.

        Returns:
            Key → value; rows that the file doesn't have are left out.

        Raises:
            CurationError: the file is gone (vacuumed, say) or broken.
        """
        with _understandable_errors(self.path):
            frame = pl.scan_parquet(self.path / file, glob=False, hive_partitioning=False)
            rows = frame.filter(pl.col("relative_path").is_in(list(keys))).select("relative_path", column).collect()
            return dict(rows.iter_rows())

    @contextmanager
    def writer(self, folder: str, on_wait: Any = None) -> Iterator[FolderWriter]:
        """Sole right to change a folder's rows, waiting for another process that has it.

        What a killed process staged for the folder is swept first. The kernel gives a dead process's right back.

        Args:
            folder: value of the partition column.
            on_wait: called once with a message if another process has to be waited for.
        """
        with ExitStack() as stack:
            with _understandable_errors(self.path):  # of the lock and the sweep, not of whatever the caller does
                writer = stack.enter_context(open_folder_writer(self.path, self.spec, folder, on_wait))
                writer.sweep({file.path for file in self.snapshot().files(folder)})
            try:
                yield writer
            finally:
                with suppress(CurationError, OSError):  # the next writer sweeps
                    if writer.has_leftovers():  # of a process that died while it staged files for this one
                        writer.sweep({file.path for file in self.snapshot().files(folder)})

    def replace(
        self,
        folder: str,
        base: Snapshot,
        *,
        add: Iterable[StagedFile],
        remove: Iterable[DataFile],
        info: dict[str, Any] | None = None,
        data_change: bool = True,
    ) -> Snapshot:
        """Commit: in one version, ``add`` joins a folder and ``remove`` leaves it.

        The commit lands only if the folder's files are still those of ``base``, so a plan made from ``base`` holds.
        Other folders may change meanwhile: that is retried on the newest version, with jitter.

        Args:
            folder: value of the partition column.
            base: snapshot that the change was planned on.
            add: finished files, as the folder's writer staged them.
            remove: files of ``base`` that leave.
            info: written to the commit in the log.
            data_change: False where the rows stay the same and are only laid out anew.

        Returns:
            The snapshot this commit made, or a newer one.

        Raises:
            FolderChangedError: somebody else changed the folder since ``base``.
            CurationError: the commit could not be landed within five minutes.
        """
        add, remove = list(add), list(remove)
        if not add and not remove:
            return base
        expected = {file.path for file in base.files(folder)}
        for file in add:
            file.validate(self.path, self.spec)
        now = time.time_ns() // 1_000_000
        actions: list[AddAction | RemoveAction] = [
            AddAction(
                f.path,
                f.size_bytes,
                {PARTITION_COLUMN: folder},
                now,
                data_change,
                json.dumps({"numRecords": f.rows}),
            )
            for f in add
        ]
        actions += [RemoveAction(f.path, data_change, now, f.size_bytes, {PARTITION_COLUMN: folder}) for f in remove]
        properties = CommitProperties(custom_metadata=info or {}, max_commit_retries=0)
        retrying = Retrying(
            retry=retry_if_exception_type(CommitFailedError),
            wait=wait_random_exponential(multiplier=0.02, max=2),
            stop=stop_after_delay(_COMMIT_PATIENCE_SECONDS),
            reraise=True,
        )
        with _understandable_errors(self.path):
            for attempt in retrying:
                with attempt:
                    table = self._open()
                    current = {file.path for file in Snapshot(self.path, self.spec, table).files(folder)}
                    if current != expected:
                        raise FolderChangedError(folder)
                    # No retries inside: delta-rs would rebase an append onto any version without looking again.
                    table.create_write_transaction(
                        actions,
                        mode="append",
                        schema=table.schema(),
                        partition_by=[PARTITION_COLUMN],
                        commit_properties=properties,
                    )
        for file in add:
            file.committed()
        return self.snapshot()

    def _open(self, version: int | None = None) -> DeltaTable:
        return DeltaTable(str(self.path), version=version)


def read_batches(
    table: Path, files: Iterable[DataFile], batch_size: int, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Stream rows of some files, ``batch_size`` at a time.

    Args:
        table: the table's folder.
        columns: which; not the partition column, which is in no file. None: all.

    Raises:
        CurationError: a file of the table is missing or broken.
    """
    with _understandable_errors(table):
        for file in files:
            yield from pq.ParquetFile(table / file.path).iter_batches(batch_size=batch_size, columns=columns)


@contextmanager
def _understandable_errors(table: Path) -> Iterator[None]:
    """Turn what the libraries raise for a broken table or an unusable lake into one line for the user."""
    try:
        yield
    except CommitFailedError as error:
        raise CurationError(f"table {table}: no commit landed in {_COMMIT_PATIENCE_SECONDS} s: {error}") from error
    except (DeltaError, pl.exceptions.PolarsError, pa.ArrowException) as error:
        raise CurationError(f"table {table} can't be read or written: {first_line(error)}") from error
    except OSError as error:
        if error.errno in (None, errno.ENOENT):  # a library in Rust gives no number; or a file of the table is gone
            lines = re.sub(r"\x1b\[\d*m|↳", "", str(error)).strip().splitlines() or [type(error).__name__]
            reason = re.sub(r" \(set POLARS_VERBOSE.*", "", lines[-1].strip())
            raise CurationError(f"table {table} can't be read or written: {reason}") from error
        if error.errno not in _LAKE_ERRORS:
            raise
        hint = "; check CURATION_LAKE_ROOT" if error.errno != errno.ENOSPC else ""
        raise CurationError(f"lake {error.filename or table}: {error.strerror}{hint}") from error
