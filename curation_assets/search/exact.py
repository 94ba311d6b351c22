"""Exact search: every vector compared with the queries, in blocked matrix products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.floating[Any]]

# Cosines held at a time. One query takes a whole segment in one product, as splitting it only costs time.
_COSINES = 16_000_000
# What a row costs that is picked by itself, and what the beginning of a run of rows costs, in rows that are streamed.
_PICKED, _RUN = 12, 400


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
    parts = list(_best_of_parts(segments, queries, most, allowed))
    positions, cosines = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
    order = np.lexsort((positions, -cosines), axis=1)[:, :most]
    return np.take_along_axis(positions, order, axis=1), np.take_along_axis(cosines, order, axis=1)


def is_run(positions: NDArray[np.intp]) -> bool:
    """Whether some positions, at least one, follow each other without a gap."""
    number = len(positions)
    return bool(number and positions[-1] - positions[0] == number - 1 and (np.diff(positions) == 1).all())


def take(segments: Sequence[Vectors], positions: NDArray[np.intp]) -> Vectors:
    """The vectors at some positions, (len(positions), dimension), in that order; not to be written to."""
    if is_run(positions):
        runs = [block for _, block in _slices(segments, int(positions[0]), int(positions[-1]) + 1)]
        return runs[0] if len(runs) == 1 else np.concatenate(runs)
    found = np.empty((len(positions), segments[0].shape[1]), segments[0].dtype)
    first = 0
    for segment in segments:
        here = (positions >= first) & (positions < first + len(segment))
        found[here] = segment[positions[here] - first]
        first += len(segment)
    return found


def _best_of_parts(
    segments: Sequence[Vectors], queries: Vectors, k: int, allowed: NDArray[np.bool_] | None
) -> Iterator[tuple[NDArray[np.intp], Vectors]]:
    """The best of parts of the vectors, taken in the cheapest way: whole runs of a folder, single rows, or all."""
    if allowed is None:
        yield from _best_of_blocks(segments, queries, k, None)
        return
    positions = np.flatnonzero(allowed)
    breaks = np.flatnonzero(np.diff(positions) != 1) + 1
    costs = {
        "all": len(allowed),
        "runs": len(positions) + _RUN * (len(breaks) + 1),
        "picked": _PICKED * len(positions),
    }
    cheapest = min(costs, key=lambda way: costs[way])
    if cheapest == "all":
        yield from _best_of_blocks(segments, queries, k, allowed)
    elif cheapest == "picked":
        yield from _best_of_few(segments, positions, queries, k)
    else:
        begins, ends = positions[np.r_[0, breaks]], positions[np.r_[breaks - 1, len(positions) - 1]] + 1
        for begin, end in zip(begins, ends, strict=True):
            yield from _best_of_run(segments, queries, k, int(begin), int(end))


def _best_of_run(
    segments: Sequence[Vectors], queries: Vectors, k: int, begin: int, end: int
) -> Iterator[tuple[NDArray[np.intp], Vectors]]:
    step = max(1, _COSINES // len(queries))
    for start in range(begin, end, step):
        for first, block in _slices(segments, start, min(start + step, end)):
            yield _top(_product(queries, block), k, np.arange(first, first + len(block)))


def _slices(segments: Sequence[Vectors], begin: int, end: int) -> Iterator[tuple[int, Vectors]]:
    """The parts of the segments that hold some positions, each with its first position."""
    first = 0
    for segment in segments:
        low, high = max(begin, first), min(end, first + len(segment))
        if low < high:
            yield low, segment[low - first : high - first]
        first += len(segment)


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
