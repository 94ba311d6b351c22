"""Tones of a preview, on their documented scales."""

from __future__ import annotations

import math
from dataclasses import asdict
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from curation_assets.curate.tones import Tones, tones
from curation_assets.images.errors import ImageError
from curation_assets_tests.curate import drawn


def of(image: Image.Image) -> Tones:
    """Without the losses of a JPEG."""
    out = BytesIO()
    image.save(out, "PNG")
    return tones(out.getvalue())


def of_pixels(pixels: np.ndarray) -> Tones:
    return of(Image.fromarray(pixels.astype(np.uint8)))


def test_a_picture_of_two_halves() -> None:
    found = of_pixels(np.repeat([[[0, 0, 0]], [[204, 204, 204]]], 100, axis=1).repeat(50, axis=0))
    assert found == Tones(
        brightness=pytest.approx(0.4),
        contrast=pytest.approx(0.8),
        shadows=0,
        highlights=pytest.approx(0.8),
        exposure=0,
        clipped=0.5,
        entropy=pytest.approx(1),
        colourfulness=0,
    )


def test_every_value_alike_is_eight_bits() -> None:
    ramp = np.repeat(np.arange(256)[None, :, None], 3, axis=2).repeat(32, axis=0)
    assert of_pixels(ramp).entropy == pytest.approx(8)


def test_colourfulness_is_that_of_the_paper() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.float64)
    red_green, yellow_blue = pixels[..., 0] - pixels[..., 1], pixels[..., :2].mean(axis=2) - pixels[..., 2]
    spread = math.hypot(red_green.std(), yellow_blue.std())
    expected = spread + 0.3 * math.hypot(red_green.mean(), yellow_blue.mean())
    assert of_pixels(pixels).colourfulness == pytest.approx(expected, rel=1e-4)


def test_grey_jpegs_have_no_colours_and_pale_photographs_have_some() -> None:
    grey = drawn.texture().convert("L").convert("RGB")
    assert tones(drawn.as_jpeg(grey)).colourfulness < 0.5
    assert tones(drawn.as_jpeg(Image.blend(grey, drawn.texture(), 0.25))).colourfulness > 4


def burnt_out(share: float, colour: tuple[int, int, int], place: int = 30) -> float:
    """Exposure of a dark picture with a square of a colour within."""
    pixels = np.full((100, 100, 3), 20)
    side = round(100 * math.sqrt(share))
    pixels[place : place + side, place : place + side] = colour
    return of_pixels(pixels).exposure - 20 / 255


def test_exposure_is_the_root_of_the_share_that_is_burnt_out() -> None:
    assert burnt_out(0.04, (255, 255, 255)) == pytest.approx(0.2, abs=0.01)
    assert burnt_out(0.25, (200, 255, 90)) == pytest.approx(0.5, abs=0.01)
    assert burnt_out(0.25, (255, 180, 20)) == pytest.approx(0, abs=0.01), "a ripe orange is clipped in red alone"
    assert burnt_out(0.25, (255, 255, 255), place=0) == pytest.approx(0, abs=0.01), "a white background"


def test_exposure_rises_with_a_veil_and_with_gain() -> None:
    base = of(drawn.texture()).exposure
    veiled = [of(drawn.gained(drawn.texture(), 1, added)).exposure for added in (40, 80, 120)]
    gained = [of(drawn.gained(drawn.texture(), gain)).exposure for gain in (1.5, 2.5, 4)]
    assert [base, *veiled] == sorted([base, *veiled])
    assert [base, *gained] == sorted([base, *gained])
    assert min(veiled[-1], gained[-1]) > base + 0.4


@pytest.mark.parametrize("colour", ["white", "black", "red"])
@pytest.mark.parametrize("size", [(1, 1), (384, 1), (3, 384)])
def test_any_size_and_colour_has_finite_tones(colour: str, size: tuple[int, int]) -> None:
    assert all(math.isfinite(value) for value in asdict(of(Image.new("RGB", size, colour))).values())


@pytest.mark.parametrize("mode", ["L", "1", "RGBA", "P", "CMYK"])
def test_any_mode_is_taken(mode: str) -> None:
    out = BytesIO()
    Image.new("RGB", (40, 30), (90, 90, 90)).convert(mode).save(out, "TIFF")
    assert tones(out.getvalue()).clipped == (1.0 if mode == "1" else 0.0)


@pytest.mark.parametrize("data", [b"", b"no image", drawn.as_jpeg(Image.new("RGB", (64, 64)))[:200]])
def test_a_preview_that_does_not_decode(data: bytes) -> None:
    with pytest.raises(ImageError, match="its preview doesn't decode"):
        tones(data)
