"""Search results as files that say what they are: which query of which versions."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import polars as pl
import pyarrow.parquet as pq

PROVENANCE = "curation_provenance"
MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}


def as_csv(rows: pl.DataFrame, provenance: dict[str, Any]) -> bytes:
    """A first line ``# curation_provenance: {…}``, then a header and a line an image; every text is quoted."""
    # Texts in quotes: a path that begins with # is no comment then.
    table = rows.write_csv(quote_style="non_numeric", datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
    return f"# {PROVENANCE}: {json.dumps(provenance)}\n{table}".encode()


def as_json(rows: pl.DataFrame, provenance: dict[str, Any]) -> bytes:
    """``{"provenance": …, "images": […]}``."""
    out = BytesIO()
    out.write(f'{{"provenance": {json.dumps(provenance)}, "images": '.encode())
    rows.write_json(out)
    out.write(b"}")
    return out.getvalue()


def as_parquet(rows: pl.DataFrame, provenance: dict[str, Any]) -> bytes:
    """Parquet, with the provenance as JSON under ``curation_provenance`` in the schema's metadata."""
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    table = table.replace_schema_metadata({PROVENANCE.encode(): json.dumps(provenance).encode()})
    out = BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


WRITERS = {"csv": as_csv, "json": as_json, "parquet": as_parquet}
