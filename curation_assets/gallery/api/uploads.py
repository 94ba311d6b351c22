"""Images that visitors give to search with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from curation_assets.errors import CurationError
from curation_assets.gallery import responses
from curation_assets.gallery.gallery import Gallery, GalleryOf
from curation_assets.gallery.requests import Versions
from curation_assets.images.names import printable
from curation_assets.serving.bodies import TooLargeError

_FORM_BYTES = 10_000  # what a form puts around the image
_NO_FORM = "send the image as the field `file` of a multipart/form-data form"
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
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(400, _NO_FORM)
    too_large = HTTPException(
        413,
        f"the image has more than {most:,} bytes, the limit (CURATION_GALLERY_MAX_UPLOAD_BYTES)",
        {"Connection": "close"},
    )
    try:
        body = await gallery.bodies.receive(request, most + _FORM_BYTES, _UPLOAD_SECONDS)
    except TooLargeError:
        raise too_large from None
    except TimeoutError:
        raise CurationError(f"the image took longer than {_UPLOAD_SECONDS} s to arrive") from None
    try:
        name, data = await _uploaded(request, body.content)
        if len(data) > most:
            raise too_large
        return await gallery.uploading.run(request, _keep, gallery, name, data, versions)
    finally:
        body.release()


async def _uploaded(request: Request, body: bytearray) -> tuple[str, bytes]:
    """Name and bytes of the one file of a form.

    Raises:
        HTTPException: there is none (400).
    """

    async def whole() -> AsyncIterator[bytes]:
        yield bytes(body)

    try:
        form = await MultiPartParser(request.headers, whole(), max_files=1, max_fields=10).parse()  # type: ignore[arg-type]
    except MultiPartException as error:
        raise HTTPException(400, f"this form can't be read: {error.message}") from None
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise HTTPException(400, _NO_FORM)
    data = await file.read()
    await form.close()
    return printable(file.filename or "an image")[:200], data


def _keep(gallery: Gallery, name: str, data: bytes, versions: Versions) -> responses.UploadReceipt:
    if not data:
        raise CurationError(f"{name} is empty")
    decode = replace(gallery.settings.decode_options, max_pixels=gallery.settings.gallery_max_pixels)
    found = gallery.searcher.embed_image(data, decode, name, versions.model_version)
    return responses.UploadReceipt(id=gallery.uploads.add(found), name=name)
