"""What lies too near to a cut is left out, and put back where what stood in its way has gone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curation_assets.datasets.splits.apart import Order, near_if_on, too_near
from curation_assets.datasets.splits.sides import NONE, Sides

Ids = NDArray[np.int64]
_CLEANER = 1e3  # times what an image of the next side costs
_MOST_RANKS = 90  # of sides that differ by that; a number holds no more


def clear(orders: Sequence[Order], side: Ids, stays: NDArray[np.bool_], sides: Sides) -> dict[int, str]:
    """Take out what lies too near to a cut: of new images where the side is larger; what had its side before stays.

    Two that had one before may be too near as well, where the orders were not asked for then: the cleaner side's stays.

    Args:
        side: (images,) of each; ``NONE``: it has none. What is left out has none then.
        stays: (images,) which are not left out for others.

    Returns:
        Image → relation.
    """
    share = np.asarray(sides.shares)
    cost = np.where(side >= 0, 1 + 1e-6 * (1 - share[side]), 1.0)
    cost[stays] = np.inf
    has_staying = bool(stays.any())
    found: dict[int, str] = {}
    for order in orders:
        left = too_near(order, side, cost)
        side[left] = NONE
        found |= dict.fromkeys(left.tolist(), order.relation)
        if has_staying:
            of_side = np.empty(len(share))
            of_side[list(sides.cleanest)] = _CLEANER ** np.minimum(np.arange(len(share) - 1, -1, -1.0), _MOST_RANKS)
            late = too_near(order, side, np.where(side >= 0, of_side[side], 1.0))
            side[late] = NONE
            found |= dict.fromkeys(late.tolist(), order.relation)
    return found


def bring_back(
    orders: Sequence[Order], unit: Ids, held: Ids, side: Ids, cleared: dict[int, str], sides: Sides
) -> dict[int, tuple[str, int]]:
    """Put what was left out back where nothing of another side is near: what stood in its way may have gone since.

    Args:
        unit: (images,) the unit of each.
        held: (units,) the side that a unit had before; ``NONE``: any will do, as long as nothing of it is kept.
        side: (images,) of each: what is changed.
        cleared: images that were left out → relation.

    Returns:
        Of those that stay left out the relation, and the image of another side that each is near to.
    """
    left = np.array(sorted(cleared), np.int64)
    near_to = {image: (relation, NONE) for image, relation in cleared.items()}
    for one in sorted(range(len(sides.names)), key=lambda at: (-sides.shares[at], at)):
        if not len(left):
            break
        of_unit = held.copy()
        kept = np.flatnonzero(side >= 0)
        of_unit[unit[kept]] = side[kept]
        may = np.isin(of_unit[unit[left]], (NONE, one))
        for order in orders:
            asked = np.flatnonzero(may)
            other = near_if_on(order, left[asked], one, side)
            may[asked] = other < 0
            told = zip(left[asked].tolist(), other.tolist(), strict=True)
            near_to |= {image: (order.relation, near) for image, near in told if near >= 0}
        side[left[may]] = one
        for image in left[may].tolist():
            del near_to[image]
        left = left[~may]
    return near_to
