"""Which files of a folder have to be read, and which Parquet files of the table that replaces.

A Parquet file can't be edited: a row leaves by writing the rest of its file anew. So work is cut into units, each of
which replaces some Parquet files of the folder by new ones, and is committed on its own. Killed between two
units, a scan goes on where it stood, and at every version each image has at most one row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from curation_assets.images.decode import AS_BANDS, MOST_SIDE, as_bands
from curation_assets.images.listing import LISTING_SCHEMA
from curation_assets.images.record import READ_ALIKE_SINCE, READER_VERSION, ReadLimits
from curation_assets.lake import layout
from curation_assets.lake.snapshot import DataFile, Snapshot

UNIT_BYTES = 192 * 2**20  # of image files, new ones or those of files of the table: bounds what a kill can cost
UNIT_FILES = 20_000

KNOWN_COLUMNS = (
    *("relative_path", "file_path", "size_bytes", "mtime_ns", "etag", "status", "error"),
    *("width", "height", "format", "reader_version", "pixels_as", "created_at"),
)


@dataclass
class Unit:
    """One commit's work.

    Attributes:
        replaces: files of the table that leave.
        keep: rows of those files that stay: ``relative_path`` and the ``file_path`` they have now.
        read: listed files to read, columns of the listing.
        may_stay: ``relative_path`` of files to read whose rows are good, and that the listing doesn't show to be
            others: their rows stay where the files can't be examined.
        changes_anyway: whether there is something to write though no file could be examined.
    """

    replaces: list[DataFile]
    keep: pl.DataFrame
    read: pl.DataFrame
    may_stay: frozenset[str] = frozenset()
    changes_anyway: bool = True

    @property
    def drops_only(self) -> bool:
        """Whether nothing is written: the files just leave."""
        return not len(self.keep) and not len(self.read)


def dropped(files: list[DataFile]) -> Unit:
    """A unit in which files just leave."""
    nothing = pl.DataFrame(schema={"relative_path": pl.String})
    return Unit(files, nothing, nothing)


@dataclass
class ScanPlan:
    """Everything a scan of one folder has to do; no units means the table is up to date.

    Attributes:
        outdated: unchanged files that this version reads otherwise than the one that made their rows.
        staying: rows without a listed file that stay all the same.
    """

    units: list[Unit]
    new: int = 0
    changed: int = 0
    outdated: int = 0
    vanished: int = 0
    staying: int = 0
    unchanged: int = 0

    @property
    def to_read(self) -> int:
        """Number of files that will be opened."""
        return sum(len(unit.read) for unit in self.units)


def known_rows(table: Snapshot, folder: str) -> pl.DataFrame:
    """What the table says of a folder's files, small columns only."""
    return table.read(KNOWN_COLUMNS, folder)


def unreadable(listed: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Listed files that look unchanged but could not be read last time: a permission leaves no trace in size or time.

    Returns:
        Columns of the listing and the row's ``error``.
    """
    rows = known.filter(pl.col("status") == "unreadable").select("relative_path", "error")
    return listed.join(rows, on="relative_path", how="inner", maintain_order="left")


def now_admitted(limits: ReadLimits) -> pl.Expr:
    """Rows that were refused as too large under lower limits than those now in force."""
    pixels = pl.col("width").cast(pl.Int64) * pl.col("height")
    small = (pixels <= limits.max_pixels) & (pl.max_horizontal("width", "height") <= MOST_SIDE)
    fits = (pl.col("size_bytes") <= limits.max_file_bytes) & (pixels.is_null() | small)
    return (pl.col("status") == "too_large") & fits


def read_otherwise(limits: ReadLimits) -> pl.Expr:
    """Rows of files that an earlier version of this program, or other bands, read otherwise than they are now."""
    since = pl.col("format").replace_strict(READ_ALIKE_SINCE, default=READER_VERSION, return_dtype=pl.Int32)
    outdated = pl.col("reader_version").fill_null(1) < since
    bands = pl.col("pixels_as").str.starts_with(AS_BANDS).fill_null(False)
    return outdated | (bands & (pl.col("pixels_as") != as_bands(limits.bands)))


def plan_scan(
    listed: pl.DataFrame,
    known: pl.DataFrame,
    files: list[DataFile],
    location: str,
    *,
    limits: ReadLimits,
    read_again: pl.Series | None = None,
    staying: pl.Series | None = None,
    rescan: bool = False,
) -> ScanPlan:
    """Compare a listing with the table.

    Args:
        listed: columns of ``LISTING_SCHEMA``.
        known: the folder's rows in the table, columns ``KNOWN_COLUMNS`` and ``_file`` (:func:`known_rows`).
        files: the folder's Parquet files in the same snapshot.
        location: of the images' source, to notice that it moved.
        limits: now in force; rows refused under lower ones, or read otherwise, are read again.
        read_again: ``relative_path`` of files to read although they look unchanged.
        staying: ``relative_path`` of rows that stay as they are although no file is listed for them.
        rescan: read every file again.
    """
    known = known.with_columns(_known=pl.lit(True))
    both = listed.with_columns(_listed=pl.lit(True)).join(
        known, on="relative_path", how="full", coalesce=True, suffix="_known"
    )
    again, stays = _is_one_of(read_again), _is_one_of(staying)
    differs = pl.any_horizontal(
        pl.col(name).ne_missing(pl.col(f"{name}_known")) for name in ("size_bytes", "mtime_ns", "etag")
    )
    state = (
        pl.when(pl.col("_known").is_null())
        .then(pl.lit("new"))
        .when(pl.col("_listed").is_null())
        .then(pl.when(stays).then(pl.lit("staying")).otherwise(pl.lit("vanished")))
        .when(differs | again | now_admitted(limits) | pl.lit(rescan))
        .then(pl.lit("changed"))
        .when(read_otherwise(limits))
        .then(pl.lit("outdated"))
        .otherwise(pl.lit("unchanged"))
    )
    now_at = pl.concat_str(pl.lit(location + "/"), pl.col("relative_path"))
    both = both.with_columns(_state=state)
    both = both.with_columns(_now_at=pl.when(_state_is("staying")).then("file_path").otherwise(now_at))
    both = both.with_columns(_moved=(pl.col("_state") == "unchanged") & (pl.col("_now_at") != pl.col("file_path")))

    touched = set(both.filter(_state_is("changed", "outdated", "vanished") | pl.col("_moved"))["_file"].to_list())
    new = both.filter(pl.col("_state") == "new")
    small = layout.small_files(files)
    crowded = len(small) >= layout.SMALL_FILES and bool(touched or len(new))
    merge = [f for f in small if f.path in touched or crowded]
    units = [_unit(both, group) for group in _groups([f for f in files if f.path in touched and f not in merge])]
    # Small files that change anyway, or have become many, join the first new rows.
    first, *rest = _chunks(new) or [new]
    if merge or len(first):
        units.append(_unit(both, merge, first, joins=len(merge) > 1))
    units += [_unit(both, [], chunk) for chunk in rest]
    counts = dict(both.group_by("_state").len().iter_rows())
    names = ("new", "changed", "outdated", "vanished", "staying", "unchanged")
    return ScanPlan(units, **{name: counts.get(name, 0) for name in names})


def _is_one_of(paths: pl.Series | None) -> pl.Expr:
    return pl.lit(False) if paths is None else pl.col("relative_path").is_in(paths.implode())


def _state_is(*states: str) -> pl.Expr:
    return pl.col("_state").is_in(states)


def _groups(files: list[DataFile]) -> Iterator[list[DataFile]]:
    """Files to write anew in one unit."""
    group: list[DataFile] = []
    held = 0
    for file in files:
        if group and held + file.size_bytes > UNIT_BYTES:
            yield group
            group, held = [], 0
        group.append(file)
        held += file.size_bytes
    if group:
        yield group


def _unit(
    both: pl.DataFrame, replaced: list[DataFile], new: pl.DataFrame | None = None, *, joins: bool = False
) -> Unit:
    columns = list(LISTING_SCHEMA)
    mine = both.filter(pl.col("_file").is_in([file.path for file in replaced]))
    again = mine.filter(_state_is("changed", "outdated"))
    is_same_size = pl.col("size_bytes").is_null() | (pl.col("size_bytes") == pl.col("size_bytes_known"))
    may_stay = frozenset(again.filter((pl.col("status") == "ok") & is_same_size)["relative_path"])
    read = again.select(columns)
    if new is not None:
        read = pl.concat([read, new.select(columns)])
    keep = mine.filter(_state_is("unchanged", "staying")).select("relative_path", file_path="_now_at")
    changes_anyway = joins or len(again) < len(read) or len(keep) + len(again) < len(mine)
    changes_anyway |= bool(mine["_moved"].any())
    return Unit(replaced, keep, read.sort("relative_path"), may_stay, changes_anyway)


def _chunks(new: pl.DataFrame) -> list[pl.DataFrame]:
    """Cut new files, by name, into pieces of bounded bytes and number."""
    if not len(new):
        return []
    ordered = new.sort("relative_path")
    part = pl.col("size_bytes").fill_null(0).cum_sum() // UNIT_BYTES + pl.int_range(pl.len()) // UNIT_FILES
    return ordered.with_columns(_part=part).partition_by("_part", maintain_order=True, include_key=False)
