"""Measuring a kind of problem: images drawn at random in bands of its score, and what was found in them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import polars as pl
from fastapi import APIRouter, Body, Query, Request

from curation_assets.curate.labels.questions import ISSUES
from curation_assets.curate.problems import KINDS, check_kind, shortly
from curation_assets.gallery import responses
from curation_assets.gallery.api.decisions import check_may_decide, who
from curation_assets.gallery.api.label_issues import as_issue
from curation_assets.gallery.api.problems import as_problem_image
from curation_assets.gallery.files import NotThereError
from curation_assets.gallery.gallery import Gallery, GalleryOf
from curation_assets.gallery.requests import DrawRequest, SampleRequest
from curation_assets.review.calibration import CONFIDENCE, Band, Suggestion, part_of, suggestions
from curation_assets.review.samples import Sample, draw_sample

router = APIRouter()


@router.get("/api/samples", tags=["review"], summary="What was measured of a kind of problem")
async def samples(
    gallery: GalleryOf, request: Request, asked: Annotated[SampleRequest, Query()]
) -> responses.SamplesAnswer:
    """The samples of a kind, the latest first, with what they prove; and of one the images to look at next."""
    return await gallery.searching.run(request, _samples, gallery, asked)


@router.post(
    "/api/samples",
    tags=["review"],
    summary="Draw a sample",
    responses={403: {"model": responses.Problem, "description": "Who asks may look, but not decide."}},
)
async def draw(gallery: GalleryOf, request: Request, asked: Annotated[DrawRequest, Body()]) -> responses.SampleFacts:
    """Draw images at random in bands of what tells of a kind of problem; what is drawn doesn't change any more."""
    check_may_decide(request)
    return await gallery.deciding.run(request, _drawn, gallery, asked, who(request, asked.by))


def _drawn(gallery: Gallery, asked: DrawRequest, by: str) -> responses.SampleFacts:
    kind = check_kind(asked.kind)
    threshold = gallery.thresholds[kind] if asked.threshold is None else asked.threshold
    made = draw_sample(gallery.tables.samples, gallery.review.measurable(kind), threshold, asked.size, by)
    return _facts(gallery, made)


def _samples(gallery: Gallery, asked: SampleRequest) -> responses.SamplesAnswer:
    kind = check_kind(asked.kind)
    found = [sample for sample in gallery.review.samples() if sample.kind == kind]
    images: list[responses.ProblemImage] = []
    issues: list[responses.LabelIssue] = []
    latest = gallery.review.latest()
    if asked.sample is not None:
        chosen = next((sample for sample in found if sample.sample_id == asked.sample), None)
        if chosen is None:
            raise NotThereError(f"there is no sample {asked.sample[:60]!r} of {kind}")
        index = gallery.open(asked)
        for row in _to_look_at(gallery, chosen, asked.by).iter_rows(named=True):
            if len(images) + len(issues) == asked.k:
                break
            if kind in ISSUES:
                issue = as_issue(index, row, asked)
                issues += [] if issue is None else [issue]
            else:
                shown = as_problem_image(index, row, asked, flagged=row["flagged"])
                images += [] if shown is None else [shown]
    facts = [_facts(gallery, one) for one in found]
    return responses.SamplesAnswer(samples=facts, images=images, issues=issues, latest=latest)


def _to_look_at(gallery: Gallery, sample: Sample, by: str | None) -> pl.DataFrame:
    """What nobody said anything of yet, or one person didn't, with what is known of it by now."""
    said = gallery.review.rows()
    if by is not None:
        said = said.filter((pl.col("decided_by") == by) | pl.col("undoes").is_not_null())
    rows = sample.said(said).filter(pl.col("decided").is_null())
    queue = gallery.review.measurable(sample.kind).rows
    key = ["relative_path", "content_sha256"]
    if sample.kind not in ISSUES:
        return rows.join(queue.select(*key, "score"), on=key, how="left", maintain_order="left")
    known = [*key, "field", "suggested", "label_quality", "number", "reason"]
    rows = rows.with_columns(issues=pl.lit([sample.kind]))
    return rows.join(queue.select(known), on=[*key, "field"], how="left", maintain_order="left")


def _facts(gallery: Gallery, sample: Sample) -> responses.SampleFacts:
    bands = sample.bands(gallery.review.rows(), gallery.searcher.open().rows)
    each = part_of(CONFIDENCE, len(bands))
    edges = suggestions(bands)
    judged = sample.agreement(gallery.review.rows())
    return responses.SampleFacts(
        sample=sample.sample_id,
        kind=sample.kind,
        created_at=sample.created_at,
        created_by=sample.created_by,
        threshold=sample.threshold,
        drawn=len(sample.rows),
        looked_at=sum(band.looked_at for band in bands),
        bands=[_band(band, each) for band in bands],
        edges=[_edge(sample, edge) for edge in edges if edge.threshold > 0],  # no other can be asked for
        confidence=CONFIDENCE,
        judged_by_several=judged[0] if judged else 0,
        agreement=judged[1] if judged else None,
    )


def _band(band: Band, confidence: float) -> responses.SampleBand:
    return responses.SampleBand(
        **asdict(band),
        looked_at=band.looked_at,
        most_wrong=band.most_wrong(confidence),
        most_right=band.most_right(confidence),
    )


def _edge(sample: Sample, edge: Suggestion) -> responses.SampleEdge:
    kind = KINDS[sample.kind]
    what, was = "labels" if kind.name in ISSUES else "images", "were" if edge.wrong != 1 else "was"
    gone = f", {edge.gone:,} gone and taken for wrong" if edge.gone else ""
    told = (
        f"of {edge.images:,} {what} at {kind.limit(edge.threshold)}, {edge.looked_at:,} were looked at, {edge.wrong:,} "
        f"{was} wrong{gone}: with {CONFIDENCE:.0%} confidence (one-sided) at most {edge.most_wrong:.1%} are"
    )
    recipe = f" [leave_out]\n+# measured {sample.created_at:%Y-%m-%d} for {sample.created_by!r}: {told}\n"
    threshold = shortly(edge.threshold)
    if kind.name in ISSUES:  # a recipe takes their threshold from the settings
        recipe += f'+# with {kind.name}={threshold} in CURATION_PROBLEM_THRESHOLDS\n+{kind.name} = "suspected"\n'
    else:
        recipe += f"+{kind.name} = {threshold}\n"
    return responses.SampleEdge(
        threshold=edge.threshold, images=edge.images, most_wrong=edge.most_wrong, told=told, recipe=recipe
    )
