"""Chosen items give their place to others wherever that brings the sum of all down: the swaps of k-medoids.

Each item is tried once against all chosen ones together, and takes the place of the one whose loss it outweighs most,
at once (FasterPAM: Schubert and Rousseeuw, 2021); until no swap of two helps.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from curation_assets.curate.neighbours.vectors import Ids

_ROUNDS = 20  # of all items; two or three are enough where the greedy algorithm was there before


class Swaps:
    """Medoids among items of which all cosines are known.

    Args:
        cosines: (items, items) int32.
        chosen: items that may give their place.
        others: (items,) int32, cosine with the nearest of what stays.
        classes: (items,) where an item may only take the place of one of its class; None: of any.
    """

    def __init__(
        self, cosines: NDArray[np.int32], chosen: Iterable[int], others: NDArray[np.int32], classes: Ids | None
    ) -> None:
        self._cosines, self._others, self._classes = cosines, others, classes
        self.chosen = np.array([*chosen], np.int64)
        every = np.arange(len(cosines))
        self._near, self._second = np.empty((2, len(every)), np.int64)
        self._of, self._of_second = np.empty((2, len(every)), np.int64)
        self._look(every)

    def run(self, free: NDArray[np.bool_]) -> None:
        """Swap until nothing helps.

        Args:
            free: (items,) which may be chosen; changed in place.
        """
        since = 0  # the last swap
        for item in np.tile(np.arange(len(self._cosines)), _ROUNDS).tolist():
            since += 1
            if since > len(self._cosines):
                return
            if free[item] and (place := self._best_place(item)) is not None:
                free[self.chosen[place]], free[item] = True, False
                self._swap(place, item)
                since = 0

    def _best_place(self, item: int) -> int | None:
        """The place in which an item brings the sum up most; None: in none."""
        row = self._cosines[item]
        gain = int(np.maximum(row - self._near, 0).sum())
        # What its place costs: all that it stands for go to their second nearest, or to the item.
        lost = self._near - np.maximum(np.minimum(row, self._near), self._second)
        is_its = self._of >= 0
        costs = np.bincount(self._of[is_its], weights=lost[is_its], minlength=len(self.chosen))
        if self._classes is not None:
            costs[self._classes[self.chosen] != self._classes[item]] = np.inf
        place = int(costs.argmin())
        return place if gain > costs[place] else None

    def _swap(self, place: int, item: int) -> None:
        self.chosen[place] = item
        row = self._cosines[item]
        touched = (self._of == place) | (self._of_second == place) | (row > self._second)
        self._look(np.flatnonzero(touched))

    def _look(self, items: Ids) -> None:
        """The two nearest of some items, of what is chosen and what stays (-1)."""
        values = np.concatenate([self._others[None, items], self._cosines[self.chosen[:, None], items]])
        at = np.arange(len(items))
        first = values.argmax(axis=0)
        self._near[items], self._of[items] = values[first, at], first - 1
        values[first, at] = np.iinfo(np.int32).min
        second = values.argmax(axis=0)
        self._second[items], self._of_second[items] = values[second, at], second - 1
