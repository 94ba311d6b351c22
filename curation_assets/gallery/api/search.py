"""Finding images."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from curation_assets.gallery import responses
from curation_assets.gallery.gallery import GalleryOf, found_images
from curation_assets.gallery.requests import PageRequest
from curation_assets.images.names import printable

router = APIRouter()


@router.get("/api/search", tags=["search"], summary="Find images")
def search(gallery: GalleryOf, asked: Annotated[PageRequest, Query()]) -> responses.SearchAnswer:
    """Images that meet the conditions: nearest to the query first, or without one in the order of their paths."""
    found = gallery.search(asked, asked.k, asked.offset)
    gallery.files.expect(found.index, found.rows)
    return responses.SearchAnswer(
        total=found.total,
        images=found_images(found.rows, asked),
        index=gallery.index_facts(found.index),
        query=found.query.facts(),
        filter=found.filter.facts(),
        described=printable(found.query.describe()),
    )
