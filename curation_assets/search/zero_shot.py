"""Zero-shot labels: of some texts, the one whose vector an image's is nearest to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.errors import CurationError
from curation_assets.search.query import check_text


def check_labels(labels: Sequence[str]) -> list[str]:
    """Labels that can be chosen between.

    Raises:
        CurationError: fewer than two, one twice, or an empty one.
    """
    if len(set(labels)) < 2 or len(set(labels)) < len(labels) or not all(label.strip() for label in labels):
        raise CurationError(f"labels {list(labels)!r}: give at least two different texts, none of them empty")
    for label in labels:
        check_text(label)
    return list(labels)


def label_vectors(vectors: NDArray[np.float32], of_labels: NDArray[np.float32], labels: Sequence[str]) -> pl.DataFrame:
    """Of each vector: label (the nearest), score (its cosine) and margin (to the second)."""
    cosines = vectors @ of_labels.T
    best = np.argmax(cosines, axis=1)
    second, first = np.partition(cosines, -2, axis=1)[:, -2:].T
    names = pl.Series("label", list(labels), pl.String).gather(best)
    margin = pl.Series("margin", first - second, pl.Float32)
    return pl.DataFrame({"label": names, "score": pl.Series(first, dtype=pl.Float32), "margin": margin})
