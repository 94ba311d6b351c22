"""Taking a result along, as a file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import IO, Annotated, Any

import polars as pl
from fastapi import APIRouter, Body, Request, Response
from starlette.concurrency import iterate_in_threadpool
from starlette.responses import StreamingResponse

from curation_assets.callers import current
from curation_assets.errors import CurationError
from curation_assets.gallery import responses
from curation_assets.gallery.api.whole_body import WholeBody
from curation_assets.gallery.gallery import Gallery, GalleryOf
from curation_assets.gallery.requests import ExportRequest
from curation_assets.gallery.security import MOST_BODY_BYTES
from curation_assets.search.export import MEDIA_TYPES, WRITERS

_EVERYTHING = 10**9  # images
_MOST_HEADER = 4_000  # characters: proxies take headers of 8 kB all together, or of 4
_CHUNK = 2**18


router = APIRouter(route_class=WholeBody)


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
async def export(gallery: GalleryOf, request: Request, asked: Annotated[ExportRequest, Body()]) -> Response:
    """The rows of a result, or of the images that were selected of it, in a file; 400 where there are none.

    The provenance is the query, the filter, the versions of model and tables, and when it was exported.

    - `json`: `{"provenance": {…}, "images": […]}`
    - `parquet`: the provenance is JSON under `curation_provenance` in the schema's metadata
    - `csv`: header and rows; texts are quoted. Values are exact: a spreadsheet may take one that begins with `=` for a
      formula.

    With each of them the answer's header `Curation-Provenance` holds the provenance as JSON too, at most 4,000
    characters; what is too long for that is left out and named in its `left_out`.
    """
    file, provenance = await gallery.exporting.run(request, _written, gallery, asked)
    name = f"images-{datetime.now(UTC):%Y%m%d-%H%M%S}.{asked.format}"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Length": str(file.seek(0, os.SEEK_END)),
        "Curation-Provenance": _in_a_header(provenance),
    }
    return StreamingResponse(sent(file), media_type=MEDIA_TYPES[asked.format], headers=headers)


def _written(gallery: Gallery, asked: ExportRequest) -> tuple[IO[bytes], dict[str, Any]]:
    """The file, without a name: while a client takes it, it lies on the disk, and holds no place."""
    found = gallery.search(asked.search, _EVERYTHING)
    provenance = found.provenance() | {"total": found.total}
    if asked.keys is not None:
        found = found.chosen(asked.keys)
        provenance |= {"selected": len(set(asked.keys))}
    if not len(found.numbers):
        raise CurationError("there is nothing to export: no image meets this search and selection")
    provenance |= {"rows": len(found.numbers)}

    def parts() -> Iterator[pl.DataFrame]:
        for part in found.batches():
            current().check()
            yield part.rows.drop("position").hstack(gallery.searcher.further(part.index, part.numbers))

    file = tempfile.TemporaryFile()  # noqa: SIM115 whoever sends it closes it
    try:
        WRITERS[asked.format](file, parts(), provenance)
    except BaseException:
        file.close()
        raise
    return file, provenance


def _in_a_header(provenance: dict[str, Any]) -> str:
    """JSON in ASCII; what makes it too long, a condition of pages say, is left out, and named under ``left_out``."""
    kept = dict(provenance)
    left_out: list[str] = []
    while len(header := json.dumps(kept | ({"left_out": left_out} if left_out else {}))) > _MOST_HEADER:
        longest = max(kept, key=lambda name: len(json.dumps(kept[name])))
        del kept[longest]
        left_out.append(longest)
    return header


async def sent(file: IO[bytes]) -> AsyncIterator[bytes]:
    """A file's bytes, which is closed when they are sent or nobody takes them any more."""

    def chunks() -> Iterator[bytes]:
        file.seek(0)
        while chunk := file.read(_CHUNK):
            yield chunk

    with file:
        async for chunk in iterate_in_threadpool(chunks()):
            yield chunk
