"""Sharpness is of the picture and not of its size, and tells blur from a soft background, noise and plain surfaces."""

from __future__ import annotations

from functools import cache

import pytest
from PIL import Image

from curation_assets.images.sharpness import sharpness
from curation_assets_tests.curate import drawn

BLURRED, SHARP = 0.42, 0.6


@cache
def texture(size: tuple[int, int]) -> Image.Image:
    return drawn.texture(size)


def of(image: Image.Image) -> float:
    found = sharpness(image)
    assert found is not None
    return found


@pytest.mark.parametrize("share", [0.01, 0.02])
@pytest.mark.parametrize("side", [4000, 2000, 300])
def test_blur_is_found_at_any_size(side: int, share: float) -> None:
    photograph = texture((side, side * 3 // 4))
    assert of(drawn.blurred(photograph, share)) < BLURRED < SHARP < of(photograph)


@pytest.mark.parametrize("share", [0.002, 0.01])
def test_half_the_size_scores_alike(share: float) -> None:
    photograph = drawn.blurred(texture((4000, 3000)), share)
    half = photograph.resize((2000, 1500), Image.Resampling.LANCZOS)
    assert of(half) == pytest.approx(of(photograph), abs=0.02)


def test_more_blur_is_less_sharp() -> None:
    scores = [of(drawn.blurred(drawn.texture(), share)) for share in (0.001, 0.0025, 0.005, 0.01, 0.02)]
    assert scores == sorted(scores, reverse=True)


def test_the_sharpest_part_counts() -> None:
    assert of(drawn.shallow_depth()) > SHARP
    assert of(drawn.moving_subject()) > SHARP


def test_the_softest_direction_counts() -> None:
    along = of(drawn.moved(drawn.texture(), 24))
    assert along < BLURRED
    turned = drawn.moved(drawn.texture(), 24).transpose(Image.Transpose.ROTATE_90)
    assert of(turned) == pytest.approx(along, abs=0.05)


@pytest.mark.parametrize("sigma", [4, 8])
def test_noise_does_not_make_a_blurred_picture_sharp(sigma: float) -> None:
    assert of(drawn.noisy(drawn.blurred(drawn.texture(), 0.01), sigma)) < BLURRED
    assert of(drawn.noisy(drawn.texture(), sigma)) > SHARP


def test_a_uniform_surface_a_page_and_the_night_are_sharp() -> None:
    for draw in (drawn.uniform_leaf, drawn.scanned_page, drawn.night, drawn.white_background):
        assert of(draw()) > SHARP


@pytest.mark.parametrize("size", [(31, 400), (16, 16), (1, 1)])
def test_of_a_tiny_picture_nothing_is_said(size: tuple[int, int]) -> None:
    assert sharpness(drawn.texture((64, 64)).resize(size)) is None


def test_of_a_flat_picture_nothing_is_said() -> None:
    assert sharpness(Image.new("RGB", (800, 600), (80, 120, 60))) is None
    assert sharpness(drawn.black()) is None
