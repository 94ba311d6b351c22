"""Data files of tables that can't be read: found where a read fails, and left out of what is read from then on.

A file is looked for in vain, is cut short, or holds something else than Parquet: after a power cut on a disk that had
not written what it said, or a disk that loses bits. It costs its own rows. What no read fails at is not looked at.
An error of the moment (a network disk, a right) breaks nothing and passes as it is.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from curation_assets.errors import CurationError, first_line
from curation_assets.lake.storage import Storage

_HELD_SECONDS = 60.0  # then it is looked at again: a disk may have come back
_BATCH_ROWS = 64
_tables: dict[str, BrokenFiles] = {}
_lock = threading.Lock()
T = TypeVar("T")


class BrokenFileError(CurationError):
    """A data file of a table can't be read.

    Attributes:
        location: of the table.
        path: of the file, in it.
        reason: why it can't be read.
    """

    def __init__(self, location: str, path: str, reason: str) -> None:
        super().__init__(
            f"table {location} can't be read: data file {path} {reason}; `curation repair` makes its rows anew"
        )
        self.location = location
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[BrokenFileError], tuple[str, str, str]]:
        return type(self), (self.location, self.path, self.reason)


class BrokenFiles:
    """Those of one table that a read of this process failed at, for a minute each, or until they are written again."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[float, str, Callable[[], bool]]] = {}

    @classmethod
    def of(cls, location: str) -> BrokenFiles:
        """Of the table there; the same object in all of a process."""
        with _lock:
            return _tables.setdefault(location, cls())

    @property
    def reasons(self) -> dict[str, str]:
        """Path → why it can't be read."""
        if not self._found:
            return {}
        now = time.monotonic()
        return {
            path: reason
            for path, (until, reason, is_as_it_was) in list(self._found.items())
            if now < until and is_as_it_was()
        }

    def note(self, path: str, reason: str, storage: Storage | None = None, *, for_good: bool = False) -> None:
        """Leave a file out, for a while or as long as this process lives.

        Args:
            storage: where it lies: it is left out only as long as nobody writes it again.
        """
        stamp = storage.stamp(path) if storage is not None else None
        self._found[path] = (
            math.inf if for_good else time.monotonic() + _HELD_SECONDS,
            reason,
            lambda: storage is None or storage.stamp(path) == stamp,
        )


def why_broken(storage: Storage, path: str, size_bytes: int, columns: Sequence[str] | None = None) -> str | None:
    """Why a data file can't be read; None where it can, as far as was asked.

    Args:
        size_bytes: what the table's log says of it.
        columns: to be read to their end, checksums of pages included; of those that it has. None: the footer alone.

    Raises:
        OSError: it can't be looked at now, which says nothing of it.
    """
    try:
        size = storage.size(path)
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    try:
        with storage.parquet(path, verify=True) as parquet:
            if columns is not None:
                _read_through(parquet, columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if size != size_bytes:
            return f"has {size:,} of its {size_bytes:,} bytes"
        return f"is damaged ({first_line(error)})"
    return None


def find_broken(storage: Storage, files: Iterable[tuple[str, int]], columns: Sequence[str]) -> bool:
    """Look for what a read of some files failed at, and note it.

    Args:
        files: path and size of each.
        columns: that were read.

    Returns:
        Whether any was found.
    """
    noted, chosen = BrokenFiles.of(storage.location), list(files)
    before = noted.reasons
    for wanted in (None, columns):  # most are missing or cut, which the end of a file shows
        found = False
        for path, size in chosen:
            try:
                reason = None if path in before else why_broken(storage, path, size, wanted)
            except OSError:
                continue
            if reason is not None:
                noted.note(path, reason, storage)
                found = True
        if found:
            return True
    return False


def passing_over(work: Callable[[], T]) -> T:
    """Do something that reads tables, again without each file that turns out to be broken.

    Raises:
        BrokenFileError: leaving it out didn't help.
    """
    tried: set[str] = set()
    while True:
        try:
            return work()
        except BrokenFileError as error:
            if error.path in tried:
                raise
            tried.add(error.path)
            noted = BrokenFiles.of(error.location)
            if error.path not in noted.reasons:  # found in another process
                noted.note(error.path, error.reason)


def _read_through(parquet: pq.ParquetFile, columns: Sequence[str]) -> None:
    there = [name for name in columns if name in parquet.schema_arrow.names]
    for _ in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=there):
        pass
