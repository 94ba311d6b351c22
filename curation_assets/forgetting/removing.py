"""Rows of images out of a table: of its newest version by a commit, of its earlier ones by deleting their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa

from curation_assets.forgetting.wanted import Wanted
from curation_assets.lake.earlier import as_file, earlier_files, read_earlier
from curation_assets.lake.problems import explained_table
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress

_ROWS = 1024


@dataclass
class Found:
    """What a table has of some images.

    Attributes:
        table: its name.
        rows: of its newest version, that are about them or name one.
        earlier_rows: of its history, as often as it has them.
        earlier_files: of its history, with the files that can't be read; all of it goes.
        partitions: of its newest version that have such rows.
        paths: of those files.
    """

    table: str
    rows: int = 0
    earlier_rows: int = 0
    earlier_files: int = 0
    partitions: list[str] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)


def find(table: LakeTable, wanted: Wanted) -> Found:
    """Look for images in a table and its history.

    Raises:
        CurationError: the table can't be read.
    """
    spec, snapshot = table.spec, table.latest()
    where = wanted.rows(spec) | wanted.mentions(spec)
    column = _some_column(table)
    rows = snapshot.read([column], where=where)
    files = {file.path: file.partition for file in snapshot.named_files()}
    partitions = sorted({files[path] for path in rows["_file"].unique()})
    earlier = earlier_files(table)
    old, broken = read_earlier(table, [column], where, sorted(earlier))
    paths = sorted({*old["_file"], *broken})
    return Found(
        table=table.path.name,
        rows=len(rows),
        earlier_rows=len(old),
        earlier_files=len(paths),
        partitions=partitions,
        paths={path: earlier[path] for path in paths},
    )


def remove_rows(table: LakeTable, found: Found, wanted: Wanted, progress: Progress) -> None:
    """Commit the table without the rows: those about the images, and those that name one, which are made anew.

    Raises:
        CurationError: the table can't be read or written, or a data file of such a partition is broken.
    """
    spec = table.spec
    stays = ~(wanted.rows(spec) | wanted.mentions(spec))
    names = sorted(set(stays.meta.root_names()))

    def work(change: Rewrite) -> None:
        (partition,) = change.writers
        change.base.refuse_broken(partition)
        hit = set(change.base.read(names[:1], partition, where=~stays)["_file"])
        files = [file for file in change.base.files(partition) if file.path in hit]
        with change.writer.file() as stage:
            for batch in change.base.reader.batches(files, _ROWS):
                stage.write(batch.filter(_mask(batch, stays, names)))
        change.commit(stage.files, files)

    for partition in found.partitions:
        rewrite(table, partition, work, info={"job": "forget", "folder": partition}, progress=progress)


def delete_earlier(table: LakeTable, paths: Sequence[str]) -> None:
    """Delete data files that the newest version doesn't name: earlier versions can't be read whole then.

    Raises:
        CurationError: one can't be deleted.
    """
    with explained_table(table.storage):
        for path in paths:
            table.storage.delete(path)


def save_pinned(directory: LakeTable, pinned: pl.DataFrame, files: Mapping[str, str], progress: Progress) -> None:
    """Copy the rows of images that a dataset's version holds to new files, before those that hold them are deleted.

    No version of the table names the copies; they stay as long as a version of a dataset needs them.

    Args:
        pinned: ``relative_path``, ``content_sha256`` and ``file``.
        files: path → partition, of those that are to be deleted.

    Raises:
        CurationError: the table can't be read or written.
    """
    of_files = pinned.filter(pl.col("file").is_in([*files]))
    for (file,), rows in of_files.group_by("file"):
        keys = rows.select("relative_path", "content_sha256")
        with directory.writer(files[str(file)], progress.note) as writer:
            with writer.file() as stage:
                reader = directory.latest().reader
                for batch in reader.batches([as_file(directory, str(file), files[str(file)])], 64):
                    told = pl.DataFrame(batch.select(keys.columns)).with_row_index("_at")
                    wanted = told.join(keys, on=keys.columns, how="semi")["_at"].to_arrow()
                    stage.write(batch.take(wanted))
            directory.storage.sync([staged.path for staged in stage.files])
            for staged in stage.files:
                staged.committed(directory.storage)


def _mask(batch: pa.RecordBatch, stays: pl.Expr, names: Sequence[str]) -> pa.Array:
    return pl.DataFrame(batch.select(list(names))).select(stays.alias("stays")).to_series().to_arrow()


def _some_column(table: LakeTable) -> str:
    """A column that is read to count rows, of those that stand in the files."""
    return next(name for name in table.spec.key if name != table.spec.partition_column)
