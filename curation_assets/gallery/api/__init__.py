"""The gallery's API, by subject; its pages use nothing else."""

from __future__ import annotations

from fastapi import APIRouter

from curation_assets.gallery.api import (
    clusters,
    decisions,
    duplicates,
    export,
    folders,
    images,
    label_issues,
    labels,
    map,
    pixels,
    problems,
    samples,
    search,
    uploads,
)
from curation_assets.gallery.api.documentation import PROBLEMS

router = APIRouter(responses=PROBLEMS)
for _subject in (
    search,
    uploads,
    images,
    labels,
    folders,
    map,
    problems,
    duplicates,
    label_issues,
    clusters,
    samples,
    decisions,
    export,
    pixels,
):
    router.include_router(_subject.router)
