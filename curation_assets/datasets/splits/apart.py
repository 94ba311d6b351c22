"""What has to lie apart: images that stand near to each other in an order, by number, time or place.

An order may be cut anywhere. What lies nearer to a cut than the distance is left out, so that no two images within it
lie on two sides; a gap wider than the distance costs nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
NUMBERING, TIME, PLACE = "numbering", "time_s", "place_m"
RELATIONS = (NUMBERING, TIME, PLACE)
MEASURED_IN = {NUMBERING: "", TIME: " s", PLACE: " m"}
_EARTH = 6_371_008.8  # metres; mean radius, IUGG
_NUMBERED = re.compile(r"^(.*?)(\d{1,15})(\D*)$", re.DOTALL)  # the last number of a stem
_LEAST_SERIES = 3  # names that make a numbering
_CELLS = 4  # of a distance, along a side: what is in one is within it


@dataclass(frozen=True)
class Order:
    """An order of images in which they may lie near to each other.

    Attributes:
        relation: one of ``RELATIONS``.
        distance: up to which two are near, in numbers, seconds or metres.
        images: (n,) their numbers.
        series: (n,) which of them are in one order; they are sorted by it, and by position.
        position: (n,) in its series; of places (n, 3), in metres.
        names: of the series.
    """

    relation: str
    distance: float
    images: Ids
    series: Ids
    position: Floats
    names: list[str]

    @property
    def is_line(self) -> bool:
        """Whether positions are numbers."""
        return self.relation != PLACE

    def only(self, images: Ids) -> Order:
        """The same of some images."""
        mine = np.isin(self.images, images)
        return replace(self, images=self.images[mine], series=self.series[mine], position=self.position[mine])

    def links(self) -> tuple[Ids, Ids]:
        """Links that join what can be reached by steps within the distance; places up to 1.5 times of it."""
        if self.is_line:
            near = (np.diff(self.position) <= self.distance) & (np.diff(self.series) == 0)
            at = np.flatnonzero(near)
            return self.images[at], self.images[at + 1]
        return self._links_of_places()

    def _links_of_places(self) -> tuple[Ids, Ids]:
        cells, of = np.unique(
            np.floor(self.position / (self.distance / _CELLS)).astype(np.int64), axis=0, return_inverse=True
        )
        of = of.reshape(-1)
        first_in = np.full(len(cells), -1, np.int64)
        first_in[of[::-1]] = self.images[::-1]
        reach = _CELLS + math.sqrt(3)  # in cells: corners of two cells may be so much nearer than their middles
        pairs = _tree(cells).query_pairs(reach, output_type="ndarray") if len(cells) else np.zeros((0, 2), np.int64)
        within = self.images != first_in[of]
        first = np.concatenate([first_in[of][within], first_in[pairs[:, 0]]])
        return first, np.concatenate([self.images[within], first_in[pairs[:, 1]]])


def numbering(folders: pl.Series, names: pl.Series, distance: float) -> Order:
    """Images by the number in their names: ``DSC_0476``, ``IMG (12)``; a folder's names that differ in it are a series.

    Args:
        folders: (images,) directory of each.
        names: (images,) file names.
    """
    stems = names.str.replace(r"\.[^.]*$", "").alias("stem")
    parts = stems.str.extract_groups(_NUMBERED.pattern.replace("^(.*?)", "(?s)^(.*?)")).struct.unnest()
    frame = pl.DataFrame({"image": pl.int_range(len(names), eager=True), "folder": folders}).with_columns(
        before=parts.to_series(0), number=parts.to_series(1).cast(pl.Float64), after=parts.to_series(2)
    )
    series = pl.concat_str(pl.col("folder"), pl.lit("/"), pl.col("before"), pl.lit("#"), pl.col("after"))
    frame = frame.drop_nulls("number").with_columns(series=series)
    frame = frame.filter(pl.len().over("series") >= _LEAST_SERIES)
    return _line(NUMBERING, distance, frame, "number")


def times(cameras: pl.Series, taken: pl.Series, distance: float) -> Order:
    """Images of one camera by the time that it wrote."""
    frame = pl.DataFrame({"image": pl.int_range(len(taken), eager=True), "series": cameras}).with_columns(
        time=taken.dt.timestamp("ms").cast(pl.Float64) / 1000
    )
    return _line(TIME, distance, frame.drop_nulls(), "time")


def places(latitude: pl.Series, longitude: pl.Series, distance: float) -> Order:
    """Images by where they were taken."""
    known = (latitude.is_not_null() & longitude.is_not_null()).to_numpy()
    images = np.flatnonzero(known)
    north, east = (np.radians(values.to_numpy()[images].astype(np.float64)) for values in (latitude, longitude))
    flat = np.cos(north)
    position = _EARTH * np.stack([flat * np.cos(east), flat * np.sin(east), np.sin(north)], axis=1)
    return Order(PLACE, distance, images, np.zeros(len(images), np.int64), position, ["everywhere"])


def _line(relation: str, distance: float, frame: pl.DataFrame, position: str) -> Order:
    frame = frame.sort("series", position, "image")
    names = frame["series"].unique(maintain_order=True)
    numbers = frame["series"].rle_id().cast(pl.Int64).to_numpy()
    images = frame["image"].to_numpy().astype(np.int64)
    return Order(relation, distance, images, numbers, frame[position].to_numpy(), names.to_list())


# ------------------------------------------------------------------ what lies too near


def too_near(order: Order, side: Ids, yields: Floats) -> Ids:
    """Images to leave out, so that no two of an order within its distance lie on two sides; as few as a sweep finds.

    Args:
        side: (images,) of all; negative: left out already.
        yields: (images,) what leaving one out costs; infinite: it stays, and others have to go.

    Returns:
        Their numbers.
    """
    forced = _near_to_staying(order, side, yields)
    side = np.where(np.isinf(yields), -1, side)  # two that stay are somebody's word
    side[forced] = -1
    found = _too_near_on_a_line(order, side, yields) if order.is_line else _too_near_in_space(order, side, yields)
    return np.concatenate([forced, found])


def near_if_on(order: Order, images: Ids, one: int, side: Ids) -> Ids:
    """(images,) whom images that have no side would be too near to, were they on a side; -1: to none."""
    found = np.full(len(images), -1, np.int64)
    sides = side[order.images]
    among = np.flatnonzero((sides >= 0) & (sides != one))
    place_of = np.full(len(side), -1, np.int64)
    place_of[order.images] = np.arange(len(order.images))
    asked = np.flatnonzero(place_of[images] >= 0)
    if len(among) and len(asked):
        asked = asked[np.argsort(place_of[images[asked]])]  # as an order is
        distance, other = _nearest(order, place_of[images[asked]], among)
        found[asked] = np.where(distance <= order.distance, other, -1)
    return found


def _near_to_staying(order: Order, side: Ids, yields: Floats) -> Ids:
    """Images that may go and lie near to one of another side that stays."""
    sides, stays = side[order.images], np.isinf(yields[order.images])
    found = []
    for one in np.unique(sides[sides >= 0]):
        mine = np.flatnonzero((sides == one) & ~stays)
        its = np.flatnonzero((sides != one) & (sides >= 0) & stays)
        if len(mine) and len(its):
            near = _distances(order, mine, its) <= order.distance
            found.append(order.images[mine[near]])
    return np.concatenate([np.zeros(0, np.int64), *found])


def _tree(places: NDArray[Any]) -> Any:
    """Places, to be asked for their neighbours."""
    from scipy.spatial import cKDTree

    return cKDTree(places)


def _distances(order: Order, asked: Ids, among: Ids) -> Floats:
    """(asked,) distance of each row of an order to the nearest of some others; infinite in other series.

    Args:
        asked, among: rows in their order.
    """
    return _nearest(order, asked, among)[0]


def _nearest(order: Order, asked: Ids, among: Ids) -> tuple[Floats, Ids]:
    """The same, and (asked,) which image it is; -1: there is none."""
    if not order.is_line:
        distance, at = _tree(order.position[among]).query(order.position[asked])
        return np.asarray(distance), order.images[among[at]]
    # Rows are sorted by series and position: the nearest is the last one before, or the first one after.
    found, distance = np.full(len(asked), -1, np.int64), np.full(len(asked), np.inf)
    after = np.searchsorted(among, asked)
    for at in (after - 1, after):
        there = np.flatnonzero((at >= 0) & (at < len(among)))
        row = among[at[there]]
        gap = np.abs(order.position[row] - order.position[asked[there]])
        nearer = (order.series[row] == order.series[asked[there]]) & (gap < distance[there])
        distance[there[nearer]], found[there[nearer]] = gap[nearer], order.images[row[nearer]]
    return distance, found


def _too_near_on_a_line(order: Order, side: Ids, yields: Floats) -> Ids:
    kept = side[order.images] >= 0
    images, series, position = order.images[kept], order.series[kept], order.position[kept]
    if not len(images):
        return np.zeros(0, np.int64)
    sides, cost = side[images], yields[images]
    gone = np.zeros(len(images), bool)
    # Only where a run of one side ends is there something to do, so the loop is over cuts.
    starts = np.flatnonzero((np.diff(sides) != 0) | (np.diff(series) != 0)) + 1
    if not len(starts):
        return np.zeros(0, np.int64)
    before: list[int] = []  # kept ones before the cut, of this series, that a later one may be too near to
    last = 0
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(images)], strict=True):
        run = range(last, start)
        if series[start] != series[start - 1]:
            before, last = [], start
            continue
        before = [at for at in [*before, *run] if not gone[at] and position[start] - position[at] <= order.distance]
        later: list[int] = []
        for at in range(start, end):
            if not before or position[at] - position[before[-1]] > order.distance:
                break
            later.append(at)
        _open(before, later, position, sides, cost, order.distance, gone)
        last = start
    return images[gone]


def _open(
    before: list[int],
    later: list[int],
    position: Floats,
    sides: Ids,
    cost: Floats,
    distance: float,
    gone: NDArray[np.bool_],
) -> None:
    """Leave out what costs least of two rows of images, so that no two of different sides are near."""
    if not later:
        return
    other = [at for at in before if sides[at] != sides[later[0]]]
    if not other:
        return
    # Of the earlier the last so many go, and then of the later the first ones that are still too near to the rest.
    best: tuple[float, int, int] | None = None
    spent = 0.0
    for left in range(len(other) + 1):
        if left:
            spent += cost[other[-left]]
        rest = other[: len(other) - left]
        near = 0
        while rest and near < len(later) and position[later[near]] - position[rest[-1]] <= distance:
            near += 1
        total = spent + float(np.sum(cost[later[:near]]))
        if best is None or total < best[0]:
            best = total, left, near
    assert best is not None
    _, left, near = best
    gone[other[len(other) - left :]] = True
    gone[later[:near]] = True


def _too_near_in_space(order: Order, side: Ids, yields: Floats) -> Ids:
    gone = np.zeros(len(order.images), bool)
    sides, cost = side[order.images], yields[order.images]
    names = [one for one in np.unique(sides) if one >= 0]
    for at, one in enumerate(names):
        for other in names[at + 1 :]:
            while True:
                mine, its = (np.flatnonzero((sides == name) & ~gone) for name in (one, other))
                if not len(mine) or not len(its):
                    break
                near_mine, near_its = (
                    here[_distances(order, here, there) <= order.distance] for here, there in ((mine, its), (its, mine))
                )
                if not len(near_mine):
                    break
                # The side that loses less is cleared.
                is_mine = float(cost[near_mine].sum()) <= float(cost[near_its].sum())
                gone[near_mine if is_mine else near_its] = True
    return order.images[gone]


@dataclass(frozen=True)
class Across:
    """Of images the nearest one of another side, in an order.

    Attributes:
        images: (n,) their numbers.
        others: (n,) of each the nearest of another side; -1: there is none.
        distances: (n,) to it; infinite where there is none; of places, none within the distance.
    """

    images: Ids
    others: Ids
    distances: Floats


def across(order: Order, side: Ids) -> Across:
    """Of each image that has a side the nearest of another; by a search of its own, so that it can check a sweep."""
    kept = np.flatnonzero(side[order.images] >= 0)
    images, sides, position = order.images[kept], side[order.images[kept]], order.position[kept]
    others, distances = np.full(len(images), -1, np.int64), np.full(len(images), np.inf)
    if not len(images):
        return Across(images, others, distances)
    if not order.is_line:
        for one in np.unique(sides):
            mine = np.flatnonzero(sides == one)
            low, high = position[mine].min(axis=0), position[mine].max(axis=0)
            is_about = ((position >= low - order.distance) & (position <= high + order.distance)).all(axis=1)
            its = np.flatnonzero(is_about & (sides != one))
            if len(its):
                distances[mine], at = _tree(position[its]).query(position[mine])
                others[mine] = images[its[at]]
        return Across(images, others, distances)
    # On a line the nearest before an image is what stands before its run of one side, the nearest after what follows.
    series = order.series[kept]
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(sides) != 0) | (np.diff(series) != 0)]))
    run = np.cumsum(np.isin(np.arange(len(images)), starts)) - 1
    ends = np.concatenate([starts[1:], [len(images)]])
    for at in (starts[run] - 1, ends[run]):
        there = (at >= 0) & (at < len(images))
        there[there] = series[at[there]] == series[there]
        gap = np.full(len(images), np.inf)
        gap[there] = np.abs(position[at[there]] - position[there])
        nearer = gap < distances
        distances[nearer], others[nearer] = gap[nearer], images[at[nearer]]
    return Across(images, others, distances)
