"""Finding images."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from curation_assets.gallery import responses
from curation_assets.gallery.gallery import Gallery, GalleryOf, found_images
from curation_assets.gallery.requests import PageRequest
from curation_assets.gallery.review import SPLIT, labels_at
from curation_assets.images.names import printable
from curation_assets.search.filters import PROBLEMS, TAGS
from curation_assets.search.ordering import NEAR_COPIES, ONLY_COPIES
from curation_assets.search.searcher import SearchResult

router = APIRouter()


@router.get("/api/search", tags=["search"], summary="Find images")
async def search(
    gallery: GalleryOf, request: Request, asked: Annotated[PageRequest, Query()]
) -> responses.SearchAnswer:
    """Images that meet the conditions: nearest to the query first, or without one in the order of a column."""
    return await gallery.searching.run(request, _search, gallery, asked)


def _search(gallery: Gallery, asked: PageRequest) -> responses.SearchAnswer:
    found = gallery.search(asked, asked.k, asked.offset)
    gallery.files.expect(found.index, found.rows)
    told = _told(gallery, found)
    latest = gallery.review.latest()
    return responses.SearchAnswer(
        total=found.total,
        images=found_images(found.rows, asked, found.copies, told),
        index=gallery.index_facts(found.index),
        query=found.query.facts(),
        filter=found.filter.facts(),
        sort=None if found.sort is None else str(found.sort),
        distinct=found.distinct,
        folded=None if found.folded is None else responses.FoldedImages.model_validate(found.folded.facts()),
        notice=ONLY_COPIES if found.folded is not None and not found.folded.are_near_known else None,
        described=printable(found.query.describe()),
        latest=latest,
    )


def _told(gallery: Gallery, found: SearchResult) -> list[dict[str, Any]]:
    """What curation and people say of each image that was found."""
    further = gallery.searcher.further(found.index, found.numbers, [PROBLEMS, NEAR_COPIES, TAGS])
    review, index = gallery.review, found.index
    said, labels = review.said_of_pictures(), review.labels(index)
    splits = labels[SPLIT]
    return [
        {
            "problems": row[PROBLEMS],
            "near": row[NEAR_COPIES],
            "tags": row[TAGS],
            "decided": said.get(content),
            "labels": labels_at(labels, number),
            "split": splits[number],
        }
        for row, content, number in zip(
            further.iter_rows(named=True), found.rows["content_sha256"], found.numbers.tolist(), strict=True
        )
    ]
