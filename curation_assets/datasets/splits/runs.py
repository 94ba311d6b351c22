"""Runs: images that an order joins. Those that are too long for a side are cut into blocks, where they are thinnest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.datasets.splits.apart import Order
from curation_assets.datasets.splits.sides import NONE, Sides

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

_LEAST_BLOCK = 2  # images of the smallest block that a cut may make
_ROUNDS = 4  # of cutting stretches anew
_WAYS = [(chance, shift) for chance in range(4) for shift in (0.0, -0.03, 0.03, -0.06, 0.06)]
_SEARCHED = 0.03  # of a run: how far from its place a cut is moved to where it costs less


@dataclass(frozen=True)
class Layout:
    """What was laid out.

    Attributes:
        cut: how many runs were cut.
        ordered: of each run that has sides now, and not all of them before, its units in their order; the runs in the
            order of chance.
        every: (units,) all units, those of a run in the order that they stand in.
        series: (units,) which one a unit stands in.
    """

    cut: int
    ordered: list[Ids]
    every: Ids
    series: Floats


def lay_out_runs(
    unit: Ids,
    run: Ids,
    orders: Sequence[Order],
    table: pl.DataFrame,
    sides: Sides,
    of_unit: Ids,
    key: NDArray[np.uint64],
    longest: float,
) -> Layout:
    """Give the units of long runs, and those beside others that have one, their sides.

    Args:
        unit: (images,) the unit of each.
        run: (units,) the run of each.
        table: ``unit``, ``of`` (a class) and ``number`` of its images.
        of_unit: (units,) the side of each, ``NONE`` where it has none yet: what is changed.
        key: (units,) numbers drawn by chance.
        longest: a run is cut if it holds more than so many times of what the smallest side gets of a class.

    Returns:
        What was laid out.
    """
    least = min(sides.shares)
    of_run = table.with_columns(run=pl.Series(run[table["unit"].to_numpy()]))
    share = of_run.group_by("run", "of").agg(pl.col("number").sum())
    whole = pl.col("number").sum()
    is_long = (pl.col("number") > least * longest * whole.over("of")) & (pl.col("number") * least >= _LEAST_BLOCK)
    sums = share.group_by("run").agg(pl.col("number").sum())
    long = {*share.filter(is_long)["run"], *sums.filter(pl.col("number") > least * longest * whole)["run"]}
    begun = set(run[of_unit >= 0].tolist())
    members = np.argsort(run, kind="stable")
    starts = np.searchsorted(run[members], np.arange(run.max() + 2))
    line = _Line.of(unit, run, orders, table)
    stretches: list[_Stretch] = []
    rows: list[tuple[int, Ids]] = []
    is_free = of_unit < 0
    cut = 0
    for one in sorted(long | begun):
        inside = members[starts[one] : starts[one + 1]]
        inside = inside[line.weights[inside] > 0]
        if len(inside) < 2:
            continue
        row = inside[np.lexsort((key[inside], line.place[inside], line.series[inside]))]
        found = _stretches(row, line, sides, of_unit, key, is_cut=one in long)
        cut += int(len(found) > 0)
        if is_free[row].any():
            rows.append((int(key[row].min()), row))
        stretches += found
    # Always the same order, whatever the images came in.
    _cut(sorted(stretches, key=lambda stretch: stretch.chance), line, table, sides, of_unit)
    rows.sort(key=lambda row: row[0])
    ordered = [units for _, units in rows if (of_unit[units] >= 0).all()]
    return Layout(cut, ordered, np.lexsort((key, line.place, line.series)), line.series)


@dataclass(frozen=True)
class _Stretch:
    """Units of a run between others that have a side, to be cut.

    Attributes:
        units: in their order.
        pieces: of them, each cut by itself.
        before: the side of what stands before it; ``NONE``: nothing does.
        chance: a number of its own.
    """

    units: Ids
    pieces: list[Ids]
    before: int
    chance: int


@dataclass(frozen=True)
class _Line:
    """Of each unit what is needed to lay out the run that it is in.

    Attributes:
        weights: images.
        main: the class of most of them.
        series, place: in the order that links most of its run; the middle of its images.
    """

    weights: Ids
    main: Ids
    series: Floats
    place: Floats

    @classmethod
    def of(cls, unit: Ids, run: Ids, orders: Sequence[Order], table: pl.DataFrame) -> _Line:
        weights, main = np.zeros(len(run), np.int64), np.full(len(run), NONE, np.int64)
        sums = table.group_by("unit").agg(pl.col("number").sum())
        weights[sums["unit"].to_numpy()] = sums["number"].to_numpy()
        first = table.sort("number", "of", descending=[True, False]).unique("unit", keep="first")
        main[first["unit"].to_numpy()] = first["of"].to_numpy()
        return cls(weights, main, *_positions(unit, run, orders))


def _stretches(
    ordered: Ids, line: _Line, sides: Sides, of_unit: Ids, key: NDArray[np.uint64], *, is_cut: bool
) -> list[_Stretch]:
    """What of a run is to be cut; what is too little for that gets the side of what stands beside it."""
    has = of_unit[ordered] >= 0
    found = []
    for stretch in np.split(np.arange(len(ordered)), np.flatnonzero(np.diff(has)) + 1):
        if has[stretch[0]]:
            continue
        before = of_unit[ordered[stretch[0] - 1]] if stretch[0] else NONE
        after = of_unit[ordered[stretch[-1] + 1]] if stretch[-1] + 1 < len(ordered) else NONE
        free = ordered[stretch]
        if is_cut and line.weights[free].sum() * min(sides.shares) >= _LEAST_BLOCK:
            found.append(_Stretch(free, _by_class(free, line, sides), int(before), int(key[free].min())))
        elif (side := before if before >= 0 else after) >= 0:
            of_unit[free] = side
    return found


def _cut(stretches: list[_Stretch], line: _Line, table: pl.DataFrame, sides: Sides, of_unit: Ids) -> None:
    """Cut stretches into blocks: one after the other as it fits best to the others, and over again."""
    if not stretches:
        return
    classes = int(str(table["of"].max())) + 1
    share = np.asarray(sides.shares)[:, None]
    counted = [_counts(stretch, table, classes) for stretch in stretches]
    laid = [_blocks(stretch, line, sides, stretch.chance, 0.0) for stretch in stretches]
    counts_of = [_on_sides(side, counts, len(sides.names)) for side, counts in zip(laid, counted, strict=True)]
    now = np.sum(counts_of, axis=0)
    wanted = share * now.sum(axis=0)
    for _ in range(_ROUNDS):
        moved = False
        for at, stretch in enumerate(stretches):
            rest = now - counts_of[at] - wanted
            best = float((((rest + counts_of[at]) / share) ** 2).sum())
            for chance, shift in _WAYS:
                side = _blocks(stretch, line, sides, stretch.chance + chance, shift)
                counts = _on_sides(side, counted[at], len(sides.names))
                off = float((((rest + counts) / share) ** 2).sum())
                if off < best - 1e-9:
                    best, laid[at], moved = off, side, True
                    now, counts_of[at] = now - counts_of[at] + counts, counts
        if not moved:
            break
    for stretch, side in zip(stretches, laid, strict=True):
        of_unit[stretch.units] = side


def _counts(stretch: _Stretch, table: pl.DataFrame, classes: int) -> Ids:
    """(units, classes) images of each unit of a stretch."""
    places = pl.DataFrame({"unit": stretch.units, "at": np.arange(len(stretch.units))})
    inside = table.join(places, on="unit")
    counts = np.zeros((len(stretch.units), classes), np.int64)
    np.add.at(counts, (inside["at"].to_numpy(), inside["of"].to_numpy()), inside["number"].to_numpy())
    return counts


def _on_sides(side: Ids, counts: Ids, sides: int) -> Ids:
    """(sides, classes) images of units on each side."""
    found = np.zeros((sides, counts.shape[1]), np.int64)
    np.add.at(found, side, counts)
    return found


def _blocks(stretch: _Stretch, line: _Line, sides: Sides, chance: int, shift: float) -> Ids:
    """(units,) sides of a stretch cut into blocks, each class of it by itself where it is long enough.

    Args:
        chance: which row of sides it is.
        shift: how far the cuts are moved, as a share of the stretch.
    """
    row, found = _row_of_sides(sides, stretch.before, chance), []
    for piece in stretch.pieces:
        ends = np.cumsum([sides.shares[side] for side in row])[:-1] + shift
        total = np.cumsum(line.weights[piece])
        cuts = np.maximum.accumulate([_thinnest(piece, total, line, end) for end in ends])
        numbers = np.diff([0, *cuts, len(piece)])
        found.append(np.repeat(np.asarray(row, np.int64), numbers))
        row = row[::-1]  # the next one begins with the side that this one ended with: nothing is lost between them
    return np.concatenate(found)


def _row_of_sides(sides: Sides, before: int, chance: int) -> list[int]:
    """The largest side in the middle, so that it is what is left out of; or the one that stands before first."""
    by_share = sorted(range(len(sides.names)), key=lambda side: (-sides.shares[side], side))
    ends = by_share[1:]
    turned = ends[chance % len(ends) :] + ends[: chance % len(ends)] if ends else []
    row = [*turned[: len(turned) // 2], by_share[0], *turned[len(turned) // 2 :]]
    if before >= 0:
        row.remove(before)
        row.insert(0, before)
    elif chance & 1:
        row.reverse()
    return row


def _by_class(free: Ids, line: _Line, sides: Sides) -> list[Ids]:
    """Stretches of one class each, as far as they are long enough to be cut; others stay with the one before."""
    least = _LEAST_BLOCK / min(sides.shares)
    total = np.concatenate([[0], np.cumsum(line.weights[free])]).tolist()
    starts = [0]
    edges = [0, *(np.flatnonzero(np.diff(line.main[free])) + 1).tolist(), len(free)]
    for start, end in pairwise(edges):
        if start and min(total[end] - total[start], total[start] - total[starts[-1]]) >= least:
            starts.append(start)
    return np.split(free, starts[1:])


def _thinnest(piece: Ids, total: Ids, line: _Line, end: float) -> int:
    """Where to cut: the widest gap near to a share of the images."""
    whole = total[-1]
    low, high = (int(np.searchsorted(total, whole * (end + moved))) for moved in (-_SEARCHED, _SEARCHED))
    middle = int(np.searchsorted(total, whole * end)) + 1
    at = np.arange(max(1, low), min(len(piece) - 1, high) + 1)
    if not len(at):
        return min(middle, len(piece))
    series, place_of = line.series[piece], line.place[piece]
    gap = np.where(series[at] != series[at - 1], np.inf, place_of[at] - place_of[at - 1])
    return int(at[np.lexsort((at, np.abs(at - middle), -gap))[0]])


def _positions(unit: Ids, run: Ids, orders: Sequence[Order]) -> tuple[Floats, Floats]:
    """(units,) series and (units,) place of each, in the order that links most of its run."""
    all_series, all_places = np.zeros(len(run)), np.zeros(len(run))
    linked = np.full(int(run.max()) + 1, -1, np.int64)
    for order in orders:
        first, second = order.links()
        here = np.bincount(run[unit[first]], minlength=len(linked))
        better = here > linked
        linked = np.maximum(linked, here)
        at, series = order.position, order.series.astype(np.float64)
        if not order.is_line:
            at = _along(order.position, run[unit[order.images]])
        # Of a unit's images those count that have most others near: a copy under a number far off has none there. Which
        # image of a cell of places links it to others depends on what comes first, so there all of them do.
        degree = np.zeros(len(order.images), np.int64)
        if order.is_line:
            degree = np.bincount(np.concatenate([first, second]), minlength=len(unit))[order.images]
        frame = pl.DataFrame({"unit": unit[order.images], "series": series, "at": at, "degree": degree})
        frame = frame.filter(pl.col("degree") == pl.col("degree").max().over("unit")).sort("unit", "series", "at")
        middle = frame.group_by("unit", maintain_order=True).agg(pl.all().get(pl.len() // 2))
        middle = middle.filter(pl.Series(better[run[middle["unit"].to_numpy()]]))
        rows = middle["unit"].to_numpy()
        all_series[rows], all_places[rows] = middle["series"].to_numpy(), middle["at"].to_numpy()
    return all_series, all_places


def _along(points: Floats, group: Ids) -> Floats:
    """(n,) place of points along the main axis of their group's."""
    found = np.zeros(len(points))
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        inside = points[rows] - points[rows].mean(axis=0)
        _, vectors = np.linalg.eigh(inside.T @ inside)
        axis = vectors[:, -1]
        axis = axis * np.sign(axis[np.argmax(np.abs(axis))])  # one of two directions, always the same
        found[rows] = inside @ axis
    return found
