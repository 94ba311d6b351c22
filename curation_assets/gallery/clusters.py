"""Clusters for the page that shows them: their images by distance, read once a version of the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from curation_assets.curate.scores.given_names import read_names
from curation_assets.errors import CurationError
from curation_assets.held import Held
from curation_assets.pipeline import Pipeline
from curation_assets.search.attachments import of_searched_model
from curation_assets.search.filters import lies_below
from curation_assets.search.index import SearchIndex

_IMAGE = ["relative_path", "content_sha256"]
_NEAR, _FAR = 4, 4


@dataclass(frozen=True)
class ScoredImages:
    """The images of an index that are in a cluster.

    Attributes:
        rows: ``number`` (of the index's row), ``relative_path``, ``cluster``, ``distance`` and ``content``
            (alike for equal bytes); by cluster, the nearest to its centre first.
        own_names: cluster → what the program calls it.
        without: images with a vector that are in no cluster yet.
    """

    rows: pl.DataFrame
    own_names: dict[int, str]
    without: int

    def clusters(self, folder: str | None) -> pl.DataFrame:
        """``cluster``, ``images``, ``spread``, and rows of the index ``near`` the centre and ``far``; largest first.

        Args:
            folder: only images in it or below it count.
        """
        rows = self.rows.filter(lies_below(folder))
        contents = pl.col("number").filter(pl.col("content").is_first_distinct())
        found = rows.group_by("cluster").agg(
            images=pl.len(),
            spread=pl.col("distance").cast(pl.Float64).mean(),
            near=contents.head(_NEAR),
            far=contents.tail(_FAR),
        )
        return found.sort("images", "cluster", descending=[True, False])


class Clusters:
    """Clusters of one lake. Threads may share it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._tables = pipeline.tables
        self._images = Held[ScoredImages]()
        self._names = Held[pl.DataFrame]()

    def images(self, index: SearchIndex) -> ScoredImages:
        """The images of an index that are in a cluster.

        Raises:
            CurationError: none is, or the table can't be read.
        """
        info, scores = index.info, self._tables.scores
        version = scores.newest_version()
        if version < 1:
            raise CurationError(f"no image is scored yet in {scores.path}; `curation curate` does that")
        key = (index.path, info.model_version, info.directory_version, info.embeddings_version, info.built_at, version)
        return self._images.of(key, lambda: self._read(index))

    def names(self, index: SearchIndex) -> dict[int, dict[str, Any]]:
        """Names that people gave clusters of an index: cluster → row of the table of names.

        Raises:
            CurationError: the table can't be read.
        """
        names = self._tables.cluster_names
        rows = self._names.of(names.newest_version(), lambda: read_names(names)).filter(of_searched_model(index.info))
        return {row["cluster"]: row for row in rows.iter_rows(named=True)}

    def _read(self, index: SearchIndex) -> ScoredImages:
        columns = [*_IMAGE, "cluster", "cluster_name", "cluster_distance", "is_medoid"]
        scored = self._tables.scores.latest().read(columns, where=of_searched_model(index.info)).drop("_file")
        there = index.rows.select(*_IMAGE, has_vector=pl.col("position").is_not_null()).with_row_index("number")
        rows = there.join(scored, on=_IMAGE)
        if not len(rows):
            called = f"version {index.info.model_version} of the model"
            raise CurationError(f"no image is scored by {called} yet; `curation curate` does that")
        order = ["cluster", "cluster_distance", "is_medoid", "relative_path"]
        rows = rows.sort(order, descending=[False, False, True, False])
        return ScoredImages(
            rows.select(
                "number",
                "relative_path",
                "cluster",
                distance="cluster_distance",
                content=pl.col("content_sha256").rank("dense"),
            ),
            dict(rows.unique("cluster").select("cluster", "cluster_name").iter_rows()),
            int(there["has_vector"].sum()) - len(rows),
        )
