"""How far the pixels of two aligned pictures agree: by tiles, each against its own mean and contrast.

One correlation of the whole is fooled both ways: any two leaves on a white table reach 0.98, and a line of text takes
a true copy to 0.66. So a part is cut into tiles. In each, what is left without the mean is correlated, so that a change
of tone is none; a tile without structure says nothing and weighs nothing; and the worst seventh of the tiles may be
written over, as far as three quarters of the evidence are left. JPEG's noise is allowed for: what it can hide of a
flat tile isn't held against it.

A mean of tiles is still fooled where there is little but an outline: two tomatoes before a wall. So where both pictures
have the pixels for it, the detail is looked at as well: the agreement that seven tenths of the smallest tiles reach.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation_assets.curate.duplicates.alignment import Pictures, Placements, overlap, sampled

NOISE = 1.5  # grey levels, standard deviation of a cell that a JPEG's rounding makes
STRUCTURE = 4.0  # grey levels in a tile that make it weigh half
_WHITE, _LIGHT, _DARK, _BLACK = 250, 215, 40, 4  # grey levels
_PALE, _PALE_BEFORE, _PALER_BY = 240, 180, 25  # grey levels of a cell in which some channel or pixel is clipped
_NOISE_OF_BRIGHTER, _NOWHERE_DARKER = 4, 0.97  # grey levels, and share of the cells, of what was made brighter
_WRITTEN_OVER = 0.15  # share of the area
_MOST_EVIDENCE = 0.25  # of all: of an orange and an apple on black the outlines alone would be left
_FINE, _MIDDLE, _COARSE = (64, 8), (32, 4), (16, 4)  # cells along a side, and of a tile
_FINE_PIXELS, _MIDDLE_PIXELS = 72, 30  # that the poorer picture has along the shorter side of what is compared
_DETAIL, _DETAIL_PIXELS, _DETAIL_STRUCTURE = (64, 4), 128, 2.0
_BELOW_DETAIL = 0.3  # share of the evidence: a sticker's and a line of text's together
_LEAST_EVIDENCE = 0.06  # mean weight of the tiles: with less, a few tiles would decide


def by_tiles(first: Pictures, second: Pictures, tile: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Agreement of parts that lie over each other.

    Args:
        first, second: (pairs, side, side).
        tile: cells along its side.

    Returns:
        (pairs,) agreement, at most 1; and the mean weight of the tiles that it rests on, 0 to 1.
    """
    agree, weight = _each_tile(first, second, tile, STRUCTURE)
    order = np.argsort(-weight * (1 - agree), axis=1, kind="stable")
    agree, weight = np.take_along_axis(agree, order, axis=1), np.take_along_axis(weight, order, axis=1)
    worst = np.arange(agree.shape[1]) < round(_WRITTEN_OVER * agree.shape[1])
    most = _MOST_EVIDENCE * weight.sum(axis=1, keepdims=True)
    weight = np.where(worst & (np.cumsum(weight, axis=1) <= most), 0, weight)
    total = weight.sum(axis=1)
    kept = 1 - _WRITTEN_OVER
    return (agree * weight).sum(axis=1) / np.maximum(total, 1e-6), total / (kept * agree.shape[1])


def agreement(
    first: Pictures,
    second: Pictures,
    placements: Placements,
    first_pixels: NDArray[np.float32],
    second_pixels: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Agreement of aligned pairs, as finely as the pixels allow that the pictures really have; and of their detail.

    Args:
        placements: of the second in the first.
        first_pixels, second_pixels: (pairs, 2) width and height of the images, as they are oriented here.

    Returns:
        (pairs,) at most 1, 0 where there is no structure to go by; and (pairs,) what seven tenths of the evidence
        reach, in tiles of 4 of 64 cells: 1 where a picture has too few pixels to tell.
    """
    shared = overlap(placements)
    poorer = np.minimum(shared.in_first[:, 2:] * first_pixels, shared.in_second[:, 2:] * second_pixels).min(axis=1)
    found = {}
    for side, tile in (_FINE, _MIDDLE, _COARSE):
        cells = (sampled(first, shared.in_first, side), sampled(second, shared.in_second, side))
        found[side] = by_tiles(*cells, tile)
    (fine, evidence), (middle, _), (coarse, _) = (found[side] for side, _ in (_FINE, _MIDDLE, _COARSE))
    agree = np.where(poorer >= _FINE_PIXELS, (fine + middle) / 2, np.where(poorer >= _MIDDLE_PIXELS, middle, coarse))
    detail = np.ones(len(first), np.float32)
    rich = np.flatnonzero(poorer >= _DETAIL_PIXELS)
    if len(rich):
        side, tile = _DETAIL
        cells = (sampled(first[rich], shared.in_first[rich], side), sampled(second[rich], shared.in_second[rich], side))
        detail[rich] = _reached(*_each_tile(*cells, tile, _DETAIL_STRUCTURE))
    return np.asarray(np.where(evidence >= _LEAST_EVIDENCE, agree, 0), np.float32), detail


def _reached(agree: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(pairs,) agreement that all but ``_BELOW_DETAIL`` of the weight reach."""
    order = np.argsort(agree, axis=1, kind="stable")
    agree, weight = np.take_along_axis(agree, order, axis=1), np.take_along_axis(weight, order, axis=1)
    below = np.cumsum(weight, axis=1) / np.maximum(weight.sum(axis=1, keepdims=True), 1e-6)
    return np.asarray(agree[np.arange(len(agree)), (below >= _BELOW_DETAIL).argmax(axis=1)], np.float32)


def _each_tile(
    first: Pictures, second: Pictures, tile: int, heavy: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(pairs, tiles) agreement and weight of each; one with a structure of so many grey levels weighs half."""
    clipped = _clipped(first, second) | _clipped(second, first)
    x, y = _tiles(first, clipped, tile), _tiles(second, clipped, tile)
    of_x, of_y, of_both = (x * x).mean(axis=2), (y * y).mean(axis=2), (x * y).mean(axis=2)
    noise = NOISE**2
    agree = (of_both + noise) / np.sqrt((of_x + noise) * (of_y + noise))
    structure = np.maximum(of_x, of_y)
    weight = structure / (structure + heavy**2)
    return agree, weight


def _clipped(first: Pictures, second: Pictures) -> NDArray[np.bool_]:
    """Cells that one picture has at the end of the scale, near which the other has them: a tone curve did that.

    Of a picture made brighter single channels and pixels are clipped before a cell is white, and its detail goes. That
    is said only where the first is nowhere darker: light grounds of two pictures would be left out otherwise.
    """
    at_ends = ((first >= _WHITE) & (second >= _LIGHT)) | ((first <= _BLACK) & (second <= _DARK))
    is_brighter = (first >= second - _NOISE_OF_BRIGHTER).mean(axis=(1, 2)) >= _NOWHERE_DARKER
    paled = (first >= _PALE) & (second >= _PALE_BEFORE) & (first - second >= _PALER_BY)
    return np.asarray(at_ends | (paled & is_brighter[:, None, None]), bool)


def _tiles(pictures: Pictures, clipped: NDArray[np.bool_], tile: int) -> NDArray[np.float32]:
    """(pairs, tiles, cells of one), each without its mean, and 0 where it is clipped."""
    number, along = len(pictures), pictures.shape[-1] // tile

    def cut(cells: NDArray[Any]) -> NDArray[Any]:
        blocks = cells.reshape(number, along, tile, along, tile).transpose(0, 1, 3, 2, 4)
        return blocks.reshape(number, along * along, tile * tile)

    counts = cut(~clipped).astype(np.float32)
    values = cut(pictures)
    mean = (values * counts).sum(axis=2, keepdims=True) / np.maximum(counts.sum(axis=2, keepdims=True), 1)
    return np.asarray((values - mean) * counts, np.float32)
