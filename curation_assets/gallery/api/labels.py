"""Zero-shot labels of what a search finds."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from curation_assets.gallery import responses
from curation_assets.gallery.gallery import GalleryOf
from curation_assets.gallery.requests import LabelRequest

router = APIRouter()


@router.get("/api/labels", tags=["labels"], summary="Zero-shot labels")
async def labels(
    gallery: GalleryOf, request: Request, asked: Annotated[LabelRequest, Query()]
) -> responses.LabelsAnswer:
    """Which of some texts suits each image best, for a part of what a search finds."""
    return await gallery.searching.run(request, gallery.labels, asked)
