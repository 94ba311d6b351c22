"""How far to trust what nobody looked at: bands of a score, drawn at random within each, and what that proves.

The bound of a band is Clopper and Pearson's (Biometrika 26, 1934), one-sided: were the share of wrong ones larger, so
few among so many that were looked at would be less likely than one minus the confidence. Of several bands all hold at
once: each is bounded with a part of what may be missed (Bonferroni). Drawing without putting back only makes them hold
the more.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
SIZES = (59, 140, 300)  # of a band; 59 of which none is wrong: at most 5 % are
_BANDS = 3  # of what is flagged
_BEYOND_LEAST = 100  # images of the band beyond the threshold


@dataclass(frozen=True)
class Band:
    """Images whose turning points lie between two thresholds, and what was said of those that were drawn.

    Attributes:
        first, last: thresholds; ``first`` is the worse one.
        flagged: whether it lies on the bad side of the line.
        images: in it, when they were drawn.
        drawn: of them.
        right: drawn, and found to have the problem.
        wrong: drawn, and found not to.
        unsure: drawn, and nobody could tell; they count as what is worse.
        gone: drawn, and gone before anybody looked; they do too.
    """

    first: float
    last: float
    flagged: bool
    images: int
    drawn: int
    right: int = 0
    wrong: int = 0
    unsure: int = 0
    gone: int = 0

    @property
    def looked_at(self) -> int:
        """How many of the drawn ones."""
        return self.right + self.wrong + self.unsure

    @property
    def is_done(self) -> bool:
        """Whether all that were drawn and are there were looked at: no bound is stated before."""
        return self.looked_at + self.gone == self.drawn

    def most_wrong(self, confidence: float = CONFIDENCE) -> float | None:
        """The largest share of images without the problem that the band may have; None before it is done."""
        return self._most(self.wrong + self.unsure + self.gone, confidence)

    def most_right(self, confidence: float = CONFIDENCE) -> float | None:
        """The largest share of images with the problem that the band may have; None before it is done."""
        return self._most(self.right + self.unsure + self.gone, confidence)

    def _most(self, found: int, confidence: float) -> float | None:
        if not self.is_done or not self.drawn:
            return None
        if self.drawn == self.images:
            return found / self.images
        return upper_bound(found, self.drawn, confidence)


@dataclass(frozen=True)
class Suggestion:
    """A threshold at a band's edge, and what is known of the images that it names.

    Attributes:
        images: that it names; ``looked_at`` of them, of which ``wrong`` don't have the problem.
        gone: of those that were drawn; they count as wrong.
        most_wrong: share of them, at most, with the confidence.
    """

    threshold: float
    images: int
    looked_at: int
    wrong: int
    gone: int
    most_wrong: float


def upper_bound(found: int, of: int, confidence: float = CONFIDENCE) -> float:
    """The largest share that so few among those that were looked at are compatible with."""
    if found >= of:
        return 1.0
    from scipy.special import betaincinv  # the quantile of the beta distribution; not `scipy.stats`, half a second

    return float(betaincinv(found + 1, of - found, confidence))


def part_of(confidence: float, bands: int) -> float:
    """The confidence of each of some bands, so that all hold at once with the one given."""
    return 1 - (1 - confidence) / max(1, bands)


def suggestions(bands: Sequence[Band], confidence: float = CONFIDENCE) -> list[Suggestion]:
    """Thresholds at the edges of bands, from the worst on as far as bands are done, with what they name.

    All their bounds hold at once.

    Args:
        bands: the worst first.
    """
    each = part_of(confidence, len(bands))
    found, images, looked_at, wrong, gone, most = list[Suggestion](), 0, 0, 0, 0, 0.0
    for band in bands:
        bound = band.most_wrong(each)
        if bound is None:
            break
        images, looked_at = images + band.images, looked_at + band.looked_at
        wrong, gone, most = wrong + band.wrong + band.unsure, gone + band.gone, most + bound * band.images
        found.append(Suggestion(band.last, images, looked_at, wrong, gone, most / images))
    return found


@dataclass(frozen=True)
class Drawn:
    """A band's images that are to be looked at, in the order in which they are."""

    first: float
    last: float
    flagged: bool
    images: int
    places: list[int]


def draw(
    at: NDArray[np.float64], flagged: int, size: int, seed: str, *, line: float | None = None, is_low: bool = True
) -> list[Drawn]:
    """Cut a queue into bands, and draw from each: three of what is flagged, one of as many beyond the line.

    Images with equal turning points are in one band.

    Args:
        at: turning points of the queue, the worst first.
        flagged: how many of them.
        size: to be drawn from a band; all of one that has fewer.
        seed: of what is drawn.
        line: threshold that names those that are flagged; None: any that does.
        is_low: whether low turning points are the worst.
    """
    rng = random.Random(seed)
    beyond = min(len(at), flagged + max(flagged, _BEYOND_LEAST))
    cuts = sorted({_without_cutting(at, flagged * part // _BANDS) for part in range(1, _BANDS)} | {flagged})
    cuts.append(_without_cutting(at, beyond))
    bands, begin = list[Drawn](), 0
    for end in cuts:
        if end <= begin:
            continue
        places = rng.sample(range(begin, end), min(size, end - begin))
        last = line if end == flagged and line is not None else _edge(at, end, is_low=is_low)
        bands.append(Drawn(float(at[begin]), last, end <= flagged, end - begin, places))
        begin = end
    return bands


def _without_cutting(at: NDArray[np.float64], place: int) -> int:
    """The place, or the first after it where another value begins."""
    while 0 < place < len(at) and at[place] == at[place - 1]:
        place += 1
    return place


def _edge(at: NDArray[np.float64], end: int, *, is_low: bool) -> float:
    """A threshold that names what lies before a place, and not what lies after it: a short number between the two."""
    inside = float(at[end - 1])
    beyond = max(abs(inside) / 100, 1e-9)  # behind the last one nothing lies
    outside = float(at[end]) if end < len(at) else inside + (beyond if is_low else -beyond)
    for digits in range(1, 17):
        found = float(f"{(inside + outside) / 2:.{digits}g}")
        if min(inside, outside) < found < max(inside, outside):
            return found
    return (inside + outside) / 2


def agreement(answers: Sequence[Sequence[str]]) -> tuple[int, float] | None:
    """How many things several people judged, and how often two of them said the same; None where there is none.

    Args:
        answers: of each thing one answer a person.
    """
    several = [said for said in answers if len(said) > 1]
    if not several:
        return None
    pairs = sum(comb(len(said), 2) for said in several)
    same = sum(comb(said.count(one), 2) for said in several for one in set(said))
    return len(several), same / pairs
