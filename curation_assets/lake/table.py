"""One Delta table: created once, brought up to a newer spec, read by snapshot, changed by one kind of commit."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from curation_assets.errors import CurationError
from curation_assets.lake import hive
from curation_assets.lake.problems import COMMIT_PATIENCE_SECONDS, explained_log, explained_table
from curation_assets.lake.removed import removed_lately
from curation_assets.lake.schemas import Column, TableSpec
from curation_assets.lake.snapshot import DataFile, Snapshot, scan_files
from curation_assets.lake.staging import PartitionWriter, StagedFile, right_to_write, sweep_free
from curation_assets.lake.storage import storage_of
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.options import StorageOptions

# deltalake 1.6 decodes %20 and \ in the path of a table, and refuses control characters and bytes that aren't UTF-8.
_IMPOSSIBLE = re.compile(r"%[0-9A-Fa-f]{2}|[\\\x00-\x1f\x7f\ud800-\udfff]")
_SWEEP_SECONDS = 600.0
_COMMIT = re.compile(r"\d{20}\.json")


class PartitionChangedError(Exception):
    """Another process changed the partition since it was read; read it again and plan anew."""


class LakeTable:
    """A Delta table on a local or mounted file system, or in an object store. Threads may share it.

    Args:
        path: the table's folder, ``<LAKE_ROOT>/<catalog>/<schema>/<table>``.
        spec: its columns and properties.
        options: of the object store.
    """

    def __init__(self, path: Path | StoreAddress, spec: TableSpec, options: StorageOptions | None = None) -> None:
        if found := _IMPOSSIBLE.search(str(path)):
            reason = f"a Delta table can't lie in a path with {found[0]!r}"
            raise CurationError(f"lake {str(path)!r}: {reason}; choose another CURATION_LAKE_ROOT")
        self.path = path
        self.spec = spec
        self.options = options or StorageOptions()
        self.storage = storage_of(path, self.options)
        self._lock = threading.Lock()
        self._next_sweep = -math.inf
        self._latest: tuple[object, DeltaTable, Snapshot] | None = None  # by identity of its commit's file

    def exists(self) -> bool:
        """Whether the table has been created.

        Raises:
            CurationError: the lake can't be read.
        """
        with explained_table(self.storage):
            return DeltaTable.is_deltatable(self.storage.table_uri, self._options)

    def create(self) -> None:
        """Create the table where it doesn't exist, and give an older one the columns that came since.

        Under a lock, because two creators at once break each other. New columns are a commit of metadata alone: no
        file is written anew, and older rows read as null.

        Raises:
            CurationError: the lake can't be written, or a table of other columns is there.
        """
        with explained_table(self.storage):
            if self.exists() and not self._lacking(self.latest()):
                return
            with self.storage.lock("_create.lock"):
                partition_by = None if self.spec.partition_column is None else [self.spec.partition_column]
                if not self.exists():
                    DeltaTable.create(
                        self.storage.table_uri,
                        storage_options=self._options,
                        schema=Schema.from_arrow(self.spec.arrow_schema),
                        partition_by=partition_by,
                        mode="ignore",
                        name=self.path.name,
                        description=self.spec.description,
                        configuration=self.spec.configuration,
                    )
                if lacking := self._lacking(self.snapshot()):
                    self._add_columns(lacking)
                self.storage.sync_log(self.newest_version())

    def snapshot(self, version: int | None = None) -> Snapshot:
        """The newest version, or an earlier one, read from the log.

        Args:
            version: its number.

        Raises:
            CurationError: there is no table or no such version, or it can't be read.
        """
        with explained_table(self.storage):
            if not self.exists():
                raise self._absent()
            newest = self.newest_version()
            if version is not None and not 0 <= version <= newest:
                raise CurationError(f"table {self.path} has the versions 0 to {newest}, and no {version}")
            return Snapshot.of(self.storage, self.spec, self._opened(version))

    def latest(self) -> Snapshot:
        """The newest version, as cheaply as can be: what this process read before is read again only if it changed.

        Raises:
            CurationError: there is no table, or it can't be read.
        """
        with explained_table(self.storage), self._lock:
            return self._newest()[1]

    def at(self, version: int) -> Snapshot:
        """One version, as cheaply as can be: the newest is known.

        Raises:
            CurationError: there is no table or no such version, or it can't be read.
        """
        newest = self.latest()
        return newest if newest.version == version else self.snapshot(version)

    def removed_lately(self) -> Snapshot:
        """Files whose rows left the table in the last days and that still lie there, as if they were a version of it.

        Raises:
            CurationError: there is no table, or its log can't be read.
        """
        newest = self.latest()
        with explained_table(self.storage):
            return removed_lately(newest)

    def commit_times(self) -> dict[int, datetime]:
        """When each version was committed, UTC, as far back as the log goes.

        It is what the commits say: the times of the log's files, which delta-rs goes by, change when a lake is copied.
        """
        with explained_table(self.storage):
            # Of the newest version: deltalake 1.6.6 counts the history of an earlier one wrongly.
            commits = DeltaTable(self.storage.table_uri, storage_options=self._options).history()
            return {c["version"]: datetime.fromtimestamp(c["timestamp"] / 1000, UTC) for c in commits}

    def newest_version(self) -> int:
        """Number of the newest version, from the names in the log alone: asked at every query; -1 without a table."""
        latest = self._latest
        known = "" if latest is None else f"{latest[2].version:020}"
        # In a store, each thousand names is a request.
        for after in sorted({known, ""}, reverse=True):
            numbers = [int(name[:20]) for name in self.storage.names("_delta_log", after) if _COMMIT.fullmatch(name)]
            if numbers:
                return max(numbers)
        return -1

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
        fields = {c.name: c.type for c in self.spec.columns if c.name in ("relative_path", column)}
        types = pl.Schema(self.spec.arrow_schema)
        with explained_table(self.storage):
            frame = scan_files(self.storage, [file], {name: types[name] for name in fields})
            rows = frame.filter(pl.col("relative_path").is_in(list(keys))).select("relative_path", column).collect()
            return dict(rows.iter_rows())

    @contextmanager
    def writer(
        self, partition: str = hive.WHOLE, on_wait: Callable[[str], Any] | None = None, *, by_lease: bool = False
    ) -> Iterator[PartitionWriter]:
        """Sole right to change a partition's rows, waiting for another process that has it.

        What a killed process staged for it is swept first. The kernel gives a dead process's right back.

        Args:
            partition: value of the partition column; ``hive.WHOLE`` of a table with one: any of them, for who always
                asks for that, as its rows change in one commit (``PartitionWriter.of``).
            on_wait: called once with a message if another process has to be waited for.
            by_lease: as of ``Storage.lock``.
        """
        with ExitStack() as stack:
            with explained_table(self.storage):  # of the lock and the sweep, not of whatever the caller does
                schema = self.latest().file_schema
                right = right_to_write(self.storage, self.spec, schema, partition, on_wait, by_lease=by_lease)
                writer = stack.enter_context(right)
                self._sweep(writer)
            try:
                yield writer
            finally:
                with suppress(CurationError, OSError):  # the next writer sweeps
                    self._sweep(writer)  # what a process left that died while it staged files for this one

    def sweep(self) -> int:
        """Delete what dead writers staged for any folder; at most every few minutes, as it looks at all folders.

        Returns:
            Bytes that were given back.

        Raises:
            CurationError: the table can't be read or written.
        """
        if time.monotonic() < self._next_sweep:
            return 0
        self._next_sweep = time.monotonic() + _SWEEP_SECONDS
        with explained_table(self.storage):
            return sweep_free(self.storage, self.spec, lambda: {f.path for f in self.latest().named_files()})

    def vacuum(self, retention_hours: int, *, dry_run: bool = False, pinned: Collection[str] = ()) -> dict[str, int]:
        """Delete files that no version of some last hours names, and those that no version ever named.

        Args:
            retention_hours: fewer than a week's are taken as they are: whoever asks for them means it.
            pinned: paths of files that stay all the same.

        Returns:
            Path → bytes of each file that went, or would.

        Raises:
            CurationError: the table can't be read or written.
        """
        with explained_table(self.storage):
            table = self._opened()

            def vacuum(dry_run: bool) -> list[str]:
                return table.vacuum(retention_hours, dry_run, enforce_retention_duration=False, full=True)

            paths = [unquote(path) for path in vacuum(dry_run=True)]
            stays = not set(paths).isdisjoint(pinned)
            paths = [path for path in paths if path not in pinned]
            sizes = {path: self.storage.size(path) for path in paths if self.storage.exists(path)}
            if sizes and not dry_run:
                if stays:  # Delta's own takes all or nothing
                    for path in sizes:
                        self.storage.delete(path)
                else:
                    vacuum(dry_run=False)
            return sizes

    def replace(
        self,
        partitions: str | Sequence[str],
        base: Snapshot,
        *,
        add: Iterable[StagedFile],
        remove: Iterable[DataFile],
        info: dict[str, Any] | None = None,
        data_change: bool = True,
    ) -> Snapshot:
        """Commit: in one version, ``add`` joins some partitions and ``remove`` leaves them.

        The commit lands only if the partitions' files are still those of ``base``, so a plan made from ``base`` holds.
        Others may change meanwhile: that is retried on the newest version, with jitter.

        Args:
            partitions: value of the partition column, or several; ``hive.WHOLE`` where there is none.
            base: snapshot that the change was planned on.
            add: finished files, as writers of these partitions staged them.
            remove: files of ``base`` that leave.
            info: written to the commit in the log.
            data_change: False where the rows stay the same and are only laid out anew.

        Returns:
            The snapshot this commit made, or a newer one.

        Raises:
            PartitionChangedError: somebody else changed one of the partitions since ``base``.
            CurationError: the commit could not be landed within five minutes.
        """
        add, remove = list(add), list(remove)
        if not add and not remove:
            return base
        chosen = [partitions] if isinstance(partitions, str) else list(partitions)
        if strange := {f.partition for f in add}.union(f.partition for f in remove).difference(chosen):
            raise ValueError(f"files of {sorted(strange)!r} in a commit of {chosen!r}")
        expected = {file.path for file in base.named_files(chosen)}
        schema = self.latest().file_schema
        for file in add:
            file.validate(self.storage, schema)
        actions = self._actions(add, remove, data_change)
        properties = CommitProperties(custom_metadata=info or {}, max_commit_retries=0)
        with explained_table(self.storage):
            self.storage.sync([file.path for file in add])  # before anything names them
            for attempt in _retrying():
                with attempt, self._lock:
                    table, current = self._newest()
                    now = {file.path for file in current.named_files(chosen)}
                    if add and now.issuperset(file.path for file in add):  # it landed, and its answer was lost
                        done = current
                        break
                    if now != expected:
                        raise PartitionChangedError(", ".join(chosen))
                    self._latest = None  # until it is known what became of the commit
                    # No retries inside: delta-rs would rebase an append onto any version without looking again.
                    table.create_write_transaction(
                        actions,
                        mode="append",
                        schema=table.schema(),
                        partition_by=None if self.spec.partition_column is None else [self.spec.partition_column],
                        commit_properties=properties,
                    )
                    done = self._committed(table, current, add, remove)
            self.storage.sync_log(done.version)  # before the markers go, which say what may be deleted
        for file in add:
            file.committed(self.storage)
        return done

    def _actions(
        self, add: list[StagedFile], remove: list[DataFile], data_change: bool
    ) -> list[AddAction | RemoveAction]:
        now, column = time.time_ns() // 1_000_000, self.spec.partition_column
        actions: list[AddAction | RemoveAction] = [
            AddAction(
                file.path,
                file.size_bytes,
                hive.partition_values(column, file.partition),
                now,
                data_change,
                json.dumps({"numRecords": file.rows}),
            )
            for file in add
        ]
        actions += [
            RemoveAction(f.path, data_change, now, f.size_bytes, hive.partition_values(column, f.partition))
            for f in remove
        ]
        return actions

    def _absent(self) -> CurationError:
        return CurationError(
            f"there is no table at {self.path}; `curation run` creates it, and --lake (CURATION_LAKE_ROOT) names "
            "another lake"
        )

    def _opened(self, version: int | None = None) -> DeltaTable:
        with explained_log(self.storage):
            return DeltaTable(self.storage.table_uri, version=version, storage_options=self._options)

    def _newest(self) -> tuple[DeltaTable, Snapshot]:
        """The table opened at its newest version; for who holds ``_lock``."""
        if self._latest is not None:
            mark, table, snapshot = self._latest
            if self._mark(snapshot.version) == mark and self._mark(snapshot.version + 1) is None:
                return table, snapshot
        if not self.exists():
            raise self._absent()
        table = self._opened()
        return table, self._remember(table, Snapshot.of(self.storage, self.spec, table))

    def _committed(
        self, table: DeltaTable, before: Snapshot, add: list[StagedFile], remove: list[DataFile]
    ) -> Snapshot:
        """The snapshot that a commit made. Without retries it is the next version, or it failed."""
        table.update_incremental()
        if table.version() != before.version + 1:  # somebody else's came after it
            return self._remember(table, Snapshot.of(self.storage, self.spec, table))
        added = [DataFile(file.path, file.partition, file.size_bytes, file.rows) for file in add]
        return self._remember(table, before.after(table.version(), added, remove))

    def _remember(self, table: DeltaTable, snapshot: Snapshot) -> Snapshot:
        mark = self._mark(snapshot.version)
        self._latest = None if mark is None else (mark, table, snapshot)
        return snapshot

    def _mark(self, version: int) -> object:
        """What tells a commit's file from one of the same number in a table that was made anew; None without one."""
        return self.storage.stamp(f"_delta_log/{version:020}.json")

    @property
    def _options(self) -> dict[str, str] | None:
        return dict(self.storage.library_options) or None

    def _sweep(self, writer: PartitionWriter) -> None:
        if writer.has_leftovers():
            of = [writer.partition] if writer.partition else None
            writer.sweep({file.path for file in self.latest().named_files(of)})

    def _lacking(self, snapshot: Snapshot) -> list[Column]:
        """Columns that came to the spec after the table was made.

        Raises:
            CurationError: it lacks others too, so it is another table.
        """
        lacking = [column for column in self.spec.columns if column.name not in snapshot.schema.names]
        if strange := sorted(column.name for column in lacking if not column.came_later):
            raise CurationError(f"table {self.path} lacks the columns {', '.join(strange)}")
        return lacking

    def _add_columns(self, columns: list[Column]) -> None:
        fields = Schema.from_arrow(pa.schema([column.field for column in columns])).fields
        for attempt in _retrying():
            with attempt:
                DeltaTable(self.storage.table_uri, storage_options=self._options).alter.add_columns(fields)


def _retrying() -> Retrying:
    return Retrying(
        retry=retry_if_exception_type(CommitFailedError),
        wait=wait_random_exponential(multiplier=0.02, max=2),
        stop=stop_after_delay(COMMIT_PATIENCE_SECONDS),
        reraise=True,
    )
