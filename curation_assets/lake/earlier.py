"""Data files that the newest version of a table doesn't name and that still lie there: what time travel reads.

Also those that no version names: what a dead process left, and rows that are kept for a dataset's version alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from curation_assets.errors import CurationError
from curation_assets.lake import hive
from curation_assets.lake.problems import explained_table
from curation_assets.lake.snapshot import DataFile, scan_files
from curation_assets.lake.table import LakeTable

_IMAGE = ["relative_path", "content_sha256"]


def earlier_files(table: LakeTable) -> dict[str, str]:
    """Path of each such file, relative to the table → the partition that it is of.

    Raises:
        CurationError: the table can't be read.
    """
    snapshot, column, storage = table.latest(), table.spec.partition_column, table.storage
    named = {file.path for file in snapshot.named_files()}
    with explained_table(storage):
        if column is None:
            return {name: hive.WHOLE for name in _parquet_files(table, "") if name not in named}
        found: dict[str, str] = {}
        for directory in storage.directories(""):
            if directory.startswith(f"{column}="):
                partition = hive.partition_of(column, directory)
                found |= {path: partition for path in _parquet_files(table, directory) if path not in named}
        return found


def read_earlier(
    table: LakeTable, columns: Sequence[str], where: pl.Expr, files: Sequence[str]
) -> tuple[pl.DataFrame, list[str]]:
    """Rows of such files for which a condition holds, with ``_file``; and those files that can't be read.

    Args:
        columns: of the table, but not the one that it is partitioned by.
    """
    frame, broken = _read(table, columns, where, files), list[str]()
    if frame is not None:
        return frame, broken
    parts = []
    for file in files:
        part = _read(table, columns, where, [file])
        if part is None:
            broken.append(file)
        else:
            parts.append(part)
    return pl.concat([_nothing(table, columns), *parts]), broken


def holding(table: LakeTable, images: pl.DataFrame) -> pl.DataFrame:
    """Which earlier files hold rows of some images.

    Args:
        images: ``relative_path`` and ``content_sha256``.

    Returns:
        The two, and ``file``: one of each that is found.
    """
    wanted = images.select(_IMAGE).unique()
    where = pl.col("content_sha256").is_in(wanted["content_sha256"].implode())
    found, _ = read_earlier(table, _IMAGE, where, sorted(earlier_files(table)))
    found = found.join(wanted, on=_IMAGE, how="semi").rename({"_file": "file"})
    return found.sort("file").unique(_IMAGE, keep="first", maintain_order=True)


def as_file(table: LakeTable, path: str, partition: str) -> DataFile:
    """Such a file as one of a snapshot; its rows aren't counted."""
    return DataFile(path, partition, table.storage.size(path), 0)


def _parquet_files(table: LakeTable, directory: str) -> list[str]:
    found = table.storage.list(directory)
    return [file.path.removeprefix("/") for file in found if file.path.endswith(".parquet")]


def _read(table: LakeTable, columns: Sequence[str], where: pl.Expr, files: Sequence[str]) -> pl.DataFrame | None:
    """None where one of the files can't be read."""
    if not files:
        return _nothing(table, columns)
    needed = list(dict.fromkeys([*columns, *where.meta.root_names()]))
    types = pl.Schema(table.spec.arrow_schema)
    try:
        with explained_table(table.storage):
            frame = scan_files(table.storage, files, {name: types[name] for name in needed}).filter(where)
            return frame.select(*columns, "_file").collect(engine="streaming")
    except CurationError:
        return None


def _nothing(table: LakeTable, columns: Sequence[str]) -> pl.DataFrame:
    types = pl.Schema(table.spec.arrow_schema)
    return pl.DataFrame(schema={name: types[name] for name in columns} | {"_file": pl.String})
