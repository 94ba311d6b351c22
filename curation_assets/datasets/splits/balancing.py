"""Blocks of runs moved to where every class gets its share and the fewest images are left out at cuts.

A local search: a cut moves, a block changes its side, a piece of one becomes another's. What a move costs is not
guessed: no order joins a run to another, so what would be left out of it is found by the same sweep that leaves it out
in the end. A function of the set of images: runs are gone through by their chance, and each takes its best move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from curation_assets.datasets.splits.apart import Order
from curation_assets.datasets.splits.buffers import bring_back, clear
from curation_assets.datasets.splits.sides import NONE, Sides

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

GOOD = 1.0  # points up to which a class's share, or a side's size, may be off without a price
_PRICE = 10.0  # images that a squared point more is worth, or of a large lake one in fifty
_OF_LAKE = 50
_EVEN = 0.01  # images that a squared point is worth where it has no price
_ROUNDS = 20
_STEPS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987)  # units that a cut moves by
_PARTS = (2, 4, 8)  # of a block that become another's
_MOST = 10_000_000  # images looked at in all; a number, not a time, so that every machine finds the same
_AT_LEAST = 1_000  # images that a look costs as much as, however few there are


@dataclass(frozen=True)
class Laid:
    """Images of which the sides are sought.

    Attributes:
        unit: (images,) the unit of each.
        run: (units,) the run of each.
        classes: (images,) the class of each, from 0 on.
        counts: (images,) which are put on sides.
        stays: (images,) which are not left out for others.
        orders: that keep them apart.
        sides: there are.
    """

    unit: Ids
    run: Ids
    classes: Ids
    counts: Flags
    stays: Flags
    orders: Sequence[Order]
    sides: Sides
    known: dict[bytes, tuple[Floats, int]] = field(default_factory=dict)  # what was found of a run on sides
    looked_at: list[int] = field(default_factory=lambda: [0])  # images in all

    @property
    def shape(self) -> tuple[int, int]:
        """Sides and classes."""
        return len(self.sides.names), int(self.classes.max()) + 1


@dataclass
class _Run:
    """A run, with numbers of its own for its units and images; and what it is known by."""

    key: bytes
    units: Ids
    is_free: Flags
    unit_of: Ids
    classes: Ids
    stays: Flags
    orders: list[Order]
    side: Ids
    kept: Floats
    lost: int = 0


def balance(laid: Laid, ordered: Sequence[Ids], of_unit: Ids, is_free: Flags, series: Floats) -> Floats:
    """Move the blocks of runs.

    Args:
        ordered: of each run that may be laid out otherwise its units, in their order; runs in the order of chance.
        of_unit: (units,) the side of each, ``NONE`` where it has none yet: what is changed, for those of the runs.
        is_free: (units,) which may get another side.
        series: (units,) which one a unit stands in.

    Returns:
        (sides, classes) by how many images fewer are kept than are on sides; of what comes back elsewhere more.
    """
    sides, classes = laid.shape
    runs = _runs(laid, ordered, of_unit, is_free)
    rest = _counted(laid, of_unit, runs)
    now = rest + sum((one.kept for one in runs), np.zeros((sides, classes)))
    price = max(_PRICE, now.sum() / _OF_LAKE)
    shares = np.asarray(laid.sides.shares)

    def cost(kept: Floats) -> float:
        class_off, size_off = points(kept, shares)
        off = np.concatenate([class_off.reshape(-1), size_off])
        return float(price * (np.maximum(off - GOOD, 0) ** 2).sum() + _EVEN * (off**2).sum())

    for _ in range(_ROUNDS if cost(now) + sum(one.lost for one in runs) > _EVEN else 0):
        has_moved = False
        for one in runs:
            others = now - one.kept
            best, best_cost = None, cost(now) + one.lost - 1e-9
            for side in _moves(one.side, one.is_free, np.diff(series[one.units]) != 0, sides):
                if (found := _kept(one, side, laid)) is None:
                    continue
                kept, lost = found
                if (costs := cost(others + kept) + lost) < best_cost:
                    best, best_cost = (side, kept, lost), costs
            if best is not None:
                one.side, one.kept, one.lost = best
                now = others + one.kept
                has_moved = True
        if not has_moved:
            break
    for one in runs:
        of_unit[one.units] = one.side
    return sum((_whole(one, sides, classes) - one.kept for one in runs), np.zeros((sides, classes)))


def points(kept: Floats, shares: Floats) -> tuple[Floats, Floats]:
    """Points by which (sides, classes) a class's share of a side is off its share of all, and (sides,) sizes are off.

    Args:
        kept: (sides, classes) images.
        shares: (sides,) that are asked for.
    """
    size = np.maximum(kept.sum(axis=1), 1e-9)
    whole = max(float(size.sum()), 1e-9)
    return 100 * np.abs(kept / size[:, None] - kept.sum(axis=0) / whole), 100 * np.abs(size / whole - shares)


def _runs(laid: Laid, ordered: Sequence[Ids], of_unit: Ids, is_free: Flags) -> list[_Run]:
    number = np.full(len(laid.run), NONE, np.int64)  # of the run, among those
    place = np.full(len(laid.run), NONE, np.int64)  # in it
    for at, units in enumerate(ordered):
        number[units], place[units] = at, np.arange(len(units))
    of_image = np.where(laid.counts, number[laid.unit], NONE)
    images = _grouped(of_image, len(ordered))
    local = np.full(len(of_image), NONE, np.int64)
    for mine in images:
        local[mine] = np.arange(len(mine))
    rows = [_grouped(of_image[order.images], len(ordered)) for order in laid.orders]
    found = []
    for at, (units, mine) in enumerate(zip(ordered, images, strict=True)):
        orders = [
            Order(
                order.relation,
                order.distance,
                local[order.images[those[at]]],
                order.series[those[at]],
                order.position[those[at]],
                order.names,
            )
            for order, those in zip(laid.orders, rows, strict=True)
            if len(those[at])
        ]
        one = _Run(
            int(units[0]).to_bytes(8, "little"),
            units,
            is_free[units],
            place[laid.unit[mine]],
            laid.classes[mine],
            laid.stays[mine],
            orders,
            of_unit[units],
            np.zeros(laid.shape),
        )
        one.kept, one.lost = _looked_at(one, one.side, laid)
        found.append(one)
    return found


def _grouped(numbers: Ids, groups: int) -> list[Ids]:
    """Of each group where its number stands; negative: in none."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.searchsorted(numbers[order], np.arange(groups + 1)))[1:-1]


def _counted(laid: Laid, of_unit: Ids, runs: Sequence[_Run]) -> Floats:
    """(sides, classes) images that are in none of the runs; what has no side yet is shared out as it should be."""
    sides, classes = laid.shape
    is_other = np.ones(len(laid.run), bool)
    for one in runs:
        is_other[one.units] = False
    images = np.flatnonzero(laid.counts & is_other[laid.unit])
    side, of = of_unit[laid.unit[images]], laid.classes[images]
    found = _cells(side[side >= 0], of[side >= 0], sides, classes)
    loose = np.bincount(of[side < 0], minlength=classes)
    return found + np.asarray(laid.sides.shares)[:, None] * loose


def _kept(one: _Run, side: Ids, laid: Laid) -> tuple[Floats, int] | None:
    """What :func:`_looked_at` finds, or found before; None: enough was looked at."""
    key = one.key + side.tobytes()
    if (found := laid.known.get(key)) is None:
        if laid.looked_at[0] > _MOST:
            return None
        laid.looked_at[0] += _AT_LEAST + len(one.unit_of)
        found = laid.known[key] = _looked_at(one, side, laid)
    return found


def _looked_at(one: _Run, side: Ids, laid: Laid) -> tuple[Floats, int]:
    """(sides, classes) images that are kept, and how many are not."""
    of_image = side[one.unit_of]
    cleared = clear(one.orders, of_image, one.stays, laid.sides)
    if cleared:
        held = np.where(one.is_free, NONE, side)
        bring_back(one.orders, one.unit_of, held, of_image, cleared, laid.sides)
    kept = of_image >= 0
    return _cells(of_image[kept], one.classes[kept], *laid.shape), int(len(kept) - kept.sum())


def _whole(one: _Run, sides: int, classes: int) -> Floats:
    """(sides, classes) images that are on sides."""
    return _cells(one.side[one.unit_of], one.classes, sides, classes)


def _cells(side: Ids, of: Ids, sides: int, classes: int) -> Floats:
    return np.bincount(side * classes + of, minlength=sides * classes).reshape(sides, classes).astype(np.float64)


def _moves(side: Ids, is_free: Flags, breaks: Flags, sides: int) -> Iterator[Ids]:
    """Other sides of a run's units, in their order.

    Args:
        breaks: (units - 1,) whether another series begins.
    """
    for cut in (np.flatnonzero(np.diff(side)) + 1).tolist():
        for step in _STEPS:
            end = cut + step
            if end > len(side) or not is_free[cut:end].all():
                break
            yield _with(side, cut, end, int(side[cut - 1]))
        for step in _STEPS:
            start = cut - step
            if start < 0 or not is_free[start:cut].all():
                break
            yield _with(side, start, cut, int(side[cut]))
    edges = [0, *(np.flatnonzero((np.diff(side) != 0) | (np.diff(is_free) != 0) | breaks) + 1).tolist(), len(side)]
    for start, end in pairwise(edges):
        if not is_free[start]:
            continue
        for other in range(sides):
            if other == side[start]:
                continue
            yield _with(side, start, end, other)
            for part in _PARTS:
                length = (end - start) // part
                if length:
                    yield _with(side, start, start + length, other)
                    yield _with(side, end - length, end, other)
    for one in range(sides):
        for other in range(one + 1, sides):
            swapped = np.where(side == one, other, np.where(side == other, one, side))
            yield np.where(is_free, swapped, side)


def _with(side: Ids, start: int, end: int, other: int) -> Ids:
    found = side.copy()
    found[start:end] = other
    return found
