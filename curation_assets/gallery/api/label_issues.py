"""Labels that something speaks against, what lies beside each, and what is taken for what."""

from __future__ import annotations

from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Query, Request

from curation_assets.curate.labels.questions import ISSUES
from curation_assets.gallery import responses
from curation_assets.gallery.api.documentation import NOT_THERE
from curation_assets.gallery.files import NotThereError
from curation_assets.gallery.gallery import Gallery, GalleryOf, found_image, number_of
from curation_assets.gallery.requests import BesideRequest, ConfusionRequest, LabelIssuesRequest, Versions
from curation_assets.gallery.review import LABEL
from curation_assets.images.names import printable
from curation_assets.search.filters import is_equal, lies_below, make_filter
from curation_assets.search.index import SearchIndex
from curation_assets.search.query import Like
from curation_assets.search.query import Query as Question

_BESIDE = 4
_MOST_CLASSES = 200
_TOLD = ("field", "issues", "given", "suggested", "label_quality", "number", "reason", "decided")

router = APIRouter()


@router.get("/api/label-issues", tags=["review"], summary="Labels that something speaks against")
async def label_issues(
    gallery: GalleryOf, request: Request, asked: Annotated[LabelIssuesRequest, Query()]
) -> responses.LabelIssuesAnswer:
    """Labels that conflict or are likely wrong, the likeliest first, and how many there are of each field."""
    return await gallery.searching.run(request, _label_issues, gallery, asked)


@router.get("/api/label-fields", tags=["review"], summary="Fields of labels")
async def label_fields(
    gallery: GalleryOf, request: Request, asked: Annotated[Versions, Query()]
) -> responses.LabelFields:
    """Fields of labels, and what images are labelled there."""
    return await gallery.searching.run(request, _label_fields, gallery, asked)


@router.get(
    "/api/label-issues/beside", tags=["review"], summary="What lies beside a doubted label", responses=NOT_THERE
)
async def beside(
    gallery: GalleryOf, request: Request, asked: Annotated[BesideRequest, Query()]
) -> responses.BesideAnswer:
    """An image's nearest with the label that it has, with the one that is suggested, and what it conflicts with."""
    return await gallery.searching.run(request, _beside, gallery, asked)


@router.get("/api/label-issues/confusion", tags=["review"], summary="What is taken for what")
async def confusion(
    gallery: GalleryOf, request: Request, asked: Annotated[ConfusionRequest, Query()]
) -> responses.Confusion:
    """Of a field's labelled images how many of which class are said to be of which, by a classifier without them."""
    return await gallery.searching.run(request, _confusion, gallery, asked)


def _label_issues(gallery: Gallery, asked: LabelIssuesRequest) -> responses.LabelIssuesAnswer:
    index = gallery.open(asked)
    latest = gallery.review.latest()
    queue = gallery.review.label_issues()
    rows = queue.rows.with_columns(decided=queue.decided(gallery.review.decisions()))
    rows = rows.filter(lies_below(asked.folder))
    labels = gallery.review.labels(index)
    fields = [_field(rows, str(name), labels) for name in sorted(rows["field"].unique())]
    for name in ("field", "given", "suggested"):
        if (value := getattr(asked, name)) is not None:
            rows = rows.filter(pl.col(name) == value)
    if asked.issue is not None:
        rows = rows.filter(pl.col("issues").list.contains(asked.issue))
    undecided = int(rows["decided"].is_null().sum())
    if asked.undecided:
        rows = rows.filter(pl.col("decided").is_null())
    shown = (as_issue(index, row, asked) for row in rows.slice(asked.offset, asked.k).iter_rows(named=True))
    issues = [one for one in shown if one is not None]
    return responses.LabelIssuesAnswer(
        fields=fields, total=len(rows), undecided=undecided, offset=asked.offset, issues=issues, latest=latest
    )


def as_issue(index: SearchIndex, row: dict[str, Any], versions: Versions) -> responses.LabelIssue | None:
    """A label that something speaks against; None where its image is gone or another, or not in the index yet."""
    if (number := number_of(index, row)) is None:
        return None
    image = found_image(index.rows.row(number, named=True), versions)
    return responses.LabelIssue(image=image, **{name: row[name] for name in _TOLD})


def _field(rows: pl.DataFrame, field: str, labels: pl.DataFrame) -> responses.LabelField:
    mine = rows.filter(pl.col("field") == field)
    counts = {kind: int(mine["issues"].list.contains(kind).sum()) for kind in ISSUES}
    classes = _classes(labels[column]) if (column := f"{LABEL}{field}") in labels.columns else []
    return responses.LabelField(
        field=field, issues=counts, total=len(mine), undecided=int(mine["decided"].is_null().sum()), classes=classes
    )


def _label_fields(gallery: Gallery, asked: Versions) -> responses.LabelFields:
    labels = gallery.review.labels(gallery.open(asked))
    fields = [column for column in labels.columns if column.startswith(LABEL)]
    return responses.LabelFields(
        fields=[
            responses.LabelFieldClasses(field=column.removeprefix(LABEL), classes=_classes(labels[column]))
            for column in fields
        ]
    )


def _classes(labels: pl.Series) -> list[responses.LabelClass]:
    told = labels.drop_nulls().value_counts().sort("count", labels.name, descending=[True, False])
    return [responses.LabelClass(name=name, images=count) for name, count in told.head(_MOST_CLASSES).iter_rows()]


def _beside(gallery: Gallery, asked: BesideRequest) -> responses.BesideAnswer:
    index = gallery.open(asked)
    image = gallery.row(index, asked.key)
    is_it = (pl.col("relative_path") == asked.key) & (pl.col("field") == asked.field)
    is_it &= pl.col("content_sha256") == image["content_sha256"]
    found = gallery.review.label_issues().rows.filter(is_it)
    for kind in ISSUES:  # a sample holds what is beyond the line too
        found = found if len(found) else gallery.review.measurable(kind).rows.filter(is_it)
    if not len(found):
        raise NotThereError(f"nothing speaks against {printable(asked.field)} of {printable(asked.key)[:300]}")
    issue = found.row(0, named=True)
    others = [path for path in issue["evidence"] or [] if index.row_number(path) is not None]
    return responses.BesideAnswer(
        given=_nearest(gallery, index, image, asked, issue["given"]),
        suggested=_nearest(gallery, index, image, asked, issue["suggested"]),
        evidence=[_labelled(gallery, index, path, asked) for path in others[: 2 * _BESIDE]],
    )


def _nearest(
    gallery: Gallery, index: SearchIndex, image: dict[str, Any], asked: BesideRequest, label: str | None
) -> list[responses.FoundImage]:
    """The nearest with a label, but for copies of the image itself."""
    column = f"{LABEL}{asked.field}"
    if not label or image["position"] is None or column not in gallery.review.labels(index).columns:
        return []
    other = f"content_sha256 <> '{image['content_sha256']}'"
    found = gallery.searcher.search(
        Question((Like(asked.key),)),
        _BESIDE,
        filter=make_filter(where=f"{is_equal(column, label)} AND {other}"),
        model_version=asked.model_version,
        table_version=asked.table_version,
    )
    return [found_image(row, asked) for row in found.rows.iter_rows(named=True)]


def _labelled(gallery: Gallery, index: SearchIndex, path: str, asked: BesideRequest) -> responses.LabelledImage:
    row, column = gallery.row(index, path), f"{LABEL}{asked.field}"
    labels, number = gallery.review.labels(index), index.row_number(path)
    label = labels[column][number] if column in labels.columns and number is not None else None
    return responses.LabelledImage(image=found_image(row, asked), label=label)


def _confusion(gallery: Gallery, asked: ConfusionRequest) -> responses.Confusion:
    report = gallery.review.confusion(asked.field)
    if report is None:
        return responses.Confusion(field=asked.field, classes=[], matrix=[], labelled=0, accuracy=None)
    return responses.Confusion(
        field=asked.field,
        classes=[one.name for one in report.classes],
        matrix=report.matrix.tolist(),
        labelled=report.labelled,
        accuracy=report.accuracy if report.labelled else None,
    )
