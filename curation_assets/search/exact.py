"""Exact search: every vector compared with the queries, in blocked matrix products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.floating[Any]]

# Cosines held at a time. One query takes a whole segment in one product, as splitting it only costs time.
_COSINES = 16_000_000
# Of fewer allowed vectors than this share, only those are read: a gather costs about ten times a streamed row.
_GATHER_BELOW = 0.08


def nearest(
    segments: Sequence[Vectors], queries: Vectors, k: int, allowed: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.intp], Vectors]:
    """The ``k`` nearest vectors of each query by cosine, nearest first; of equal ones the one of the lowest position.

    Args:
        segments: arrays (n_i, dimension), unit length, taken as if they lay one behind the other.
        queries: (q, dimension), unit length.
        k: how many; fewer come back where there are fewer vectors.
        allowed: (n,) which vectors may be found; None: all.

    Returns:
        Positions and cosines, both (q, min(k, number of allowed vectors)).
    """
    total = sum(len(segment) for segment in segments)
    most = min(k, total if allowed is None else int(allowed.sum()))
    if most == 0:
        return np.empty((len(queries), 0), np.intp), np.empty((len(queries), 0), queries.dtype)
    if allowed is not None and allowed.sum() < _GATHER_BELOW * total:
        positions = np.flatnonzero(allowed)
        parts = list(_best_of_few(segments, positions, queries, most))
    else:
        parts = list(_best_of_blocks(segments, queries, most, allowed))
    positions, cosines = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
    order = np.lexsort((positions, -cosines), axis=1)[:, :most]
    return np.take_along_axis(positions, order, axis=1), np.take_along_axis(cosines, order, axis=1)


def take(segments: Sequence[Vectors], positions: NDArray[np.intp]) -> Vectors:
    """The vectors at some positions, (len(positions), dimension), in that order."""
    found = np.empty((len(positions), segments[0].shape[1]), segments[0].dtype)
    first = 0
    for segment in segments:
        here = (positions >= first) & (positions < first + len(segment))
        found[here] = segment[positions[here] - first]
        first += len(segment)
    return found


def _best_of_few(
    segments: Sequence[Vectors], positions: NDArray[np.intp], queries: Vectors, k: int
) -> Iterator[tuple[NDArray[np.intp], Vectors]]:
    step = max(1, min(len(positions), _COSINES // segments[0].shape[1]))
    for start in range(0, len(positions), step):
        some = positions[start : start + step]
        yield _top(_product(queries, take(segments, some)), k, some)


def _best_of_blocks(
    segments: Sequence[Vectors], queries: Vectors, k: int, allowed: NDArray[np.bool_] | None
) -> Iterator[tuple[NDArray[np.intp], Vectors]]:
    step = max(1, _COSINES // len(queries))
    first = 0
    for segment in segments:
        for start in range(0, len(segment), step):
            block = segment[start : start + step]
            begin = first + start
            cosines = _product(queries, block)
            if allowed is not None:
                cosines[:, ~allowed[begin : begin + len(block)]] = -np.inf
            yield _top(cosines, k, np.arange(begin, begin + len(block)))
        first += len(segment)


def _product(queries: Vectors, vectors: Vectors) -> Vectors:
    # A matrix times one vector reads the matrix once at memory speed; BLAS is slower when told it is a product of two.
    return (vectors @ queries[0])[None, :] if len(queries) == 1 else queries @ vectors.T


def _top(cosines: Vectors, k: int, positions: NDArray[np.intp]) -> tuple[NDArray[np.intp], Vectors]:
    """The ``k`` largest of each row, in no order; of equal ones the earliest."""
    if cosines.shape[1] <= k:
        return np.broadcast_to(positions, cosines.shape), cosines
    threshold = -np.partition(-cosines, k - 1, axis=1)[:, k - 1 : k]
    chosen = np.empty((len(cosines), k), np.intp)
    for row, (values, bound) in enumerate(zip(cosines, threshold[:, 0], strict=True)):
        above = np.flatnonzero(values > bound)
        equal = np.flatnonzero(values == bound)[: k - len(above)]
        chosen[row] = np.concatenate([above, equal])
    return positions[chosen], np.take_along_axis(cosines, chosen, axis=1)
