"""Standing queries: texts that are looked for again in whatever is new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.search.index import SearchIndex
from curation_assets.search.searcher import Searcher

_AT_ONCE = 65_536  # images whose vectors are taken at a time


@dataclass(frozen=True)
class Sighting:
    """The best of a folder's images for a standing query.

    Attributes:
        rows: images, best first: relative_path, score (cosine).
        threshold: that the best score has to reach to be worth telling; None: never.
        is_new: whether these images were new to the index; else they are of the folder that was embedded last.
    """

    text: str
    folder: str
    rows: pl.DataFrame
    threshold: float | None
    is_new: bool

    @property
    def score(self) -> float:
        """The best one."""
        return float(self.rows["score"][0])

    @property
    def passes(self) -> bool:
        """Whether new images reach the threshold."""
        return self.is_new and self.threshold is not None and self.score >= self.threshold


def look(
    searcher: Searcher, index: SearchIndex, queries: Mapping[str, float | None], is_new: pl.Expr, k: int = 6
) -> list[Sighting]:
    """Look for each query among what is new in an index, folder by folder.

    Args:
        queries: texts and their thresholds.
        is_new: which rows of ``index.keys`` are new.
        k: images a query and folder.

    Returns:
        By query, then by folder, the folder that was embedded last first. Where nothing is new, one sighting a query,
        of that folder.
    """
    with_vector = index.rows.select("relative_path", "folder", "embedded_at", "position").drop_nulls("position")
    if not queries or not len(with_vector):
        return []
    later = index.keys.filter(is_new).select("position")
    new = with_vector.join(later, on="position", how="semi", maintain_order="left")
    rows = new if len(new) else with_vector.filter(pl.col("folder") == _newest(with_vector)[0])
    vectors = searcher.embed_texts(queries, searcher.model(index.info.model_version))
    folders = _newest(rows)
    found: dict[str, list[tuple[str, pl.DataFrame]]] = {text: [] for text in queries}
    for folder, part in rows.group_by("folder"):
        for text, hits in zip(queries, _best(index, part, vectors, k), strict=True):
            found[text].append((str(folder[0]), hits))
    order = {folder: place for place, folder in enumerate(folders)}
    return [
        Sighting(text, folder, hits, queries[text], len(new) > 0)
        for text, of_text in found.items()
        for folder, hits in sorted(of_text, key=lambda pair: order[pair[0]])
    ]


def _best(index: SearchIndex, rows: pl.DataFrame, vectors: NDArray[np.float32], k: int) -> list[pl.DataFrame]:
    """For each query vector the best of some rows: relative_path, score. A folder may hold more than memory does."""
    best = [pl.DataFrame(schema={"relative_path": pl.String, "score": pl.Float32}) for _ in vectors]
    for part in rows.iter_slices(_AT_ONCE):
        cosines = index.take(part["position"].to_numpy()) @ vectors.T
        for column, before in enumerate(best):
            scored = part.select("relative_path", score=pl.Series(cosines[:, column], dtype=pl.Float32))
            both = pl.concat([before, scored]).sort(["score", "relative_path"], descending=[True, False])
            best[column] = both.head(k)
    return best


def _newest(rows: pl.DataFrame) -> list[str]:
    """Folders of some rows, the one that was embedded last first."""
    last = rows.group_by("folder").agg(pl.col("embedded_at").max()).sort("embedded_at", "folder", descending=True)
    return last["folder"].to_list()
