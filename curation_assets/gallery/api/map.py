"""The map: its points, the image of one, and labels of all."""

from __future__ import annotations

from typing import Annotated

import polars as pl
from fastapi import APIRouter, Query, Request

from curation_assets.datasets.columns import BEGINS as OF_VERSIONS
from curation_assets.errors import CurationError
from curation_assets.gallery import responses
from curation_assets.gallery.api.documentation import NOT_THERE
from curation_assets.gallery.files import NotThereError
from curation_assets.gallery.gallery import Gallery, GalleryOf, found_image
from curation_assets.gallery.points import (
    CLUSTER,
    OUTLIER,
    PROBLEM_COLUMNS,
    Points,
    clusters_of,
    encoded,
    labels_of,
    problems_of,
    steps_of,
    values_of,
    without,
)
from curation_assets.gallery.requests import MapLabelsRequest, MapPointRequest, MapScoresRequest, Versions
from curation_assets.images.names import printable
from curation_assets.search.filters import PROBLEMS
from curation_assets.search.index import SearchIndex
from curation_assets.search.zero_shot import check_labels

_NO_COLOURS = ("cluster_name",)
_FIRST = (CLUSTER, OUTLIER, PROBLEMS)

router = APIRouter()


@router.get("/api/map", tags=["map"], summary="The map's points")
def map_points(gallery: GalleryOf, versions: Annotated[Versions, Query()]) -> responses.MapAnswer:
    """A point for each image: images that look alike lie near to each other. `curation map` makes the map."""
    index = gallery.open(versions)
    points = gallery.maps.of(index)
    return responses.MapAnswer(
        id=points.id,
        count=len(points.paths),
        xy=encoded(points.xy),
        folder=encoded(points.folder),
        folders=points.folders,
        shown_folders=[printable(folder) for folder in points.folders],
        colours=_colours(gallery, index),
        index=gallery.index_facts(index),
    )


@router.get("/api/map/point", tags=["map"], summary="The image of a point", responses=NOT_THERE)
def map_point(gallery: GalleryOf, asked: Annotated[MapPointRequest, Query()]) -> responses.FoundImage:
    """The image that a point of the map stands for."""
    index = gallery.open(asked)
    points = _same_map(gallery.maps.of(index), asked.id)
    if asked.number >= len(points.paths):
        raise NotThereError(f"the map has {len(points.paths):,} points, and no {asked.number}")
    return found_image(gallery.row(index, points.paths[asked.number]), asked)


@router.get("/api/map/labels", tags=["map"], summary="Labels of all points", responses=NOT_THERE)
async def map_labels(
    gallery: GalleryOf, request: Request, asked: Annotated[MapLabelsRequest, Query()]
) -> responses.MapLabels:
    """Which of some texts suits each point's image best."""
    return await gallery.searching.run(request, _map_labels, gallery, asked)


def _map_labels(gallery: Gallery, asked: MapLabelsRequest) -> responses.MapLabels:
    index = gallery.open(asked)
    points = _same_map(gallery.maps.of(index), asked.id)
    names = check_labels(gallery.labels_of(asked))
    labelled = gallery.searcher.labels(names, model_version=asked.model_version)
    of_points = labels_of(points, labelled, names)
    counts = [int((of_points == place).sum()) for place in range(len(names))]
    return responses.MapLabels(labels=names, counts=counts, label=encoded(of_points))


@router.get("/api/map/scores", tags=["map"], summary="What all points are told apart by", responses=NOT_THERE)
def map_scores(gallery: GalleryOf, asked: Annotated[MapScoresRequest, Query()]) -> responses.MapScores:
    """Of each point's image the cluster, label, split or another column, or how far it lies from the others."""
    index = gallery.open(asked)
    points = _same_map(gallery.maps.of(index), asked.id)
    if asked.by not in (colours := _colours(gallery, index)):
        raise CurationError(f"by={asked.by[:60]!r}: points can be told apart by {', '.join(colours) or 'nothing yet'}")
    columns = {CLUSTER: [CLUSTER, "cluster_name"], PROBLEMS: PROBLEM_COLUMNS}.get(asked.by, [asked.by])
    scores = gallery.searcher.further(index, range(len(index.rows)), columns)
    rows = pl.concat([index.rows.select("relative_path"), scores], how="horizontal")
    rows = points.paths.to_frame().join(rows, on="relative_path", how="left", maintain_order="left")
    if asked.by == CLUSTER:
        steps, of_points = clusters_of(rows)
    elif asked.by == PROBLEMS:
        steps, of_points = problems_of(rows)
    else:
        steps, of_points = steps_of(rows) if asked.by == OUTLIER else values_of(rows[asked.by])
    counts = [int((of_points == place).sum()) for place in range(len(steps))]
    rest = without(asked.by)
    return responses.MapScores(
        labels=[step.label for step in steps],
        conditions=[step.condition for step in steps],
        counts=counts,
        label=encoded(of_points),
        others=steps[-1].others if steps else 0,
        without=rest.label,
        without_condition=rest.condition,
    )


def _colours(gallery: Gallery, index: SearchIndex) -> list[str]:
    """Columns that points can be told apart by, of those that hold something."""
    searcher = gallery.searcher
    first = [name for name in _FIRST if searcher.holds(index, name)]
    others = [name for name in searcher.text_columns(index) if name not in (*_FIRST, *_NO_COLOURS)]
    if of_versions := [name for name in others if name.startswith(OF_VERSIONS)]:
        sides = searcher.further(index, range(len(index.rows)), of_versions)
        without = {name for name in of_versions if sides[name].null_count() == len(sides)}
        others = [name for name in others if name not in without]
    return first + others


def _same_map(points: Points, asked: str) -> Points:
    if points.id != asked:
        raise NotThereError("the map was made anew meanwhile; reload the page")
    return points
