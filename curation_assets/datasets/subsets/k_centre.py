"""``diverse``: the largest distance of an item to the nearest chosen one is to be as small as can be (k-centre).

Farthest-first traversal (Gonzalez, 1985; with places that are taken already Sener and Savarese, 2018): the next one is
always what lies farthest from all that are chosen, and the largest distance is at most twice the least possible. The
traversal here is the exact one: distances only shrink, so among the farthest few thousand, those that are still above
all others are the next ones whatever those others are, and many are found for one look at all items. The packages
there are (apricot-select, submodlib: facility location, last released years ago, before NumPy 2) hold a matrix of all
pairs, and promise no order of equals.
"""

from __future__ import annotations

import numpy as np

from curation_assets.curate.neighbours.vectors import Ids, NodeVectors, stepped
from curation_assets.datasets.subsets.nearest import Nearest, Places
from curation_assets.progress import Progress

_CANDIDATES = 2048  # that are looked at together: 13 MB as float64 at 768 dimensions


def farthest_first(vectors: NodeVectors, nearest: Nearest, number: int, places: Places, progress: Progress) -> Ids:
    """Choose items, the farthest first; of equals the lower number.

    Args:
        nearest: with what is chosen already; takes up the others.
        number: how many; fewer where there are fewer.

    Returns:
        (chosen,) in their order.
    """
    chosen: list[int] = []
    progress.start("subset", number)
    while len(chosen) < number and places.open.any():
        new = _next_ones(vectors, nearest, number - len(chosen), places)
        nearest.add(np.array(new))
        chosen += new
        progress.advance(len(new))
    return np.array(chosen, np.int64)


def _next_ones(vectors: NodeVectors, nearest: Nearest, most: int, places: Places) -> list[int]:
    """The next items, one at least: as many as can be told without a look at all."""
    ids = np.flatnonzero(places.open)
    products = nearest.products[ids]
    rest_from = (np.inf, 0)  # nothing that isn't looked at comes before this product and item
    if len(ids) > _CANDIDATES:
        limit = np.partition(products, _CANDIDATES)[_CANDIDATES]
        equal = np.flatnonzero(products == limit)
        taken = equal[: _CANDIDATES - int((products < limit).sum())]
        rest_from = (limit, ids[equal[len(taken)]])
        looked_at = np.sort(np.concatenate([np.flatnonzero(products < limit), taken]))
        ids, products = ids[looked_at], products[looked_at]
    candidates = stepped(vectors.take(ids))
    found: list[int] = []
    while len(found) < most:
        at = int(products.argmin())  # the first of equals, which has the lower number
        if products[at] == np.inf or (found and (products[at], ids[at]) >= rest_from):
            break
        found.append(int(ids[at]))
        changed = places.take(found[-1])
        np.maximum(products, candidates @ candidates[at], out=products)
        products[at] = np.inf
        if changed:
            if not places.lacking.any():
                break  # all others may be chosen from now on
            products[places.lacking[places.classes[ids]] == 0] = np.inf
    return found
