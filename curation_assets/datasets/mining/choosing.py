"""Which candidates are taken: near to failures, the more the greater the loss, and not all alike.

Failures take turns, as seats are shared out (D'Hondt): next is the one with the greatest loss for each image near to
it that was taken so far, by it or by another; so many failures of one kind get no more than few of another for their
loss. It takes, of the images nearest to it, the one of greatest marginal relevance (Carbonell and Goldstein, 1998): as
near to it as can be, and as far from all that were taken. "Nearest" are ``SPREAD`` times as many as its loss gives it
places. ``python -m benchmarks.mining`` compares this with the nearest alone and with chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from curation_assets.curate.neighbours.vectors import (
    NONE,
    Floats,
    Ids,
    NodeVectors,
    cosines_of,
    ids_of,
    keys_of,
    stepped,
    values_of,
)

SPREAD = 2.0  # candidates that are looked at for a place
NEARNESS = 0.5  # of 1, what nearness to the failure counts; the rest is distance to what was taken
_LEAST = 10  # candidates that a failure looks at
_MOST = 20_000_000  # that all failures look at together, to begin with: 640 MB of lists
_BLOCK = 4096  # candidates that are compared at a time
_QUERIES = 256  # with so many failures: 8 MB of cosines


def mined(
    vectors: NodeVectors,
    queries: Floats,
    losses: NDArray[np.float64],
    size: int,
    kin_of: Callable[[int], Iterable[int]],
    *,
    spread: float = SPREAD,
    nearness: float = NEARNESS,
) -> list[tuple[int, int, float]]:
    """Take candidates. The same for the same vectors, in whatever blocks they lie.

    Args:
        vectors: of the candidates.
        queries: (failures, dimension) of what failed, unit length.
        losses: (failures,) 0 or more, one above 0.
        size: how many; fewer where there are fewer.
        kin_of: candidates that show the same as one: never two of them are taken.

    Returns:
        Candidate, failure that it was taken for, and their cosine; in the order in which they were taken.
    """
    losses = losses / losses.max()  # their sum may be no number else
    places = np.maximum(size * losses / losses.sum(), 1)
    widths = np.clip(np.ceil(spread * places), _LEAST, max(_LEAST, _MOST // len(queries))).astype(np.int64)
    found: list[tuple[int, int, float]] = []
    dead = np.zeros(len(vectors), bool)
    while True:
        keys = nearest_lists(vectors, queries, int(min(widths.max(), len(vectors))))
        turns = _Turns(vectors, keys, widths, losses, nearness)
        for candidate, _, _ in found:
            turns.taken(candidate)
        while len(found) < size and (taken := turns.next(dead)) is not None:
            found.append(taken)
            turns.taken(taken[0])
            dead[[taken[0], *kin_of(taken[0])]] = True
        if len(found) >= size or int(widths.min()) >= len(vectors):
            return found
        widths *= 2  # what failures have in common is taken only once


class _Turns:
    """Whose turn it is, and what it takes."""

    def __init__(
        self, vectors: NodeVectors, keys: Ids, widths: Ids, losses: NDArray[np.float64], nearness: float
    ) -> None:
        self._vectors, self._losses, self._nearness = vectors, losses, nearness
        at = np.arange(keys.shape[1])
        self._ids = np.where(at < widths[:, None], ids_of(keys), -1).astype(np.int64)
        self._cosines = values_of(keys)
        self._served = np.zeros(len(keys))
        self._likest = np.full(keys.shape, -1.0, np.float32)  # to what was taken
        self._known = np.zeros(len(keys), np.int64)  # so many of that are in it
        self._all: list[int] = []
        self._over = np.zeros(len(keys), bool)

    def taken(self, candidate: int) -> None:
        """Every failure that it is near to is served by it."""
        self._all.append(candidate)
        self._served += (self._ids == candidate).any(axis=1)

    def next(self, dead: NDArray[np.bool_]) -> tuple[int, int, float] | None:
        """What is taken next; None: no failure has a candidate left.

        Args:
            dead: (candidates,) which can't be taken any more.
        """
        while not self._over.all():
            claim = np.where(self._over, -1.0, self._losses / (self._served + 1))
            failure = int(claim.argmax())
            ids = self._ids[failure]
            there = (ids >= 0) & ~dead[np.maximum(ids, 0)]
            if not there.any():
                self._over[failure] = True
                continue
            self._look(failure)
            worth = self._nearness * self._cosines[failure] - (1 - self._nearness) * self._likest[failure]
            at = int(np.where(there, worth, -np.inf).argmax())
            return int(ids[at]), failure, float(self._cosines[failure, at])
        return None

    def _look(self, failure: int) -> None:
        """Bring the likeness of a failure's candidates to what was taken up to date."""
        new = np.array(self._all[self._known[failure] :], np.int64)
        if not len(new):
            return
        ids = np.maximum(self._ids[failure], 0)
        cosines = cosines_of(stepped(self._vectors.take(ids)) @ stepped(self._vectors.take(new)).T)
        np.maximum(self._likest[failure], cosines.max(axis=1), out=self._likest[failure])
        self._known[failure] = len(self._all)


def nearest_lists(vectors: NodeVectors, queries: Floats, width: int) -> Ids:
    """(failures, width) keys of the nearest candidates of each, nearest first, by comparing with all."""
    best = np.full((len(queries), width), NONE, np.int64)
    asked = stepped(queries)
    for ids in vectors.blocks(_BLOCK):
        block = stepped(vectors.take(ids)).T
        for start in range(0, len(queries), _QUERIES):
            part = slice(start, start + _QUERIES)
            both = np.concatenate([best[part], keys_of(cosines_of(asked[part] @ block), ids)], axis=1)
            both.partition(both.shape[1] - width, axis=1)
            best[part] = both[:, -width:]
    return np.sort(best, axis=1)[:, ::-1]
