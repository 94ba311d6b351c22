"""Tones and colours of a picture, from its preview."""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from curation_assets.errors import first_line
from curation_assets.images.errors import ImageError

TONES_VERSION = 1  # one more whenever a preview would get other numbers
_BRIGHTEST, _DARKEST = 250, 5  # of 255: a JPEG's rounding moves what was clipped by as much
_WHITE = 238  # of 255, in every channel: a background that is left white on purpose
_BURNT_OUT = 252  # of 255, of green
_DARKEST_SHARE = 0.01  # of a picture
_COLOURS_SIDE = 256  # pixels, at most, at which colours are looked at
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
    share = _shares(rgb.convert("L"))
    below = np.cumsum(share)
    dark, shadows, bright, highlights = (float(np.searchsorted(below, q)) / 255 for q in (0.02, 0.05, 0.98, 0.99))
    red, green, blue = rgb.split()
    highest = _shares(ImageChops.lighter(ImageChops.lighter(red, green), blue))
    there = share[share > 0]
    return Tones(
        brightness=float(share @ np.arange(256)) / 255,
        contrast=bright - dark,
        shadows=shadows,
        highlights=highlights,
        exposure=_exposure(red, green, blue),
        clipped=float(highest[_BRIGHTEST:].sum() + highest[: _DARKEST + 1].sum()),
        entropy=max(0.0, float(-(there @ np.log2(there)))),
        colourfulness=_colourfulness(rgb.reduce(-(-max(rgb.size) // _COLOURS_SIDE))),
    )


def _shares(channel: Image.Image) -> NDArray[np.float64]:
    """Share of the pixels that have each of the 256 values."""
    return np.asarray(channel.histogram(), np.float64) / (channel.width * channel.height)


def _exposure(red: Image.Image, green: Image.Image, blue: Image.Image) -> float:
    """How washed out: root of the share of the subject that is burnt out, and how far the darkest parts are lifted.

    Burnt out is where green is clipped: red alone is that in a ripe fruit, and green is most of luma. The darkest parts
    are those of the darkest channel (the dark channel of He et al., Single image haze removal, 2009), which next to no
    photograph has bright but through a veil or by light that was added. The subject is all but white that reaches the
    edge: a picture before a white background isn't overexposed.
    """
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    lifted = float(np.searchsorted(np.cumsum(_shares(darkest)), _DARKEST_SHARE)) / 255
    subject = ~_background(np.asarray(darkest) >= _WHITE)
    burnt_out = np.asarray(green) >= _BURNT_OUT
    share = burnt_out[subject].mean() if subject.mean() >= _LEAST_SUBJECT else burnt_out.mean()
    return math.sqrt(share) + lifted


def _background(white: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The white that reaches the edge."""
    from scipy.ndimage import label

    if not (white[0].any() or white[-1].any() or white[:, 0].any() or white[:, -1].any()):
        return np.zeros_like(white)
    regions, number = label(white)
    reaches = np.zeros(number + 1, np.bool_)
    for edge in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
        reaches[edge] = True
    reaches[0] = False
    return np.asarray(reaches[regions], np.bool_)


def _colourfulness(rgb: Image.Image) -> float:
    """M3 of Hasler and Suesstrunk, Measuring colourfulness in natural images (2003)."""
    r, g, b = (np.asarray(channel, np.float32).reshape(-1) for channel in rgb.split())
    deviations, means = [], []
    for opponent in (r - g, (r + g) / 2 - b):
        means.append(float(opponent.mean()))
        deviations.append(math.sqrt(max(0.0, float(opponent @ opponent) / opponent.size - means[-1] ** 2)))
    return math.hypot(*deviations) + 0.3 * math.hypot(*means)
