"""Units of images put on sides, so that every class has its share on each: an integer program, relaxed where large.

Minimised is the worst class: how many points its number on a side is off, of the side's wanted size. Units of the same
classes are alike, so they are counted, not listed; the relaxation's optimum is the bound that the outcome is told with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

Counts = NDArray[np.int64]

_MOST_KINDS = 1000  # of units in one program, those of most images; others are spread by class, and placed after it
_MOST_WHOLE = 200  # kinds in the integer program that places what the relaxation cuts
_NODES = 500  # of its search; a number, not a time, so that every machine finds the same
_MEAN = 1e-3  # weight of all classes beside the worst one


@dataclass(frozen=True)
class Placement:
    """Where units went.

    Attributes:
        placed: (kinds, sides) how many units of each kind went to each side.
        worst: points: 100 times the largest difference of a class's number on a side from its share of all, by the
            side's wanted size.
        bound: points that no placement can be below.
    """

    placed: Counts
    worst: float
    bound: float


def place(kinds: Counts, numbers: Counts, shares: Sequence[float], given: Counts) -> Placement:
    """Put units on sides.

    Args:
        kinds: (kinds, classes) images of each class in a unit of a kind; no two rows alike.
        numbers: (kinds,) how many units there are of each.
        shares: (sides,) above 0, sum 1.
        given: (sides, classes) images that stand on a side already.
    """
    asked = _Asked.of(kinds, numbers, shares, given)
    every, fixed, wanted, scale = asked.every, asked.fixed, asked.wanted, asked.scale
    placed = np.zeros((len(kinds), len(wanted)), np.int64)
    if not len(kinds):
        worst = _worst(fixed, wanted, scale)
        return Placement(placed, worst, worst)
    relaxed, bound = asked.relaxed()
    large = asked.large
    placed[large] = np.floor(relaxed + 1e-6).astype(np.int64)
    # What the relaxation cuts is placed whole, together with the smallest, which even out what that costs.
    is_cut = placed[large].sum(axis=1) < numbers[large]
    free = np.concatenate([large[is_cut], large[~is_cut][::-1]])[:_MOST_WHOLE]
    placed[free] = 0
    now = fixed + placed.T @ every + asked.spread
    placed[free], of_whole = _whole(every[free], numbers[free], now, wanted, scale)
    if len(free) == len(kinds):
        bound = max(bound, of_whole)
    left = numbers - placed.sum(axis=1)
    if left.any():
        placed += _one_by_one(every, left, fixed + placed.T @ every, wanted, scale)
    worst = _worst(fixed + placed.T @ every, wanted, scale)
    return Placement(placed, worst, min(bound, worst))


def least(kinds: Counts, numbers: Counts, shares: Sequence[float], given: Counts) -> float:
    """Points of the worst class that no placement can be below; of many kinds as far as those of most images tell.

    Args:
        kinds, numbers, shares, given: as :func:`place` has them.
    """
    asked = _Asked.of(kinds, numbers, shares, given)
    return asked.relaxed()[1] if len(kinds) else _worst(asked.fixed, asked.wanted, asked.scale)


def worst_of(kept: NDArray[np.float64], shares: Sequence[float]) -> float:
    """Points of the worst class, as ``Placement`` has them, of (sides, classes) images that are kept."""
    now = _with_total(kept)
    wanted = np.asarray(shares)[:, None] * now.sum(axis=0)
    return _worst(now, wanted, 100.0 / np.maximum(wanted[:, -1], 1e-9))


@dataclass(frozen=True)
class _Asked:
    """What is to be placed, in numbers of images; the last class is all of them.

    Attributes:
        every: (kinds, classes) in a unit of a kind.
        numbers: (kinds,) units.
        fixed: (sides, classes) that stand on a side already.
        wanted: (sides, classes) in the end.
        scale: (sides,) points of an image.
        large: the kinds that a program holds, those of most images first.
        spread: (sides, classes) of all others, as if they could be cut.
    """

    every: Counts
    numbers: Counts
    fixed: NDArray[np.float64]
    wanted: NDArray[np.float64]
    scale: NDArray[np.float64]
    large: Counts
    spread: NDArray[np.float64]

    @classmethod
    def of(cls, kinds: Counts, numbers: Counts, shares: Sequence[float], given: Counts) -> _Asked:
        share, every = np.asarray(shares, np.float64), _with_total(kinds)
        fixed = _with_total(given).astype(np.float64)
        wanted = share[:, None] * (fixed.sum(axis=0) + numbers @ every)
        order = np.lexsort((np.arange(len(kinds)), -every[:, -1] * numbers))
        large, small = order[:_MOST_KINDS], order[_MOST_KINDS:]
        spread = share[:, None] * (numbers[small] @ every[small])
        return cls(every, numbers, fixed, wanted, 100.0 / np.maximum(wanted[:, -1], 1e-9), large, spread)

    def relaxed(self) -> tuple[NDArray[np.float64], float]:
        """As :func:`_relaxed`, of the large kinds."""
        large, now = self.large, self.fixed + self.spread
        return _relaxed(self.every[large], self.numbers[large], now, self.wanted, self.scale)


def _with_total(counts: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([counts, counts.sum(axis=1, keepdims=True)], axis=1)


def _worst(now: NDArray[np.float64], wanted: NDArray[np.float64], scale: NDArray[np.float64]) -> float:
    return float((np.abs(now - wanted) * scale[:, None]).max())


def _program(
    kinds: Counts, numbers: Counts, now: NDArray[np.float64], wanted: NDArray[np.float64], scale: NDArray[np.float64]
) -> tuple[NDArray[np.float64], sparse.csr_matrix, NDArray[np.float64], sparse.csr_matrix, NDArray[np.float64]]:
    """Costs and constraints, over units of a kind on a side, points of a class on a side, and the worst."""
    from scipy import sparse

    n, sides, classes = len(kinds), len(wanted), kinds.shape[1]
    cells = sides * classes
    weights = sparse.kron(sparse.csr_matrix(kinds.T.astype(np.float64)), sparse.identity(sides), format="csr")
    # Rows of it are class by class and side by side: the points of (class, side).
    steps = np.tile(scale, classes)
    off = sparse.diags(steps)
    error = (steps * (wanted - now).T.reshape(-1))[:, None]
    points, worst = sparse.identity(cells), np.ones((cells, 1))
    above = sparse.hstack([off @ weights, -points, sparse.csr_matrix((cells, 1))])
    below = sparse.hstack([-(off @ weights), -points, sparse.csr_matrix((cells, 1))])
    under = sparse.hstack([sparse.csr_matrix((cells, n * sides)), points, -sparse.csr_matrix(worst)])
    upper = sparse.vstack([above, below, under], format="csr")
    limit = np.concatenate([error[:, 0], -error[:, 0], np.zeros(cells)])
    all_of = sparse.hstack(
        [sparse.kron(sparse.identity(n), np.ones((1, sides))), sparse.csr_matrix((n, cells + 1))], format="csr"
    )
    cost = np.concatenate([np.zeros(n * sides), np.full(cells, _MEAN / cells), [1.0]])
    return cost, upper, limit, all_of, numbers.astype(np.float64)


def _relaxed(
    kinds: Counts, numbers: Counts, now: NDArray[np.float64], wanted: NDArray[np.float64], scale: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """(kinds, sides) units of each, as if they could be cut; and the worst class's points then."""
    from scipy.optimize import linprog

    cost, upper, limit, all_of, number = _program(kinds, numbers, now, wanted, scale)
    found = linprog(cost, upper, limit, all_of, number, method="highs-ds")
    if found.x is None:
        raise ArithmeticError(f"no placement: {found.message}")
    # The mean of all points, which is in the costs too, is at most the worst.
    return found.x[: len(kinds) * len(wanted)].reshape(len(kinds), -1), max(0.0, float(found.fun)) / (1 + _MEAN)


def _whole(
    kinds: Counts, numbers: Counts, now: NDArray[np.float64], wanted: NDArray[np.float64], scale: NDArray[np.float64]
) -> tuple[Counts, float]:
    """(kinds, sides) whole units of each; and the worst class's points that no such placement can be below."""
    from scipy.optimize import LinearConstraint, milp

    cost, upper, limit, all_of, number = _program(kinds, numbers, now, wanted, scale)
    units = len(kinds) * len(wanted)
    found = milp(
        cost,
        integrality=np.concatenate([np.ones(units), np.zeros(len(cost) - units)]),
        constraints=[LinearConstraint(upper, -np.inf, limit), LinearConstraint(all_of, number, number)],
        options={"node_limit": _NODES, "mip_rel_gap": 0.01},
    )
    simple = _one_by_one(kinds, numbers, now, wanted, scale)
    if found.x is None:
        return simple, 0.0
    placed = np.rint(found.x[:units]).astype(np.int64).reshape(len(kinds), -1)
    is_one = (placed >= 0).all() and (placed.sum(axis=1) == numbers).all()
    if not is_one or _worst(now + placed.T @ kinds, wanted, scale) > _worst(now + simple.T @ kinds, wanted, scale):
        placed = simple
    # The mean of all points, which is in the costs too, is at most the worst.
    return placed, max(0.0, float(found.mip_dual_bound or 0.0)) / (1 + _MEAN)


def _one_by_one(
    kinds: Counts, numbers: Counts, now: NDArray[np.float64], wanted: NDArray[np.float64], scale: NDArray[np.float64]
) -> Counts:
    """(kinds, sides): units, the largest first, where they do most good."""
    placed = np.zeros((len(kinds), len(wanted)), np.int64)
    now = now.copy()
    weight = np.sqrt(scale)  # sides then fill evenly, and not the small ones first
    for kind in np.lexsort((np.arange(len(kinds)), -kinds[:, -1])):
        unit = kinds[kind]
        touched = np.flatnonzero(unit)
        for _ in range(int(numbers[kind])):
            before = (now[:, touched] - wanted[:, touched]) * weight[:, None]
            after = before + unit[touched] * weight[:, None]
            side = int(np.argmin((after**2 - before**2).sum(axis=1)))
            now[side] += unit
            placed[kind, side] += 1
    return placed
