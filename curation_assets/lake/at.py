"""A table as it was at one of its versions, for whatever reads a table: Delta's time travel."""

from __future__ import annotations

from typing import Any

from curation_assets.errors import CurationError
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable


class TableAt(LakeTable):
    """A table at a version, opened when it is first read; nothing can be written to it.

    Args:
        version: None: before there was such a table.
        table_id: that it had then.
    """

    def __init__(self, table: LakeTable, version: int | None, table_id: str | None = None) -> None:
        super().__init__(table.path, table.spec, table.options)
        self._table = table
        self._version = version
        self._table_id = table_id
        self._at: Snapshot | None = None

    def exists(self) -> bool:
        """Whether it was there."""
        return self._version is not None

    def newest_version(self) -> int:
        """The version; -1 before there was such a table."""
        return -1 if self._version is None else self._version

    def latest(self) -> Snapshot:
        """What it was.

        Raises:
            CurationError: there is no such version, its files were vacuumed, or the table was made anew since.
        """
        if self._at is None:
            self._at = self._opened_then()
        return self._at

    def _opened_then(self) -> Snapshot:
        table, version, name = self._table, self._version, self.path.name
        newest = table.newest_version()
        if version is None or newest < 0:
            raise self._absent()
        if self._table_id is not None and table.latest().table_id != self._table_id:
            raise CurationError(f"table {name} was made anew since")
        if not 0 <= version <= newest:
            raise CurationError(f"table {name} has no version {version}; it has 0 to {newest}")
        snapshot = _whole(table, version)
        if snapshot is None:
            oldest = _oldest(table, version, newest)
            there = f"versions {oldest} to {newest} are" if oldest < newest else f"version {newest} is"
            raise CurationError(f"table {name}: files of version {version} were vacuumed; {there} there")
        return snapshot

    def create(self) -> None:
        """Refused, as all that would write.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.path.name} is read as of an earlier version")

    def writer(self, *_: Any, **__: Any) -> Any:
        """Refused."""
        self.create()

    def replace(self, *_: Any, **__: Any) -> Any:
        """Refused."""
        self.create()


def _whole(table: LakeTable, version: int) -> Snapshot | None:
    """A version whose files are all there; a read would leave out those that are not."""
    try:
        snapshot = table.snapshot(version)
    except CurationError:  # its log was cleaned up
        return None
    return snapshot if all(table.storage.exists(file.path) for file in snapshot.named_files()) else None


def _oldest(table: LakeTable, gone: int, newest: int) -> int:
    """The first version from which on all can be read; what leaves a table first is vacuumed first."""
    low, high = gone, newest  # not there, there
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _whole(table, middle) is not None else (middle, high)
    return high
