"""Drift: what a classifier can tell of two versions, and that it is a function of their images."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from curation_assets.datasets.drift import LEAST, Drift, drift

DIMENSION = 16


class Lake:
    """Drawn vectors about two directions: of most images, and of foreign ones."""

    def __init__(self, number: int, foreign: int = 0, seed: int = 0) -> None:
        drawn = np.random.default_rng(seed).standard_normal((number + foreign, DIMENSION)) * 0.2
        drawn[:number, 0] += 1
        drawn[number:, 1] += 1
        self.vectors = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
        self.contents = pl.Series([hashlib.sha256(b"%d" % at).hexdigest() for at in range(number + foreign)])

    def take(self, contents: pl.Series) -> NDArray[np.float32]:
        at = dict(zip(self.contents, range(len(self.contents)), strict=True))
        return self.vectors[[at[content] for content in contents]]

    def drift(self, before: pl.Series, now: pl.Series, known: pl.Series | None = None) -> Drift:
        return drift(4, before, now, self.contents if known is None else known, self.take)


def test_a_fifth_of_foreign_images_is_a_tenth_above_chance() -> None:
    lake = Lake(400, 100)
    found = lake.drift(lake.contents[:400], lake.contents)
    assert found.area == pytest.approx(0.6, abs=0.01)
    assert (found.version, found.came) == (4, 100)
    assert found.area_of_came == pytest.approx(1.0, abs=0.01)
    assert set(found.unlike) <= set(lake.contents[400:])
    assert found.is_above(0.55)
    assert not found.is_above(0.6)
    assert "against version 4; of 100 that came alone" in found.told


def test_images_of_the_same_kind_are_no_drift() -> None:
    for seed in range(5):
        lake = Lake(500, seed=seed)
        found = lake.drift(lake.contents[:300], lake.contents[200:])
        assert not found.is_above(0.5)
        assert found.area == pytest.approx(0.5, abs=0.06)


def test_what_went_is_drift_as_well() -> None:
    lake = Lake(300, 300)
    found = lake.drift(lake.contents, lake.contents[:300])
    assert found.is_above(0.6)
    assert (found.came, found.area_of_came, found.unlike) == (0, None, [])


def test_the_same_images_are_no_drift_and_few_are_not_measured() -> None:
    lake = Lake(LEAST + 1)
    assert lake.drift(lake.contents, lake.contents.reverse()).area == 0.5
    few = lake.drift(lake.contents[: LEAST - 1], lake.contents)
    assert few.area is None
    assert not few.is_above(0.5)
    assert few.told.startswith("not measured: fewer than 50")


def test_the_order_of_images_is_nothing_and_those_without_a_vector_are_told() -> None:
    lake = Lake(300, 60)
    one = lake.drift(lake.contents[:300], lake.contents[40:], lake.contents[20:])
    other = lake.drift(lake.contents[:300].reverse(), lake.contents[40:].shuffle(3), lake.contents[20:].shuffle(1))
    assert one == other
    assert one.lacking == 20
    assert one.told.endswith("20 of its images have no vector any more")
