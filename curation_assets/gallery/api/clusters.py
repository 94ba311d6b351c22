"""Clusters: what there is among the images, and what people call it."""

from __future__ import annotations

from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Body, Query, Request
from starlette.exceptions import HTTPException

from curation_assets.curate.scores.given_names import RefusedError, RenamedError, name_cluster
from curation_assets.errors import CurationError, reason_of
from curation_assets.gallery import responses
from curation_assets.gallery.api.decisions import check_may_decide, may_decide, who
from curation_assets.gallery.gallery import Gallery, GalleryOf, found_image
from curation_assets.gallery.requests import ClusterNameRequest, ClustersRequest
from curation_assets.search.index import SearchIndex

router = APIRouter()


@router.get("/api/clusters", tags=["review"], summary="Clusters of the images")
async def clusters(
    gallery: GalleryOf, request: Request, asked: Annotated[ClustersRequest, Query()]
) -> responses.ClustersAnswer:
    """Groups of images that look alike to the model, the largest first, with some of their images."""
    return await gallery.searching.run(request, _clusters, gallery, asked, may_decide(request))


@router.post(
    "/api/clusters/names",
    tags=["review"],
    summary="Name a cluster",
    responses={
        403: {"model": responses.Problem, "description": "Who asks may look, but not decide."},
        409: {"model": responses.Problem, "description": "Somebody named it meanwhile."},
        503: {"model": responses.Problem, "description": "The disk is full, say: send it again later."},
    },
)
async def name(
    gallery: GalleryOf, request: Request, asked: Annotated[ClusterNameRequest, Body()]
) -> responses.ClusterName:
    """Call a cluster something, or take its name back; the answer comes when that is on the disk.

    Where it is called otherwise than what was `seen` by now, nothing is written. The same, sent again, changes nothing.
    """
    check_may_decide(request)
    return await gallery.deciding.run(request, _named, gallery, asked, who(request, asked.by))


def _clusters(gallery: Gallery, asked: ClustersRequest, decides: bool) -> responses.ClustersAnswer:
    index = gallery.open(asked)
    images = gallery.clusters.images(index)
    given = gallery.clusters.names(index)
    rows = images.clusters(asked.folder)
    total = int(rows["images"].sum())
    if asked.name is not None:
        part = asked.name.casefold()
        called = {
            cluster: given[cluster]["name"] if cluster in given else own for cluster, own in images.own_names.items()
        }
        named = [cluster for cluster, text in called.items() if part in text.casefold()]
        rows = rows.filter(pl.col("cluster").is_in(named))
    return responses.ClustersAnswer(
        images=total,
        without=images.without,
        total=len(rows),
        offset=asked.offset,
        clusters=[
            _cluster(index, asked, row, images.own_names[row["cluster"]], given.get(row["cluster"]), total)
            for row in rows.slice(asked.offset, asked.k).iter_rows(named=True)
        ],
        may_decide=decides,
    )


def _cluster(
    index: SearchIndex, asked: ClustersRequest, row: dict[str, Any], own: str, given: dict[str, Any] | None, total: int
) -> responses.Cluster:
    near, far = row["near"], [number for number in row["far"] if number not in row["near"]]
    return responses.Cluster(
        **_called(row["cluster"], own, given),
        images=row["images"],
        share=row["images"] / total,
        spread=row["spread"],
        near=[found_image(index.rows.row(number, named=True), asked) for number in near],
        far=[found_image(index.rows.row(number, named=True), asked) for number in reversed(far)],
    )


def _called(cluster: int, own: str, given: dict[str, Any] | None) -> dict[str, Any]:
    told = {"cluster": cluster, "own_name": own, "name": own, "named_by": None, "named_at": None}
    return told if given is None else told | {key: given[key] for key in ("name", "named_by", "named_at")}


def _named(gallery: Gallery, asked: ClusterNameRequest, by: str) -> responses.ClusterName:
    tables = gallery.tables
    try:
        named = name_cluster(tables.cluster_names, tables.scores, asked.cluster, asked.name, by, asked.seen)
    except RenamedError as error:
        raise HTTPException(409, str(error)) from error
    except RefusedError:
        raise
    except (CurationError, OSError) as error:
        reason = str(error) if isinstance(error, CurationError) else reason_of(error)
        raise HTTPException(503, f"it can't be written: {reason}", {"Retry-After": "3"}) from error
    return responses.ClusterName(
        cluster=named.cluster,
        name=named.name,
        own_name=named.own,
        named_by=named.by,
        named_at=named.at,
        is_new=named.is_new,
    )
