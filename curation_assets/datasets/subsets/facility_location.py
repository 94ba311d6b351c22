"""``representative``: the mean distance of the items to the nearest chosen one is to be as small as can be.

Facility location, or k-medoids. It is begun by the lazy greedy algorithm (Minoux, 1978; at least 63 % of the greatest
gain) and swaps, among a sample of items and for that sample (all of them, up to ``SAMPLE``). It goes on among all: each
chosen item gives way to the one that is nearest to all that it stands for, as long as that helps. The cosine is linear,
so that one is the nearest to their mean. Sums are of whole numbers: the same on any machine. Why no package does it:
``k_centre``.
"""

from __future__ import annotations

from threading import Lock

import numpy as np
from numpy.typing import NDArray

from curation_assets.curate.neighbours.exact_lists import Each
from curation_assets.curate.neighbours.vectors import Ids, NodeVectors, stepped
from curation_assets.datasets.subsets.nearest import BLOCK, Bools, Nearest, Places
from curation_assets.datasets.subsets.swaps import Swaps
from curation_assets.progress import Progress

SAMPLE = 6144  # items that a round of the greedy algorithm looks at: 151 MB of cosines
_PART = 4  # of a sample so many stand for one that is chosen of it, or it would be told too little
_COSINE = 2.0**-26  # from products to cosines in steps of 2⁻²⁴, which int32 holds
_TOTAL = 2.0**-25  # from products to what a billion of add up to in int64
_AGAIN = 32  # gains that are computed at a time
_ROUNDS = 10  # of giving way: by then hardly any does


def facility_location(
    vectors: NodeVectors, nearest: Nearest, number: int, places: Places, each: Each, progress: Progress
) -> Ids:
    """Choose items that stand for all.

    Args:
        nearest: with what is chosen already; takes up the others.
        number: how many; fewer where there are fewer.

    Returns:
        (chosen,) items; ``nearest`` is then as they are.
    """
    chosen: list[int] = []
    progress.start("subset", number)
    size = min(len(vectors), SAMPLE)
    most = number if size == len(vectors) else max(1, size // _PART)
    first, idle = 0, 0
    while len(chosen) < number and places.open.any() and idle * size < len(vectors):
        sample = np.sort((first + np.arange(size)) % len(vectors))
        new = _greedy(vectors, nearest, sample, min(most, number - len(chosen)), places, each)
        nearest.add(np.array(new, np.int64))
        chosen += new
        progress.advance(len(new))
        first, idle = (first + size) % len(vectors), 0 if new else idle + 1
    while len(chosen) < number and len(left := np.flatnonzero(places.open)):  # of which none helps: they are copies
        new = left[: number - len(chosen)].tolist()
        new = new[:1] if places.lacking.any() else new
        for item in new:
            places.take(item)
        nearest.add(np.array(new, np.int64))
        chosen += new
    return _given_way(vectors, nearest, np.array(chosen, np.int64), places, each)


def _greedy(vectors: NodeVectors, nearest: Nearest, sample: Ids, most: int, places: Places, each: Each) -> list[int]:
    """Items of a sample that bring its mean distance down, as far as each can, and after swaps; none that doesn't."""
    cosines = np.empty((len(sample), len(sample)), np.int32)
    asked = stepped(vectors.take(sample))

    def compare(start: int) -> None:
        products = asked[start : start + _AGAIN * 8] @ asked.T
        cosines[start : start + _AGAIN * 8] = np.rint(products * _COSINE)

    each(compare, [(start,) for start in range(0, len(sample), _AGAIN * 8)])
    best = np.rint(np.maximum(nearest.products[sample], -(2.0**50)) * _COSINE).astype(np.int32)

    others = best.copy()

    def gains_of(rows: Ids) -> Ids:
        return np.asarray(np.maximum(cosines[rows] - best, 0).sum(axis=1, dtype=np.int64))

    bounds = np.concatenate([gains_of(np.arange(start, min(start + _AGAIN, len(sample)))) for start in _steps(sample)])
    found: list[int] = []
    while len(found) < most:
        order = np.flatnonzero(places.open[sample])
        order = order[np.argsort(-bounds[order], kind="stable")]
        at, gain = -1, 0
        for start in range(0, len(order), _AGAIN):
            if bounds[order[start]] < max(gain, 1):
                break  # gains only shrink
            some = order[start : start + _AGAIN]
            bounds[some] = gains_of(some)
            leading = int(bounds[some].max())
            first = int(some[bounds[some] == leading].min())
            if leading > gain or (leading == gain and first < at):
                at, gain = first, leading
        if not gain:
            break
        found.append(int(sample[at]))
        places.take(found[-1])
        np.maximum(best, cosines[at], out=best)
    if not found:
        return []
    swaps = Swaps(
        cosines, np.searchsorted(sample, found), others, places.classes[sample] if places.are_counted else None
    )
    free = places.free[sample]
    swaps.run(free)
    places.free[sample] = free
    return [int(item) for item in sample[swaps.chosen]]


def _steps(sample: Ids) -> range:
    return range(0, len(sample), _AGAIN)


def _given_way(vectors: NodeVectors, nearest: Nearest, chosen: Ids, places: Places, each: Each) -> Ids:
    """The chosen ones after each gave way to who stands better for the same, as often as that helps."""
    held = np.setdiff1d(nearest.items, chosen)  # each chosen one is its own nearest
    classes = places.classes if places.are_counted else None
    for _ in range(_ROUNDS):
        moved = _moved(vectors, nearest, chosen, places.free, classes, each)
        if np.array_equal(moved, chosen):
            break
        other = Nearest(vectors, each)
        other.add(np.concatenate([held, moved]))
        if _total(other) <= _total(nearest):
            break
        places.free[chosen], places.free[moved] = True, False
        nearest.products, nearest.items, chosen = other.products, other.items, moved
    return chosen


def _moved(vectors: NodeVectors, nearest: Nearest, chosen: Ids, free: Bools, classes: Ids | None, each: Each) -> Ids:
    """For each chosen item the one that is nearest to the mean of all that it stands for; itself where none is nearer.

    Args:
        classes: of the items, where one may give way only to one of its own.
    """
    from scipy.sparse import csr_array

    number = np.full(len(vectors), -1, np.int64)
    number[chosen] = np.arange(len(chosen))
    cell = number[nearest.items]  # -1: it is stood for by one that stays
    sums = np.zeros((len(chosen), vectors.dimension))
    lock = Lock()
    members = np.flatnonzero(cell >= 0)
    blocks = [(ids,) for ids in vectors.blocks(BLOCK, members)]

    def add(ids: Ids) -> None:
        ones = np.ones(len(ids)), (cell[ids], np.arange(len(ids)))
        part = csr_array(ones, shape=(len(chosen), len(ids))) @ stepped(vectors.take(ids))
        with lock:
            sums[:] += part

    each(add, blocks)
    counts = np.bincount(cell[members], minlength=len(chosen))
    means = np.rint(sums / np.maximum(counts, 1)[:, None])
    nearness: NDArray[np.float64] = np.full(len(vectors), -np.inf)

    def compare(ids: Ids) -> None:
        nearness[ids] = (stepped(vectors.take(ids)) * means[cell[ids]]).sum(axis=1)

    each(compare, blocks)
    may = free[members] | (members == chosen[cell[members]])
    if classes is not None:
        may &= classes[members] == classes[chosen[cell[members]]]
    members = members[may]
    is_other = members != chosen[cell[members]]
    order = np.lexsort((members, is_other, -nearness[members], cell[members]))
    members = members[order]
    cells, first = np.unique(cell[members], return_index=True)
    moved = chosen.copy()
    moved[cells] = members[first]
    return moved


def _total(nearest: Nearest) -> int:
    """Of all cosines with the nearest, in steps of 2⁻²⁵."""
    return int(np.rint(nearest.products * _TOTAL).astype(np.int64).sum())
