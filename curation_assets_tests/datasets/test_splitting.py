"""Splits over drawn groupings and orders: nothing that belongs together is cut, nothing near lies on two sides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation_assets.datasets.splits import balancing
from curation_assets.datasets.splits.apart import Order, across, numbering, places, times, too_near
from curation_assets.datasets.splits.shares import place
from curation_assets.datasets.splits.sides import NONE, Sides
from curation_assets.datasets.splits.splitting import Split, split
from curation_assets.datasets.splits.together import Links, components, of_equal, of_pairs

THREE = Sides(("train", "val", "test"), (0.7, 0.15, 0.15), (2, 1, 0))
PATIENT = settings(deadline=None, max_examples=6, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module", autouse=True)
def hasty() -> Iterator[None]:
    """What holds of a split holds however long better ones are looked for."""
    with mock.patch.object(balancing, "_MOST", 30_000):
        yield


def sha(number: Any) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def free(number: int) -> np.ndarray[Any, Any]:
    return np.full(number, NONE, np.int64)


@dataclass
class Drawn:
    """Images in numbered series, each mostly of one class, some of them linked, along the way of two cameras."""

    contents: pl.Series
    classes: np.ndarray[Any, Any]
    folders: pl.Series
    names: pl.Series
    pairs: np.ndarray[Any, Any]
    cameras: pl.Series
    taken: pl.Series
    metres: np.ndarray[Any, Any]
    distance: float | None
    seconds: float | None
    reach: float | None

    @classmethod
    def of(cls, seed: int) -> Drawn:
        rng = np.random.default_rng(seed)
        number, classes = int(rng.integers(20, 300)), int(rng.integers(1, 5))
        series = np.sort(rng.integers(0, max(1, number // 50) + 1, number))
        numbers = np.arange(number) + np.cumsum(rng.random(number) < 0.05) * rng.integers(0, 6)
        links = int(rng.integers(0, number // 4))
        first = rng.integers(0, number, links)
        second = np.clip(first + rng.integers(-3, 4, links), 0, number - 1)
        return cls(
            pl.Series([sha((seed, at)) for at in range(number)]),
            (series + (rng.random(number) < 0.1) * rng.integers(0, classes, number)) % classes,
            pl.Series([f"f{one}" for one in series]),
            pl.Series([f"IMG_{one:05}.jpg" for one in numbers]),
            np.stack([first, second], axis=1),
            pl.Series(rng.choice(["A", "B"], number)),
            _at(np.cumsum(rng.exponential(20, number) + (rng.random(number) < 0.05) * 600)),
            np.cumsum(rng.normal(0, 10, (number, 2)), axis=0) + 500 * series[:, None],
            float(rng.integers(1, 4)) if rng.random() < 0.7 else None,
            float(rng.integers(10, 40)) if rng.random() < 0.4 else None,
            float(rng.integers(5, 20)) if rng.random() < 0.4 else None,
        )

    def only(self, which: np.ndarray[Any, Any]) -> Drawn:
        """Some of the images, in the order that they are given in."""
        place_of = np.full(len(self.contents), NONE)
        place_of[which] = np.arange(len(which))
        pairs = place_of[self.pairs]
        return Drawn(
            self.contents[which],
            self.classes[which],
            self.folders[which],
            self.names[which],
            pairs[(pairs >= 0).all(axis=1)],
            self.cameras[which],
            self.taken[which],
            self.metres[which],
            self.distance,
            self.seconds,
            self.reach,
        )

    @property
    def links(self) -> list[Links]:
        return [Links("near", self.pairs[:, 0], self.pairs[:, 1], np.ones(len(self.pairs)))]

    @property
    def orders(self) -> list[Order]:
        found = [] if self.distance is None else [numbering(self.folders, self.names, self.distance)]
        if self.seconds is not None:
            found.append(times(self.cameras, self.taken, self.seconds))
        if self.reach is not None:
            north, east = (pl.Series(self.metres[:, axis] / 111_195) for axis in (0, 1))  # near the equator
            found.append(places(north, east, self.reach))
        return found

    def split(self, pinned: np.ndarray[Any, Any] | None = None) -> Split:
        held = free(len(self.contents)) if pinned is None else pinned
        return split(self.contents, self.classes, THREE, self.links, self.orders, held, 7)

    def check(self, found: Split) -> None:
        """By brute force."""
        unit = components(len(self.contents), [(kind.first, kind.second) for kind in self.links])
        for one in np.unique(unit):
            assert len({*found.side[(unit == one) & (found.side >= 0)].tolist()}) <= 1
        for order in self.orders:
            assert not near_pairs(order, found.side)
        left = set(np.flatnonzero(found.side < 0).tolist())
        assert left == {*found.buffered, *found.moved}
        for _, other in found.buffered.values():
            assert found.side[other] >= 0


def _at(seconds: np.ndarray[Any, Any]) -> pl.Series:
    return pl.Series((seconds * 1e6).astype(np.int64)).cast(pl.Datetime("us", "UTC"))


def near_pairs(order: Order, side: np.ndarray[Any, Any]) -> set[tuple[int, int]]:
    """Every two images of two sides within the distance."""
    place_of = order.position.reshape(len(order.images), -1)
    gap = np.linalg.norm(place_of[:, None] - place_of[None], axis=2)
    sides = side[order.images]
    near = (gap <= order.distance) & (order.series[:, None] == order.series[None])
    near &= (sides[:, None] != sides[None]) & (sides[:, None] >= 0) & (sides[None] >= 0)
    rows, columns = np.nonzero(np.triu(near, 1))
    return set(zip(order.images[rows].tolist(), order.images[columns].tolist(), strict=True))


@given(st.integers(0, 2**32))
@PATIENT
def test_nothing_that_is_joined_is_cut_and_nothing_near_lies_on_two_sides(seed: int) -> None:
    drawn = Drawn.of(seed)
    found = drawn.split()
    if found.too_large is None:
        drawn.check(found)


@given(st.integers(0, 2**32))
@PATIENT
def test_the_order_in_which_images_come_changes_nothing(seed: int) -> None:
    drawn = Drawn.of(seed)
    order = np.random.default_rng(seed).permutation(len(drawn.contents))
    one, other = drawn.split(), drawn.only(order).split()
    np.testing.assert_array_equal(one.side[order], other.side)


@given(st.integers(0, 2**32))
@PATIENT
def test_what_has_a_side_keeps_it_when_others_come(seed: int) -> None:
    drawn, rng = Drawn.of(seed), np.random.default_rng(seed)
    number = len(drawn.contents)
    old = np.arange(number * 6 // 10) if seed % 2 else np.sort(rng.permutation(number)[: number * 6 // 10])
    before = drawn.only(old).split()
    if before.too_large is not None:
        return
    pinned = free(number)
    pinned[old] = before.side
    found = drawn.split(pinned)
    if found.too_large is not None:
        return
    drawn.check(found)
    for image in np.flatnonzero(pinned >= 0):
        assert found.side[image] in (pinned[image], NONE)
    # Only where a link, or a third name of a series, came between two that had a side: the cleaner one stays.
    rank = {side: at for at, side in enumerate(THREE.cleanest)}
    late = {image: other for image, (_, other) in found.buffered.items() if pinned[image] >= 0}
    for image, other in late.items():
        assert rank[int(pinned[other])] < rank[int(pinned[image])]
    for image, (side, _) in found.moved.items():
        assert rank[side] < rank[int(pinned[image])]


@given(st.integers(0, 2**32))
@PATIENT
def test_the_same_again_is_the_same(seed: int) -> None:
    drawn = Drawn.of(seed)
    before = drawn.split()
    if before.too_large is None:
        np.testing.assert_array_equal(drawn.split(before.side).side, before.side)


@given(st.integers(0, 2**32))
@PATIENT
def test_where_places_are_near_is_found_by_brute_force_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    number = int(rng.integers(2, 40))
    order = places(pl.Series(45 + rng.random(number) * 3e-4), pl.Series(7 + rng.random(number) * 3e-4), 8.0)
    side = rng.integers(-1, 3, number)
    near = near_pairs(order, side)
    found = across(order, side)
    assert {*found.images[found.distances <= 8].tolist()} == {image for pair in near for image in pair}
    joined = components(number, [order.links()])
    assert all(joined[one] == joined[other] for one, other in near)
    left = too_near(order, side, np.ones(number))
    side[left] = NONE
    assert not near_pairs(order, side)


def test_a_long_series_is_cut_where_a_gap_costs_nothing() -> None:
    numbers = [*range(100), *range(110, 131), *range(140, 161)]  # gaps where the shares are nearly reached
    names = pl.Series([f"DSC_{one:04}.jpg" for one in numbers])
    order = numbering(pl.Series(["plot"] * 142), names, 3)
    found = split(pl.Series(map(sha, numbers)), np.zeros(142, np.int64), THREE, [], [order], free(142), 1)
    assert (found.cut, found.buffered) == (0, {})
    np.testing.assert_array_equal(np.bincount(found.side), [100, 21, 21])


def test_without_a_gap_each_cut_costs_the_distance() -> None:
    names = pl.Series([f"DSC_{one:04}.jpg" for one in range(400)])
    order = numbering(pl.Series(["plot"] * 400), names, 3)
    found = split(pl.Series(map(sha, range(400))), np.zeros(400, np.int64), THREE, [], [order], free(400), 1)
    assert (found.cut, len(found.buffered)) == (1, 6)
    assert {relation for relation, _ in found.buffered.values()} == {"numbering"}


def test_names_are_numbered_by_their_last_number() -> None:
    names = ["DSC_0476.JPG", "DSC_0477.jpg", "IMG (12).jpg", "IMG (13).jpg", "IMG (15).jpg", "DSC_0480.jpg", "a.jpg"]
    order = numbering(pl.Series(["f"] * 7), pl.Series(names), 2)
    assert sorted(order.names) == ["f/DSC_#", "f/IMG (#)"]
    found = {names[image]: position for image, position in zip(order.images, order.position, strict=True)}
    assert found["IMG (15).jpg"] == 15
    assert "a.jpg" not in found
    unit = components(7, [order.links()])
    assert unit[0] == unit[1] != unit[5]
    assert unit[2] == unit[3] == unit[4]


def test_only_one_cameras_times_are_an_order() -> None:
    taken = pl.Series([0, 30_000_000, 61_000_000, 200_000_000]).cast(pl.Datetime("us", "UTC"))
    order = times(pl.Series(["A", "A", "B", None]), taken, 60)
    assert sorted(order.images) == [0, 1, 2]
    assert components(4, [order.links()]).tolist() == [0, 0, 1, 2]


def test_a_group_that_no_side_can_take_is_told_with_what_holds_it_least() -> None:
    contents = pl.Series(map(sha, range(10)))
    chain = np.arange(9)
    links = [Links("near", chain, chain + 1, np.array([0.99] * 4 + [0.91] + [0.99] * 4))]
    found = split(contents, np.zeros(10, np.int64), THREE, links, [], free(10), 0)
    assert found.too_large is not None
    assert len(found.too_large.images) == 10
    assert found.too_large.weakest[0] == ("near", 4, 5, 0.91)


@pytest.mark.parametrize(
    ("groups", "worst"),
    [([1] * 200, 0.01), ([7] * 40, 5.0), ([50, 30, 10, 10], 34.0), ([*range(1, 30)], 0.6)],
)
def test_shares_are_as_good_as_the_groups_allow(groups: Sequence[int], worst: float) -> None:
    kinds, numbers = np.unique(np.array(groups)[:, None], axis=0, return_counts=True)
    found = place(kinds, numbers, THREE.shares, np.zeros((3, 1), np.int64))
    assert found.placed.sum(axis=1).tolist() == numbers.tolist()
    assert found.bound <= found.worst <= worst


def test_more_kinds_than_a_program_takes_are_placed_well_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation_assets.datasets.splits.shares._MOST_KINDS", 5)
    rng = np.random.default_rng(0)
    kinds = np.unique(rng.integers(0, 4, (300, 6)), axis=0)
    kinds = kinds[kinds.sum(axis=1) > 0]
    numbers = rng.integers(1, 30, len(kinds))
    found = place(kinds, numbers, THREE.shares, np.zeros((3, 6), np.int64))
    assert found.placed.sum(axis=1).tolist() == numbers.tolist()
    assert found.worst < 0.5


def test_no_placement_is_better_than_the_bound() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        groups = rng.integers(0, 6, (7, 2)) + np.array([1, 0])
        kinds, inverse = np.unique(groups, axis=0, return_inverse=True)
        numbers = np.bincount(inverse.reshape(-1))
        found = place(kinds, numbers, (0.5, 0.5), np.zeros((2, 2), np.int64))
        every = np.array(np.meshgrid(*[[0, 1]] * 7)).reshape(7, -1).T
        total = np.concatenate([groups, groups.sum(axis=1, keepdims=True)], axis=1)
        off = np.abs(every @ total - total.sum(axis=0) / 2).max(axis=1) * 100 / (total[:, -1].sum() / 2)
        assert found.bound <= off.min() + 1e-6
        assert found.worst <= off.min() + 1e-6  # so small a program is solved


def test_pairs_of_contents_join_all_their_images() -> None:
    contents = pl.Series(["a", "b", "a", "c"])
    pairs = pl.DataFrame({"first": ["a"], "second": ["b"], "similarity": [0.9]})
    found = [of_equal("exact", contents), of_pairs("near", contents, pairs)]
    assert components(4, [(kind.first, kind.second) for kind in found]).tolist() == [0, 0, 0, 1]
