"""Folders with their counts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from curation_assets.gallery import responses
from curation_assets.gallery.folders import count_folders
from curation_assets.gallery.gallery import GalleryOf
from curation_assets.gallery.requests import Versions

router = APIRouter()


@router.get("/api/folders", tags=["images"], summary="Folders with counts")
def folders(gallery: GalleryOf, versions: Annotated[Versions, Query()]) -> responses.FoldersAnswer:
    """Every folder that holds image files: files, usable ones, others, and those with a vector of this model."""
    rows = count_folders(gallery.open(versions)).iter_rows(named=True)
    return responses.FoldersAnswer(folders=[responses.FolderCounts.model_validate(row) for row in rows])
