"""Tones and colours of a picture, from its preview."""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation_assets.errors import first_line
from curation_assets.images.errors import ImageError

TONES_VERSION = 1  # one more whenever a preview would get other numbers
_BRIGHTEST, _DARKEST = 250, 5  # of 255: a JPEG's rounding moves what was clipped by as much
_WHITE = 238  # of 255, in every channel: a background that is left white on purpose
_BURNT_OUT = 252  # of 255, of green
_DARKEST_SHARE = 1  # percent of a picture
_MOST_SIDE = 256  # pixels at which the background is looked for
_LEAST_SUBJECT = 0.01  # share of a picture; if less is no background, the background is the subject


@dataclass(frozen=True)
class Tones:
    """Scales as in the quality table, which has a column for each."""

    brightness: float
    contrast: float
    shadows: float
    highlights: float
    exposure: float
    clipped: float
    entropy: float
    colourfulness: float


def tones(preview: bytes) -> Tones:
    """Measure a preview.

    Args:
        preview: an image of any mode, as in the directory table's ``preview``.

    Raises:
        ImageError: it doesn't decode.
    """
    try:
        with Image.open(BytesIO(preview)) as image:
            rgb = image.convert("RGB")
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
        raise ImageError("corrupt", f"its preview doesn't decode: {first_line(error)}") from None
    pixels = np.asarray(rgb)
    histogram = np.asarray(rgb.convert("L").histogram(), np.float64)
    share = histogram / histogram.sum()
    below = np.cumsum(share)
    dark, shadows, bright, highlights = (float(np.searchsorted(below, q)) / 255 for q in (0.02, 0.05, 0.98, 0.99))
    highest = pixels.max(axis=2)
    there = share[share > 0]
    return Tones(
        brightness=float(share @ np.arange(256)) / 255,
        contrast=bright - dark,
        shadows=shadows,
        highlights=highlights,
        exposure=_exposure(rgb),
        clipped=float(((highest >= _BRIGHTEST) | (highest <= _DARKEST)).mean()),
        entropy=max(0.0, float(-(there @ np.log2(there)))),
        colourfulness=_colourfulness(pixels),
    )


def _exposure(rgb: Image.Image) -> float:
    """How washed out: root of the share of the subject that is burnt out, and how far the darkest parts are lifted.

    Burnt out is where green is clipped: red alone is that in a ripe fruit, and green is most of luma. The darkest parts
    are those of the darkest channel (the dark channel of He et al., Single image haze removal, 2009), which next to no
    photograph has bright but through a veil or by light that was added. The subject is all but white that reaches the
    edge: a picture before a white background isn't overexposed.
    """
    from scipy.ndimage import label

    small = rgb.copy()
    small.thumbnail((_MOST_SIDE, _MOST_SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small)
    darkest = pixels.min(axis=2)
    regions, _ = label(darkest >= _WHITE)
    at_edge = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    background = np.isin(regions, at_edge[at_edge > 0])
    subject = ~background if (~background).mean() >= _LEAST_SUBJECT else np.ones_like(background)
    burnt_out = float((pixels[..., 1][subject] >= _BURNT_OUT).mean())
    return math.sqrt(burnt_out) + float(np.percentile(darkest, _DARKEST_SHARE)) / 255


def _colourfulness(pixels: NDArray[np.uint8]) -> float:
    """M3 of Hasler and Suesstrunk, Measuring colourfulness in natural images (2003)."""
    red, green, blue = (pixels[..., channel].astype(np.float32) for channel in range(3))
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))
