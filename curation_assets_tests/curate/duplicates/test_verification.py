"""Pixels decide: the same photograph after whatever was done to it, and no other that looks like it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageOps

from curation_assets.curate.duplicates.judging import Thresholds, is_near
from curation_assets.curate.duplicates.squares import ORIENTATIONS, in_words, turned
from curation_assets.curate.duplicates.verification import verify
from curation_assets_tests.curate.duplicates.drawn import EDITS, cropped, fruit, photograph, sizes, squares

PHOTOGRAPHS = [photograph(number) for number in range(3)]


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("other_way", [False, True])
def test_a_photograph_is_known_again_whichever_of_the_two_is_first(edit: str, other_way: bool) -> None:
    edited = [EDITS[edit](image) for image in PHOTOGRAPHS]
    pair = (edited, PHOTOGRAPHS) if other_way else (PHOTOGRAPHS, edited)
    first, second = pair
    found = verify(squares(*first), squares(*second), sizes(*first), sizes(*second))
    assert found.agreement.min() >= 0.9
    assert found.most.min() > 0.95


def test_different_photographs_are_not_taken_for_one() -> None:
    images = [photograph(number) for number in range(14)]
    first, second = zip(*combinations(images, 2), strict=True)
    found = verify(squares(*first), squares(*second), sizes(*first), sizes(*second))
    assert found.agreement.max() < 0.76


def test_an_outline_before_a_plain_ground_is_no_proof_that_it_is_the_same_thing() -> None:
    fruits = [fruit(number) for number in range(5)]
    first, second = zip(*[(a, b) for a in fruits for b in fruits if a is not b], strict=True)
    found = verify(squares(*first), squares(*second), sizes(*first), sizes(*second))
    assert found.agreement.max() > 0.9, "or this shows nothing"
    assert not is_near(found, Thresholds()).any()


@pytest.mark.parametrize("edit", [edit for edit in EDITS if edit != "cropped, turned and smaller"])  # it is round
def test_a_thing_before_a_plain_ground_is_known_again(edit: str) -> None:
    fruits = [fruit(number) for number in range(4)]
    edited = [EDITS[edit](image) for image in fruits]
    found = verify(squares(*fruits), squares(*edited), sizes(*fruits), sizes(*edited))
    assert is_near(found, Thresholds()).all()


def test_detail_is_no_matter_where_a_picture_is_too_small_to_show_it() -> None:
    whole = fruit(1)
    small = whole.resize((90, 72), Image.Resampling.LANCZOS)
    found = verify(squares(whole), squares(small), sizes(whole), sizes(small))
    assert found.detail == pytest.approx([1.0])
    assert is_near(found, Thresholds()).all()


@pytest.mark.parametrize("orientation", range(ORIENTATIONS))
def test_the_turn_is_told_as_people_would_do_it(orientation: int) -> None:
    rotation, mirrored = in_words(orientation)
    picture = PHOTOGRAPHS[0]
    done = ImageOps.mirror(picture) if mirrored else picture
    done = done.rotate(-rotation, expand=True)
    assert np.array_equal(np.asarray(done.convert("L")), turned(np.asarray(picture.convert("L")), orientation))
    found = verify(squares(done), squares(picture), sizes(done), sizes(picture))
    assert found.orientation[0] == orientation, "the picture turned so lies in the first"
    assert found.agreement[0] > 0.95


def test_the_place_of_a_crop_is_found() -> None:
    whole = PHOTOGRAPHS[1]
    part = cropped(whole, 0.8, (0.25, 0.75))
    found = verify(squares(whole, part), squares(part, whole), sizes(whole, part), sizes(part, whole))
    assert found.placement[0] == pytest.approx([0.05, 0.15, 0.8, 0.8], abs=0.01)
    assert found.placement[1] == pytest.approx([-0.05 / 0.8, -0.15 / 0.8, 1.25, 1.25], abs=0.02)
    assert found.least == pytest.approx([0.64, 0.64], abs=0.02)


def test_pictures_without_structure_agree_with_nothing() -> None:
    white, grey = Image.new("RGB", (300, 200), (255, 255, 255)), Image.new("RGB", (300, 200), (90, 90, 90))
    first, second = (white, white, grey, PHOTOGRAPHS[0]), (white, grey, grey, white)
    found = verify(squares(*first), squares(*second), sizes(*first), sizes(*second))
    assert np.isfinite(found.agreement).all()
    assert found.agreement.max() < 0.76


def test_any_number_of_pairs_is_compared_each_as_if_alone() -> None:
    assert len(verify(squares(*PHOTOGRAPHS)[:0], squares(*PHOTOGRAPHS)[:0], sizes()[:0], sizes()[:0]).agreement) == 0
    many = verify(squares(*PHOTOGRAPHS * 12), squares(*PHOTOGRAPHS[::-1] * 12), *[sizes(*PHOTOGRAPHS * 12)] * 2)
    one = verify(squares(PHOTOGRAPHS[0]), squares(PHOTOGRAPHS[-1]), *[sizes(PHOTOGRAPHS[0])] * 2)
    assert many.agreement[0] == pytest.approx(one.agreement[0], abs=1e-4)
    assert many.agreement[::6] == pytest.approx(many.agreement[0], abs=1e-4)
