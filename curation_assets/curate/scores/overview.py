"""What the table of scores says: clusters with their images, and whom an image is next to; for commands and pages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from curation_assets.curate.neighbours.stored import open_neighbours
from curation_assets.curate.problems import DISTANCE, KINDS, OUTLIER, Thresholds
from curation_assets.curate.scores.given_names import as_named, read_names
from curation_assets.errors import CurationError
from curation_assets.lake.schemas import SCORES
from curation_assets.lake.table import LakeTable
from curation_assets.search.index import SearchIndex

NEIGHBOURS = 4  # that are shown beside an image
_READ = list(SCORES.arrow_schema.names)


@dataclass(frozen=True)
class Cluster:
    """A cluster.

    Attributes:
        share: of all images.
        medoid: relative path of the image nearest to the centre.
        spread: mean cosine distance of its images to the centre.
        images: rows of the table of scores, the nearest to the centre first.
    """

    cluster: int
    name: str
    share: float
    medoid: str
    spread: float
    images: pl.DataFrame


def score_table(scores: LakeTable, names: LakeTable) -> pl.DataFrame:
    """All rows, clusters as people call them.

    Args:
        names: that people gave.

    Raises:
        CurationError: nothing was scored yet, or the table can't be read.
    """
    if scores.newest_version() < 1:
        raise CurationError(f"no image is scored yet in {scores.path}; `curation curate` does that")
    rows = scores.latest().read(_READ).drop("_file").unique("relative_path", keep="first")
    return as_named(rows, read_names(names))


def clusters_of(rows: pl.DataFrame) -> list[Cluster]:
    """The clusters of some rows, the largest first; where the medoid is not among them, the nearest to the centre."""
    ordered = rows.sort("cluster", "cluster_distance", "relative_path")
    found = []
    for (number,), images in ordered.group_by("cluster", maintain_order=True):
        medoids = images.filter("is_medoid")["relative_path"]
        found.append(
            Cluster(
                cluster=int(str(number)),
                name=str(images["cluster_name"][0]),
                share=len(images) / len(rows),
                medoid=str(medoids[0] if len(medoids) else images["relative_path"][0]),
                spread=float(images["cluster_distance"].cast(pl.Float64).mean()),  # type: ignore[arg-type]
                images=images,
            )
        )
    return sorted(found, key=lambda one: (-len(one.images), one.cluster))


def outliers_of(rows: pl.DataFrame, limits: Thresholds) -> pl.DataFrame:
    """Rows that are outliers by their threshold, the farthest first."""
    judged = rows.with_columns(pl.col("outlier_score").alias(DISTANCE))
    found = judged.filter((KINDS[OUTLIER].score > limits[OUTLIER]).fill_null(value=False)).drop(DISTANCE)
    return found.sort("outlier_score", "relative_path", descending=[True, False])


def nearest_of(index: SearchIndex, paths: Iterable[str], k: int = NEIGHBOURS) -> dict[str, list[tuple[str, float]]]:
    """Of some images the nearest others, nearest first, of each dense part at most three.

    Returns:
        Relative path → relative path and cosine of each; of copies the first by path. Nothing of images without a
        vector, or while there is no graph of neighbours.

    Raises:
        CurationError: the graph is damaged.
    """
    graph = None if index.path is None else open_neighbours(index.path)
    if graph is None:
        return {}
    wanted = pl.Series("relative_path", list(paths), pl.String)
    asked = index.rows.filter(pl.col("relative_path").is_in(wanted.implode())).drop_nulls("content_sha256")
    nodes = graph.node_of(asked["content_sha256"].to_list())
    asked, nodes = asked.filter(pl.Series(nodes >= 0)), nodes[nodes >= 0]
    others, cosines = (array[nodes] for array in graph.distinct(k))
    raw = graph.digests[np.maximum(others, 0)].tobytes()
    contents = [raw[at : at + 32].hex() for at in range(0, len(raw), 32)]
    there = index.rows.filter(pl.col("content_sha256").is_in(pl.Series(contents, dtype=pl.String).implode()))
    there = there.unique("content_sha256", keep="first", maintain_order=True)
    path_of = dict(there.select("content_sha256", "relative_path").iter_rows())
    found: dict[str, list[tuple[str, float]]] = {}
    for row, path in enumerate(asked["relative_path"]):
        told = [
            (path_of.get(contents[row * k + at]), float(cosines[row, at])) for at in range(k) if others[row, at] >= 0
        ]
        found[path] = [(other, cosine) for other, cosine in told if other is not None]
    return found
