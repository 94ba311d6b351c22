"""Images put on sides: what belongs together stays together, what stands in an order is laid out in blocks.

1. Images joined by links are one unit, which is never cut.
2. Units that an order joins, by steps within its distance, make a run. A short run goes where it goes as a whole. A
   long one, which holds more of a class than half of what the smallest side gets, is cut into blocks of the sides'
   shares, where it is thinnest, unless every class gets its share without that.
3. Cuts are moved, and blocks change sides, to where what is kept in the end has the best shares, and the least is left
   out (:mod:`~curation_assets.datasets.splits.balancing`).
4. All other units go where every class gets its share (:mod:`~curation_assets.datasets.splits.shares`).
5. What then lies too near to a cut is left out (:mod:`~curation_assets.datasets.splits.buffers`).

What has a side already keeps it, and takes its unit along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.datasets.splits.apart import Order
from curation_assets.datasets.splits.balancing import Laid, balance, points
from curation_assets.datasets.splits.buffers import bring_back, clear
from curation_assets.datasets.splits.runs import lay_out_runs
from curation_assets.datasets.splits.shares import least, place, worst_of
from curation_assets.datasets.splits.sides import NONE, Sides
from curation_assets.datasets.splits.together import Links, components, weakest

Ids = NDArray[np.int64]
# Runs are cut that hold more than so many times of what the smallest side gets of a class: none, the longest, all long.
_LONGEST = (np.inf, 2.0, 0.5)
_MOST_LOOSE = 300  # runs that are whole, but are looked at once more beside those that are cut
_GOOD = 2.0  # points that the worst class may be off for no further run to be cut
# What a unit or a run holds, in a text: those that hold the same are one kind.
_KIND = pl.concat_str(pl.col("of"), pl.lit(":"), pl.col("number")).sort_by("of").str.join(" ")


@dataclass(frozen=True)
class TooLarge:
    """A unit that no side can take.

    Attributes:
        images: numbers of its images.
        weakest: links that hold least: relation, two images, similarity.
    """

    images: Ids
    weakest: list[tuple[str, int, int, float]]


@dataclass
class Split:
    """Where images went.

    Attributes:
        side: (images,) number of the side; ``NONE``: left out.
        buffered: (left out as too near to a cut) image → relation, image of another side.
        moved: image that had another side than its unit has now → that side, and an image of the unit on it.
        units: how many there are.
        cut: runs that were cut.
        worst, bound: points, as ``Placement`` has them.
        too_large: where there is no split.
    """

    side: Ids
    buffered: dict[int, tuple[str, int]] = field(default_factory=dict)
    moved: dict[int, tuple[int, int]] = field(default_factory=dict)
    units: int = 0
    cut: int = 0
    worst: float = 0.0
    bound: float = 0.0
    too_large: TooLarge | None = None


def split(
    contents: pl.Series,
    classes: Ids,
    sides: Sides,
    links: Sequence[Links],
    orders: Sequence[Order],
    pinned: Ids,
    seed: int,
    counts: NDArray[np.bool_] | None = None,
    stays: NDArray[np.bool_] | None = None,
) -> Split:
    """Put images on sides. A function of its arguments, in whatever order the images come.

    Args:
        contents: (images,) SHA-256 of each, hexadecimal: what chance is drawn from.
        classes: (images,) a number of each one's class, from 0 on.
        links: what belongs together.
        orders: what has to lie apart.
        pinned: (images,) the side that an image has already; ``NONE``: it has none.
        counts: (images,) which are put on sides; others only join what belongs together. None: all.
        stays: (images,) which of those that have a side are not left out for new ones. None: all of them.
    """
    number = len(contents)
    counts = np.ones(number, bool) if counts is None else counts
    result = Split(np.full(number, NONE, np.int64))
    if not counts.any():
        return result
    unit = components(number, [(kind.first, kind.second) for kind in links])
    _, unit = np.unique(unit, return_inverse=True)
    units = int(unit.max()) + 1
    sizes = np.bincount(unit[counts], minlength=units)
    result.units = int((sizes > 0).sum())
    room = max(sides.shares) * int(counts.sum())
    if (largest := int(np.argmax(sizes))) >= 0 and sizes[largest] > max(np.ceil(room), 1):
        members = np.flatnonzero(unit == largest)
        result.too_large = TooLarge(members[counts[members]], weakest(members, links))
        return result
    of_unit = held = _pinned_units(unit, units, pinned, counts, sides, result)
    key = _chance(contents, unit, units, seed)
    table = _class_counts(unit, classes, counts)
    run = components(units, [(unit[one], unit[other]) for one, other in (order.links() for order in orders)])
    there: NDArray[np.bool_] = counts.copy()
    there[[*result.moved]] = False
    has_stayed = there & (pinned >= 0)
    stays = has_stayed if stays is None else has_stayed & stays
    laid = Laid(unit, run, classes, there, stays, orders, sides)
    of_unit = _laid_out(laid, table, of_unit, key, result)
    result.side[counts] = of_unit[unit[counts]]
    result.side[[*result.moved]] = NONE
    cleared = clear(orders, result.side, stays, sides)
    result.buffered = bring_back(orders, unit, held, result.side, cleared, sides)
    for image, (side, other) in result.moved.items():  # one that is still there, if there is one
        kept = np.flatnonzero((unit == unit[image]) & (result.side == side))
        result.moved[image] = side, int(kept[0]) if len(kept) else other
    return result


def _pinned_units(unit: Ids, units: int, pinned: Ids, counts: NDArray[np.bool_], sides: Sides, result: Split) -> Ids:
    """(units,) the side of each that has one; of several the cleanest, and what had another is noted."""
    rank = np.empty(len(sides.names), np.int64)
    rank[list(sides.cleanest)] = np.arange(len(sides.names))
    has = np.flatnonzero(pinned >= 0)  # also of what is left out now: its like has to lie where it lay
    best = np.full(units, len(rank), np.int64)
    np.minimum.at(best, unit[has], rank[pinned[has]])
    of_unit = np.full(units, NONE, np.int64)
    known = best < len(rank)
    of_unit[known] = np.asarray(sides.cleanest)[best[known]]
    right = pinned[has] == of_unit[unit[has]]
    # Of those that tell the side one that is there, if there is one.
    ordered = has[right][np.lexsort((has[right], ~counts[has[right]]))][::-1]
    stands_for = dict(zip(unit[ordered].tolist(), ordered.tolist(), strict=True))
    for image in has[~right & counts[has]].tolist():
        result.moved[image] = int(of_unit[unit[image]]), stands_for[int(unit[image])]
    return of_unit


def _chance(contents: pl.Series, unit: Ids, units: int, seed: int) -> NDArray[np.uint64]:
    """(units,) a number drawn for the lowest content of each."""
    lowest = np.full(units, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(lowest, unit, _digits(contents))
    return _drawn(lowest, seed)


def chance_of(contents: pl.Series, seed: int) -> NDArray[np.uint64]:
    """(images,) a number drawn from the seed and each content, hexadecimal."""
    return _drawn(_digits(contents), seed)


def _digits(contents: pl.Series) -> NDArray[np.uint64]:
    return contents.str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64).to_numpy()


def _drawn(numbers: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """splitmix64 (Steele and others, 2014)."""
    mixed = numbers + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _class_counts(unit: Ids, classes: Ids, counts: NDArray[np.bool_]) -> pl.DataFrame:
    """``unit``, ``of`` (a class), ``number`` of images."""
    frame = pl.DataFrame({"unit": unit[counts], "of": classes[counts]})
    return frame.group_by("unit", "of").agg(number=pl.len().cast(pl.Int64)).sort("unit", "of")


def _laid_out(laid: Laid, table: pl.DataFrame, pinned: Ids, key: NDArray[np.uint64], result: Split) -> Ids:
    """(units,) the side of each. No more runs are cut than it takes for good shares of what is kept.

    Args:
        pinned: (units,) sides that units had before anything was laid out.
    """
    sides, orders = laid.sides, laid.orders
    best, cut, best_off = pinned, -1, np.inf
    shares = np.asarray(sides.shares)
    for longest in _LONGEST if orders else _LONGEST[:1]:
        of_unit = pinned.copy()
        now, ordered, loose, series = 0, list[Ids](), list[Ids](), np.zeros(len(laid.run))
        if orders:
            layout = lay_out_runs(laid.unit, laid.run, orders, table, sides, of_unit, key, longest)
            now, ordered, series = layout.cut, layout.ordered, layout.series
            loose = _loose(laid.run, table, of_unit, layout.every, key) if ordered else loose
        if now == cut:
            continue
        cut = now
        left = balance(laid, ordered, of_unit, pinned < 0, series)
        bound = _place_rest(table, laid.run, sides, of_unit, key, left)
        if ordered:
            left = balance(laid, [*ordered, *loose], of_unit, pinned < 0, series)  # beside what has its side now
        kept = _given(table, of_unit, *laid.shape) - left
        off = max(float(of.max()) for of in points(kept, shares))
        if off < best_off:
            best, best_off, result.cut = of_unit, off, now
            result.worst = worst_of(kept, sides.shares)
            result.bound = NONE if ordered else bound
        if off <= _GOOD:
            break
    if result.bound < 0:
        result.bound = min(_bound(table, pinned, sides, laid.shape[1]), result.worst)
    return best


def _loose(run: Ids, table: pl.DataFrame, of_unit: Ids, every: Ids, key: NDArray[np.uint64]) -> list[Ids]:
    """Of runs that have no side yet, those of most images: their units.

    Args:
        every: (units,) those of a run in the order that they stand in.
    """
    free = table.filter(pl.Series(of_unit[table["unit"].to_numpy()] < 0))
    units = free["unit"].to_numpy()
    frame = free.with_columns(run=pl.Series(run[units]), key=pl.Series(key[units]))
    sums = frame.group_by("run").agg(pl.col("number").sum(), pl.col("key").min())
    chosen = sums.sort("number", "key", descending=[True, False]).head(_MOST_LOOSE)["run"].to_numpy()
    inside = every[np.isin(run[every], chosen) & np.isin(every, units)]
    place_of = {one: at for at, one in enumerate(chosen.tolist())}
    found: list[list[int]] = [[] for _ in chosen]
    for unit in inside.tolist():
        found[place_of[int(run[unit])]].append(unit)
    return [np.array(one, np.int64) for one in found]


def _place_rest(
    table: pl.DataFrame, run: Ids, sides: Sides, of_unit: Ids, key: NDArray[np.uint64], left: NDArray[np.float64]
) -> float:
    """Put runs that have no side yet where every class gets its share.

    Args:
        left: (sides, classes) images on sides that will be left out there.

    Returns:
        Points that no way to place them is below.
    """
    classes = left.shape[1]
    has = table.with_columns(side=pl.Series(of_unit[table["unit"].to_numpy()]))
    free = has.filter(pl.col("side") < 0)
    free = free.with_columns(run=pl.Series(run[free["unit"].to_numpy()]))
    rest = free.group_by("run", "of").agg(pl.col("number").sum()).group_by("run").agg(kind=_KIND).sort("run")
    kinds, numbers, kind = _kinds(rest["kind"], classes)
    given = _given(table, of_unit, len(sides.names), classes) - np.rint(left).astype(np.int64)
    found = place(kinds, numbers, sides.shares, given)
    lowest = np.full(len(run), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(lowest, run, key)
    runs = rest["run"].to_numpy()
    ordered = np.lexsort((lowest[runs], kind))
    of_run = np.full(len(run), NONE, np.int64)
    for_each = [np.repeat(np.arange(len(sides.names)), row) for row in found.placed]
    of_run[runs[ordered]] = np.concatenate([np.zeros(0, np.int64), *for_each])
    units = free["unit"].unique().to_numpy()
    of_unit[units] = of_run[run[units]]
    return found.bound


def _bound(table: pl.DataFrame, pinned: Ids, sides: Sides, classes: int) -> float:
    """Points of the worst class that no way to put whole units on sides is below, were nothing left out at cuts."""
    before = table.with_columns(side=pl.Series(pinned[table["unit"].to_numpy()]))
    loose = before.filter(pl.col("side") < 0).group_by("unit").agg(kind=_KIND)
    kinds, numbers, _ = _kinds(loose["kind"], classes)
    return least(kinds, numbers, sides.shares, _given(table, pinned, len(sides.names), classes))


def _given(table: pl.DataFrame, of_unit: Ids, sides: int, classes: int) -> Ids:
    """(sides, classes) images that have a side."""
    side = of_unit[table["unit"].to_numpy()]
    found = np.zeros((sides, classes), np.int64)
    has = side >= 0
    np.add.at(found, (side[has], table["of"].to_numpy()[has]), table["number"].to_numpy()[has])
    return found


def _kinds(texts: pl.Series, classes: int) -> tuple[Ids, Ids, Ids]:
    """(kinds, classes) counts of each that there is, (kinds,) how often, and (texts,) the kind of each."""
    names = texts.unique().sort()
    kinds = np.zeros((len(names), classes), np.int64)
    for row, text in enumerate(names):
        for part in text.split(" "):
            of, number = part.split(":")
            kinds[row, int(of)] = int(number)
    kind = texts.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)
    return kinds, np.bincount(kind, minlength=len(names)), kind
