"""Groups of duplicates: how many there are, what people said of them, and the largest first."""

from __future__ import annotations

from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Query, Request

from curation_assets.curate.duplicates.overview import ADVICE, KINDS, MEANING, how
from curation_assets.gallery import responses
from curation_assets.gallery.gallery import Gallery, GalleryOf, found_image, number_of
from curation_assets.gallery.requests import DuplicatesRequest
from curation_assets.gallery.review import labels_at
from curation_assets.search.index import SearchIndex

router = APIRouter()


@router.get("/api/duplicates", tags=["review"], summary="Groups of duplicates")
async def duplicates(
    gallery: GalleryOf, request: Request, asked: Annotated[DuplicatesRequest, Query()]
) -> responses.DuplicatesAnswer:
    """Groups of the same bytes, photograph or scene, the largest first, and which of their images is kept and why."""
    return await gallery.searching.run(request, _duplicates, gallery, asked)


def _duplicates(gallery: Gallery, asked: DuplicatesRequest) -> responses.DuplicatesAnswer:
    index = gallery.open(asked)
    latest = gallery.review.latest()  # before the decisions: what comes meanwhile is new to the page
    labels = gallery.review.labels(index)
    queue, said = gallery.review.said_of_duplicates()
    groups = queue.groups.with_columns(decided=said)
    if asked.folder:
        groups = groups.filter(queue.below(asked.folder))
    kinds = [_counts(groups, kind) for kind in KINDS]
    if asked.kind is not None:
        groups = groups.filter(pl.col("kind") == asked.kind)
    undecided = int(groups["decided"].is_null().sum())
    if asked.undecided:
        groups = groups.filter(pl.col("decided").is_null())
    found: list[responses.DuplicateGroup] = []
    place = asked.offset
    # A group of which the index has no two images is gone or not there yet, and is no question.
    while place < len(groups) and len(found) < asked.k:
        group = groups.row(place, named=True)
        place += 1
        rows = queue.images.slice(group["start"], group["size"])
        there = [(row, number) for row in rows.iter_rows(named=True) if (number := number_of(index, row)) is not None]
        if len(there) > 1:
            found.append(_group(index, labels, group, there, asked))
    return responses.DuplicatesAnswer(
        kinds=kinds,
        total=len(groups),
        undecided=undecided,
        offset=asked.offset,
        next=place if place < len(groups) else None,
        groups=found,
        latest=latest,
    )


def _counts(groups: pl.DataFrame, kind: str) -> responses.DuplicateCounts:
    of_kind = groups.filter(pl.col("kind") == kind)
    images = int(of_kind["size"].sum())
    return responses.DuplicateCounts(
        kind=kind,
        meaning=MEANING[kind],
        advice=ADVICE[kind],
        groups=len(of_kind),
        undecided=int(of_kind["decided"].is_null().sum()),
        images=images,
        spare=images - len(of_kind),
    )


def _group(
    index: SearchIndex,
    labels: pl.DataFrame,
    group: dict[str, Any],
    there: list[tuple[dict[str, Any], int]],
    asked: DuplicatesRequest,
) -> responses.DuplicateGroup:
    described, others = _described(index, group["kind"], there, asked.images)
    images = [
        responses.DuplicateImage(
            image=found_image(index.rows.row(number, named=True), asked),
            is_keeper=row["is_keeper"],
            similarity=row["similarity"],
            rule=row["rule"],
            how=how(row),
            labels=labels_at(labels, number),
        )
        for row, number in described
    ]
    first = there[0][0]
    return responses.DuplicateGroup(
        kind=group["kind"],
        group_id=group["group_id"],
        total=len(there),
        keeper=first["keeper"],
        rule=first["rule"],
        decided=group["decided"],
        images=images,
        rest=[responses.DuplicateName.model_validate(row) for row, _ in others] if asked.rest else [],
    )


_There = list[tuple[dict[str, Any], int]]


def _described(index: SearchIndex, kind: str, there: _There, number: int) -> tuple[_There, _There]:
    """So many images of a group that are shown, and the others: the likest, or of a burst a strip in time."""
    if kind == "burst":
        times = index.rows["captured_at"]
        there = sorted(there, key=lambda one: (times[one[1]] is None, times[one[1]], one[0]["relative_path"]))
        keeper = next((place for place, (row, _) in enumerate(there) if row["is_keeper"]), 0)
        start = max(0, keeper - number + 1)
        return there[start : start + number], there[:start] + there[start + number :]
    return there[:number], there[number:]
