"""Bounds hold as often as they say, edges name what they say, and nothing is stated too early."""

from __future__ import annotations

import random

import numpy as np
import polars as pl
import pytest

from curation_assets.curate.problems import KINDS, shortly
from curation_assets.review.calibration import Band, agreement, draw, part_of, suggestions, upper_bound
from curation_assets.review.problem_queue import ProblemQueue


def test_the_bounds_are_those_of_the_book() -> None:
    assert upper_bound(1, 140) == pytest.approx(0.0335, abs=1e-4)
    assert upper_bound(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert upper_bound(0, 59) < 0.05 < upper_bound(0, 58)
    assert upper_bound(5, 5) == 1.0


@pytest.mark.parametrize("shares", [(0.01, 0.05, 0.2, 0.9), (0.0, 0.02, 0.02, 0.5), (0.03, 0.03, 0.03, 0.03)])
def test_all_bounds_hold_at_once_in_nineteen_of_twenty_lakes(shares: tuple[float, ...]) -> None:
    rng = np.random.default_rng(7)
    images, drawn, held, rounds = 500, 59, 0, 2000
    each = part_of(0.95, len(shares))
    for _ in range(rounds):
        wrong = [rng.hypergeometric(round(images * share), images - round(images * share), drawn) for share in shares]
        bands = [Band(0, 1, True, images, drawn, right=drawn - int(few), wrong=int(few)) for few in wrong]
        of_bands = all(band.most_wrong(each) >= share for band, share in zip(bands, shares, strict=True))  # type: ignore[operator]
        named = suggestions(bands)
        true = [round(images * share) for share in shares]
        of_edges = all(one.most_wrong * one.images >= sum(true[: at + 1]) - 1e-9 for at, one in enumerate(named))
        held += of_bands and of_edges
    assert held / rounds >= 0.95


def test_edges_name_the_bands_before_them() -> None:
    rng = random.Random(3)
    at = np.array(
        sorted(round(rng.uniform(0.1, 1), 2) for _ in range(1000))
    )  # low scores are the worst; many are equal
    flagged = int(np.searchsorted(at, 0.4))
    bands = draw(at, flagged, 59, "seed")
    assert sum(band.images for band in bands if band.flagged) == flagged
    assert [band.flagged for band in bands] == [True, True, True, False]
    begin = 0
    for band in bands:
        end = begin + band.images
        assert np.searchsorted(at, band.last) == end
        assert len(set(band.places)) == len(band.places) == min(59, band.images)
        assert all(begin <= place < end for place in band.places)
        begin = end
    assert draw(at, flagged, 59, "seed") == bands
    assert draw(at, flagged, 59, "other") != bands
    high = -at  # high scores are the worst
    assert [band.images for band in draw(high, flagged, 59, "seed")] == [band.images for band in bands]


@pytest.mark.parametrize("kind", ["blurry", "outlier", "conflicting"])  # low, high, counted ones are the worst
@pytest.mark.parametrize("flagged", [2, 250, 300])
def test_edges_name_as_many_as_they_say_also_at_the_line_and_the_end(kind: str, flagged: int) -> None:
    rng = random.Random(4)
    is_counted, is_low = KINDS[kind].is_counted, KINDS[kind].is_low
    values = [float(rng.randrange(1, 40)) if is_counted else 0.3 + rng.random() / 1e9 for _ in range(300)]
    at = sorted(values, reverse=not is_low)
    queue = ProblemQueue(KINDS[kind], pl.DataFrame({"at": at}), len(at))
    line = at[flagged - 1] if is_counted else float(np.nextafter(at[flagged - 1], float(is_low)))
    bands = draw(np.array(at), queue.count(line), 59, "seed", line=line, is_low=is_low)
    ends = np.cumsum([band.images for band in bands]).tolist()
    assert [queue.count(band.last) for band in bands] == ends
    assert [queue.count(float(shortly(band.last))) for band in bands] == ends
    assert [band.last for band in bands if band.flagged][-1] == line


@pytest.mark.parametrize(
    ("values", "flagged"), [([], 0), ([1.0], 1), ([2.0] * 500, 500), ([3.0, 1.0], 1), ([1.0] * 3, 0)]
)
def test_few_images_or_one_value_are_fewer_bands(values: list[float], flagged: int) -> None:
    bands = draw(np.array(values), flagged, 59, "seed")
    assert sum(band.images for band in bands) == len(values)
    assert all(band.images for band in bands)


def test_nothing_is_stated_before_all_that_was_drawn_is_looked_at() -> None:
    begun = Band(0.2, 0.4, True, 1000, 59, right=58)
    assert begun.most_wrong() is None
    assert suggestions([begun]) == []
    done = Band(0.1, 0.2, True, 1000, 59, right=58, unsure=1)
    assert done.most_wrong() == upper_bound(1, 59)
    assert done.most_right() == 1.0
    (one,) = suggestions([done, begun])
    assert (one.threshold, one.images, one.looked_at, one.wrong) == (0.2, 1000, 59, 1)
    assert one.most_wrong == upper_bound(1, 59, part_of(0.95, 2))
    whole = Band(0.1, 0.2, True, 40, 40, right=30, wrong=10)
    assert whole.most_wrong() == 0.25
    left = Band(0.1, 0.2, True, 1000, 59, right=57, wrong=1, gone=1)
    assert (left.most_wrong(), left.most_right()) == (upper_bound(2, 59), upper_bound(58, 59))
    (one,) = suggestions([left])
    assert (one.looked_at, one.wrong, one.gone, one.most_wrong) == (58, 1, 1, upper_bound(2, 59))


def test_people_agree_or_not() -> None:
    assert agreement([["keep"], []]) is None
    assert agreement([["keep", "keep"], ["keep", "remove"], ["keep"]]) == (2, 0.5)
    three = agreement([["keep", "keep", "remove"]])
    assert three is not None
    assert three[1] == pytest.approx(1 / 3)
