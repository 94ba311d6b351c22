"""Perceptual hashes of windows of a picture: what a crop, a border or a turn leaves alike.

Of each window the low frequencies of its cosine transform (after Zauner, pHash, 2010) are taken straight from the
square, by integrals of cosines over the window: two small matrix products. Mirroring changes the sign of the odd ones,
turning transposes them; so a hash in eight orientations costs no more than one. A bit is the sign of a frequency.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation_assets.curate.duplicates.squares import ORIENTATIONS

Window = tuple[float, float, float, float]  # left, top, width, height, as shares of the picture
_FREQUENCIES = 8  # along each side; the first of all says how bright it is, and isn't used
BITS = _FREQUENCIES**2 - 1


def _grid(share: float, places: int) -> list[Window]:
    starts = np.linspace(0, 1 - share, places)
    return [(float(x), float(y), share, share) for y in starts for x in starts]


_ALL: Window = (0.0, 0.0, 1.0, 1.0)
_ABOVE, _BELOW = (0.0, 0.0, 1.0, 0.86), (0.0, 0.14, 1.0, 0.86)  # what a line of text at an edge leaves
_LEFT, _RIGHT = (0.0, 0.0, 0.86, 1.0), (0.14, 0.0, 0.86, 1.0)
# Of a picture these are stored. A crop to 90 % of the sides is at most 2.5 % off one of them, to 80 % as much.
STORED: tuple[Window, ...] = (_ALL, *_grid(0.9, 3), *_grid(0.8, 5), _ABOVE, _BELOW, _LEFT, _RIGHT)
# They are asked with these: all of it, what a border of 5 % leaves, and what is over and under a line of text.
ASKED: tuple[Window, ...] = (_ALL, (0.05, 0.05, 0.9, 0.9), _ABOVE, _BELOW)


def frequencies(pictures: NDArray[Any], windows: tuple[Window, ...]) -> NDArray[np.float32]:
    """Low frequencies of windows of some pictures.

    Args:
        pictures: (n, side, side), grey levels.

    Returns:
        (n, windows, 8, 8); rows are vertical frequencies.
    """
    pictures = pictures.astype(np.float32, copy=False)
    side = pictures.shape[-1]
    found = np.empty((len(pictures), len(windows), _FREQUENCIES, _FREQUENCIES), np.float32)
    for number, (left, top, width, height) in enumerate(windows):
        found[:, number] = _integrals(top, height, side) @ pictures @ _integrals(left, width, side).T
    return found


def in_orientations(found: NDArray[np.float32]) -> NDArray[np.float32]:
    """(8, …, 8, 8): frequencies of the same pictures in each orientation of :func:`squares.turned`."""
    signs = np.float32(-1) ** np.arange(_FREQUENCIES, dtype=np.float32)
    every = []
    for orientation in range(ORIENTATIONS):
        these = np.swapaxes(found, -1, -2) if orientation & 4 else found
        these = these * signs[None, :] if orientation & 1 else these
        every.append(these * signs[:, None] if orientation & 2 else these)
    return np.stack(every)


def hashes(found: NDArray[np.float32]) -> NDArray[np.uint64]:
    """(…) uint64: a bit a frequency; the last is 0."""
    signs = found.reshape(*found.shape[:-2], -1)[..., 1:] > 0
    bits = np.concatenate([signs, np.zeros((*signs.shape[:-1], 1), bool)], axis=-1)
    return np.packbits(bits, axis=-1).view(np.uint64)[..., 0]


def descriptors(found: NDArray[np.float32]) -> NDArray[np.float32]:
    """(…, BITS), unit length: a dot product of two is the correlation of the windows at the coarsest."""
    flat = found.reshape(*found.shape[:-2], -1)[..., 1:]
    length = np.linalg.norm(flat, axis=-1, keepdims=True)
    return np.asarray(flat / np.maximum(length, 1e-6), np.float32)


@cache
def _integrals(start: float, length: float, side: int) -> NDArray[np.float32]:
    """(8, side): of each frequency of a window the weights of the pixels it lies over."""
    edges = np.linspace(0, 1, side + 1)
    low, high = np.clip(edges[:-1], start, start + length), np.clip(edges[1:], start, start + length)
    rows = [(high - low) / length]
    for k in range(1, _FREQUENCIES):
        turn = np.pi * k / length
        rows.append(np.sqrt(2) * (np.sin(turn * (high - start)) - np.sin(turn * (low - start))) / (np.pi * k))
    return np.asarray(rows, np.float32)
