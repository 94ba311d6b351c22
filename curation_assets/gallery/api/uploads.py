"""Images that visitors give to search with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from curation_assets.errors import CurationError
from curation_assets.gallery import responses
from curation_assets.gallery.gallery import Gallery, GalleryOf
from curation_assets.gallery.requests import Versions
from curation_assets.images.names import printable

_DRAINED = 4  # times the limit of an upload that is read to its end, so that its sender gets to read the answer
_UPLOAD_SECONDS = 60

router = APIRouter()


@router.post(
    "/api/images",
    tags=["search"],
    summary="Give an image to search with",
    status_code=201,
    responses={413: {"model": responses.Problem, "description": "The image has too many bytes."}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {"file": {"type": "string", "format": "binary"}},
                    }
                }
            },
        }
    },
)
async def give_image(
    gallery: GalleryOf, request: Request, versions: Annotated[Versions, Query()]
) -> responses.UploadReceipt:
    """Make a vector of an image, and keep it in memory under a random id; the image itself is not kept.

    Limits are `CURATION_GALLERY_MAX_UPLOAD_BYTES` and `CURATION_GALLERY_MAX_PIXELS`. The vectors of the last few
    hundred images are held, until the gallery stops.
    """
    most = gallery.settings.gallery_max_upload_bytes
    async with gallery.uploading:
        try:
            async with asyncio.timeout(_UPLOAD_SECONDS):
                name, data = await _uploaded(request, most)
        except TimeoutError:
            raise CurationError(f"the image took longer than {_UPLOAD_SECONDS} s to arrive") from None
        return await run_in_threadpool(_keep, gallery, name, data, versions)


async def _uploaded(request: Request, most: int) -> tuple[str, bytes]:
    """Name and bytes of the one file of a form.

    Raises:
        HTTPException: it is too large (413), or there is none (400).
    """
    too_large = HTTPException(
        413, f"the image has more than {most:,} bytes, the limit (CURATION_GALLERY_MAX_UPLOAD_BYTES)"
    )
    allowed = most + 10_000  # what a form puts around it
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > _DRAINED * most:
        raise HTTPException(413, too_large.detail, {"Connection": "close"})
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(400, "send the image as the field `file` of a multipart/form-data form")

    async def counted() -> AsyncIterator[bytes]:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > _DRAINED * most:
                raise HTTPException(413, too_large.detail, {"Connection": "close"})
            if size <= allowed:
                yield chunk
        if size > allowed:
            raise too_large

    try:
        form = await MultiPartParser(request.headers, counted(), max_files=1, max_fields=10).parse()  # type: ignore[arg-type]
    except MultiPartException as error:
        raise HTTPException(400, f"this form can't be read: {error.message}") from None
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise HTTPException(400, "send the image as the field `file` of a multipart/form-data form")
    data = await file.read()
    await form.close()
    if len(data) > most:
        raise too_large
    return printable(file.filename or "an image")[:200], data


def _keep(gallery: Gallery, name: str, data: bytes, versions: Versions) -> responses.UploadReceipt:
    if not data:
        raise CurationError(f"{name} is empty")
    decode = replace(gallery.settings.decode_options, max_pixels=gallery.settings.gallery_max_pixels)
    found = gallery.searcher.embed_image(data, decode, name, versions.model_version)
    return responses.UploadReceipt(id=gallery.uploads.add(found), name=name)
