"""How rows of the tables of duplicates change: files that hold what goes are written anew, all others stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl
import pyarrow as pa

from curation_assets.embed.plan import merges
from curation_assets.embed.rows import write_merged
from curation_assets.lake.rewrite import Rewrite
from curation_assets.lake.snapshot import DataFile

_COPY_ROWS = 8192


def replace_rows(
    change: Rewrite,
    key: Sequence[str],
    going: pl.DataFrame,
    new: pl.DataFrame | None = None,
    leaving: Iterable[DataFile] = (),
) -> bool:
    """Let some rows go and others come, in one commit.

    Args:
        going: values of the key, null among them; rows that there are not do no harm.
        new: rows of the table's spec, and perhaps users' own columns, which are kept of rows that stay in any case.
        leaving: files that go whole.

    Returns:
        Whether there was something to commit.
    """
    held = change.base.read(key)
    touched = set(held.join(going, on=key, how="semi", nulls_equal=True)["_file"])
    files = [file for file in change.base.files() if file.path in touched]
    with change.writer.file() as stage:
        for batch in change.base.reader.batches(files, _COPY_ROWS):
            keys = pl.DataFrame(batch.select(list(key))).with_row_index("_at")
            kept = keys.join(going, on=key, how="anti", nulls_equal=True, maintain_order="left")
            if len(kept):
                stage.write(batch.take(pa.array(kept["_at"].to_numpy())))
        if new is not None and len(new):
            types = change.base.spec.arrow_schema.remove_metadata()
            rows = new.select(
                *types.names, *(name for name in change.base.added_columns if name in new.columns)
            ).to_arrow()
            own = [rows.schema.field(name) for name in rows.column_names[len(types) :]]
            for batch in rows.cast(pa.schema([*types, *own])).to_batches():
                stage.write(batch)
    return change.commit(stage.files, [*files, *leaving])


def merge_files(change: Rewrite) -> int:
    """Join many small files, which changes no row; how many commits that took."""
    commits = 0
    for files in merges(change.base.files()):
        with change.writer.file() as stage:
            write_merged(stage, change.base.reader, files)
        commits += change.commit(stage.files, files, data_change=False)
    return commits
