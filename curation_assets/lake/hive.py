"""How a partition's files lie in a table's folder: Hive's layout, which other readers know too."""

from __future__ import annotations

from urllib.parse import quote, unquote

WHOLE = ""  # the one partition of a table that has none; Delta can't hold an empty value, so no other is called so


def hive_directory(column: str, value: str) -> str:
    """Directory, as it lies on disk, that holds the Parquet files of a partition."""
    return f"{column}={quote(value, safe='')}"


def partition_of(column: str, directory: str) -> str:
    """The value whose directory that is."""
    return unquote(directory.removeprefix(f"{column}="))


def file_path(column: str | None, partition: str, name: str) -> str:
    """Path of a partition's file, relative to the table.

    Args:
        column: that the table is partitioned by; None: by none.
    """
    return name if column is None else f"{hive_directory(column, partition)}/{name}"


def partition_values(column: str | None, partition: str) -> dict[str, str | None]:
    """The same as Delta's log says it."""
    return {} if column is None else {column: partition}
