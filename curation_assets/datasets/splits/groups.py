"""Groups as sides: each of what images share, as a farm or a season, is one, to be left out in turn.

Nothing is shared out or stratified: an image lies in its own group or in none. What belongs together across groups
stays in one of them: where it lay before; else where most of it lies, so that the fewest are left out; then by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.datasets.splits.apart import Order, across
from curation_assets.datasets.splits.buffers import bring_back, clear
from curation_assets.datasets.splits.sides import NONE, Sides
from curation_assets.datasets.splits.splitting import Split
from curation_assets.datasets.splits.together import Links, components
from curation_assets.errors import CurationError
from curation_assets.images.names import printable

Ids = NDArray[np.int64]
MOST = 1000  # groups: with more each would be a few images, and training as often no experiment


def sides_of(groups: pl.Series, kept: pl.Series, asked: str) -> Sides:
    """The sides that groups are, by name.

    Args:
        groups: (images,) of each; null: none.
        kept: (images,) which lie on sides.
        asked: what the recipe names the groups by.

    Raises:
        CurationError: there are fewer than two, or far too many.
    """
    numbers = groups.filter(kept).drop_nulls().value_counts(name="images").sort(groups.name)
    if len(numbers) < 2:
        (only,) = numbers[groups.name].to_list() or [None]
        told = "no image is in a group" if only is None else f"every image is in one group, {printable(only)}"
        raise CurationError(f"split.groups: {asked!r}: {told}; to leave one out there have to be two")
    if len(numbers) > MOST:
        some = " and ".join(printable(name) for name in numbers[groups.name].head(2))
        raise CurationError(
            f"split.groups: {asked!r} makes {len(numbers):,} groups, for example {some}; there may be {MOST:,}: name "
            "what many images share, as a farm or a season"
        )
    # Also those that nothing is left of this time: what lay there before doesn't come to lie elsewhere.
    names = groups.drop_nulls().unique().sort()
    of_name = dict(numbers.iter_rows())
    shares = [of_name.get(name, 0) / int(kept.sum()) for name in names]
    return Sides(names.to_list(), shares, list(range(len(names))))


def split_by_groups(
    group: Ids,
    sides: Sides,
    links: Sequence[Links],
    orders: Sequence[Order],
    pinned: Ids,
    counts: NDArray[np.bool_],
    stays: NDArray[np.bool_],
) -> Split:
    """Leave out of groups what belongs to another, or is too near to it. A function of the set of images.

    Args:
        group: (images,) the side that each is in; ``NONE``: in none.
        sides, links, orders, pinned, counts, stays: as ``splitting.split`` has them.
    """
    number = len(group)
    unit = components(number, [(kind.first, kind.second) for kind in links])
    units = int(unit.max()) + 1 if number else 0
    counts = counts & (group >= 0)
    of_unit = _sides_of_units(unit, units, group, pinned, counts)
    lies = counts & (of_unit[unit] == group)
    result = Split(np.where(lies, group, NONE), units=len(np.unique(unit[counts])))
    near = [order.only(_near_across(order, result.side)) for order in orders]
    cleared = clear(near, result.side, (pinned == result.side) & lies & stays, sides)
    result.buffered = bring_back(near, unit, of_unit, result.side, cleared, sides)
    there = np.full(units, number, np.int64)
    kept = np.flatnonzero(result.side >= 0)
    np.minimum.at(there, unit[kept], kept)
    for image in np.flatnonzero(counts & ~lies).tolist():
        stands_for = int(there[unit[image]])
        result.moved[image] = int(of_unit[unit[image]]), stands_for if stands_for < number else NONE
    return result


def _sides_of_units(unit: Ids, units: int, group: Ids, pinned: Ids, counts: NDArray[np.bool_]) -> Ids:
    """(units,) where each lies: where it lay, or most of it does."""
    has = pinned >= 0
    is_in = pl.DataFrame({"unit": unit[counts], "side": group[counts]}).group_by("unit", "side").agg(images=pl.len())
    lay = pl.DataFrame({"unit": unit[has], "side": pinned[has]}).unique().with_columns(lay=pl.lit(value=True))
    found = is_in.join(lay, on=["unit", "side"], how="full", coalesce=True)
    found = found.sort(
        "unit", pl.col("lay").fill_null(value=False), pl.col("images").fill_null(0), "side",
        descending=[False, True, True, False],
    ).unique("unit", keep="first", maintain_order=True)  # fmt: skip
    of_unit = np.full(units, NONE, np.int64)
    of_unit[found["unit"].to_numpy()] = found["side"].to_numpy()
    return of_unit


def _near_across(order: Order, side: Ids) -> Ids:
    """Images that have a near one on another side: only they have to do with what is left out."""
    found = across(order, side)
    return found.images[found.distances <= order.distance]
