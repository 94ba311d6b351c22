"""Two squares brought over each other: where in one the other lies, found from a first guess by least squares.

A placement (left, top, width, height) says where the whole of the second picture lies in the first, in shares of the
first; it reaches beyond 0 to 1 where the second shows more. Everything is of many pairs at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.float32]  # (pairs, side, side)
Placements = NDArray[np.float32]  # (pairs, 4)

_LONGEST_STEP = 0.06  # of the compared part, a refinement moves it at once
_STRETCH = 0.1


@dataclass(frozen=True)
class Overlap:
    """What both pictures of each pair show.

    Attributes:
        in_first, in_second: (pairs, 4) where it lies in each, as placements.
        of_first, of_second: (pairs,) share of each picture's area.
    """

    in_first: Placements
    in_second: Placements
    of_first: NDArray[np.float32]
    of_second: NDArray[np.float32]


def overlap(placements: Placements) -> Overlap:
    """The overlap under some placements."""
    left, top, width, height = placements.T
    begin_x, begin_y = np.maximum(left, 0), np.maximum(top, 0)
    wide = np.maximum(np.minimum(left + width, 1) - begin_x, 1e-3)
    high = np.maximum(np.minimum(top + height, 1) - begin_y, 1e-3)
    in_first = np.stack([begin_x, begin_y, wide, high], axis=1)
    in_second = np.stack([(begin_x - left) / width, (begin_y - top) / height, wide / width, high / height], axis=1)
    of_second = wide / width * (high / height)
    return Overlap(in_first.astype(np.float32), in_second.astype(np.float32), wide * high, of_second)


def sampled(pictures: Pictures, parts: Placements, side: int) -> Pictures:
    """(pairs, side, side): a part of each picture, each cell the mean of the pixels that it lies over."""
    across = _weights(parts[:, 0], parts[:, 2], side, pictures.shape[-1])
    down = _weights(parts[:, 1], parts[:, 3], side, pictures.shape[-1])
    return np.asarray(down @ pictures @ np.swapaxes(across, 1, 2), np.float32)


def refined(
    first: Pictures, second: Pictures, placements: Placements, side: int, steps: int, left_out: float
) -> Placements:
    """Placements that fit better, by a few steps of Gauss and Newton over place, size, gain and offset.

    Args:
        side: of the cells that are compared.
        left_out: share of them, the worst, that don't count: what is written over a picture must not pull at it.
    """
    shared = overlap(placements)
    target = sampled(second, shared.in_second, side).reshape(len(first), -1)
    parts = shared.in_first
    place = ((np.arange(side) + 0.5) / side).astype(np.float32)
    for _ in range(steps):
        cells = sampled(first, parts, side)
        along_x, along_y = np.gradient(cells, axis=2), np.gradient(cells, axis=1)
        flat = cells.reshape(len(first), -1)
        counts = _fitting(flat, target, left_out)
        terms = np.stack(
            [
                along_x.reshape(flat.shape),
                along_y.reshape(flat.shape),
                (along_x * place[None, None, :]).reshape(flat.shape),
                (along_y * place[None, :, None]).reshape(flat.shape),
                flat,
                np.ones_like(flat),
            ],
            axis=1,
        )
        weighted = terms * counts[:, None]
        normal = (weighted @ np.swapaxes(terms, 1, 2)).astype(np.float64)
        normal += np.eye(6) * (1e-4 * np.einsum("pii->pi", normal) + 1e-3)[:, None, :]
        right = (weighted @ target[:, :, None]).astype(np.float64)
        solved = np.linalg.solve(normal, right)[:, :, 0]
        gain = np.where(np.abs(solved[:, 4]) < 0.1, np.where(solved[:, 4] < 0, -0.1, 0.1), solved[:, 4])
        most = side * _LONGEST_STEP
        move = np.clip(solved[:, :4] / gain[:, None], -most, most) / side
        stretch = np.clip(1 + move[:, 2:], 1 - _STRETCH, 1 + _STRETCH)
        corner = parts[:, :2] + move[:, :2] * parts[:, 2:]
        parts = np.concatenate([corner, parts[:, 2:] * stretch], axis=1).astype(np.float32)
    return _whole(parts, shared.in_second)


def _whole(in_first: Placements, in_second: Placements) -> Placements:
    """Where the whole of the second lies, if a part of it lies there in the first."""
    size = in_first[:, 2:] / in_second[:, 2:]
    return np.concatenate([in_first[:, :2] - in_second[:, :2] * size, size], axis=1)


def placed(windows: NDArray[np.float32], asked: NDArray[np.float32]) -> Placements:
    """Placements under which a window of the first is a window of the second; both (pairs, 4)."""
    return _whole(windows, asked)


def _fitting(cells: NDArray[np.float32], target: NDArray[np.float32], left_out: float) -> NDArray[np.float32]:
    """(pairs, cells) 1 where the best linear change of tone leaves little, else 0."""
    x = cells - cells.mean(axis=1, keepdims=True)
    y = target - target.mean(axis=1, keepdims=True)
    gain = (x * y).sum(axis=1, keepdims=True) / ((x * x).sum(axis=1, keepdims=True) + 1e-6)
    off = np.abs(y - gain * x)
    place = int((1 - left_out) * (off.shape[1] - 1))
    fits = off <= np.partition(off, place, axis=1)[:, place : place + 1]
    return np.asarray(fits, np.float32)


def _weights(start: NDArray[np.float32], length: NDArray[np.float32], cells: int, side: int) -> NDArray[np.float32]:
    """(pairs, cells, side): of each cell along a side the weights of the pixels, whose sum is 1; 0 beyond the edge."""
    edges = (start[:, None] + length[:, None] * np.linspace(0, 1, cells + 1, dtype=np.float32)) * side
    pixel = np.arange(side, dtype=np.float32)
    found = np.minimum(edges[:, 1:, None], pixel + 1) - np.maximum(edges[:, :-1, None], pixel)
    np.maximum(found, 0, out=found)
    found /= np.maximum(found.sum(axis=2, keepdims=True), 1e-6)
    return np.asarray(found, np.float32)
