"""How sharp a picture is, from its pixels at about 1,000 a side.

A picture is smoothed again, and what that takes from its gradients is compared with what was there (after Crété et al.,
The blur effect, 2007): much where it was sharp, little where it was soft already. Four things make a measure of it:

- Three sizes, of 1,000, 500 and 250 pixels at the longer side: blur is a share of the picture, not a number of pixels.
- Four directions, of which the softest counts: what the camera moved along is soft in one.
- Tiles of a tenth of the shorter side, of which the sharpest twentieth counts: a background may be as soft as it likes.
- What the flattest tiles have is noise, and taken off everywhere; tiles that have little more don't count.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation_assets.images.resize import fit, shrink

SHARPNESS_VERSION = 1  # one more whenever a picture would get another number
SIDE = 1000  # pixels of the longer side at which it is measured; a smaller picture is measured as it is
_SIZES = (1000, 500, 250)
_TOO_LIKE = 1.05  # a picture hardly larger than the next size is measured there
_LEAST = 32  # pixels of the shorter side: of a smaller picture nothing is said
_TILES, _LEAST_TILES = 10, 4  # along the shorter side, and how many have to count
_SHARPEST = 0.95  # quantile of the tiles
_FLATTEST = 0.05  # share of the tiles
_LEAST_GRADIENT = 2.0  # of 255, root of the mean square in a tile, above the noise
# Down and right to the neighbour; and how many pixels are averaged along that: diagonally 7 are about as long as 9.
_DIRECTIONS = ((0, 1, 9), (1, 0, 9), (1, 1, 7), (1, -1, 7))
_MARGIN = 5  # pixels at the edges whose averages would reach beyond them


def sharpness(rgb: Image.Image) -> float | None:
    """Measure a picture.

    Args:
        rgb: upright or not, RGB, any size; best at least ``SIDE`` pixels at its longer side.

    Returns:
        0 to 1: what smoothing takes of the gradients of its sharpest parts. Some 0.8 is sharp, 0.3 blurred by a
        hundredth of the longer side. None where it is too small or too flat to tell.
    """
    if min(rgb.size) < _LEAST:
        return None
    grey, found = rgb.convert("L"), []
    for size, next_size in zip(_SIZES, (*_SIZES[1:], 0), strict=True):
        longer = max(grey.size)
        if longer < next_size * _TOO_LIKE:
            continue
        if longer > size:
            grey = shrink(grey, fit(grey.size, size))
        # Every third row of 1,000 pixels tells as much as all of them.
        at_size = _at_this_size(np.asarray(grey, np.float32), -(-max(grey.size) // 334))
        found += [] if at_size is None else [at_size]
    return float(np.mean(found)) if found else None


def _at_this_size(grey: NDArray[np.float32], every: int) -> float | None:
    side = max(4, min(grey.shape) // _TILES)
    directions = []
    for down, right, averaged in _DIRECTIONS:
        before = _tiles(_gradient(grey, every, down, right, 1), side // every, side)
        after = _tiles(_gradient(grey, every, down, right, averaged), side // every, side)
        few = max(1, int(len(before) * _FLATTEST))
        flattest = np.argpartition(before, few - 1)[:few]
        noise, noise_left = before[flattest].mean(), after[flattest].mean()
        signal = before - noise
        counts = signal > max(_LEAST_GRADIENT**2, noise)
        if counts.sum() >= _LEAST_TILES:
            kept = np.clip((after[counts] - noise_left) / signal[counts], 0, 1)
            place = int((len(kept) - 1) * (1 - _SHARPEST))
            directions.append(1 - math.sqrt(np.partition(kept, place)[place]))
    return min(directions) if directions else None


def _gradient(grey: NDArray[np.float32], every: int, down: int, right: int, averaged: int) -> NDArray[np.float32]:
    """Squared differences of neighbours in a direction after averaging along it, of every few rows one.

    Neighbouring averages have all but their outermost pixels in common, so that their difference is one of two pixels.
    """
    before, after = averaged // 2, averaged // 2 + 1

    def shifted(steps: int) -> NDArray[np.float32]:
        height, width = grey.shape
        top, left = _MARGIN + steps * down, _MARGIN + steps * right
        return grey[top : height - 2 * _MARGIN + top : every, left : width - 2 * _MARGIN + left]

    difference = shifted(after) - shifted(-before)
    difference *= np.float32(1 / averaged)
    return np.asarray(np.multiply(difference, difference, out=difference), np.float32)


def _tiles(values: NDArray[np.float32], high: int, wide: int) -> NDArray[np.float32]:
    """Means of the tiles that fit into (height, width), one after another."""
    rows, columns = values.shape[0] // high, values.shape[1] // wide
    by_row = values[: rows * high, : columns * wide].reshape(rows, high, -1).sum(axis=1)
    means = by_row.reshape(rows, columns, wide).sum(axis=2) / np.float32(high * wide)
    return np.asarray(means.reshape(-1), np.float32)
