"""The classifier and what it says of labels: folds, calibration, flipped labels; a function of the set alone."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from curation_assets.curate.labels import classifier
from curation_assets.curate.labels.classifier import (
    LEAST,
    Judged,
    calibration_error,
    classes_with_enough,
    folds_of,
    judge,
    sampled,
)
from curation_assets.curate.neighbours.vectors import NodeVectors
from curation_assets.progress import LogProgress
from curation_assets_tests.curate.test_neighbours import unit

Ids = NDArray[np.int64]


def bunches(each: list[int], wide: float = 1.0, seed: int = 0) -> tuple[NDArray[np.float32], Ids]:
    """Unit vectors of 16 floats about as many centres as there are numbers, mixed; and their classes."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(each)), each)).astype(np.int64)
    spread = wide * rng.normal(size=(len(labels), 16)) / 4
    return unit(np.eye(16)[labels] + spread), labels


def judged(
    vectors: NDArray[np.float32], labels: Ids, groups: Ids | None = None, fitted: NDArray[np.bool_] | None = None
) -> Judged:
    groups = np.arange(len(labels)) if groups is None else groups
    fitted = np.ones(len(labels), bool) if fitted is None else fitted
    nodes = NodeVectors([vectors], np.arange(len(labels)))
    return judge(nodes, labels, groups, fitted, int(labels.max()) + 1, LogProgress())


def test_classes_are_told_apart_and_confidence_says_how_often_that_is_right() -> None:
    vectors, labels = bunches([300, 200, 100, 60], wide=1.5)
    found = judged(vectors, labels)
    right = found.predicted == labels
    assert right.mean() > 0.8
    assert abs(found.confidence.mean() - right.mean()) < 0.02
    assert calibration_error(found.confidence, right) < 0.06
    new, truth = bunches([300, 200, 100, 60], wide=1.5, seed=1)
    told = found.classifier.probabilities(new)
    assert np.allclose(told.sum(axis=1), 1)
    assert abs(told.max(axis=1).mean() - (told.argmax(axis=1) == truth).mean()) < 0.05, "also of what it never saw"


def test_five_examples_a_class_are_enough() -> None:
    found = judged(*bunches([LEAST, LEAST, LEAST], wide=0.3))
    assert found.confidence.min() > 0.5
    assert (found.suggested == -1).all()


def test_flipped_labels_have_the_lowest_quality_and_their_class_is_suggested() -> None:
    vectors, truth = bunches([100, 100, 100], wide=1.0)
    labels, flipped = truth.copy(), np.arange(300) % 12 == 0
    labels[flipped] = (truth[flipped] + 1) % 3
    found = judged(vectors, labels)
    lowest = np.argsort(found.quality)[: flipped.sum()]
    assert flipped[lowest].mean() > 0.9
    suggested = found.suggested[flipped]
    assert (suggested == truth[flipped]).mean() > 0.9
    assert (found.quality[found.suggested == -1] > 1 / 3).all()
    assert (found.suggested[~flipped] == -1).mean() > 0.95


def test_no_group_is_fitted_on_and_judged_at_once() -> None:
    # Each photograph there twice, and its label drawn: only its copy could tell it.
    rng = np.random.default_rng(5)
    vectors = np.repeat(unit(rng.normal(size=(150, 16))), 2, axis=0)
    labels = np.repeat(rng.integers(0, 3, 150), 2)
    together = judged(vectors, labels, np.repeat(np.arange(150), 2))
    apart = judged(vectors, labels)
    assert (together.predicted == labels).mean() < 0.45
    assert (apart.predicted == labels).mean() > (together.predicted == labels).mean() + 0.05


def test_folds_keep_groups_whole_and_classes_even() -> None:
    rng = np.random.default_rng(2)
    groups = np.unique(rng.integers(0, 120, 400), return_inverse=True)[1]
    labels = (groups % 4).astype(np.int64)
    folds = folds_of(labels, groups)
    assert all(len(set(folds[groups == group])) == 1 for group in range(groups.max() + 1))
    counts = np.array([[((folds == fold) & (labels == one)).sum() for fold in range(5)] for one in range(4)])
    assert (counts.max(axis=1) - counts.min(axis=1) <= 4).all(), counts
    assert set(folds_of(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]))) == {0, 1, 2}, "fewer groups than folds"
    assert set(folds_of(np.array([0, 0, 1]), np.array([0, 0, 0]))) == {0}


def test_a_class_needs_five_examples_of_two_scenes() -> None:
    labels = np.repeat(np.arange(3), [5, 4, 6])
    groups = np.array([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6])
    assert classes_with_enough(labels, groups, 4).tolist() == [True, False, False, False]


def test_a_class_that_its_fold_knows_no_other_of_is_not_judged() -> None:
    vectors, labels = bunches([20, 20, 6])
    groups = np.where(labels == 2, 0, np.arange(46) + 1)
    groups = np.unique(groups, return_inverse=True)[1]
    found = judged(vectors, labels, groups)
    assert np.isnan(found.quality[labels == 2]).all()
    assert (found.suggested[labels == 2] == -1).all()
    assert np.isfinite(found.quality[labels < 2]).all()
    one_scene = judged(vectors, labels, np.zeros(46, np.int64))
    assert np.isnan(one_scene.quality).all()


def test_what_is_not_fitted_on_is_judged_all_the_same_and_tells_nothing() -> None:
    vectors, labels = bunches([40, 40])
    fitted = np.arange(80) % 4 > 0
    plain = judged(vectors, labels, fitted=fitted)
    other = labels.copy()
    other[~fitted] = 1 - other[~fitted]
    # Its folds are laid out by the labels as well: by groups of one label each they stay what they are.
    turned = judged(vectors, other, fitted=fitted)
    assert (turned.predicted[~fitted] == plain.predicted[~fitted]).mean() > 0.9
    assert (plain.classifier.weights == turned.classifier.weights).all()


def test_at_most_so_many_are_fitted_on_and_rare_classes_keep_theirs() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3), [100, 50, 7]))
    chosen = sampled(labels, 60)
    assert np.bincount(labels[chosen]).tolist() == [26, 26, 7]
    assert sampled(labels, 1000).all()
    first = np.flatnonzero(labels == 0)[:26]
    assert chosen[first].all()


def test_a_prediction_is_the_same_whatever_stands_beside_it() -> None:
    vectors, labels = bunches([50, 50, 50])
    made = judged(vectors, labels).classifier
    whole = made.probabilities(vectors)
    for some in (slice(3, 4), slice(10, 27), slice(0, 149)):
        assert (made.probabilities(vectors[some]) == whole[some]).all()
    back = made.probabilities(vectors[::-1].copy())[::-1]
    assert (back == whole).all()


@pytest.mark.parametrize("same", [True, False])
def test_vectors_that_tell_nothing_are_no_error(same: bool) -> None:
    vectors = np.tile(np.eye(16, dtype=np.float32)[:1], (20, 1)) if same else np.eye(20, dtype=np.float32)
    found = judged(vectors, np.arange(20) % 2)
    assert np.isfinite(found.confidence).all()


SCRIPT = """
import hashlib, numpy as np
from curation_assets_tests.curate.labels.test_classifier import bunches, judged
found = judged(*bunches([300, 200, 100, 60], wide=1.5))
parts = (found.predicted, found.confidence, found.quality, found.suggested, found.classifier.weights)
print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""


def test_any_number_of_threads_finds_the_same() -> None:
    found = set()
    for threads in ("1", "2"):
        command = [sys.executable, "-c", SCRIPT]
        environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        found.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(found) == 1


def test_fits_side_by_side_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = bunches([100, 60, 40], wide=1.5)
    found = judged(vectors, labels)
    monkeypatch.setattr(classifier, "_WORKERS", 1)
    assert (judged(vectors, labels).quality == found.quality).all()
