"""The gallery's API, by subject; its pages use nothing else."""

from __future__ import annotations

from fastapi import APIRouter

from curation_assets.gallery.api import (
    clusters,
    datasets,
    decisions,
    duplicates,
    export,
    folders,
    images,
    label_issues,
    labels,
    leakage,
    map,
    pixels,
    problems,
    samples,
    search,
    tags,
    uploads,
)
from curation_assets.gallery.api.documentation import PROBLEMS

router = APIRouter(responses=PROBLEMS)
for _subject in (
    pixels,  # first, as routes are tried one after the other, and a page asks for dozens of previews
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
    tags,
    leakage,
    datasets,
    export,
):
    router.include_router(_subject.router)
