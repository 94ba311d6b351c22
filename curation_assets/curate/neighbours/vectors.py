"""The vectors of nodes, and cosines that are the same whatever else was computed in the same product.

A float32 product rounds as its shape has it, so which of two nearly equal neighbours is nearer would depend on the
order in which images came. A vector in steps of 2⁻²⁵ has integers below 2²⁵ for components, products of unit vectors
stay below 2⁵¹, and float64 adds such numbers without rounding: in any order, in blocks of any shape, on any machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from curation_assets.search import exact

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

# How far a float32 product may lie from the cosine of the steps: 8e-7 was the most seen at 768 dimensions.
MARGIN = np.float32(4e-6)
NONE = np.iinfo(np.int64).min  # key of no neighbour
NO_COSINE = np.float32(-np.inf)
_STEPS = np.float32(2.0**25)
_LOW = 0xFFFFFFFF
_GATHERED = 1024  # vectors that are taken together for exact cosines: 3 MB, and 6 as float64, at 768 dimensions


class NodeVectors:
    """One vector for each node of a graph, where the index has it.

    Args:
        segments: arrays (n_i, dimension) float32, unit length, as if one lay behind the other.
        positions: (nodes,) where each node's vector is.
    """

    def __init__(self, segments: Sequence[Floats], positions: Ids) -> None:
        self._segments = segments
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, ids: Ids) -> Floats:
        """(len(ids), dimension), not to be written to."""
        return np.asarray(exact.take(self._segments, self.positions[ids]))

    def gather(self, ids: Ids, out: Floats) -> None:
        """The same, into an array that is there: memory that is new each time costs more than the vectors do."""
        positions = self.positions[ids]
        first = 0
        for segment in self._segments:
            here = np.flatnonzero((positions >= first) & (positions < first + len(segment)))
            if len(here) == len(positions):
                np.take(segment, positions - first, axis=0, out=out, mode="clip")
                return
            out[here] = segment[positions[here] - first]
            first += len(segment)

    @property
    def dimension(self) -> int:
        """Of each vector."""
        return int(self._segments[0].shape[1])

    def blocks(self, size: int, ids: Ids | None = None) -> Iterator[Ids]:
        """Some nodes (None: all), ``size`` at a time, in the order in which the vectors lie: that copies least."""
        ids = np.arange(len(self), dtype=np.int64) if ids is None else ids
        order = ids[np.argsort(self.positions[ids], kind="stable")]
        return (order[start : start + size] for start in range(0, len(order), size))


def stepped(vectors: Floats) -> NDArray[np.float64]:
    """Vectors as whole numbers of steps; :func:`cosines_of` makes cosines of their products."""
    return np.asarray(np.rint(vectors * _STEPS), np.float64)


def cosines_of(products: NDArray[np.float64]) -> Floats:
    """Cosines from products of :func:`stepped` vectors."""
    return (products * float(_STEPS) ** -2).astype(np.float32)


def keys_of(cosines: Floats, ids: Ids) -> Ids:
    """Cosine and node in one number, greater the nearer: of equal cosines the one of the lower node (broadcast)."""
    bits = np.ascontiguousarray(cosines + np.float32(0)).view(np.int32).astype(np.int64)  # +0: no negative zero
    bits ^= (bits >> 63) & 0x7FFFFFFF
    bits <<= 32
    bits += _LOW - ids
    return bits


def ids_of(keys: Ids) -> NDArray[np.int32]:
    """The nodes of keys; -1 for none."""
    return np.where(keys == NONE, -1, _LOW - (keys & _LOW)).astype(np.int32)


def values_of(keys: Ids) -> Floats:
    """The cosines of keys; minus infinity for none."""
    high = (keys >> 32).astype(np.int32)
    high ^= (high >> 31) & 0x7FFFFFFF
    return np.where(keys == NONE, NO_COSINE, high.view(np.float32))


def renumbered(keys: Ids, numbers: Ids) -> Ids:
    """Keys whose nodes got other numbers, none where that is -1; rows are no longer in order where some are gone.

    Args:
        numbers: (old nodes,) the new number of each.
    """
    there = keys != NONE
    new = numbers[np.where(there, _LOW - (keys & _LOW), 0)]
    return np.where(there & (new >= 0), (keys & ~_LOW) | (_LOW - new), NONE)


def exact_keys(vectors: NodeVectors, rows: Ids, others: Ids) -> Ids:
    """Keys of given neighbours.

    Args:
        rows: (r,) nodes.
        others: (r, w) nodes, -1 for none.
    """
    keys = np.full(others.shape, NONE, np.int64)
    width = others.shape[1]
    if not others.size:
        return keys
    step = max(1, _GATHERED // width)
    taken = np.empty((step * width, vectors.dimension), np.float32)
    whole = np.empty((step, width, vectors.dimension))
    for start in range(0, len(rows), step):
        some = others[start : start + step]
        asked = stepped(vectors.take(rows[start : start + step]))
        found = taken[: some.size]
        vectors.gather(np.maximum(some, 0).ravel(), found)
        found *= _STEPS
        np.rint(found, out=found)
        np.copyto(whole[: len(some)], found.reshape(*some.shape, -1))
        cosines = cosines_of(np.matmul(whole[: len(some)], asked[:, :, None])[:, :, 0])
        keys[start : start + step] = np.where(some >= 0, keys_of(cosines, np.maximum(some, 0)), NONE)
    return keys


def exact_keys_of_pairs(vectors: NodeVectors, rows: Ids, others: Ids) -> Ids:
    """Keys of pairs: (p,) of the second node, as the first one's neighbour."""
    return exact_keys(vectors, rows, others[:, None])[:, 0]
