"""Of every item the nearest of what is chosen so far, and which items may still be chosen.

Items are numbered as they were drawn by chance, which makes an order of them that is a function of the set and the
seed; of equals the lower number counts. Products are of vectors in steps (``curate.neighbours.vectors``), so they are
exact: the same on any machine, in blocks of any shape, with any number of threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curation_assets.curate.neighbours.exact_lists import Each
from curation_assets.curate.neighbours.vectors import Ids, NodeVectors, stepped

Bools = NDArray[np.bool_]
Products = NDArray[np.float64]

BLOCK = 4096  # items that are compared at a time: 25 MB as float64 at 768 dimensions
_AT_ONCE = 1024  # chosen ones that they are compared with: 34 MB of products
_COSINE = 2.0**-50  # of products of vectors in steps


class Nearest:
    """The nearest chosen item of every item.

    Args:
        vectors: of the items.
        each: calls on all cores, as ``exact_lists.cores`` gives it.

    Attributes:
        products: (items,) float64 whole numbers, 2⁵⁰ times the cosine with the nearest; minus infinity while none is
            chosen.
        items: (items,) which one that is; -1 while none is chosen. A chosen item is its own.
    """

    def __init__(self, vectors: NodeVectors, each: Each) -> None:
        self._vectors, self._each = vectors, each
        self.products: Products = np.full(len(vectors), -np.inf)
        self.items: Ids = np.full(len(vectors), -1, np.int64)

    def add(self, chosen: Ids) -> None:
        """Choose further items."""
        for start in range(0, len(chosen), _AT_ONCE):
            self._compare(np.sort(chosen[start : start + _AT_ONCE]))
        self.items[chosen] = chosen

    @property
    def distances(self) -> Products:
        """(items,) cosine distance to the nearest, 0 to 2."""
        return np.maximum(1 - self.products * _COSINE, 0)

    def _compare(self, chosen: Ids) -> None:
        asked = stepped(self._vectors.take(chosen)).T

        def compare(ids: Ids) -> None:
            products = stepped(self._vectors.take(ids)) @ asked
            place = products.argmax(axis=1)
            best, found = products[np.arange(len(ids)), place], chosen[place]
            known = self.products[ids]
            better = (best > known) | ((best == known) & (found < self.items[ids]))
            self.products[ids[better]], self.items[ids[better]] = best[better], found[better]

        self._each(compare, [(ids,) for ids in self._vectors.blocks(BLOCK)])


class Places:
    """Which items may be chosen: while classes lack some of their least number, only theirs.

    Args:
        free: (items,) which may be chosen at all.
        classes: (items,) number of each one's class.
        lacking: (classes,) how many of each class have to be chosen yet; what it has not doesn't count.

    Attributes:
        are_counted: whether classes have a least number at all.
    """

    def __init__(self, free: Bools, classes: Ids, lacking: Ids) -> None:
        self.free, self.classes, self.are_counted = free.copy(), classes, bool(lacking.any())
        self.lacking = np.minimum(lacking, np.bincount(classes[free], minlength=len(lacking)))

    @property
    def open(self) -> Bools:
        """(items,) which may be chosen now."""
        return self.free & (self.lacking[self.classes] > 0) if self.lacking.any() else self.free

    def take(self, item: int) -> bool:
        """Choose an item; whether others may be chosen now than before, but for itself."""
        self.free[item] = False
        of = self.classes[item]
        if not self.lacking[of]:
            return False
        self.lacking[of] -= 1
        return not self.lacking[of]
