"""How well and how quickly an index answers, measured when it is made."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from curation_assets.search.index import SearchIndex

_QUERIES = 32  # that are timed; recall is measured on four times as many
_NEIGHBOURS = 10
# Texts on which an approximate index is measured, as vectors of texts lie apart from those of images.
PROBE_TEXTS = tuple(
    f"{what} {how}".strip()
    for what in (
        "a coffee leaf",
        "a maize plant",
        "a wheat field",
        "ripe fruit on a tree",
        "a grape vine",
        "rice in a paddy",
        "weeds between rows of a crop",
        "an insect",
    )
    for how in ("", "with brown spots", "covered in rust", "eaten by caterpillars", "close up", "from above", "in rain")
)


def sample_queries(index: SearchIndex) -> NDArray[np.float32]:
    """(q, dimension) stored vectors, moved a little so that none finds itself at distance 0; at most 128."""
    positions = index.rows["position"].drop_nulls().to_numpy()
    rng = np.random.default_rng(0)
    chosen = rng.choice(positions, min(len(positions), 4 * _QUERIES), replace=False)
    stored = index.take(np.sort(chosen)) if len(chosen) else np.empty((0, index.info.dimension), np.float32)
    noise = rng.standard_normal(stored.shape, np.float32)
    moved = stored + 0.3 * noise / np.linalg.norm(noise, axis=1, keepdims=True) if len(stored) else stored
    moved /= np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)
    return np.asarray(moved, np.float32)


def tune(
    index: SearchIndex, queries: NDArray[np.float32], probes: Callable[[], NDArray[np.float32]] | None
) -> dict[str, float]:
    """Make an index's approximate one search as much as it has to.

    Args:
        index: has an approximate index.
        queries: as :func:`sample_queries` gives them.
        probes: gives (q, dimension) vectors of texts, which lie apart from those of images.

    Returns:
        Recall at 10 that it then has, of ``images`` and of ``texts``.
    """
    assert index.approximate is not None
    kinds = {"images": queries} | ({"texts": probes()} if probes is not None else {})
    return index.approximate.tune(index.segments, kinds, index.live)


def latency_ms(index: SearchIndex, queries: NDArray[np.float32]) -> float:
    """Milliseconds of single queries for ten images, their median."""

    def one(query: NDArray[np.float32]) -> float:
        begun = time.perf_counter()
        index.nearest(query[None, :], _NEIGHBOURS)
        return (time.perf_counter() - begun) * 1000

    if not len(queries):
        return 0.0
    one(queries[0])
    return round(float(np.median([one(query) for query in queries[:_QUERIES]])), 3)
