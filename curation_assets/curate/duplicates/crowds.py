"""Thousands of pictures all alike, as a camera that stands still takes them: each compared with a few, not with all.

A frame's vector is made of its tiles, each without its mean and of unit length, weighed by its structure: the dot
product of two is their mean agreement by tiles, upright and in one frame. So √(2 − 2·agreement) is a true metric, and
two that lie within half of the allowed distance of a third are within it of each other. Thirds are chosen in the order
of content hashes, so that they are a function of the set.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation_assets.curate.duplicates.agreement import NOISE, STRUCTURE
from curation_assets.curate.duplicates.pictures import Pictures
from curation_assets.curate.duplicates.squares import SIDE

SMALLEST = 64  # members of a crowd: fewer are compared directly
_SAMPLED = "0"  # contents whose hash begins so, one of sixteen, tell where crowds are
_ALIKE_BITS = 8  # of the hash of the whole picture
_CROWDED = 2  # of the sampled, so near to a picture that it may be in a crowd
_CELLS, _TILE = 64, 8
_SAME_SHAPE = 0.02  # of the ratio of width and height
_AT_ONCE = 2048
_MOST_IN_MEMORY = 40_000  # vectors: 670 MB


@dataclass(frozen=True)
class Crowds:
    """Who is represented by whom.

    Attributes:
        members: (m,) numbers of pictures that another stands for, ascending.
        leaders: (m,) that other.
        agreement: (m,) of the two.
    """

    members: NDArray[np.int64]
    leaders: NDArray[np.int64]
    agreement: NDArray[np.float32]


def crowds(
    pictures: Pictures,
    contents: Sequence[str],
    numbers: NDArray[np.int64],
    ratios: NDArray[np.float64],
    least_agreement: float,
) -> Crowds:
    """Find them.

    Args:
        contents: (n,) content hashes, sorted.
        numbers: (n,) of their pictures.
        ratios: (n,) width by height of each.
        least_agreement: that any two members of a crowd have to have.
    """
    none = Crowds(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    if len(numbers) < SMALLEST:
        return none
    whole = pictures.hashes(numbers)[:, 0]
    sampled = np.fromiter((content.startswith(_SAMPLED) for content in contents), bool, len(contents))
    at = _crowded(whole, whole[sampled])
    if len(at) < SMALLEST:
        return none
    numbers, ratios, whole = numbers[at], ratios[at], whole[at]
    vectors = _vectors(pictures, numbers)
    within = 1 - (1 - least_agreement) / 4  # half the distance is a quarter of what is lacking
    leader = np.full(len(numbers), -1, np.int64)
    nearness = np.zeros(len(numbers), np.float32)
    for place in range(len(numbers)):
        if leader[place] >= 0:
            continue
        alike = np.bitwise_count(whole ^ whole[place]) <= _ALIKE_BITS
        alike &= np.abs(ratios / ratios[place] - 1) <= _SAME_SHAPE
        near = np.flatnonzero(alike)
        agree = vectors[near] @ vectors[place]
        taken = (agree >= within) & (agree > nearness[near]) & (leader[near] != near)
        leader[near[taken]], nearness[near[taken]] = place, agree[taken]
        leader[place], nearness[place] = place, np.inf
    sizes = np.bincount(leader, minlength=len(numbers))
    large = (sizes[leader] >= SMALLEST) & (leader != np.arange(len(numbers)))
    members, leaders, agree = numbers[large], numbers[leader[large]], nearness[large]
    order = np.argsort(members, kind="stable")
    return Crowds(members[order], leaders[order], agree[order].astype(np.float32))


def frame_agreement(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n,) agreement of squares (n, SIDE, SIDE) as they lie: upright, in one frame."""
    agree = np.einsum("nd,nd->n", frame_vectors(first), frame_vectors(second))
    return np.asarray(agree, np.float32)


def frame_vectors(squares: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, dimension), unit length, whose dot product is the mean agreement of the tiles."""
    cell, along = SIDE // _CELLS, _CELLS // _TILE
    number = len(squares)
    cells = squares.reshape(number, _CELLS, cell, _CELLS, cell).mean(axis=(2, 4), dtype=np.float32)
    tiles = cells.reshape(number, along, _TILE, along, _TILE).transpose(0, 1, 3, 2, 4).reshape(number, along**2, -1)
    tiles = tiles - tiles.mean(axis=2, keepdims=True)
    energy = (tiles * tiles).mean(axis=2)
    weight = energy / (energy + STRUCTURE**2)
    # JPEG's noise is one more cell that all have alike, as in ``agreement.by_tiles``.
    noise = np.full((*tiles.shape[:2], 1), NOISE, np.float32)
    unit = np.concatenate([tiles / math.sqrt(tiles.shape[2]), noise], axis=2) / np.sqrt(energy + NOISE**2)[:, :, None]
    weighed = (unit * np.sqrt(weight)[:, :, None]).reshape(number, -1)
    length = np.maximum(np.linalg.norm(weighed, axis=1, keepdims=True), 1e-6)
    return np.asarray(weighed / length, np.float32)


def _crowded(whole: NDArray[np.uint64], sample: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Places of pictures that many others are like, told by a sample."""
    counts = np.zeros(len(whole), np.int32)
    for start in range(0, len(whole), _AT_ONCE):
        part = whole[start : start + _AT_ONCE, None]
        for first in range(0, len(sample), _AT_ONCE):
            counts[start : start + _AT_ONCE] += (
                np.bitwise_count(part ^ sample[None, first : first + _AT_ONCE]) <= _ALIKE_BITS
            ).sum(axis=1)
    return np.flatnonzero(counts >= _CROWDED)


def _vectors(pictures: Pictures, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n, dimension), on the disk where they are many."""
    shape = (len(numbers), _CELLS**2 + (_CELLS // _TILE) ** 2)
    found: NDArray[np.float32]
    if len(numbers) > _MOST_IN_MEMORY:
        with tempfile.TemporaryFile() as file:  # the map keeps it until it is dropped
            found = np.memmap(file, np.float32, "w+", shape=shape)
    else:
        found = np.empty(shape, np.float32)
    for start in range(0, len(numbers), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        found[part] = frame_vectors(pictures.squares(numbers[part]))
    return found
