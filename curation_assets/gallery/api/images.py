"""What is known of one image."""

from __future__ import annotations

from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Query, Request

from curation_assets.curate.duplicates.overview import groups_with, is_compared
from curation_assets.gallery import responses
from curation_assets.gallery.api.documentation import NOT_THERE
from curation_assets.gallery.exif import read_tags
from curation_assets.gallery.gallery import Gallery, GalleryOf, address, found_image, found_images
from curation_assets.gallery.requests import ImageRequest
from curation_assets.gallery.review import labels_at
from curation_assets.search.index import SearchIndex

_MOST_COPIES = _MOST_GROUPED = 100

router = APIRouter()


@router.get("/api/image", tags=["images"], summary="All about one image", responses=NOT_THERE)
def image(gallery: GalleryOf, asked: Annotated[ImageRequest, Query()]) -> responses.ImageFacts:
    """What the tables hold of an image, where else the same content lies, and where it is to be had."""
    return image_facts(gallery, asked)


@router.get("/api/exif", tags=["images"], summary="EXIF tags", responses=NOT_THERE)
async def exif(gallery: GalleryOf, request: Request, asked: Annotated[ImageRequest, Query()]) -> responses.ExifTags:
    """Every EXIF tag of the stored file, in short; at most 300."""
    return await gallery.reading.run(request, _tags, gallery, asked)


def _tags(gallery: Gallery, asked: ImageRequest) -> responses.ExifTags:
    index = gallery.open(asked)
    data = gallery.files.original(index, gallery.row(index, asked.key))
    return responses.ExifTags(tags=read_tags(data, gallery.settings.decode_options))


def image_facts(gallery: Gallery, asked: ImageRequest) -> responses.ImageFacts:
    """All about one image."""
    index = gallery.open(asked)
    row = gallery.row(index, asked.key)
    embedding = None
    if row["position"] is not None:
        embedding = responses.Embedding(
            model=index.info.model_name,
            model_version=index.info.model_version,
            model_fingerprint=index.info.model_fingerprint,
            dimension=index.info.dimension,
            embeddings_table_version=index.info.embeddings_version,
            embedded_at=row["embedded_at"],
        )
    copies = gallery.searcher.exact_duplicates(index, asked.key)
    number, place = len(copies), index.row_number(asked.key)
    mark = {"v": row["content_sha256"][:16]} if row["content_sha256"] else {}
    hidden = ("position", "_file", "embedded_at")
    columns = {name: value for name, value in row.items() if name not in hidden}
    return responses.ImageFacts(
        image=found_image(
            row,
            asked,
            number,
            decided=gallery.review.said_of_pictures().get(row["content_sha256"]),
            labels=None if place is None else labels_at(gallery.review.labels(index), place),
        ),
        columns=columns | gallery.further(index, asked.key),
        embedding=embedding,
        copies=found_images(copies.head(_MOST_COPIES), asked, [number] * min(number, _MOST_COPIES)),
        copies_total=number,
        annotations=[responses.Annotation.model_validate(said) for said in gallery.annotations_of(row)],
        groups=_groups(gallery, index, asked),
        decisions=[
            responses.Decision.model_validate(said)
            for said in gallery.review.decisions().of_image(asked.key, row["content_sha256"]).iter_rows(named=True)
        ],
        compared=row["status"] == "ok"
        and is_compared(gallery.tables.compared, row["content_sha256"], gallery.agreements),
        picture=address("/picture", asked.key, asked, mark) if row["status"] == "ok" else None,
        original=address("/original", asked.key, asked),
        dagster=gallery.dagster_link(row["folder"]),
    )


def _groups(gallery: Gallery, index: SearchIndex, asked: ImageRequest) -> list[responses.ImageGroup]:
    told = []
    for group in groups_with(gallery.tables.groups, gallery.tables.pairs, asked.key):
        images = [
            responses.GroupedImage(
                image=found_image(index.rows.row(number, named=True), asked),
                is_keeper=row["is_keeper"],
                similarity=row["similarity"],
                rule=row["rule"],
                how=row["how"],
            )
            for row, number in _shown(group.images, index, asked.key)
        ]
        total = len(group.images)
        told.append(responses.ImageGroup(kind=group.kind, group_id=group.group_id, total=total, images=images))
    return told


def _shown(rows: pl.DataFrame, index: SearchIndex, key: str) -> list[tuple[dict[str, Any], int]]:
    """Rows of a group that an index has, with their numbers there: the first hundred, ``key`` among them."""
    numbered = ((row, index.row_number(row["relative_path"])) for row in rows.iter_rows(named=True))
    there = [(row, number) for row, number in numbered if number is not None]
    later = [each for each in there[_MOST_GROUPED:] if each[0]["relative_path"] == key]
    return there[: _MOST_GROUPED - len(later)] + later
