"""Finding images."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from curation_assets.gallery import responses
from curation_assets.gallery.gallery import Gallery, GalleryOf, found_images
from curation_assets.gallery.requests import PageRequest
from curation_assets.images.names import printable
from curation_assets.search.filters import PROBLEMS, TAGS
from curation_assets.search.ordering import NEAR_COPIES, ONLY_COPIES

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
    further = gallery.searcher.further(found.index, found.numbers, [PROBLEMS, NEAR_COPIES, TAGS])
    latest = gallery.review.latest()
    return responses.SearchAnswer(
        total=found.total,
        images=found_images(found.rows, asked, found.copies, further, gallery.review.said_of_pictures()),
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
