"""Drift: whether the images of a version are as those of the last one, as the model sees them.

A classifier two-sample test (Lopez-Paz and Oquab, 2017): a linear discriminant with shrunk covariance (scikit-learn;
Ledoit and Wolf, 2004) learns to tell vectors of one version from those of the other, and is judged on images that it
was not fitted on. Its area under the ROC curve is 0.5 where it can't, and 1 where no image of one is as any of the
other. An image that both hold speaks for neither, so what came counts by how much of it there is: a fifth of wholly
different images is 0.6. ``python -m benchmarks.drift`` says what it finds and what it misses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.datasets.splits.splitting import chance_of

LEAST = 50  # contents of each version with a vector: below, chance is as large as any drift
MOST = 6_000  # contents of both together that are looked at
_FOLDS = 5
_SEED = 0
# Five classifiers judge, and each is drawn: areas scatter more than the error for one that is given says. Measured.
_WIDER = 1.5
_CERTAIN = 2.0  # errors that an area has to be above a limit
_SHOWN = 5
_DIGITS = 9  # of scores: sums differ in the last bits from one machine to another


@dataclass(frozen=True)
class Drift:
    """How far two versions are apart.

    Attributes:
        version: the one before.
        area: under the ROC curve, 0 to 1; None: not measured.
        error: of it, one standard error.
        came: contents that only the later one has, of those looked at.
        area_of_came: of these alone against the version before; None where there are none.
        unlike: contents that came and are least like the version before, the least like first.
        lacking: contents of the version before that have no vector any more.
    """

    version: int
    area: float | None
    error: float = 0.0
    came: int = 0
    area_of_came: float | None = None
    unlike: list[str] = field(default_factory=list)
    lacking: int = 0

    def is_above(self, limit: float) -> bool:
        """Whether there is more drift than that, by more than chance explains."""
        return self.area is not None and self.area - _CERTAIN * self.error > limit

    @property
    def told(self) -> str:
        """In a line."""
        if self.area is None:
            return f"not measured: fewer than {LEAST} distinct images of one of the two have a vector"
        came = f"; of {self.came:,} that came alone {self.area_of_came:.3f}" if self.area_of_came is not None else ""
        lacking = f"; {self.lacking:,} of its images have no vector any more" if self.lacking else ""
        return f"{self.area:.3f} ± {_CERTAIN * self.error:.3f} against version {self.version}{came}{lacking}"


def drift(
    version: int,
    before: pl.Series,
    now: pl.Series,
    known: pl.Series,
    vectors_of: Callable[[pl.Series], NDArray[np.float32]],
) -> Drift:
    """Compare two versions. A function of their sets of contents and the vectors.

    Args:
        version: the one before.
        before, now: SHA-256 of contents, hexadecimal.
        known: those that have a vector.
        vectors_of: (n, dimension) unit vectors of some.
    """
    from threadpoolctl import threadpool_limits

    before, now = before.unique(), now.unique()
    lacking = len(before) - int(before.is_in(known.implode()).sum())
    contents = pl.concat([before, now]).unique().sort()
    contents = contents.filter(contents.is_in(known.implode()))
    chance = chance_of(contents, _SEED)
    chosen = np.sort(np.argsort(chance, kind="stable")[:MOST])
    contents, chance = contents.gather(chosen), chance[chosen]
    was, is_now = (contents.is_in(of.implode()).to_numpy() for of in (before, now))
    if min(was.sum(), is_now.sum()) < LEAST:
        return Drift(version, None, lacking=lacking)
    if (was == is_now).all():
        return Drift(version, 0.5, lacking=lacking)
    with threadpool_limits(1):  # of BLAS: several add up in the order in which they come to it
        scores = _scores(vectors_of(contents), was, is_now, (chance % _FOLDS).astype(np.int64))
    came = is_now & ~was
    area, error = _area(scores, was, is_now)
    ordered = np.flatnonzero(came)[np.argsort(-scores[came], kind="stable")][:_SHOWN]
    return Drift(
        version,
        area,
        _WIDER * error,
        int(came.sum()),
        _area(scores, was, came)[0] if came.any() else None,
        contents.gather(ordered).to_list(),
        lacking,
    )


def _scores(
    vectors: NDArray[np.float32], was: NDArray[np.bool_], is_now: NDArray[np.bool_], fold: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n,) how much rather than of the version before each is of the later one, by what was fitted without it."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    scores = np.zeros(len(vectors))
    # What both have stands in both: its two rows are in one fold.
    rows = np.concatenate([np.flatnonzero(was), np.flatnonzero(is_now)])
    later = np.arange(len(rows)) >= was.sum()
    for one in range(_FOLDS):
        fitted, judged = fold[rows] != one, np.flatnonzero(fold == one)
        if not len(judged) or not 0 < later[fitted].sum() < fitted.sum():
            continue
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.5, 0.5])
        model.fit(vectors[rows[fitted]].astype(np.float64), later[fitted])
        scores[judged] = model.decision_function(vectors[judged].astype(np.float64))
    return np.round(scores, _DIGITS)


def _area(scores: NDArray[np.float64], one: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[float, float]:
    """How often one drawn of the others scores above one drawn of the first, ties half; and its standard error.

    The error is that of DeLong and others (1988), summed over images: one that is in both pulls both ways at once.
    """
    below = _share_below(scores, scores[one])  # of the first
    above = 1 - _share_below(scores, scores[other])  # of the others
    area = float(below[other].mean())
    pull = np.where(other, below - area, 0.0) / other.sum() + np.where(one, above - area, 0.0) / one.sum()
    return area, float(np.sqrt((pull**2).sum()))


def _share_below(scores: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) share of some scores that is below each, ties half."""
    ordered = np.sort(among)
    low, high = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    return np.asarray((low + high) / (2 * len(ordered)), np.float64)
