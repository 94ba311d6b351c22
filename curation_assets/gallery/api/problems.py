"""Problems of images: how many have which, and those of one kind, the worst first."""

from __future__ import annotations

from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Path, Query, Request

from curation_assets.curate.evidence import Evidence
from curation_assets.curate.problems import BAD_BOX, KINDS, check_kind
from curation_assets.decisions.kinds import KEEP
from curation_assets.gallery import responses
from curation_assets.gallery.api.documentation import NOT_THERE
from curation_assets.gallery.gallery import Gallery, GalleryOf, found_image, named_image, number_of
from curation_assets.gallery.requests import EvidenceRequest, ProblemsRequest, Versions
from curation_assets.review.problem_queue import ProblemQueue
from curation_assets.search.filters import lies_below
from curation_assets.search.index import SearchIndex

_EXAMPLES = 4

router = APIRouter()


@router.get("/api/problems", tags=["review"], summary="Kinds of problem")
async def problems(
    gallery: GalleryOf, request: Request, asked: Annotated[Versions, Query()]
) -> responses.ProblemsAnswer:
    """How many images have which kind of problem, with the worst of each; the most frequent first."""
    return await gallery.searching.run(request, _problems, gallery, asked)


@router.get("/api/problems/{kind}", tags=["review"], summary="Images of a kind of problem", responses=NOT_THERE)
async def problem(
    gallery: GalleryOf,
    request: Request,
    kind: Annotated[str, Path(description="Of problem: `blurry`, say.")],
    asked: Annotated[ProblemsRequest, Query()],
) -> responses.ProblemAnswer:
    """Images by what tells of a kind, the worst first, also beyond the threshold; how many a threshold names."""
    return await gallery.searching.run(request, _problem, gallery, check_kind(kind), asked)


@router.get(
    "/api/problems/{kind}/evidence",
    tags=["review"],
    summary="What speaks for a problem of an image",
    responses=NOT_THERE,
)
async def evidence(
    gallery: GalleryOf,
    request: Request,
    kind: Annotated[str, Path(description="Of problem: `leak`, say.")],
    asked: Annotated[EvidenceRequest, Query()],
) -> responses.EvidenceAnswer:
    """What a reader looks at beside an image: its boxes, the images that it is too near, its neighbours."""
    return await gallery.searching.run(request, _evidence, gallery, check_kind(kind), asked)


def _problems(gallery: Gallery, asked: Versions) -> responses.ProblemsAnswer:
    index = gallery.open(asked)
    pictures, decisions = gallery.review.pictures(), gallery.review.decisions()
    told = []
    for kind in KINDS:
        queue = gallery.review.queue(kind)
        threshold = gallery.thresholds[kind]
        rows = queue.rows.head(queue.count(threshold))
        said = queue.answers(decisions, len(rows))
        named = rows.filter(~said["decided"].eq_missing(KEEP))
        examples = [
            found_image(index.rows.row(number, named=True), asked)
            for number in _there(index, named["relative_path"].head(4 * _EXAMPLES).to_list())[:_EXAMPLES]
        ]
        told.append(
            responses.ProblemKind(
                **_facts(queue, threshold),
                images=len(named),
                kept=len(rows) - len(named),
                undecided=int(said["is_open"].sum()),
                examples=examples,
            )
        )
    told.sort(key=lambda kind: -kind.images)
    return responses.ProblemsAnswer(measured=len(pictures), kinds=told, latest=gallery.review.latest())


def _problem(gallery: Gallery, kind: str, asked: ProblemsRequest) -> responses.ProblemAnswer:
    index, queue = gallery.open(asked), gallery.review.queue(kind)
    threshold = gallery.thresholds[kind] if asked.threshold is None else asked.threshold
    flagged = queue.count(threshold)
    latest = gallery.review.latest()  # before the decisions: what comes meanwhile is new to the page
    rows = queue.rows.with_row_index("place").hstack(queue.answers(gallery.review.decisions()))
    is_flagged = pl.col("place") < flagged
    rows = rows.filter(lies_below(asked.folder))
    counted = rows.filter(is_flagged)
    said = dict(counted["decided"].drop_nulls().value_counts().sort("decided").iter_rows())
    undecided = int(counted["is_open"].sum())
    if asked.undecided:
        rows = counted.filter("is_open")
    offset = max(0, len(counted) - asked.k // 2) if asked.around else asked.offset
    images = []
    for row in rows.slice(offset, asked.k).iter_rows(named=True):
        shown = as_problem_image(index, row, asked, flagged=row["place"] < flagged)
        images += [] if shown is None else [shown]
    return responses.ProblemAnswer(
        **_facts(queue, threshold),
        total=len(rows),
        flagged=len(counted),
        undecided=undecided,
        decided=said,
        offset=offset,
        histogram=responses.Histogram(edges=queue.histogram.edges, counts=queue.histogram.counts),
        images=images,
        latest=latest,
    )


def _evidence(gallery: Gallery, kind: str, asked: EvidenceRequest) -> responses.EvidenceAnswer:
    index = gallery.open(asked)
    image = gallery.row(index, asked.key)
    is_it = (pl.col("relative_path") == asked.key) & (pl.col("content_sha256") == image["content_sha256"])
    found = gallery.evidence(kind, gallery.review.judged_by(kind).filter(is_it)).get(asked.key, Evidence())
    said = gallery.annotations_of(image) if kind == BAD_BOX else []
    beside = []
    for path, told in found.beside:
        number = index.row_number(path)
        content = None if number is None else index.rows["content_sha256"][number]
        beside.append(responses.EvidenceImage(**dict(named_image(index, path, content, asked)), told=told))
    return responses.EvidenceAnswer(
        said=found.said,
        boxes=[box for one in said for box in responses.Annotation.model_validate(one).boxes or []],
        beside=beside,
    )


def as_problem_image(
    index: SearchIndex, row: dict[str, Any], versions: Versions, *, flagged: bool
) -> responses.ProblemImage | None:
    """An image in the order of a kind of problem; None where it is gone or another, or not in the index yet.

    Args:
        row: ``relative_path``, ``content_sha256``, ``score``, ``at`` and ``decided``.
    """
    if (number := number_of(index, row)) is None:
        return None
    image = found_image(index.rows.row(number, named=True), versions)
    return responses.ProblemImage(
        image=image, score=row["score"], at=row["at"], flagged=flagged, decided=row["decided"]
    )


def _facts(queue: ProblemQueue, threshold: float) -> dict[str, object]:
    kind = queue.kind
    return {
        "kind": kind.name,
        "meaning": kind.meaning,
        "advice": kind.advice,
        "scale": kind.scale,
        "limit": kind.limit(threshold),
        "is_low": kind.is_low,
        "is_counted": kind.is_counted,
        "threshold": threshold,
        "default": kind.default,
    }


def _there(index: SearchIndex, paths: list[str]) -> list[int]:
    numbers = (index.row_number(path) for path in paths)
    return [number for number in numbers if number is not None]
