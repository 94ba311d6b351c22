"""Outlier score: how far from an image one has to go until a small share of the lake is reached.

The distance to the k-th nearest neighbour (Ramaswamy and others, 2000), among a sample of the lake (Sugiyama and
Borgwardt, 2013), with k a share of the sample. A list of the nearest twenty doesn't do: foreign images come several at
once, and are each other's nearest. ``python -m benchmarks.outliers`` compares it with others.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from curation_assets.curate.neighbours.vectors import NO_COSINE, Floats, Ids, NodeVectors, cosines_of, stepped
from curation_assets.progress import Progress

SAMPLE = 2048  # contents; their mean error of a share of 2 % is a sixth of it
SHARE = 0.02  # of the lake: what comes in greater numbers is no outlier
LEAST = 5  # images that have to be near, where the share of a small lake is fewer
_BLOCK = 4096  # of rows: 64 MB of float64 cosines


def sample_size(number: int) -> tuple[int, int]:
    """How many contents are sampled of ``number``, and how many of them have to be near.

    The sample are those with the lowest hashes, which is as good as by chance, and a function of the set.
    """
    sample = min(number, SAMPLE)
    return sample, min(max(LEAST, math.ceil(SHARE * sample)), max(1, sample - 1))


def outlier_scores(vectors: NodeVectors, rows: Ids, progress: Progress) -> Floats:
    """Outlier scores of some nodes.

    Args:
        vectors: of all nodes, which are in the order of their hashes.
        rows: (r,) nodes.

    Returns:
        (r,) float32, cosine distances, 0 to 2; NaN where there is no other node. Bit for bit the same for the same set
        of vectors, whatever else is asked for.
    """
    sample, near = sample_size(len(vectors))
    if len(vectors) < 2:
        return np.full(len(rows), np.nan, np.float32)
    others = stepped(vectors.take(np.arange(sample, dtype=np.int64))).T
    found = np.full(len(vectors), np.nan, np.float32)
    progress.start("outliers", len(rows))
    for ids in vectors.blocks(_BLOCK, rows):
        cosines = cosines_of(stepped(vectors.take(ids)) @ others)
        own = np.flatnonzero(ids < sample)
        cosines[own, ids[own]] = NO_COSINE
        found[ids] = distance_of(cosines, near)
        progress.advance(len(ids))
    return found[rows]


def distance_of(cosines: Floats, near: int) -> NDArray[np.float32]:
    """(n,) cosine distance to the ``near``-th nearest, of cosines (n, sample); never below 0."""
    kth = np.partition(cosines, cosines.shape[1] - near, axis=1)[:, cosines.shape[1] - near]
    return np.asarray(np.maximum(np.float32(1) - kth, np.float32(0)), np.float32)
