from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from curation_assets.search import exact
from curation_assets.search.exact import nearest, take


def unit(rng: np.random.Generator, rows: int, dimension: int) -> NDArray[np.float32]:
    vectors = rng.normal(size=(rows, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def cut(vectors: NDArray[np.float32], rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """The same vectors as several segments, some of them perhaps empty."""
    places = np.sort(rng.integers(0, len(vectors) + 1, rng.integers(0, 4)))
    return np.split(vectors, places)


@given(
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(1, 50),
    st.floats(0, 1),
    st.integers(1, 200),
    st.sampled_from([(0, 1000), (1000, 0), (1000, 1000)]),
    st.integers(0, 10**6),
)
def test_the_order_is_that_of_comparing_each_pair_however_the_vectors_are_cut_and_filtered(
    rows: int, queries: int, k: int, share: float, block: int, costs: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors, asked = unit(rng, rows, 8), unit(rng, queries, 8)
    allowed = rng.random(rows) < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_COSINES", block)
        patch.setattr(exact, "_PICKED", costs[0])  # rows picked one by one, whole runs, or all
        patch.setattr(exact, "_RUN", costs[1])
        found, scores = nearest(cut(vectors, rng), asked, k, allowed)
    assert found.shape == scores.shape == (queries, min(k, int(allowed.sum())))
    for query, positions, cosines in zip(asked, found, scores, strict=True):
        by_hand = [float(sum(a * b for a, b in zip(vector, query, strict=True))) for vector in vectors]
        assert np.allclose([by_hand[position] for position in positions], cosines, atol=1e-5)
        best = sorted((cosine for cosine, may in zip(by_hand, allowed, strict=True) if may), reverse=True)[:k]
        assert np.allclose(best, cosines, atol=1e-5)
        assert len(set(positions)) == len(positions)
        assert all(allowed[positions])


def test_of_equal_vectors_the_earlier_comes_first() -> None:
    ones = np.ones((5, 1), np.float32)
    found, _ = nearest([ones[:2], ones[2:]], np.ones((1, 1), np.float32), 3)
    assert found.tolist() == [[0, 1, 2]]


def test_vectors_are_taken_from_every_segment_in_the_order_asked_for() -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    taken = take([vectors[:1], vectors[1:1], vectors[1:5], vectors[5:]], np.array([5, 0, 3, 3]))
    assert taken.tolist() == vectors[[5, 0, 3, 3]].tolist()
    assert take([vectors[:2], vectors[2:]], np.array([1, 2, 3])).tolist() == vectors[1:4].tolist()
