"""The nearest of every node, or of some, by comparing with all: float32 products first, exact cosines of what is left.

A list is found by approximate cosines, a little longer than needed, and put in order by exact ones. It is proven where
its last exact cosine lies above what was left out by more than the product's error; where many are nearly equal it is
not, and those rows are compared again in float64.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from curation_assets.curate.neighbours.lists import Lists, Scratch
from curation_assets.curate.neighbours.vectors import (
    MARGIN,
    NO_COSINE,
    NONE,
    Floats,
    Ids,
    NodeVectors,
    cosines_of,
    exact_keys,
    exact_keys_of_pairs,
    ids_of,
    keys_of,
    stepped,
    values_of,
)
from curation_assets.progress import Progress

BLOCK = 2048  # a block's cosines, 16 MB, are still in the cache when they are looked through
SPARE = 8  # entries by approximate cosines beyond those wanted: from 100,000 photographs on all rows are proven with it
_STRIPE = 256  # rows of a block that are looked through at a time: their marks stay in a core's cache
_ROWS = 512  # rows that are compared in float64 at a time
_DENSE = 0.02  # share of a block's cosines from which on computing it all in float64 costs less than the pairs


class TakeUp:
    """Lists that are there already, and take up new nodes.

    Args:
        rows: (r,) nodes, ascending.
        keys: (r, width) their keys, nearest first, NONE behind; changed in place.
        complete: (r,) whether a list has every node there was: then anything has room behind its last.
    """

    def __init__(self, rows: Ids, keys: Ids, complete: NDArray[np.bool_]) -> None:
        self.rows, self.keys = rows, keys
        known = (keys != NONE).sum(axis=1)
        last = np.take_along_axis(keys, np.maximum(known - 1, 0)[:, None], axis=1)[:, 0]
        self._bound = np.where(complete, NONE, np.where(known > 0, last, np.iinfo(np.int64).max))
        bar = values_of(self._bound)
        self.bar = np.where(self._bound == np.iinfo(np.int64).max, np.float32(np.inf), bar - MARGIN)

    def offer(self, vectors: NodeVectors, rows: Ids, cosines: Floats, ids: Ids) -> None:
        """Offer new nodes: (c, r) approximate cosines of nodes ``ids`` to some of ``rows``."""
        at = np.searchsorted(self.rows, rows)
        found = np.flatnonzero(cosines >= self.bar[at])
        if not len(found):
            return
        if len(found) > _DENSE * cosines.size:
            precise = cosines_of(stepped(vectors.take(rows)) @ stepped(vectors.take(ids)).T)
            self.add(at, keys_of(precise, ids))
            return
        new, old = np.divmod(found, len(rows))
        self.add_pairs(at[old], exact_keys_of_pairs(vectors, rows[old], ids[new]))

    def add_pairs(self, at: Ids, keys: Ids) -> None:
        """Take up keys (p,) in the rows at some places, of which one may occur several times."""
        order = np.argsort(at, kind="stable")
        at, keys = at[order], keys[order]
        places, begins, counts = np.unique(at, return_index=True, return_counts=True)
        if not len(places):
            return
        matrix = np.full((len(places), int(counts.max())), NONE, np.int64)
        row = np.repeat(np.arange(len(places)), counts)
        matrix[row, np.arange(len(at)) - begins[row]] = keys
        self.add(places, matrix)

    def add(self, at: Ids, keys: Ids) -> None:
        """Take up keys (len(at), c) in the rows at some places, each of which occurs once."""
        width = self.keys.shape[1]
        keys = np.where(keys > self._bound[at][:, None], keys, NONE)
        some = np.flatnonzero((keys != NONE).any(axis=1))
        both = np.concatenate([self.keys[at[some]], keys[some]], axis=1)
        both.partition(both.shape[1] - width, axis=1)
        best = np.sort(both[:, -width:], axis=1)[:, ::-1]
        self.keys[at[some]] = best
        # A list that is full once more ends where its last does.
        self._bound[at[some]] = np.maximum(self._bound[at[some]], best[:, -1])
        full = best[:, -1] != NONE
        self.bar[at[some[full]]] = np.maximum(self.bar[at[some[full]]], values_of(best[full, -1]) - MARGIN)


def of_all(vectors: NodeVectors, width: int, progress: Progress) -> Ids:
    """The nearest of every node: half of all products, each of which serves its rows and its columns.

    Returns:
        (nodes, width) keys, nearest first, NONE where there are no more.
    """
    number = len(vectors)
    lists = Lists(number, width + SPARE)
    blocks = list(vectors.blocks(BLOCK))
    locks = [Lock() for _ in blocks]
    scratch = Scratch()
    progress.start("neighbours", number)

    def compare_within(rows: Ids) -> None:
        some = vectors.take(rows)
        cosines = some @ some.T
        np.fill_diagonal(cosines, NO_COSINE)
        for part in _stripes(len(rows)):
            lists.offer(rows[part], cosines[part], rows)

    def compare(first: int, second: int, left: Floats) -> None:
        rows, columns = blocks[first], blocks[second]
        cosines = np.matmul(left, vectors.take(columns).T, out=scratch.floats(len(rows), len(columns)))
        with locks[first]:
            for part in _stripes(len(rows)):
                lists.offer(rows[part], cosines[part], columns)
        with locks[second]:
            for part in _stripes(len(columns)):
                lists.offer_to_columns(columns[part], cosines[:, part], rows)

    done, pairs = 0, 0
    with cores() as each:
        each(compare_within, [(rows,) for rows in blocks])  # first: every row then has a bar
        for first, rows in enumerate(blocks):
            left = vectors.take(rows)
            each(compare, [(first, second, left) for second in range(first + 1, len(blocks))])
            pairs += len(blocks) - first
            reached = number * pairs // (len(blocks) * (len(blocks) + 1) // 2)
            progress.advance(reached - done)
            done = reached
        return _proven(vectors, np.arange(number, dtype=np.int64), lists, None, width, each)


def of_some(
    vectors: NodeVectors, rows: Ids, width: int, columns: Ids | None = None, take_up: TakeUp | None = None
) -> Ids:
    """The nearest of some nodes, by comparing them with all.

    Args:
        rows: (r,) distinct nodes.
        columns: nodes that may be found; None: all.
        take_up: lists of other nodes, that take up ``rows``: only where ``columns`` is None.

    Returns:
        (r, width) keys, nearest first, NONE where there are no more.
    """
    lists = Lists(len(rows), width + SPARE)
    lock = Lock()
    scratch = Scratch()

    def compare(asked: Ids, left: Floats, ids: Ids) -> None:
        cosines = np.matmul(left, vectors.take(ids).T, out=scratch.floats(len(asked), len(ids)))
        _, mine, theirs = np.intersect1d(rows[asked], ids, assume_unique=True, return_indices=True)
        cosines[mine, theirs] = NO_COSINE
        with lock:
            for part in _stripes(len(asked)):
                lists.offer(asked[part], cosines[part], ids)
        if take_up is not None:  # each of its rows is in one of the blocks that are compared at a time
            held = np.flatnonzero(np.isin(ids, take_up.rows, assume_unique=True))
            of_held = cosines if len(held) == len(ids) else cosines[:, held]
            for part in _stripes(len(held)):
                take_up.offer(vectors, ids[held[part]], of_held[:, part], rows[asked])

    with cores() as each:
        for start in range(0, len(rows), BLOCK):
            asked = np.arange(start, min(start + BLOCK, len(rows)))
            left = vectors.take(rows[asked])
            each(compare, [(asked, left, ids) for ids in vectors.blocks(BLOCK, columns)])
        return _proven(vectors, rows, lists, columns, width, each)


def _proven(vectors: NodeVectors, rows: Ids, lists: Lists, columns: Ids | None, width: int, each: Each) -> Ids:
    """Lists by approximate cosines, put in order by exact ones; found again where that proves nothing."""
    approximate = lists.finished()
    keys = np.empty((len(rows), width), np.int64)
    doubtful = np.zeros(len(rows), bool)

    def order(start: int) -> None:
        part = slice(start, start + BLOCK)
        found = ids_of(approximate[part]).astype(np.int64)
        best = np.sort(exact_keys(vectors, rows[part], found), axis=1)[:, ::-1][:, :width]
        keys[part] = best
        bar = lists.bar[part]
        doubtful[part] = (bar > NO_COSINE) & (values_of(best[:, -1]) <= bar + MARGIN)

    each(order, [(start,) for start in range(0, len(rows), BLOCK)])
    again = np.flatnonzero(doubtful)
    size = max(1, min(_ROWS, -(-len(again) // _number_of_cores())))

    def find_again(some: Ids) -> None:
        keys[some] = _in_float64(vectors, rows[some], columns, width)

    each(find_again, [(again[start : start + size],) for start in range(0, len(again), size)])
    return keys


def _in_float64(vectors: NodeVectors, rows: Ids, columns: Ids | None, width: int) -> Ids:
    best = np.full((len(rows), width), NONE, np.int64)
    left = stepped(vectors.take(rows))
    for ids in vectors.blocks(BLOCK, columns):
        keys = keys_of(cosines_of(left @ stepped(vectors.take(ids)).T), ids)
        keys[rows[:, None] == ids] = NONE
        better = np.flatnonzero((keys > best.min(axis=1)[:, None]).any(axis=1))
        both = np.concatenate([best[better], keys[better]], axis=1)
        both.partition(both.shape[1] - width, axis=1)
        best[better] = both[:, -width:]
    return np.sort(best, axis=1)[:, ::-1]


def _stripes(number: int) -> list[slice]:
    return [slice(start, min(start + _STRIPE, number)) for start in range(0, number, _STRIPE)]


def _number_of_cores() -> int:
    return len(os.sched_getaffinity(0))


class Each(Protocol):
    """Calls a function with each of some arguments, on all cores; the first error is raised when all are done."""

    def __call__(self, work: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
        """See above."""


@contextmanager
def cores() -> Iterator[Each]:
    """A thread a core, each with products of its own: threads of BLAS keep a core busy while they wait for the next."""

    def each(work: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
        calls = [pool.submit(work, *some) for some in arguments]
        try:
            for call in calls:
                call.result()
        except BaseException:
            for call in calls:
                call.cancel()
            raise

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(_number_of_cores()) as pool:
        yield each
