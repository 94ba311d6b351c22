"""Standing queries: texts that are looked for again in whatever is new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from curation_assets.search.index import SearchIndex
from curation_assets.search.searcher import Searcher


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
    searcher: Searcher, index: SearchIndex, queries: Mapping[str, float | None], after: int, k: int = 6
) -> list[Sighting]:
    """Look for each query among what is new in an index, folder by folder.

    Args:
        after: version of the embeddings table that was looked at before: new is what came later, whoever refreshed
            the index meanwhile; -1: everything.
        queries: texts and their thresholds.
        k: images a query and folder.

    Returns:
        By query, then by folder, the folder that was embedded last first. Where nothing is new, one sighting a query,
        of that folder.
    """
    with_vector = index.rows.select("relative_path", "folder", "embedded_at", "position").drop_nulls("position")
    later = index.vectors.filter(pl.col("since") > after).select("position")
    new = with_vector.join(later, on="position", how="semi", maintain_order="left")
    rows = new if len(new) else with_vector.filter(pl.col("folder") == _newest(with_vector)[0])
    if not len(rows) or not queries:
        return []
    vectors = searcher.embed_texts(queries, searcher.model(index.info.model_version))
    folders = _newest(rows)
    found: dict[str, list[tuple[str, pl.DataFrame]]] = {text: [] for text in queries}
    for folder, part in rows.group_by("folder"):
        cosines = index.take(part["position"].to_numpy()) @ vectors.T
        for column, text in enumerate(queries):
            best = np.lexsort((part["relative_path"].to_numpy(), -cosines[:, column]))[:k]
            hits = part["relative_path"].gather(best).to_frame()
            found[text].append((str(folder[0]), hits.with_columns(score=pl.Series(cosines[best, column]))))
    order = {folder: place for place, folder in enumerate(folders)}
    return [
        Sighting(text, folder, hits, queries[text], len(new) > 0)
        for text, of_text in found.items()
        for folder, hits in sorted(of_text, key=lambda pair: order[pair[0]])
    ]


def _newest(rows: pl.DataFrame) -> list[str]:
    """Folders of some rows, the one that was embedded last first."""
    last = rows.group_by("folder").agg(pl.col("embedded_at").max()).sort("embedded_at", "folder", descending=True)
    return last["folder"].to_list()
