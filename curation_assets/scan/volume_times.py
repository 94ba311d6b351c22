"""Times of a volume's files: a mount and the Files API may tell the same moment to other fractions of a second."""

from __future__ import annotations

from functools import reduce
from operator import or_

import polars as pl

from curation_assets.stores.volumes import in_volume

_UNITS = (10**9, 10**6)  # nanoseconds


def as_known(listed: pl.DataFrame, known: pl.DataFrame, location: str) -> pl.DataFrame:
    """A listing with the table's time wherever that is the same moment, cut to seconds or thousandths in one of both.

    Else whoever goes from a mount to the Files API, or back, would read every file again. Where the listing has no
    change of the inode of its own, it has the table's there too.

    Args:
        listed: columns of ``LISTING_SCHEMA``.
        known: rows of the table, with ``relative_path``, ``size_bytes``, ``mtime_ns`` and ``created_at``.
        location: of what was listed; outside of volumes the listing stays as it is.
    """
    if not in_volume(location):
        return listed
    created = pl.col("created_at").dt.epoch("ns").alias("_ctime")
    rows = known.select("relative_path", "size_bytes", pl.col("mtime_ns").alias("_mtime"), created)
    both = listed.join(rows, on=["relative_path", "size_bytes"], how="left", maintain_order="left")
    one, other = pl.col("mtime_ns"), pl.col("_mtime")
    is_cut = [(one // unit == other // unit) & ((one % unit == 0) | (other % unit == 0)) for unit in _UNITS]
    same = reduce(or_, is_cut, one == other)
    return both.select(
        "relative_path",
        "size_bytes",
        mtime_ns=pl.when(same).then(other).otherwise(one),
        ctime_ns=pl.when(same & (pl.col("ctime_ns") == one)).then("_ctime").otherwise("ctime_ns"),
        etag="etag",
    )
