"""A table at one version: which files it consists of, and its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from curation_assets.errors import CurationError, first_line
from curation_assets.lake import hive
from curation_assets.lake.broken import BrokenFileError, BrokenFiles, find_broken
from curation_assets.lake.columns import conformed, stored_schema
from curation_assets.lake.problems import explained_table
from curation_assets.lake.schemas import TableSpec
from curation_assets.lake.storage import Storage


@dataclass(frozen=True)
class DataFile:
    """A Parquet file of a snapshot.

    Attributes:
        path: relative to the table, as it lies on disk.
        partition: value of the partition column; ``hive.WHOLE`` where there is none.
        rows: number of rows.
    """

    path: str
    partition: str
    size_bytes: int
    rows: int


@dataclass(frozen=True)
class TableReader:
    """Reads files of a table, in whichever process: small enough to be sent to one.

    Attributes:
        schema: of the table's files (``Snapshot.file_schema``); what a file lacks is null.
    """

    storage: Storage
    schema: pa.Schema

    def batches(
        self, files: Iterable[DataFile], batch_size: int, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Stream rows of some files, ``batch_size`` at a time.

        Args:
            columns: which; not the partition column, which is in no file. None: all, users' own too.

        Raises:
            BrokenFileError: a file of the table is missing or broken.
        """
        wanted = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        for file in files:
            with self._reading(file.path) as parquet:
                there = [name for name in wanted.names if name in parquet.schema_arrow.names]
                for batch in parquet.iter_batches(batch_size=batch_size, columns=there):
                    yield conformed(batch, wanted)

    @contextmanager
    def parquet(self, path: str) -> Iterator[pq.ParquetFile]:
        """Open one file; for who goes by its row groups.

        Raises:
            BrokenFileError: it is missing or broken, found out now or within the block.
        """
        with self._reading(path) as parquet:
            yield parquet

    @contextmanager
    def _reading(self, path: str) -> Iterator[pq.ParquetFile]:
        with explained_table(self.storage):
            try:
                with self.storage.parquet(path) as parquet:
                    yield parquet
            except (pa.ArrowException, OSError) as error:
                is_missing = isinstance(error, FileNotFoundError)
                if isinstance(error, OSError) and error.errno is not None and not is_missing:
                    raise
                reason = "is missing" if is_missing else f"is damaged ({first_line(error)})"
                BrokenFiles.of(self.storage.location).note(path, reason, self.storage)
                raise BrokenFileError(self.storage.location, path, reason) from error


class Snapshot:
    """A table at one version. Reading touches only the columns and partitions that are asked for.

    A data file that is missing or damaged is left out, from when a read fails at it; ``broken`` tells.

    Args:
        schema: of the table as it is stored; columns of the spec that it lacks are read as null.
        files: by partition.
    """

    def __init__(
        self,
        storage: Storage,
        spec: TableSpec,
        version: int,
        table_id: str,
        schema: pa.Schema,
        files: Mapping[str, list[DataFile]],
    ) -> None:
        self.storage = storage
        self.spec = spec
        self.version = version
        self.table_id = table_id
        self.schema = schema
        self._files = files

    @classmethod
    def of(cls, storage: Storage, spec: TableSpec, table: DeltaTable) -> Snapshot:
        """The version that an opened table is at."""
        files: dict[str, list[DataFile]] = {}
        # Not `pa.table`: that, and making any array, imports pandas to see whether it was given something of its.
        actions = pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True)).read_all()
        if actions.num_rows:
            paths, sizes, rows = (actions[name].to_pylist() for name in ("path", "size_bytes", "num_records"))
            partitions = [hive.WHOLE] * len(paths)
            if spec.partition_column is not None:
                partitions = actions[f"partition.{spec.partition_column}"].to_pylist()
            for path, partition, size, number in zip(paths, partitions, sizes, rows, strict=True):
                files.setdefault(partition, []).append(DataFile(unquote(path), partition, size, number or 0))
        table_id = str(table.metadata().id)
        return cls(storage, spec, table.version(), table_id, stored_schema(table, spec), files)

    def after(self, version: int, added: Iterable[DataFile], removed: Iterable[DataFile]) -> Snapshot:
        """The next version, which differs from this one by some files."""
        gone = {file.path for file in removed}
        files = dict(self._files)
        touched = {file.partition for file in (*added, *removed)}
        for partition in touched:
            kept = [file for file in files.pop(partition, []) if file.path not in gone]
            kept += [file for file in added if file.partition == partition]
            if kept:
                files[partition] = kept
        made = Snapshot(self.storage, self.spec, version, self.table_id, self.schema, files)
        made._types = self._types  # the same, and dear to make
        return made

    @property
    def file_schema(self) -> pa.Schema:
        """Schema of the table's Parquet files: users' columns are in it, the partition column is not."""
        return pa.schema([field for field in self.schema if field.name != self.spec.partition_column])

    @property
    def reader(self) -> TableReader:
        """What reads its files row by row."""
        return TableReader(self.storage, self.file_schema)

    @property
    def added_columns(self) -> list[str]:
        """Columns that users added to the table."""
        known = {column.name for column in self.spec.columns}
        return [name for name in self.schema.names if name not in known]

    @property
    def partitions(self) -> list[str]:
        """Values of the partition column that have rows, sorted."""
        return sorted(self._files)

    @property
    def folders(self) -> list[str]:
        """The same, of a table that is partitioned by image folder; none of another."""
        return self.partitions if self.spec.partition_column == "folder" else []

    def files(self, partition: str | None = None) -> list[DataFile]:
        """Parquet files of one partition or of all."""
        return self.files_of(self._files if partition is None else (partition,))

    def files_of(self, partitions: Iterable[str]) -> list[DataFile]:
        """Parquet files of some partitions."""
        return self._without_broken(self.named_files(partitions))

    def named_files(self, partitions: Iterable[str] | None = None) -> list[DataFile]:
        """Parquet files of some partitions or of all, with those that can't be read."""
        chosen = self._files if partitions is None else partitions
        return [file for partition in chosen for file in self._files.get(partition, ())]

    def broken(self, partition: str | None = None) -> list[tuple[DataFile, str]]:
        """Files of one partition or of all that a read failed at lately, and why."""
        reasons = BrokenFiles.of(self.storage.location).reasons
        files = self.named_files(None if partition is None else (partition,)) if reasons else []
        return [(file, reasons[file.path]) for file in files if file.path in reasons]

    def refuse_broken(self, partition: str) -> None:
        """Say that some rows of a partition can't be read, to who would take them for gone.

        Raises:
            BrokenFileError: a file of it was found to be broken.
        """
        for file, reason in self.broken(partition):
            raise BrokenFileError(self.storage.location, file.path, reason)

    def _without_broken(self, files: list[DataFile]) -> list[DataFile]:
        broken = BrokenFiles.of(self.storage.location).reasons
        return [file for file in files if file.path not in broken] if broken else files

    def rows(self, partition: str | None = None) -> int:
        """Number of rows of one partition or of all, from the log alone."""
        return sum(file.rows for file in self.files(partition))

    def bytes(self, partition: str | None = None) -> int:
        """Size of the Parquet files of one partition or of all."""
        return sum(file.size_bytes for file in self.files(partition))

    def read(
        self,
        columns: Sequence[str],
        partition: str | None = None,
        files: Sequence[DataFile] | None = None,
        where: pl.Expr | None = None,
    ) -> pl.DataFrame:
        """Read rows, with a column ``_file`` that holds each row's ``DataFile.path``.

        Args:
            columns: columns of the table, the partition column and users' own allowed.
            partition: only this partition's rows.
            files: only these files' rows.
            where: only rows for which this holds; pushed down to the files.

        Raises:
            CurationError: the table can't be read now. Rows of a broken file are left out.
        """
        needed = list(dict.fromkeys([*columns, *([] if where is None else where.meta.root_names())]))
        while True:
            chosen = self.files(partition) if files is None else self._without_broken(list(files))
            try:
                with explained_table(self.storage):
                    found = self.scan(needed, files=chosen)
                    found = found if where is None else found.filter(where)
                    return found.select(*columns, "_file").collect(engine="streaming")
            except CurationError:
                if not find_broken(self.storage, [(file.path, file.size_bytes) for file in chosen], needed):
                    raise

    def scan(
        self, columns: Sequence[str], partition: str | None = None, files: Sequence[DataFile] | None = None
    ) -> pl.LazyFrame:
        """Like :meth:`read`, lazily."""
        chosen = self.files(partition) if files is None else self._without_broken(list(files))
        if not chosen:
            return pl.LazyFrame(schema={c: self._types[c] for c in columns} | {"_file": pl.String})
        of = self.spec.partition_column
        in_file = [c for c in columns if c != of]
        frame = scan_files(self.storage, [file.path for file in chosen], {c: self._types[c] for c in in_file})
        if of in columns:
            values = pl.LazyFrame({"_file": [f.path for f in chosen], of: [f.partition for f in chosen]})
            frame = frame.join(values, on="_file", how="left", maintain_order="left")
        return frame.select(*columns, "_file")

    @cached_property
    def _types(self) -> pl.Schema:
        """Types of polars, of the stored columns and of those that a table of an earlier version lacks."""
        lacking = [column.field for column in self.spec.columns if column.name not in self.schema.names]
        return pl.Schema(pa.schema([*self.schema, *lacking]))


def scan_files(storage: Storage, paths: Sequence[str], types: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """Some columns of some Parquet files of a table, with a column ``_file``; a column that a file lacks is null."""
    uris = [storage.uri(path) for path in paths]
    frame = pl.scan_parquet(
        uris,
        storage_options=dict(storage.library_options) or None,
        schema=dict(types),
        glob=False,
        hive_partitioning=False,
        include_file_paths="_uri",
        missing_columns="insert",
        extra_columns="ignore",
    )
    named = pl.LazyFrame({"_uri": uris, "_file": list(paths)})
    return frame.join(named, on="_uri", how="left", maintain_order="left").drop("_uri")


def partitions_in_parts(*snapshots: Snapshot, rows: int = 250_000) -> Iterator[list[str]]:
    """All partitions of some tables, sorted, in lists of about ``rows`` rows: for questions about a whole tree.

    Args:
        rows: of the largest of the tables; a partition of more is a list of its own.
    """
    part: list[str] = []
    held = 0
    for partition in sorted({each for snapshot in snapshots for each in snapshot.partitions}):
        number = max(snapshot.rows(partition) for snapshot in snapshots)
        if part and held + number > rows:
            yield part
            part, held = [], 0
        part.append(partition)
        held += number
    if part:
        yield part
