"""Tags that people gave, which gather images."""

from __future__ import annotations

from fastapi import APIRouter, Request

from curation_assets.gallery import responses
from curation_assets.gallery.gallery import Gallery, GalleryOf
from curation_assets.gallery.requests import Versions

router = APIRouter()


@router.get("/api/tags", tags=["review"], summary="Tags")
async def tags(gallery: GalleryOf, request: Request) -> responses.TagsAnswer:
    """Every tag that an image has, and how many have it; `tag` and `untag` are decisions."""
    return await gallery.searching.run(request, _tags, gallery)


def _tags(gallery: Gallery) -> responses.TagsAnswer:
    index = gallery.open(Versions())
    counted = gallery.review.tags(index)
    return responses.TagsAnswer(tags=[responses.Tag(tag=tag, images=images) for tag, images in counted.iter_rows()])
