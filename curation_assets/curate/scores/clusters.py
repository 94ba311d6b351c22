"""Clusters of the vectors: k-means on a sample, then every image with its nearest centre.

An image keeps its cluster until a third of the images is new since the clusters were laid out; then they are laid out
anew, from where they are, and each keeps the id of the earlier cluster that makes up most of it.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation_assets.curate.neighbours.vectors import Floats, Ids, NodeVectors, cosines_of, stepped
from curation_assets.progress import Progress

SAMPLE = 20_000  # contents that k-means looks at, those with the lowest hashes
MOST = 50  # clusters that are chosen: more than that nobody looks through
NEW_SHARE = 1 / 3  # of the images new since the clusters were laid out, from which on they are laid out anew
_GROWTH = 1.5  # how far the number that the rule gives may go from the number there is
_STARTS, _ITERATIONS = 4, 100
_BLOCK = 8192


@dataclass(frozen=True)
class Clustering:
    """A cluster for each node.

    Attributes:
        cluster: (nodes,) int32, the id of each node's cluster.
        distance: (nodes,) float32, cosine distance to its centre.
        is_medoid: (nodes,) whether a node is the nearest of its cluster to the centre; of equal ones the lowest.
        came_later: (nodes,) whether it joined a cluster that had been laid out without it.
        centres: id → (dimension,) unit length.
        laid_out: whether the clusters were laid out anew.
    """

    cluster: NDArray[np.int32]
    distance: Floats
    is_medoid: NDArray[np.bool_]
    came_later: NDArray[np.bool_]
    centres: dict[int, Floats]
    laid_out: bool


def clusters_for(number: int) -> int:
    """How many clusters: half the root of the number of distinct images, at least one, at most ``MOST``."""
    return max(1, min(MOST, round(math.sqrt(number) / 2)))


def cluster(
    vectors: NodeVectors,
    before: NDArray[np.int32],
    came_later: NDArray[np.bool_],
    wanted: int | None,
    progress: Progress,
    highest: int = -1,
) -> Clustering:
    """Cluster nodes.

    Args:
        vectors: of the nodes, in the order of their hashes; at least one.
        before: (nodes,) the cluster that each had, -1 where it had none.
        came_later: (nodes,) whether it had joined that; False where it had none.
        wanted: number of clusters; None: :func:`clusters_for`.
        highest: id that a cluster had earlier; new ones get higher ids than that and all of ``before``.

    Returns:
        A function of the vectors, of what they had before, and of ``highest``.
    """
    number = len(vectors)
    known = before >= 0
    there = np.unique(before[known & ~came_later])
    k = min(clusters_for(number) if wanted is None else wanted, number)
    fits = len(there) == k if wanted is not None else len(there) > 0 and k / _GROWTH <= len(there) <= k * _GROWTH
    fits = fits and bool(np.isin(before[known], there).all())
    stays = fits and (~known | came_later).sum() <= NEW_SHARE * number
    progress.start("clusters", number)
    if stays:
        found, later = before.copy(), came_later | ~known
        centres = _unit(_sums(vectors, np.where(came_later, -1, before), there))
        new = np.flatnonzero(~known)
        found[new] = there[_nearest(vectors, centres, new)]
    else:
        first = _unit(_sums(vectors, before, there)) if fits and len(there) == k else None
        place = _nearest(vectors, _laid_out(vectors, k, first, progress), np.arange(number))
        used, place = np.unique(place, return_inverse=True)
        found, later = _matched(place, before, len(used), highest)[place], np.zeros(number, bool)
        there = np.unique(found)
        centres = _unit(_sums(vectors, found, there))
    distance = _distances(vectors, centres, np.searchsorted(there, found))
    progress.advance(number)
    return Clustering(
        cluster=found,
        distance=distance,
        is_medoid=_medoids(found, distance),
        came_later=later,
        centres=dict(zip(there.tolist(), centres, strict=True)),
        laid_out=not stays,
    )


def _nearest(vectors: NodeVectors, centres: Floats, rows: Ids) -> Ids:
    """(rows,) the place of the centre that each of some nodes is nearest to."""
    found = np.zeros(len(vectors), np.int64)
    for ids in vectors.blocks(_BLOCK, rows):
        found[ids] = np.argmax(stepped(vectors.take(ids)) @ stepped(centres).T, axis=1)
    return found[rows]


def _distances(vectors: NodeVectors, centres: Floats, place: Ids) -> Floats:
    """(nodes,) cosine distance to the centre at some place; bit for bit the same whatever other nodes there are."""
    found = np.empty(len(vectors), np.float32)
    for ids in vectors.blocks(_BLOCK):
        products = np.einsum("nd,nd->n", stepped(vectors.take(ids)), stepped(centres)[place[ids]])
        found[ids] = 1 - cosines_of(products)
    return np.maximum(found, np.float32(0))


def _laid_out(vectors: NodeVectors, k: int, first: Floats | None, progress: Progress) -> Floats:
    """(at most k, dimension) centres of the sample, unit length.

    Args:
        first: centres to begin from.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    sample = vectors.take(np.arange(min(len(vectors), SAMPLE), dtype=np.int64))
    k = min(k, len(np.unique(sample, axis=0)))
    first = None if first is not None and len(first) != k else first
    means = KMeans(
        k,
        init="k-means++" if first is None else first,
        n_init=_STARTS if first is None else 1,
        max_iter=_ITERATIONS,
        random_state=0,
    )
    progress.start("clusters: laying out", len(sample))
    # One thread: several add up in the order in which they come to it, and rounding decides what lies on an edge.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        means.fit(sample)
    progress.advance(len(sample))
    return _unit(means.cluster_centers_.astype(np.float64))


def _sums(vectors: NodeVectors, cluster: NDArray[np.int32], ids: NDArray[np.int32]) -> NDArray[np.float64]:
    """(ids, dimension) sum of the vectors of each cluster, in steps: so it is exact, however they are added."""
    sums = np.zeros((len(ids), vectors.dimension))
    for start in range(0, len(vectors), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(vectors)), dtype=np.int64)
        some = stepped(vectors.take(rows))
        for at, one in enumerate(ids):
            members = cluster[rows] == one
            if members.any():
                sums[at] += some[members].sum(axis=0)
    return sums


def _unit(sums: NDArray[np.float64]) -> Floats:
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.maximum(lengths, 1e-12), np.float32)


def _matched(place: Ids, before: NDArray[np.int32], number: int, highest: int) -> NDArray[np.int32]:
    """(number,) an id for each new cluster: of the earlier one that it shares most with, each used once, or new."""
    from scipy.optimize import linear_sum_assignment

    known = before >= 0
    old = np.unique(before[known])
    ids = np.full(number, -1, np.int32)
    if len(old):
        shared = np.zeros((number, len(old)), np.int64)
        np.add.at(shared, (place[known], np.searchsorted(old, before[known])), 1)
        rows, columns = linear_sum_assignment(shared, maximize=True)
        taken = shared[rows, columns] > 0
        ids[rows[taken]] = old[columns[taken]]
    # New ones are numbered by size, the largest first, behind all that there ever were as far as is known.
    sizes = np.bincount(place, minlength=number)
    lowest = np.full(number, len(place), np.int64)
    np.minimum.at(lowest, place, np.arange(len(place)))
    fresh = sorted(np.flatnonzero(ids < 0).tolist(), key=lambda at: (-sizes[at], lowest[at]))
    following = max([highest, *old.tolist()]) + 1
    ids[fresh] = np.arange(following, following + len(fresh))
    return ids


def _medoids(cluster: NDArray[np.int32], distance: Floats) -> NDArray[np.bool_]:
    order = np.lexsort((np.arange(len(cluster)), distance, cluster))
    first = np.ones(len(order), bool)
    first[1:] = cluster[order][1:] != cluster[order][:-1]
    found = np.zeros(len(cluster), bool)
    found[order[first]] = True
    return found
