"""Rows that join a table of one partition, which nothing leaves; files that are small by then are joined."""

from __future__ import annotations

import polars as pl

from curation_assets.lake.layout import SMALL_FILES, small_files
from curation_assets.lake.rewrite import Rewrite

_ROWS = 65_536


def append_rows(change: Rewrite, made: pl.DataFrame, most_small: int = SMALL_FILES) -> None:
    """Add rows, in one commit.

    Args:
        change: of the table's one partition.
        made: with the table's columns and types.
        most_small: small files that may lie about; from so many on they are joined.
    """
    small = small_files(change.base.files())
    joined = small if len(small) >= most_small else []
    with change.writer.file() as stage:
        for batch in change.base.reader.batches(joined, _ROWS):
            stage.write(batch)
        for batch in made.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches():
            stage.write(batch)
    change.commit(stage.files, joined)
