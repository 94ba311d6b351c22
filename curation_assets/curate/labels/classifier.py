"""A calibrated classifier on vectors, and how likely each label that it was fitted to is right.

Multinomial logistic regression (scikit-learn), cross-validated over groups, so that no photograph or scene is fitted on
and judged at once. Its probabilities are calibrated by one temperature, found on what is out of fold (Guo and others,
2017). Wrong labels pull a classifier towards themselves: so a second round is fitted without those that the first one
contradicts, and the quality of a label is its calibrated probability in that round. ``python -m benchmarks.labels``
compares it with others.

All is a function of the set of examples: they come in the order of their contents, fits run on one thread of BLAS each,
and logits are sums that float64 holds without rounding.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation_assets.curate.neighbours.vectors import Floats, Ids, NodeVectors
from curation_assets.progress import Progress

LEAST = 5  # examples of a class
FOLDS = 5
STRENGTH = 3.0  # C of the regression, for vectors about their mean, scaled to a mean square of 1
MOST = 50_000  # examples that are fitted on: bounds time and memory; the others are judged all the same
_ITERATIONS, _TOLERANCE = 200, 3e-5
_STEPS = 2.0**25  # of vectors, as in the graph of neighbours
_ROOM = 27  # bits of a class's weights in steps: with 25 of a unit vector, sums stay below 2⁵³
_NEVER = -1e9  # logit of a class that a fold has no example of
_LEAST_PROBABILITY = 1e-12
_WORKERS = 2  # fits at once: each copies its share of the vectors
_BLOCK = 8192


@dataclass(frozen=True)
class Classifier:
    """A fitted classifier.

    Attributes:
        weights: (classes, dimension) float64, whole numbers of steps; :meth:`logits` says of what size.
        bias: (classes,) float64.
        scale: what a product of steps is multiplied by.
        temperature: logits are divided by it.
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    scale: float
    temperature: float = 1.0

    def logits(self, vectors: Floats) -> NDArray[np.float64]:
        """(n, classes) of (n, dimension) unit vectors; each row is the same whatever stands beside it."""
        steps = np.rint(vectors * np.float32(_STEPS)).astype(np.float64)
        return np.asarray(steps @ self.weights.T * self.scale + self.bias)

    def probabilities(self, vectors: Floats) -> NDArray[np.float64]:
        """(n, classes) calibrated, each row sums to 1."""
        return softmax(self.logits(vectors) / self.temperature)


@dataclass(frozen=True)
class Judged:
    """What cross-validation says of each example; all arrays are (examples,).

    Attributes:
        predicted: likeliest class by a classifier that was fitted without the example's group.
        confidence: its calibrated probability.
        quality: of the example's own label; NaN where that classifier knew no other example of the class.
        suggested: likeliest class by the second round where it is another than the label; -1: the label stands.
        classifier: fitted to all examples, for everything else.
    """

    predicted: Ids
    confidence: Floats
    quality: Floats
    suggested: Ids
    classifier: Classifier


def classes_with_enough(labels: Ids, groups: Ids, number: int) -> NDArray[np.bool_]:
    """(number,) which classes have ``LEAST`` examples, of at least two groups: one scene can't be judged by another.

    Args:
        labels, groups: (examples,) class and group of each.
    """
    pairs = np.unique(np.stack([labels, groups], axis=1), axis=0)
    counts, scenes = np.bincount(labels, minlength=number), np.bincount(pairs[:, 0], minlength=number)
    return np.asarray((counts >= LEAST) & (scenes >= 2))


def sampled(labels: Ids, most: int = MOST) -> NDArray[np.bool_]:
    """(examples,) which ones are fitted on: the first of each class, as many of each as fit into ``most``."""
    counts = np.bincount(labels)
    low, high = 0, int(counts.max(initial=0))
    while low < high:  # the largest number a class such that all together are no more than `most`
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(counts, middle).sum() <= most else (low, middle - 1)
    order = np.argsort(labels, kind="stable")
    place = np.empty(len(labels), np.int64)
    place[order] = _places(labels[order])
    return np.asarray(place < max(low, LEAST))


def folds_of(labels: Ids, groups: Ids, folds: int = FOLDS) -> Ids:
    """(examples,) a fold for each, that of its group; classes are spread evenly over them.

    The largest group comes first; it goes where its commonest class is rarest so far, then where there is least.

    Args:
        groups: numbers from 0, without gaps; fewer of them than folds make fewer folds.
    """
    sizes = np.bincount(groups)
    folds = min(folds, len(sizes))
    number = int(labels.max()) + 1
    pairs, counts = np.unique(groups * number + labels, return_counts=True)
    ranked = np.lexsort((pairs, -counts, pairs // number))
    first = np.ones(len(ranked), bool)
    first[1:] = (pairs // number)[ranked][1:] != (pairs // number)[ranked][:-1]
    main = pairs[ranked[first]] % number  # groups come in order, each with its commonest class
    of_class, of_all, found = np.zeros((number, folds), np.int64), np.zeros(folds, np.int64), np.empty(len(sizes), int)
    for group in np.argsort(-sizes, kind="stable"):
        seen = of_class[main[group]]
        fold = int(np.lexsort((of_all, seen))[0])
        seen[fold] += sizes[group]
        of_all[fold] += sizes[group]
        found[group] = fold
    return np.asarray(found[groups], np.int64)


def judge(
    vectors: NodeVectors, labels: Ids, groups: Ids, fitted: NDArray[np.bool_], classes: int, progress: Progress
) -> Judged:
    """Fit a classifier, and judge every example by one that was fitted without it.

    Args:
        vectors: one for each example, in the order of their contents.
        labels: (examples,) numbers of classes.
        groups: (examples,) numbers from 0 without gaps; examples of one photograph or scene have the same.
        fitted: (examples,) which ones are fitted on; the others are only judged.
        classes: how many there are; each has examples among the fitted.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # of BLAS: several add up in the order in which they come to it
        return _Judgement(vectors, labels, groups, fitted, classes, progress).done()


class _Judgement:
    """The fits of one field, and what all of them need."""

    def __init__(
        self,
        vectors: NodeVectors,
        labels: Ids,
        groups: Ids,
        fitted: NDArray[np.bool_],
        classes: int,
        progress: Progress,
    ) -> None:
        self._vectors, self._labels, self._classes, self._progress = vectors, labels, classes, progress
        self._rows = np.flatnonzero(fitted)
        self._folds = folds_of(labels, groups)
        self._number = int(self._folds.max()) + 1
        self._scaled = vectors.take(self._rows).copy()
        self._mean = self._scaled.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._scaled -= self._mean
        blocks = range(0, len(self._rows), _BLOCK)
        squares = sum(float((self._scaled[at : at + _BLOCK].astype(np.float64) ** 2).sum()) for at in blocks)
        self._size = math.sqrt(squares / len(self._rows)) or 1.0  # all the same: nothing to scale
        self._scaled /= np.float32(self._size)

    def done(self) -> Judged:
        """Two rounds of cross-validation, and the classifier for everything else."""
        progress, rows = self._progress, self._rows
        progress.start("classifiers", 2 * self._number + 1)
        labels = self._labels[rows]
        every = np.ones(len(rows), bool)
        first = self._round(every, [None] * self._number)
        logits = self._out_of_fold(first, rows)
        temperature = _temperature(logits, labels)
        agreeing = _agreeing(softmax(logits / temperature), labels)
        # Each begins at what was fitted without the same fold, which costs half and tells nothing of it.
        second = self._round(agreeing, first)
        of_second = _temperature(self._out_of_fold(second, rows), labels)
        classifier = self._fit(every)
        progress.advance(1)
        number = len(self._labels)
        found = Judged(
            predicted=np.empty(number, np.int64),
            confidence=np.empty(number, np.float32),
            quality=np.empty(number, np.float32),
            suggested=np.empty(number, np.int64),
            classifier=Classifier(classifier.weights, classifier.bias, classifier.scale, temperature),
        )
        for start in range(0, number, _BLOCK):
            some = np.arange(start, min(start + _BLOCK, number))
            own, mine = np.arange(len(some)), self._labels[some]
            told = softmax(self._out_of_fold(first, some) / temperature)
            found.predicted[some] = told.argmax(axis=1)
            found.confidence[some] = told.max(axis=1)
            logits = self._out_of_fold(second, some)
            known = logits[own, mine] > _NEVER / 2
            told = softmax(logits / of_second)
            best = told.argmax(axis=1)
            found.quality[some] = np.where(known, told[own, mine], np.nan)
            found.suggested[some] = np.where(known & (best != mine), best, -1)
        return found

    def _round(self, some: NDArray[np.bool_], before: Sequence[Classifier | None]) -> list[Classifier]:
        """One classifier a fold, fitted without it to some of the fitted; each begins at that of before."""
        of_fold = self._folds[self._rows]
        made: list[Classifier] = []
        with ThreadPoolExecutor(min(_WORKERS, os.cpu_count() or 1)) as pool:
            for one in pool.map(lambda fold: self._fit(some & (of_fold != fold), before[fold]), range(self._number)):
                made.append(one)
                self._progress.advance(1)
        return made

    def _fit(self, some: NDArray[np.bool_], before: Classifier | None = None) -> Classifier:
        labels = self._labels[self._rows[some]]
        return _fit(self._scaled[some], labels, self._classes, self._mean, self._size, before)

    def _out_of_fold(self, made: Sequence[Classifier], rows: Ids) -> NDArray[np.float64]:
        """(rows, classes) logits of some examples, each by the classifier that was fitted without its fold."""
        logits = np.empty((len(rows), self._classes))
        for fold, one in enumerate(made):
            mine = np.flatnonzero(self._folds[rows] == fold)
            for start in range(0, len(mine), _BLOCK):
                some = mine[start : start + _BLOCK]
                logits[some] = one.logits(self._vectors.take(rows[some]))
        return logits


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, classes) probabilities of logits."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _fit(scaled: Floats, labels: Ids, classes: int, mean: Floats, size: float, before: Classifier | None) -> Classifier:
    """A classifier of plain unit vectors, fitted to scaled ones.

    Args:
        before: to begin from.
    """
    weights, bias = np.zeros((classes, scaled.shape[1])), np.full(classes, _NEVER)
    there = np.unique(labels)
    if len(there) < 2:
        bias[there] = 0
    else:
        coefficients, intercepts = _regression(scaled, labels, there, mean, size, before)
        weights[there] = coefficients / size
        bias[there] = intercepts - weights[there] @ mean.astype(np.float64)
    # In steps whose products with those of unit vectors stay below 2⁵³, so that a sum is exact in any order.
    longest = float(np.linalg.norm(weights, axis=1).max()) or 1.0
    step = 2.0 ** (math.ceil(math.log2(longest)) - _ROOM)
    return Classifier(np.rint(weights / step), bias, step / _STEPS)


def _regression(
    scaled: Floats, labels: Ids, there: Ids, mean: Floats, size: float, before: Classifier | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(classes that are there, dimension) weights and (classes that are there,) intercepts for scaled vectors."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=STRENGTH, max_iter=_ITERATIONS, tol=_TOLERANCE, warm_start=before is not None)
    if before is not None and len(there) > 2 and bool((before.bias[there] > _NEVER / 2).all()):
        plain = before.weights[there] * before.scale * _STEPS
        model.coef_ = np.asarray(plain * size, np.float32)
        model.intercept_ = np.asarray(before.bias[there] + plain @ mean.astype(np.float64), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaled, labels)
    coefficients, intercepts = np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
    if len(there) == 2:  # one row: what speaks for the second
        return np.stack([-coefficients[0], coefficients[0]]) / 2, np.array([-intercepts[0], intercepts[0]]) / 2
    return coefficients, intercepts


def _temperature(logits: NDArray[np.float64], labels: Ids) -> float:
    """What to divide logits by so that the labels' mean log probability is largest; between 1/50 and 50."""
    from scipy.optimize import minimize_scalar

    own = np.arange(len(labels))

    def loss(logarithm: float) -> float:
        found = softmax(logits * math.exp(-logarithm))[own, labels]
        return float(-np.log(np.maximum(found, _LEAST_PROBABILITY)).mean())

    limit = math.log(50)
    return float(math.exp(minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-4}).x))


def _agreeing(probabilities: NDArray[np.float64], labels: Ids) -> NDArray[np.bool_]:
    """(examples,) those that the second round is fitted to: of each class the ``LEAST`` likeliest at least."""
    found = probabilities.argmax(axis=1) == labels
    order = np.lexsort((-probabilities[np.arange(len(labels)), labels], labels))
    found[order[_places(labels[order]) < LEAST]] = True
    return np.asarray(found)


def _places(values: Ids) -> Ids:
    """(n,) of ascending values, how many equal ones come before each."""
    return np.asarray(np.arange(len(values)) - np.searchsorted(values, values))


def calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error: how far confidence lies from the share that is right, over bins of equal width."""
    if not len(confidence):
        return math.nan
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    excess = confidence.astype(np.float64) - right
    return float(sum(abs(excess[place == at].sum()) for at in range(bins)) / len(confidence))
