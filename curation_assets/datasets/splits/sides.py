"""Sides of a split: train, val, test; or folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NONE = -1  # side of what is left out, or has none yet


@dataclass(frozen=True)
class Sides:
    """Sides of a split.

    Attributes:
        names: of them.
        shares: above 0, sum 1.
        cleanest: their numbers, the one first that others give way to.
    """

    names: Sequence[str]
    shares: Sequence[float]
    cleanest: Sequence[int]
