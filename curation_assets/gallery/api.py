"""The gallery's API; its pages use nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

import polars as pl
from fastapi import APIRouter, Body, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from curation_assets.errors import CurationError
from curation_assets.gallery import models
from curation_assets.gallery.asked import Export, Labelling, LabelsOfMap, OfImage, OfMap, Page, Versions
from curation_assets.gallery.exif import read_tags
from curation_assets.gallery.export import MEDIA_TYPES, WRITERS
from curation_assets.gallery.files import NotThereError
from curation_assets.gallery.folders import count_folders
from curation_assets.gallery.gallery import Gallery, GalleryOf, address, found_image, found_images
from curation_assets.gallery.points import Points, encoded, labels_of
from curation_assets.gallery.security import MOST_BODY_BYTES
from curation_assets.images.names import printable
from curation_assets.search.zero_shot import check_labels

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": models.Problem, "description": "The call can't be answered as it is."},
}
_NOT_THERE: dict[int | str, dict[str, Any]] = {
    404: {"model": models.Problem, "description": "There is no such image, or not any more."}
}
_FOR_EVER = "private, max-age=31536000, immutable"
_DRAINED = 4  # times the limit of an upload that is read to its end, so that its sender gets to read the answer
_MOST_COPIES = 100
_UPLOAD_SECONDS = 60
_EVERYTHING = 10**9  # images


def _file(kind: str, description: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {kind: {}}, "description": description}, **_NOT_THERE}


router = APIRouter(responses=_PROBLEMS)


@router.get("/api/search", tags=["search"], summary="Find images")
def search(gallery: GalleryOf, asked: Annotated[Page, Query()]) -> models.SearchAnswer:
    """Images that meet the conditions: nearest to the query first, or without one in the order of their paths."""
    found = gallery.search(asked, asked.k, asked.offset)
    gallery.files.expect(found.index, found.rows)
    return models.SearchAnswer(
        total=found.total,
        images=found_images(found.rows, asked),
        index=gallery.index_facts(found.index),
        query=found.query.facts(),
        filter=found.filter.facts(),
        described=printable(found.query.describe()),
    )


@router.post(
    "/api/images",
    tags=["search"],
    summary="Give an image to search with",
    status_code=201,
    responses={413: {"model": models.Problem, "description": "The image has too many bytes."}},
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
async def give_image(gallery: GalleryOf, request: Request, versions: Annotated[Versions, Query()]) -> models.Uploaded:
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


@router.get("/api/image", tags=["images"], summary="All about one image", responses=_NOT_THERE)
def image(gallery: GalleryOf, asked: Annotated[OfImage, Query()]) -> models.ImageFacts:
    """What the tables hold of an image, where else the same content lies, and where it is to be had."""
    return image_facts(gallery, asked)


@router.get("/api/exif", tags=["images"], summary="EXIF tags", responses=_NOT_THERE)
def exif(gallery: GalleryOf, asked: Annotated[OfImage, Query()]) -> models.ExifTags:
    """Every EXIF tag of the stored file, in short; at most 300."""
    index = gallery.open(asked)
    with gallery.reading:
        data = gallery.files.original(index, gallery.row(index, asked.key))
        return models.ExifTags(tags=read_tags(data, gallery.settings.max_pixels))


@router.get("/api/labels", tags=["labels"], summary="Zero-shot labels")
def labels(gallery: GalleryOf, asked: Annotated[Labelling, Query()]) -> models.LabelsAnswer:
    """Which of some texts suits each image best, for a part of what a search finds."""
    return gallery.labels(asked)


@router.get("/api/folders", tags=["images"], summary="Folders with counts")
def folders(gallery: GalleryOf, versions: Annotated[Versions, Query()]) -> models.FoldersAnswer:
    """Every folder that holds image files: files, usable ones, others, and those with a vector of this model."""
    rows = count_folders(gallery.open(versions)).iter_rows(named=True)
    return models.FoldersAnswer(folders=[models.FolderCounts.model_validate(row) for row in rows])


@router.get("/api/map", tags=["map"], summary="The map's points")
def map_points(gallery: GalleryOf, versions: Annotated[Versions, Query()]) -> models.MapAnswer:
    """A point for each image: images that look alike lie near to each other. `curation map` makes the map."""
    index = gallery.open(versions)
    points = gallery.maps.of(index)
    return models.MapAnswer(
        id=points.id,
        count=len(points.paths),
        xy=encoded(points.xy),
        folder=encoded(points.folder),
        folders=points.folders,
        shown_folders=[printable(folder) for folder in points.folders],
        index=gallery.index_facts(index),
    )


@router.get("/api/map/point", tags=["map"], summary="The image of a point", responses=_NOT_THERE)
def map_point(gallery: GalleryOf, asked: Annotated[OfMap, Query()]) -> models.FoundImage:
    """The image that a point of the map stands for."""
    index = gallery.open(asked)
    points = _same_map(gallery.maps.of(index), asked.id)
    if asked.number >= len(points.paths):
        raise NotThereError(f"the map has {len(points.paths):,} points, and no {asked.number}")
    return found_image(gallery.row(index, points.paths[asked.number]), asked)


@router.get("/api/map/labels", tags=["map"], summary="Labels of all points", responses=_NOT_THERE)
def map_labels(gallery: GalleryOf, asked: Annotated[LabelsOfMap, Query()]) -> models.MapLabels:
    """Which of some texts suits each point's image best."""
    index = gallery.open(asked)
    points = _same_map(gallery.maps.of(index), asked.id)
    names = check_labels(gallery.labels_of(asked))
    labelled = gallery.searcher.labels(names, model_version=asked.model_version)
    of_points = labels_of(points, labelled, names)
    counts = [int((of_points == place).sum()) for place in range(len(names))]
    return models.MapLabels(labels=names, counts=counts, label=encoded(of_points))


@router.post(
    "/api/export",
    tags=["search"],
    summary="Take a result along",
    response_class=Response,
    max_body_size=MOST_BODY_BYTES,
    responses={
        200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}, "description": "The file."},
        413: {"model": models.Problem, "description": "Too many keys."},
    },
)
def export(gallery: GalleryOf, asked: Annotated[Export, Body()]) -> Response:
    """The rows of a result, or of the images that were selected of it, in a file that says where they come from.

    The provenance is the query, the filter, the versions of model and tables, and when it was exported.

    - `json`: `{"provenance": {…}, "images": […]}`
    - `parquet`: the provenance is JSON under `curation_provenance` in the schema's metadata
    - `csv`: the first line is `# curation_provenance: {…}`, then come header and rows; texts are quoted, so
      `polars.read_csv(…, comment_prefix="#")` and `pandas.read_csv(…, skiprows=1)` read it. Values are exact: a
      spreadsheet may take one that begins with `=` for a formula.
    """
    with gallery.exporting:
        found = gallery.search(asked.search, _EVERYTHING)
        rows = found.rows.drop("position")
        provenance = found.provenance() | {"total": found.total}
        if asked.keys is not None:
            rows = rows.filter(pl.col("relative_path").is_in(asked.keys))
            provenance |= {"selected": len(set(asked.keys))}
        content = WRITERS[asked.format](rows, provenance | {"rows": len(rows)})
    name = f"images-{datetime.now(UTC):%Y%m%d-%H%M%S}.{asked.format}"
    return Response(
        content,
        media_type=MEDIA_TYPES[asked.format],
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.get(
    "/thumbnail",
    tags=["images"],
    summary="A preview",
    response_class=Response,
    responses=_file("image/jpeg", "JPEG, at most 384 pixels."),
)
def thumbnail(gallery: GalleryOf, request: Request, asked: Annotated[OfImage, Query()]) -> Response:
    """The small upright JPEG that the table holds."""
    return _jpeg(gallery, request, asked, "thumbnail")


@router.get(
    "/picture",
    tags=["images"],
    summary="A large picture",
    response_class=Response,
    responses=_file("image/jpeg", "JPEG, at most 1,600 pixels."),
)
def picture(gallery: GalleryOf, request: Request, asked: Annotated[OfImage, Query()]) -> Response:
    """A large upright JPEG, made of the stored file whatever its format."""
    return _jpeg(gallery, request, asked, "picture")


@router.get(
    "/original",
    tags=["images"],
    summary="The file itself",
    response_class=Response,
    responses=_file("application/octet-stream", "Its bytes."),
)
def original(gallery: GalleryOf, asked: Annotated[OfImage, Query()]) -> Response:
    """The bytes of the file as they were scanned: from the table, or where it doesn't hold them from the disk."""
    index = gallery.open(asked)
    row = gallery.row(index, asked.key)
    return Response(
        gallery.files.original(index, row),
        media_type="application/octet-stream",
        headers={"Content-Disposition": _attachment(row["file_name"])},
    )


def image_facts(gallery: Gallery, asked: OfImage) -> models.ImageFacts:
    """All about one image."""
    index = gallery.open(asked)
    row = gallery.row(index, asked.key)
    embedding = None
    if row["position"] is not None:
        embedding = models.Embedding(
            model=index.info.model_name,
            model_version=index.info.model_version,
            model_fingerprint=index.info.model_fingerprint,
            dimension=index.info.dimension,
            embeddings_table_version=index.info.embeddings_version,
            embedded_at=row["embedded_at"],
        )
    copies = gallery.searcher.exact_duplicates(index, asked.key).head(_MOST_COPIES)
    mark = {"v": row["content_sha256"][:16]} if row["content_sha256"] else {}
    hidden = ("position", "_file", "embedded_at")
    return models.ImageFacts(
        image=found_image(row, asked),
        columns={name: value for name, value in row.items() if name not in hidden},
        embedding=embedding,
        copies=found_images(copies, asked),
        picture=address("/picture", asked.key, asked, mark) if row["status"] == "ok" else None,
        original=address("/original", asked.key, asked),
        dagster=gallery.dagster_link(row["folder"]),
    )


def _jpeg(gallery: Gallery, request: Request, asked: OfImage, kind: Literal["thumbnail", "picture"]) -> Response:
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


def _same_map(points: Points, asked: str) -> Points:
    if points.id != asked:
        raise NotThereError("the map was made anew meanwhile; reload the page")
    return points


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


def _keep(gallery: Gallery, name: str, data: bytes, versions: Versions) -> models.Uploaded:
    if not data:
        raise CurationError(f"{name} is empty")
    limit = gallery.settings.gallery_max_pixels
    found = gallery.searcher.embed_image(data, limit, name, versions.model_version)
    return models.Uploaded(id=gallery.uploads.add(found), name=name)


def _attachment(file_name: str) -> str:
    """A header that makes a browser store the file under its name, whatever the name holds."""
    name = "".join("_" if char in '/\\"' or not char.isprintable() else char for char in file_name)
    plain = "".join(char if " " <= char <= "~" else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
