"""Exact search: every vector of one model version compared with the queries, in one matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.clip.registry import RegisteredModel
from curation_assets.embed.plan import is_current
from curation_assets.lake.table import Snapshot

HIT_COLUMNS = ("relative_path", "file_path", "folder", "content_sha256")


def nearest(
    vectors: NDArray[np.floating[Any]], queries: NDArray[np.floating[Any]], k: int
) -> tuple[NDArray[np.intp], NDArray[np.floating[Any]]]:
    """The ``k`` nearest vectors of each query by cosine, nearest first; of equal ones the earlier row.

    Args:
        vectors: (n, dimension), unit length.
        queries: (q, dimension), unit length.
        k: how many; fewer come back where there are fewer vectors.

    Returns:
        Row numbers and cosines, both (q, min(k, n)).
    """
    cosines = queries @ vectors.T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosines, order, axis=1)


def search(
    embeddings: Snapshot, model: RegisteredModel, queries: NDArray[np.floating[Any]], k: int
) -> list[pl.DataFrame]:
    """The images nearest to each query among those that one model version has embedded.

    Holds that version's vectors in memory: 3 GB for a million images of 768 floats.

    Args:
        embeddings: the embeddings table.
        model: whose vectors are compared; those of other versions are left out.
        queries: (q, dimension), unit length, of the same model.
        k: images a query.

    Returns:
        One frame a query, best first: relative_path, file_path, folder, content_sha256, score (cosine).
    """
    rows = embeddings.read([*HIT_COLUMNS, "embeddings"], where=is_current(model)).sort("relative_path")
    vectors = rows["embeddings"].explode(empty_as_null=False).to_numpy().reshape(len(rows), model.dimension)
    found, scores = nearest(vectors, queries, k)
    named = rows.select(HIT_COLUMNS)
    return [named[indices].with_columns(score=pl.Series(values)) for indices, values in zip(found, scores, strict=True)]
