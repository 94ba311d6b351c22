"""Search results as files, written part by part: which rows, and which query of which versions they come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import chain
from typing import IO, Any

import polars as pl
import pyarrow.parquet as pq

PROVENANCE = "curation_provenance"
MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}
Writer = Callable[[IO[bytes], Iterable[pl.DataFrame], dict[str, Any]], None]


def write_csv(out: IO[bytes], parts: Iterable[pl.DataFrame], provenance: dict[str, Any]) -> None:  # noqa: ARG001
    """A header and a line an image; every text is quoted. The provenance has no place in it."""
    for place, part in enumerate(parts):
        # Texts in quotes: a path that begins with # is no comment then.
        part.write_csv(
            out, include_header=place == 0, quote_style="non_numeric", datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ"
        )


def write_json(out: IO[bytes], parts: Iterable[pl.DataFrame], provenance: dict[str, Any]) -> None:
    """``{"provenance": …, "images": […]}``."""
    out.write(f'{{"provenance": {json.dumps(provenance)}, "images": '.encode())
    write_objects(out, parts)
    out.write(b"}")


def write_objects(out: IO[bytes], parts: Iterable[pl.DataFrame]) -> None:
    """A JSON array of an object an image, a line each."""
    before = b"[\n"
    for part in parts:
        if len(part):
            out.write(before + part.write_ndjson().rstrip("\n").replace("\n", ",\n").encode())
            before = b",\n"
    out.write(b"[]" if before == b"[\n" else b"\n]")


def write_parquet(out: IO[bytes], parts: Iterable[pl.DataFrame], provenance: dict[str, Any]) -> None:
    """Parquet, with the provenance as JSON under ``curation_provenance`` in the schema's metadata."""
    rest = iter(parts)
    first = next(rest)
    metadata = {PROVENANCE.encode(): json.dumps(provenance).encode()}
    schema = first.to_arrow(compat_level=pl.CompatLevel.oldest()).schema.with_metadata(metadata)
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for part in chain((first,), rest):
            table = part.to_arrow(compat_level=pl.CompatLevel.oldest())
            writer.write_table(table.replace_schema_metadata(metadata))


WRITERS: dict[str, Writer] = {"csv": write_csv, "json": write_json, "parquet": write_parquet}
