"""Previews, pictures and the files themselves."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response

from curation_assets.gallery.api.documentation import file_answer
from curation_assets.gallery.gallery import Gallery, GalleryOf
from curation_assets.gallery.requests import ImageRequest

_FOR_EVER = "private, max-age=31536000, immutable"

router = APIRouter()


@router.get(
    "/thumbnail",
    tags=["images"],
    summary="A preview",
    response_class=Response,
    responses=file_answer("image/jpeg", "JPEG, at most 384 pixels."),
)
def thumbnail(gallery: GalleryOf, request: Request, asked: Annotated[ImageRequest, Query()]) -> Response:
    """The small upright JPEG that the table holds."""
    return _jpeg(gallery, request, asked, "thumbnail")


@router.get(
    "/picture",
    tags=["images"],
    summary="A large picture",
    response_class=Response,
    responses=file_answer("image/jpeg", "JPEG, at most 1,600 pixels."),
)
async def picture(gallery: GalleryOf, request: Request, asked: Annotated[ImageRequest, Query()]) -> Response:
    """A large upright JPEG, made of the stored file whatever its format."""
    return await gallery.reading.run(request, _jpeg, gallery, request, asked, "picture")


@router.get(
    "/original",
    tags=["images"],
    summary="The file itself",
    response_class=Response,
    responses=file_answer("application/octet-stream", "Its bytes."),
)
async def original(gallery: GalleryOf, request: Request, asked: Annotated[ImageRequest, Query()]) -> Response:
    """The bytes of the file as they were scanned: from the table, or where it doesn't hold them from the disk."""
    return await gallery.reading.run(request, _original, gallery, asked)


def _original(gallery: Gallery, asked: ImageRequest) -> Response:
    index = gallery.open(asked)
    row = gallery.row(index, asked.key)
    return Response(
        gallery.files.original(index, row),
        media_type="application/octet-stream",
        headers={"Content-Disposition": attachment(row["file_name"])},
    )


def _jpeg(gallery: Gallery, request: Request, asked: ImageRequest, kind: Literal["thumbnail", "picture"]) -> Response:
    index = gallery.open(asked)
    row = gallery.row(index, asked.key)
    content = row["content_sha256"] or ""
    tag = f'"{content[:32]}-{kind}"'
    # The address names the content: it never means another picture.
    lasting = bool(asked.v) and content.startswith(asked.v or "")
    headers = {"ETag": tag, "Cache-Control": _FOR_EVER if lasting else "private, no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    make = gallery.files.thumbnail if kind == "thumbnail" else gallery.files.picture
    return Response(make(index, row), media_type="image/jpeg", headers=headers)


def attachment(file_name: str) -> str:
    """A header that makes a browser store the file under its name, whatever the name holds."""
    name = "".join("_" if char in '/\\"' or not char.isprintable() else char for char in file_name)
    plain = "".join(char if " " <= char <= "~" else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
