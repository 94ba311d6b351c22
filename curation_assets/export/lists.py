"""Lists without bytes: CSV, Parquet and JSON lines; and the list that stands in every other export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, ClassVar

import polars as pl

from curation_assets.datasets.versions import as_manifest
from curation_assets.export.protocol import PLACES, WRITTEN, Content, Folder, Format, Image
from curation_assets.export.staging import ONLY_FILE, new_file

_OF_LIST = [
    "relative_path",
    "content_sha256",
    "labels",
    "split",
    "width",
    "height",
    "orientation",
    "format",
    "size_bytes",
]
_PART = 65_536  # rows that are made into text at a time
MANIFEST_KEY = "curation_manifest"  # of a Parquet list's schema


class _List:
    """What the lists have in common."""

    is_sharded: ClassVar[bool] = False
    has_images: ClassVar[bool] = False

    def check(self, content: Content) -> list[str]:  # noqa: ARG002
        return []

    def plan(self, content: Content) -> pl.DataFrame:
        return content.rows

    def shard(self, out: IO[bytes], content: Content, images: Iterator[Image]) -> None:
        raise NotImplementedError


class CsvList(_List):
    """A header and a line an image; several labels, and boxes, as JSON."""

    name: ClassVar[str] = "csv"
    suffix: ClassVar[str | None] = ".csv"

    def finish(self, content: Content, folder: Folder) -> None:  # noqa: D102
        write_csv(folder.path(ONLY_FILE), _listed(content))


class JsonLinesList(_List):
    """An object an image, a line each; labels and boxes are arrays."""

    name: ClassVar[str] = "jsonl"
    suffix: ClassVar[str | None] = ".jsonl"

    def finish(self, content: Content, folder: Folder) -> None:  # noqa: D102
        rows = _listed(content)
        with new_file(folder.path(ONLY_FILE)) as out:
            for part in rows.iter_slices(_PART):
                part.write_ndjson(out)


class ParquetList(_List):
    """A row an image; the version's manifest is in the schema's metadata as ``curation_manifest``."""

    name: ClassVar[str] = "parquet"
    suffix: ClassVar[str | None] = ".parquet"

    def finish(self, content: Content, folder: Folder) -> None:  # noqa: D102
        import pyarrow.parquet as pq

        table = _listed(content).to_arrow(compat_level=pl.CompatLevel.oldest())
        table = table.replace_schema_metadata({MANIFEST_KEY: as_manifest(content.manifest)})
        with new_file(folder.path(ONLY_FILE)) as out:
            pq.write_table(table, out, row_group_size=_PART, compression="zstd")


class _At:
    """A folder whose only file has another place."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def path(self, name: str) -> Path:  # noqa: ARG002
        return self._place


def write_list(content: Content, format: Format, target: Path) -> None:
    """Write a list to a file that isn't there, for who takes it away at once: half of it may stand there meanwhile."""
    format.check(content)
    format.finish(content, _At(target))


def write_csv_list(path: Path, content: Content) -> None:
    """The list of an export: which file holds which image.

    Args:
        content: its rows have ``PLACES`` and ``WRITTEN``.
    """
    columns = [*PLACES, *WRITTEN] if content.rows["row"].null_count() < len(content.rows) else ["file", *WRITTEN]
    rows = _with_label(content).select(
        columns[0], *columns[1:-2], "relative_path", "content_sha256", _label_name(content), "split", "width", "height",
        *columns[-2:],
    )  # fmt: skip
    write_csv(path, rows)


def write_csv(path: Path, rows: pl.DataFrame) -> None:
    """Rows as CSV, part by part; every text is quoted, lists are JSON."""
    nested = [name for name, kind in rows.schema.items() if kind.is_nested()]
    with new_file(path) as out:
        for place, part in enumerate(rows.iter_slices(_PART)):
            as_text = {name: _as_json(part[name]) for name in nested}
            part.with_columns(**as_text).write_csv(out, include_header=place == 0, quote_style="non_numeric")
        if not len(rows):
            out.write((",".join(f'"{name}"' for name in rows.columns) + "\n").encode())


def _as_json(column: pl.Series) -> pl.Series:
    import json

    return pl.Series([json.dumps(value, ensure_ascii=False) for value in column.to_list()], dtype=pl.String)


def _listed(content: Content) -> pl.DataFrame:
    rows = _with_label(content)
    columns = [_label_name(content) if name == "labels" else name for name in _OF_LIST]
    return rows.select(*columns, *(["boxes"] if content.has_boxes else []))


def _with_label(content: Content) -> pl.DataFrame:
    return content.rows.with_columns(label=pl.col("labels").list.first())


def _label_name(content: Content) -> str:
    """One label an image is a text, several are a list."""
    return "labels" if content.is_several else "label"
