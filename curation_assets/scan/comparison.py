"""Edits that keep a file's size and time: where only its inode changed (ctime), its bytes are compared by their hash.

A copy or a ``chmod`` changes the ctime of every file and nothing else, so what was compared is noted beside the table
and not compared again; of many at once a sample is taken. A lost note costs some reading.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePosixPath

import polars as pl

from curation_assets.images.record import os_reason
from curation_assets.images.source import ImageSource
from curation_assets.lake.storage import Storage

COMPARED_BYTES = 256 * 2**20  # read for this in one scan, of however many folders
SAMPLE_FILES = 20
TIMES_COLUMNS = ("relative_path", "size_bytes", "mtime_ns", "created_at", "status")
_WITHOUT_HASH = ["unreadable", "too_large"]


@dataclass(frozen=True)
class Compared:
    """Up to where a folder's files were compared, in the order of their ctime and name.

    Attributes:
        ctime_ns, path: of the last one.
        exact_until: ctime up to which no sample will do, as one found a difference.
    """

    ctime_ns: int = -(2**63)
    path: str = ""
    exact_until: int = -(2**63)


class ComparedNotes:
    """What is noted beside a table, a small file a folder."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self, folder: str) -> Compared:
        """Of a folder; of one without a note that nothing was compared."""
        try:
            return Compared(**json.loads(self._storage.get(self._path(folder))))
        except (OSError, ValueError, TypeError):
            return Compared()

    def write(self, folder: str, compared: Compared) -> None:
        """Note it for a folder.

        Raises:
            OSError: it can't be written.
        """
        self._storage.put_whole(self._path(folder), json.dumps(asdict(compared)).encode())

    def forget(self, paths: Collection[str]) -> None:
        """Name none of these files: where one was the last, those of the same ctime are compared again.

        Raises:
            OSError: a note can't be written.
        """
        for folder in sorted({str(parent) for path in paths for parent in PurePosixPath(path).parents}):
            noted = self.read(folder)
            if noted.path in paths:
                self.write(folder, replace(noted, ctime_ns=noted.ctime_ns - 1, path=""))

    @staticmethod
    def _path(folder: str) -> str:
        return f"_compared/{hashlib.sha256(folder.encode()).hexdigest()[:24]}.json"


@dataclass
class Allowance:
    """Bytes that may be read; the first file always may."""

    limit: int = COMPARED_BYTES
    spent: int = 0

    def take(self, size: int) -> bool:
        """Whether a file of this size may be read now; then it counts as read."""
        if self.spent and self.spent + size > self.limit:
            return False
        self.spent += size
        return True


@dataclass
class Comparison:
    """What comparing some files of a folder found.

    Attributes:
        different: ``relative_path`` of files whose bytes are others than the table's.
        compared: files that were read for it.
        assumed: files that weren't, as a sample of them was the same.
        waiting: files left for the next scan.
        unread: files that can't be read at the moment, and why.
        until: what to note once the different ones are in the table.
    """

    until: Compared
    different: list[str] = field(default_factory=list)
    compared: int = 0
    assumed: int = 0
    waiting: int = 0
    unread: dict[str, str] = field(default_factory=dict)


def may_differ(listed: pl.DataFrame, known: pl.DataFrame) -> bool:
    """Whether any ctime of a folder's files is another than the table's, where paths, sizes and times are the same."""
    in_table = known.sort("relative_path")["created_at"].dt.epoch("us")
    return bool((listed["ctime_ns"] // 1000 != in_table).any())


def to_compare(listed: pl.DataFrame, known: pl.DataFrame, until: Compared) -> pl.DataFrame:
    """Files of a folder whose ctime alone is another than the table's, and that were not compared since.

    Args:
        listed: columns of ``LISTING_SCHEMA``.
        known: rows of the table, ``TIMES_COLUMNS``; those without a hash don't count.

    Returns:
        Columns of the listing, in the order of ctime and name.
    """
    rows = known.filter(~pl.col("status").is_in(_WITHOUT_HASH)).select(TIMES_COLUMNS[:-1])
    both = listed.join(rows, on=["relative_path", "size_bytes", "mtime_ns"], how="inner")
    is_later = (pl.col("ctime_ns") > until.ctime_ns) | (
        (pl.col("ctime_ns") == until.ctime_ns) & (pl.col("relative_path") > until.path)
    )
    other = pl.col("ctime_ns") // 1000 != pl.col("created_at").dt.epoch("us")
    return both.filter(other & is_later).select(listed.columns).sort("ctime_ns", "relative_path")


def compare(
    files: pl.DataFrame, hashes: dict[str, str], of: int, until: Compared, source: ImageSource, allowance: Allowance
) -> Comparison:
    """Compare files with the hashes that the table has of them, as far as it is allowed.

    Where more than ``SAMPLE_FILES``, and more than half of a folder, changed since the last time, an evenly spread
    sample decides; if one of it differs, all are compared.

    Args:
        files: as :func:`to_compare` gives them.
        hashes: ``relative_path`` → SHA-256.
        of: files of the folder.
        until: what is noted.
    """
    found = Comparison(until)
    is_same: dict[str, bool] = {}
    rows = list(files.select("relative_path", "size_bytes", "ctime_ns").iter_rows())
    certain = [row for row in rows if row[2] <= until.exact_until]
    fresh = [row for row in rows if row[2] > until.exact_until]

    def read(these: Iterable[tuple[str, int, int]]) -> int:
        """How many were compared, or had been, before no more might be read."""
        number = 0
        for path, size, _ in these:
            if path not in is_same:
                if not allowance.take(size):
                    break
                try:
                    is_same[path] = hashlib.sha256(source.read(path)).hexdigest() == hashes.get(path)
                except OSError as error:
                    is_same[path] = True  # for all that is known
                    found.unread[path] = os_reason(error)
            number += 1
        return number

    done = read(certain)
    exact_until = until.exact_until
    if done == len(certain) and fresh:
        if len(fresh) > SAMPLE_FILES and len(fresh) * 2 > of:
            sample = [fresh[number * (len(fresh) - 1) // (SAMPLE_FILES - 1)] for number in range(SAMPLE_FILES)]
            sampled = read(sample)
            if sampled and all(is_same[path] for path, _, _ in sample[:sampled]):
                found.assumed = len(fresh) - sampled
                done = len(rows)
            elif sampled:
                exact_until = fresh[-1][2]
                done += read(fresh)
        else:
            done += read(fresh)
    found.compared, found.waiting = len(is_same), len(rows) - done
    found.different = [path for path, same in is_same.items() if not same]
    unread = [number for number, (path, _, _) in enumerate(rows[:done]) if path in found.unread]
    if unread:  # to be tried again, and what comes after it in this order
        done = unread[0]
    if done:
        path, _, ctime_ns = rows[done - 1]
        # A time ahead of the clock would hide the edits made until the clock gets there.
        now = time.time_ns()
        found.until = Compared(ctime_ns, path, exact_until) if ctime_ns <= now else Compared(now, "", exact_until)
    else:
        found.until = Compared(until.ctime_ns, until.path, exact_until)
    return found
