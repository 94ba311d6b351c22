"""Leakage: images on two sides of a version, or of the annotations' splits, that show the same photograph or scene."""

from __future__ import annotations

from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Query, Request

from curation_assets.curate.duplicates.between import how
from curation_assets.errors import CurationError
from curation_assets.gallery import responses
from curation_assets.gallery.api.documentation import NOT_THERE
from curation_assets.gallery.files import NotThereError
from curation_assets.gallery.gallery import Gallery, GalleryOf, named_image
from curation_assets.gallery.leakage import Across
from curation_assets.gallery.requests import LeakageRequest
from curation_assets.images.names import printable
from curation_assets.search.index import SearchIndex

router = APIRouter()


@router.get("/api/leakage", tags=["datasets"], summary="Images on two sides", responses=NOT_THERE)
async def leakage(
    gallery: GalleryOf, request: Request, asked: Annotated[LeakageRequest, Query()]
) -> responses.LeakageAnswer:
    """Pairs across sides counted by kind; and the images that should give way, each beside its nearest 20 elsewhere."""
    return await gallery.comparing.run(request, _leakage, gallery, asked)


def _leakage(gallery: Gallery, asked: LeakageRequest) -> responses.LeakageAnswer:
    version, built = _version(gallery, asked)
    across = gallery.leakage.across(asked.dataset, version)
    images, beside = _of_filter(across, asked)
    giving = dict(across.images["split"].value_counts().iter_rows()) if across.splits else {}
    shown = images.slice(asked.offset, asked.k)
    index = gallery.open(asked) if len(shown) else None
    return responses.LeakageAnswer(
        dataset=asked.dataset,
        version=version,
        versions=[
            responses.VersionName(dataset=listed.dataset, version=listed.version)
            for versions in gallery.datasets.catalogue().values()
            for listed in versions
            if listed.has_sides
        ],
        why_not=across.why_not,
        splits=[
            responses.SplitImages(name=name, images=number, give_way=giving.get(name, 0))
            for name, number in across.splits.items()
        ],
        without_split=across.without_split,
        waiting=across.waiting,
        not_examined=across.not_examined,
        pairs=across.pairs,
        counts=[
            responses.LeakCounts(kind=kind, one=one, other=other, pairs=pairs)
            for kind, one, other, pairs in across.counts.iter_rows()
        ],
        built=built,
        total=len(images),
        offset=asked.offset,
        images=[] if index is None else _images(index, shown, beside, asked),
    )


def _version(gallery: Gallery, asked: LeakageRequest) -> tuple[int | None, int | None]:
    """The version that is asked for, and how many pairs it had across sides when it was built."""
    if asked.dataset is None:
        if asked.version is not None:
            raise CurationError("a version is of a dataset: say which")
        return None, None
    versions = gallery.datasets.catalogue().get(asked.dataset, [])
    live = [listed for listed in versions if listed.withdrawn is None]
    if asked.version is None and not live:
        raise NotThereError(f"there is no version of a dataset {printable(asked.dataset)!r}")
    number = live[0].version if asked.version is None else asked.version
    manifest = gallery.datasets.version(asked.dataset, number).listed.manifest
    return number, (manifest.get("leakage") or {}).get("pairs")


def _of_filter(across: Across, asked: LeakageRequest) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Images that should give way, with ``place``, and what is beside them, of a kind and of two sides."""
    images, beside = across.images, across.beside
    if not len(images):
        return images, beside
    images = images.with_row_index("place")
    sides = {side for side in (asked.one, asked.other) if side is not None}
    if asked.kind is not None:
        beside = beside.filter(pl.col("kind") == asked.kind)
    if sides:
        own = images.select("place", own="split")
        beside = beside.join(own, on="place", how="left", maintain_order="left")
        beside = beside.filter(*(pl.any_horizontal(pl.col("own", "other_split") == side) for side in sides))
        if asked.one == asked.other:  # within a side nothing leaks
            beside = beside.clear()
    if asked.kind is not None or sides:
        images = images.join(beside.select("place").unique(), on="place", how="semi", maintain_order="left")
    return images, beside


def _images(
    index: SearchIndex, shown: pl.DataFrame, beside: pl.DataFrame, asked: LeakageRequest
) -> list[responses.LeakImage]:
    near = beside.join(shown.select("place"), on="place", how="semi", maintain_order="left")
    near = near.group_by("place", maintain_order=True).head(asked.beside)
    by_place: dict[int, list[dict[str, Any]]] = {}
    for row in near.iter_rows(named=True):
        by_place.setdefault(row["place"], []).append(row)
    return [
        responses.LeakImage(
            **dict(named_image(index, row["relative_path"], row["content_sha256"], asked)),
            split=row["split"],
            label=row["label"],
            others=row["others"],
            beside=[_neighbour(index, one, asked) for one in by_place.get(row["place"], [])],
        )
        for row in shown.iter_rows(named=True)
    ]


def _neighbour(index: SearchIndex, row: dict[str, Any], asked: LeakageRequest) -> responses.LeakNeighbour:
    return responses.LeakNeighbour(
        **dict(named_image(index, row["other"], row["other_sha256"], asked)),
        split=row["other_split"],
        kind=row["kind"],
        similarity=row["similarity"],
        method=row["method"],
        how=how(row, "other_sha256", "content_sha256"),
    )
