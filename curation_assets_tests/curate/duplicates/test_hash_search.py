"""Hashes of windows bring a photograph and its parts together, turned or mirrored, without comparing all."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
import pytest

from curation_assets.curate.duplicates.candidates import BY_HASH, Nodes, by_hash
from curation_assets.curate.duplicates.hash_search import WindowHashes
from curation_assets.curate.duplicates.squares import ORIENTATIONS, turned
from curation_assets.curate.duplicates.windows import ASKED, STORED, frequencies, hashes, in_orientations
from curation_assets_tests.curate.duplicates.drawn import EDITS, photograph, squares

NUMBERS = np.arange(40, dtype=np.int32)


@cache
def photographs() -> np.ndarray:
    return squares(*[photograph(number) for number in range(40)])


def test_turning_a_picture_turns_its_frequencies() -> None:
    middle = ((0.0, 0.0, 1.0, 1.0), (0.05, 0.05, 0.9, 0.9))
    found = frequencies(photographs()[:3], middle)
    for orientation in range(ORIENTATIONS):
        really = frequencies(np.ascontiguousarray(turned(photographs()[:3], orientation)), middle)
        assert in_orientations(found)[orientation] == pytest.approx(really, abs=0.02)


@pytest.mark.parametrize("edit", EDITS)
def test_the_original_is_among_the_nearest(edit: str) -> None:
    edited = squares(*[EDITS[edit](photograph(number)) for number in range(10)])
    stored = WindowHashes(hashes(frequencies(photographs(), STORED)), NUMBERS)
    of_edited = WindowHashes(hashes(frequencies(edited, STORED)), NUMBERS[:10] + 100)
    asked = pl.concat(stored.matches(frequencies(edited, ASKED).astype(np.float16), NUMBERS[:10] + 100, 16))
    other = pl.concat(of_edited.matches(frequencies(photographs(), ASKED).astype(np.float16), NUMBERS, 16))
    pairs = {(a - 100, b) for a, b, _ in asked.iter_rows()} | {(b - 100, a) for a, b, _ in other.iter_rows()}
    assert {(number, number) for number in range(10)} <= pairs


def test_answers_are_the_nearest_first_and_never_the_picture_itself() -> None:
    many = np.concatenate([photographs()[:5]] * 30)
    numbers = np.arange(len(many), dtype=np.int32)
    table = WindowHashes(hashes(frequencies(many, STORED)), numbers)
    found = pl.concat(table.matches(frequencies(many, ASKED).astype(np.float16), numbers, 4))
    assert found.filter(pl.col("asked") == pl.col("found")).is_empty()
    assert found.group_by("asked").len()["len"].unique().to_list() == [4]
    assert (found["bits"] == 0).all()
    assert found.filter(pl.col("asked") == 7)["found"].to_list() == [2, 12, 17, 22]


class _Pictures:
    """As the store of pictures gives them."""

    def __init__(self, pictures: np.ndarray) -> None:
        self._pictures = pictures

    def hashes(self, numbers: np.ndarray) -> np.ndarray:
        return hashes(frequencies(self._pictures[numbers], STORED))

    def asked(self, numbers: np.ndarray) -> np.ndarray:
        return frequencies(self._pictures[numbers], ASKED).astype(np.float16)


def test_what_is_new_is_compared_with_a_few_however_many_are_like_it() -> None:
    grain = np.random.default_rng(0).normal(0, 3, (200, *photographs()[0].shape))
    alike = _Pictures((photographs()[0] + grain).clip(0, 255).astype(np.uint8))
    new = np.arange(200) >= 197
    nodes = Nodes(pl.DataFrame({"place": range(200)}), np.arange(200))
    pairs = by_hash(alike, nodes, new)
    of_new = pl.concat([pairs["first"], pairs["second"]]).value_counts().filter(pl.col("first") >= 197)
    assert of_new["count"].min() >= BY_HASH
    assert of_new["count"].max() <= 2 * BY_HASH + 2  # that it names, that name it, and the other new ones
