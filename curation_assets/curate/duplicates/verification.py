"""Pixels decide: whether two pictures are the same photograph, and by which turn, scale and crop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from curation_assets.curate.duplicates.agreement import agreement, by_tiles
from curation_assets.curate.duplicates.alignment import Pictures, Placements, overlap, placed, refined, sampled
from curation_assets.curate.duplicates.squares import ORIENTATIONS, turned
from curation_assets.curate.duplicates.windows import (
    ASKED,
    STORED,
    descriptors,
    frequencies,
    in_orientations,
)

VERIFICATION_VERSION = 3  # one more whenever two pictures would be told otherwise
AT_ONCE = 128  # pairs: what they take fits a core's cache
_HOPELESS = 0.5  # agreement at the coarsest, below which nothing is refined
_SURE, _SURE_OF_DETAIL = 0.95, 0.9  # agreement and detail, from which on the other way round is not tried
_GUESS_SIDE = 24
_WORTH_MORE = 0.65  # agreement after the first refinement, below which a second won't make a pair of two
_FINER = ((48, 8, 4, 0.15), (64, 8, 6, 0.05))  # cells along a side, of a tile, steps, share left out
_TURNS_TRIED = 1  # orientations, of windows
_FIRST_LEFT_OUT = 0.2
_BACK = np.array([0, 1, 2, 3, 4, 6, 5, 7])  # the orientation that undoes each


@dataclass(frozen=True)
class Verdicts:
    """What the pixels say of some pairs.

    Attributes:
        agreement: (pairs,) at most 1.
        detail: (pairs,) of their smallest parts; see ``agreement.agreement``.
        orientation: (pairs,) of the second picture, as ``squares.turned`` counts.
        placement: (pairs, 4) where it lies then in the first: left, top, width, height, in shares of the first.
        least, most: (pairs,) share of the area of the one picture, and of the other, that both show.
        stretch: (pairs,) logarithm of how many times more one side is enlarged than the other: of the images, or of
            their squares where that is less, as whole pictures are squeezed into one shape.
    """

    agreement: NDArray[np.float32]
    detail: NDArray[np.float32]
    orientation: NDArray[np.int8]
    placement: Placements
    least: NDArray[np.float32]
    most: NDArray[np.float32]
    stretch: NDArray[np.float32]


def verify(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    first_pixels: NDArray[np.float32],
    second_pixels: NDArray[np.float32],
) -> Verdicts:
    """Compare pairs of pictures.

    Args:
        first, second: (pairs, SIDE, SIDE) squares; any number of pairs.
        first_pixels, second_pixels: (pairs, 2) width and height of the images, upright.
    """
    parts = []
    for start in range(0, len(first), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        parts.append(_both_ways(first[part], second[part], first_pixels[part], second_pixels[part]))
    if not parts:
        none = np.empty(0, np.float32)
        return Verdicts(none, none, np.empty(0, np.int8), np.empty((0, 4), np.float32), none, none, none)
    return Verdicts(*(np.concatenate([getattr(p, name) for p in parts]) for name in Verdicts.__dataclass_fields__))


def _both_ways(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    first_pixels: NDArray[np.float32],
    second_pixels: NDArray[np.float32],
) -> Verdicts:
    """The second laid over the first; and the first over the second where that left doubt, as the steps of one fail
    where those of the other don't."""
    found = _one_way(first, second, first_pixels, second_pixels)
    is_sure = (found.agreement >= _SURE) & (found.detail >= _SURE_OF_DETAIL)
    doubtful = np.flatnonzero((found.agreement > _HOPELESS) & ~is_sure)
    if not len(doubtful):
        return found
    other = _one_way(second[doubtful], first[doubtful], second_pixels[doubtful], first_pixels[doubtful])
    back = _BACK[other.orientation]
    # The first, turned, lies in the second: so the second, turned back, lies in the first.
    left, top, width, height = other.placement.T
    inverse = np.stack([-left / width, -top / height, 1 / width, 1 / height], axis=1).astype(np.float32)
    other = replace(other, orientation=back, placement=_turned_parts(inverse, back.astype(np.int64)))
    is_better = other.agreement + other.detail > found.agreement[doubtful] + found.detail[doubtful]
    return _better(found, doubtful, other, is_better)


def _better(found: Verdicts, places: NDArray[np.int64], other: Verdicts, is_better: NDArray[np.bool_]) -> Verdicts:
    """Verdicts of which those at some places are replaced where another is better."""
    merged = {}
    for name in Verdicts.__dataclass_fields__:
        merged[name] = getattr(found, name).copy()
        merged[name][places[is_better]] = getattr(other, name)[is_better]
    return Verdicts(**merged)


def _verdicts(
    a: Pictures,
    b: Pictures,
    orientation: NDArray[np.int64],
    placement: Placements,
    first_pixels: NDArray[np.float32],
    second_pixels: NDArray[np.float32],
) -> Verdicts:
    """What the pixels say under some placements; the second are turned already."""
    pixels = np.where(orientation[:, None] >= 4, second_pixels[:, ::-1], second_pixels)
    agree, detail = agreement(a, b, placement, first_pixels, pixels)
    of_squares = np.log(placement[:, 2] / placement[:, 3])
    of_images = of_squares + np.log(first_pixels[:, 0] / pixels[:, 0] * pixels[:, 1] / first_pixels[:, 1])
    stretch = np.minimum(np.abs(of_squares), np.abs(of_images))
    return Verdicts(agree, detail, orientation.astype(np.int8), placement, *_shown(placement), stretch)


def _shown(placement: Placements) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """``least`` and ``most`` of verdicts."""
    shared = overlap(placement)
    return np.minimum(shared.of_first, shared.of_second), np.maximum(shared.of_first, shared.of_second)


def _one_way(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    first_pixels: NDArray[np.float32],
    second_pixels: NDArray[np.float32],
) -> Verdicts:
    # Guesses are made on smaller pictures: a quarter of the work, and as good for 32 cells a side.
    a, b = _halved(first), _halved(second)
    number = len(a)
    best = np.full(number, -np.inf, np.float32)
    orientation = np.zeros(number, np.int64)
    placement = np.zeros((number, 4), np.float32)
    for guessed_turn, guess in _guesses(a, b):
        turned_b = _turned(b, guessed_turn)
        for candidate in (guess, refined(a, turned_b, guess, _GUESS_SIDE, 4, _FIRST_LEFT_OUT)):
            agree = _at(a, turned_b, candidate, 32, 4)
            better = agree > best
            best = np.where(better, agree, best)
            orientation = np.where(better, guessed_turn, orientation)
            placement = np.where(better[:, None], candidate, placement)
    coarse = np.clip(best, -1, _HOPELESS).astype(np.float32)
    zeros = np.zeros_like(coarse)
    found = Verdicts(coarse, zeros, orientation.astype(np.int8), placement, *_shown(placement), zeros)
    going_on = np.flatnonzero(best >= _HOPELESS)
    if not len(going_on):
        return found
    turns = orientation[going_on]
    a, b = first[going_on].astype(np.float32), _turned(second[going_on].astype(np.float32), turns)
    closer = _brought_closer(a, b, placement[going_on])
    finer = _verdicts(a, b, turns, closer, first_pixels[going_on], second_pixels[going_on])
    return _better(found, going_on, finer, np.ones(len(going_on), bool))


def _brought_closer(a: Pictures, b: Pictures, placement: Placements) -> Placements:
    """Placements refined on finer pixels, where that makes them better.

    At last hardly anything is left out: of a thing before a plain ground the outline is all there is to go by, and what
    fits the least.
    """
    placement = placement.copy()
    some = np.arange(len(a))
    for side, tile, steps, left_out in _FINER:
        if not len(some):
            break
        first, second, before = a[some], b[some], placement[some]
        after = refined(first, second, before, side, steps, left_out)
        was, is_now = _at(first, second, before, side, tile), _at(first, second, after, side, tile)
        placement[some] = np.where((is_now > was)[:, None], after, before)
        some = some[np.maximum(was, is_now) >= _WORTH_MORE]
    return placement


def _halved(squares: NDArray[np.uint8]) -> Pictures:
    number, side = squares.shape[:2]
    cells = squares.reshape(number, side // 2, 2, side // 2, 2)
    return np.asarray(cells.mean(axis=(2, 4), dtype=np.float32), np.float32)


def _guesses(a: Pictures, b: Pictures) -> list[tuple[NDArray[np.int64], Placements]]:
    """Orientations and placements to begin from: the whole over the whole, and the windows most alike."""
    number = len(a)
    whole = np.tile(np.array([[0, 0, 1, 1]], np.float32), (number, 1))
    small_a, small_b = sampled(a, whole, 32), sampled(b, whole, 32)
    alike = [by_tiles(small_a, np.ascontiguousarray(turned(small_b, turn)), 4)[0] for turn in range(ORIENTATIONS)]
    guesses = [(np.argmax(alike, axis=0), whole)]
    stored, asked = np.array(STORED, np.float32), np.array(ASKED, np.float32)
    # A part of the first is a part of the second, turned, or the other way round. What is asked with is cut out first.
    for turn, window, of_asked in _best(_window_likeness(a, b)):
        guesses.append((turn, placed(stored[window], _turned_parts(asked[of_asked], turn))))
    for turn, window, of_asked in _best(_window_likeness(b, a)):
        back = _BACK[turn]
        guesses.append((back, placed(asked[of_asked], _turned_parts(stored[window], back))))
    return guesses


def _window_likeness(first: Pictures, second: Pictures) -> NDArray[np.float32]:
    """(pairs, orientations, windows, asked): correlation of windows of the first with parts of the turned second."""
    windows = descriptors(frequencies(first, STORED))
    parts = descriptors(in_orientations(frequencies(second, ASKED))).transpose(1, 3, 0, 2)  # pairs, bits, turn, asked
    number, bits = parts.shape[:2]
    alike = windows @ np.ascontiguousarray(parts).reshape(number, bits, -1)
    return alike.reshape(number, len(STORED), ORIENTATIONS, len(ASKED)).transpose(0, 2, 1, 3)


def _best(likeness: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Orientation, window and part asked with of the most alike, and of the most alike in another orientation."""
    number, shape = len(likeness), likeness.shape[1:]
    for _ in range(_TURNS_TRIED):
        best = np.unravel_index(likeness.reshape(number, -1).argmax(axis=1), shape)
        yield best
        likeness[np.arange(number), best[0]] = -np.inf


def _turned(pictures: Pictures, orientation: NDArray[np.int64]) -> Pictures:
    """(pairs, side, side), each in an orientation of its own."""
    found = np.empty_like(pictures)
    for each in np.unique(orientation):
        chosen = orientation == each
        found[chosen] = turned(pictures[chosen], int(each))
    return found


def _turned_parts(parts: Placements, orientation: NDArray[np.int64]) -> Placements:
    """Where parts of pictures lie in the turned pictures."""
    diagonal, across, down = ((orientation & bit) > 0 for bit in (4, 1, 2))
    left, top, width, height = np.where(diagonal[:, None], parts[:, [1, 0, 3, 2]], parts).T
    left = np.where(across, 1 - left - width, left)
    top = np.where(down, 1 - top - height, top)
    return np.stack([left, top, width, height], axis=1)


def _at(first: Pictures, second: Pictures, placements: Placements, side: int, tile: int) -> NDArray[np.float32]:
    """Agreement by tiles under some placements."""
    shared = overlap(placements)
    return by_tiles(sampled(first, shared.in_first, side), sampled(second, shared.in_second, side), tile)[0]
