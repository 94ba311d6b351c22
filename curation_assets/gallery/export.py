"""Search results as files that say what they are: which query of which versions."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import polars as pl
import pyarrow.parquet as pq

PROVENANCE = "curation_provenance"
HEADER = "Curation-Provenance"
MOST_HEADER_CHARS = 4000  # proxies take headers of 8 kB all together, or of 4
MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}


def as_csv(rows: pl.DataFrame, _provenance: dict[str, Any]) -> bytes:
    """A header and a line an image; every text is quoted. The format has no place for the provenance."""
    # Texts in quotes: a path that begins with # is no comment then.
    return rows.write_csv(quote_style="non_numeric", datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ").encode()


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


def provenance_header(provenance: dict[str, Any]) -> str:
    """The provenance as JSON in ASCII, for a header of HTTP: at most ``MOST_HEADER_CHARS`` long.

    What makes it longer, a condition of pages say, is left out, the longest first, and named under ``left_out``.
    """
    kept = dict(provenance)
    left_out: list[str] = []
    while len(header := json.dumps(kept | ({"left_out": left_out} if left_out else {}))) > MOST_HEADER_CHARS:
        longest = max(kept, key=lambda name: len(json.dumps(kept[name])))
        del kept[longest]
        left_out.append(longest)
    return header


WRITERS = {"csv": as_csv, "json": as_json, "parquet": as_parquet}
