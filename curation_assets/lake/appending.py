"""Tables to which rows are only added: small ones, a few rows a commit."""

from __future__ import annotations

import polars as pl

from curation_assets.lake.layout import SMALL_FILES, small_files
from curation_assets.lake.rewrite import Rewrite

_COPY_ROWS = 1024


def commit_added(change: Rewrite, rows: pl.DataFrame) -> None:
    """Commit further rows, of the table's own columns; many small files of earlier ones become one on the way."""
    small = small_files(change.base.files())
    joined = small if len(small) >= SMALL_FILES else []
    with change.writer.file() as stage:
        for batch in change.base.reader.batches(joined, _COPY_ROWS):
            stage.write(batch)
        for batch in rows.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches():
            stage.write(batch)
    change.commit(stage.files, joined)
