"""Taking a result along, as a file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import polars as pl
from fastapi import APIRouter, Body, Response

from curation_assets.gallery import responses
from curation_assets.gallery.export import HEADER, MEDIA_TYPES, WRITERS, provenance_header
from curation_assets.gallery.gallery import GalleryOf
from curation_assets.gallery.requests import ExportRequest
from curation_assets.gallery.security import MOST_BODY_BYTES

_EVERYTHING = 10**9  # images

router = APIRouter()


@router.post(
    "/api/export",
    tags=["search"],
    summary="Take a result along",
    response_class=Response,
    max_body_size=MOST_BODY_BYTES,
    responses={
        200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}, "description": "The file."},
        413: {"model": responses.Problem, "description": "Too many keys."},
    },
)
def export(gallery: GalleryOf, asked: Annotated[ExportRequest, Body()]) -> Response:
    """The rows of a result, or of the images that were selected of it, in a file, and where they come from.

    The provenance is the query, the filter, the versions of model and tables, and when it was exported.

    - `json`: `{"provenance": {…}, "images": […]}`
    - `parquet`: the provenance is JSON under `curation_provenance` in the schema's metadata
    - `csv`: header and rows, texts quoted. The provenance stands in the answer's header only. Values are exact: a
      spreadsheet may take one that begins with `=` for a formula.

    With every format the answer's header `Curation-Provenance` holds the provenance as JSON, at most 4,000 characters;
    what is too long for that is left out and named in its `left_out`. A result without images is a file without rows.
    """
    with gallery.exporting:
        found = gallery.search(asked.search, _EVERYTHING)
        rows = found.rows.drop("position").hstack(gallery.searcher.further(found.index, found.numbers))
        provenance = found.provenance() | {"total": found.total}
        if asked.keys is not None:
            rows = rows.filter(pl.col("relative_path").is_in(asked.keys))
            provenance |= {"selected": len(set(asked.keys))}
        provenance |= {"rows": len(rows)}
        content = WRITERS[asked.format](rows, provenance)
    name = f"images-{datetime.now(UTC):%Y%m%d-%H%M%S}.{asked.format}"
    return Response(
        content,
        media_type=MEDIA_TYPES[asked.format],
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            HEADER: provenance_header(provenance),
        },
    )
