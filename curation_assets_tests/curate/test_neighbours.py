"""The graph of neighbours, against brute force written out by hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curation_assets.curate.neighbours import exact_lists, parts, refresh, stored
from curation_assets.curate.neighbours.refresh import NeighboursRefresh, refresh_neighbours
from curation_assets.curate.neighbours.stored import DISTINCT, KNOWN, Neighbours, location_of, open_neighbours
from curation_assets.errors import CurationError
from curation_assets.progress import LogProgress
from curation_assets.search.approximate import ApproximateIndex
from curation_assets.search.index import IndexInfo, SearchIndex

Vectors = dict[str, NDArray[np.float32]]


def content_of(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def index_of(
    path: Path,
    vectors: Vectors,
    version: int = 1,
    *,
    order: Iterable[str] | None = None,
    pieces: int = 1,
    hole_every: int = 0,
    copies: int = 1,
    approximate: bool = False,
) -> SearchIndex:
    """An index of some contents, each in ``copies`` files, whose vectors lie in some order, in pieces, with holes."""
    order = list(vectors if order is None else order)
    dimension = len(next(iter(vectors.values()))) if vectors else 16
    rows, stored_vectors = [], []
    for content in order:
        for copy in range(copies):
            if hole_every and len(stored_vectors) % hole_every == 0:
                stored_vectors.append(np.full(dimension, np.nan, np.float32))
            rows.append((f"{copy}/{content}.jpg", content, len(stored_vectors)))
            stored_vectors.append(vectors[content])
    schema = {"relative_path": pl.String, "content_sha256": pl.String, "position": pl.Int64}
    frame = pl.DataFrame(rows, schema, orient="row").sort("relative_path")
    array = np.array(stored_vectors, np.float32).reshape(-1, dimension)
    info = IndexInfo(
        model_name="m", model_version="1", model_fingerprint="f", dimension=dimension, embeddings_id="e",
        embeddings_version=version, directory_id="d", directory_version=version, images=len(frame), vectors=len(frame),
        positions=len(array), segments=(), rows_file="", keys_file="", built_at_version=1, built_at=datetime.now(UTC),
    )  # fmt: skip
    segments = np.array_split(array, pieces)
    made = None
    if approximate:
        made = ApproximateIndex.build(segments, frame["position"].to_numpy(), LogProgress())
    return SearchIndex(info, frame, frame, segments, made, path)


def refreshed(path: Path, vectors: Vectors, version: int = 1, **layout: object) -> NeighboursRefresh:
    return refresh_neighbours(index_of(path, vectors, version, **layout), LogProgress())  # type: ignore[arg-type]


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> np.float32:
    """In whole numbers."""
    steps = [np.rint(v.astype(np.float64) * 2**25).astype(np.int64) for v in (one, other)]
    return np.float32(int((steps[0] * steps[1]).sum()) / 2**50)


def truth(vectors: Vectors) -> list[list[tuple[np.float32, int]]]:
    """Of each node all others as (-cosine, node), nearest first."""
    ordered = [vectors[content] for content in sorted(vectors)]
    return [
        sorted((-cosine(one, other), j) for j, other in enumerate(ordered) if j != i) for i, one in enumerate(ordered)
    ]


def true_parts(right: list[list[tuple[np.float32, int]]]) -> list[int]:
    part: list[int | None] = [None] * len(right)
    for node in range(len(right)):
        if part[node] is None:
            part[node] = node
            for far, other in right[node]:
                if -far >= np.float32(parts.DENSE) and part[other] is None:
                    part[other] = node
    return [int(p) for p in part if p is not None]


def true_distinct(right: list[list[tuple[np.float32, int]]], part: list[int], node: int) -> list[int]:
    """The nearest that are told, three of a part; then representatives of parts with room that aren't among these."""
    known = [other for _, other in right[node][:KNOWN]]
    kept = [o for at, o in enumerate(known) if sum(part[e] == part[o] for e in known[:at]) < 3]
    in_list = [part[other] for other in known]
    for _, other in right[node][KNOWN:]:
        if part[other] == other and in_list.count(other) < 3:
            kept.append(other)
    return kept[:DISTINCT]


def assert_right(graph: Neighbours, vectors: Vectors) -> None:
    right = truth(vectors)
    part = true_parts(right)
    assert graph.contents.to_list() == sorted(vectors)
    assert graph.parts.tolist() == part
    assert graph.indices.shape == graph.cosines.shape == (len(vectors), KNOWN)
    assert (graph.indices.dtype, graph.cosines.dtype) == (np.int32, np.float32)
    distinct = graph.distinct()
    for node, all_others in enumerate(right):
        others = all_others[:KNOWN]
        missing = KNOWN - len(others)
        assert graph.indices[node].tolist() == [other for _, other in others] + [-1] * missing
        assert graph.cosines[node].tolist() == [-far for far, _ in others] + [-np.inf] * missing
        nearest = true_distinct(right, part, node)
        assert distinct[0][node].tolist() == nearest + [-1] * (DISTINCT - len(nearest))
        cosines = {other: -far for far, other in all_others}
        assert distinct[1][node].tolist()[: len(nearest)] == [cosines[other] for other in nearest]


def assert_equal(one: Neighbours, other: Neighbours) -> None:
    """To the last bit."""
    assert one.contents.to_list() == other.contents.to_list()
    arrays = [(graph.indices, graph.cosines, graph.parts, *graph.distinct()) for graph in (one, other)]
    for a, b in zip(*arrays, strict=True):
        np.testing.assert_array_equal(a, b)


def drawn(number: int, dimension: int, seed: int = 0) -> Vectors:
    """Like images: loose clusters, some bursts, and vectors that several contents share."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, number // 12), dimension))
    spread = rng.choice([0.01, 0.1, 0.5], len(centres))
    which = rng.integers(len(centres), size=number)
    vectors = unit(centres[which] + spread[which, None] * rng.standard_normal((number, dimension)))
    same = rng.integers(number, size=(number // 10, 2))
    vectors[same[:, 0]] = vectors[same[:, 1]]
    return {content_of((seed, i)): vector for i, vector in enumerate(vectors)}


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_lists, "BLOCK", 32)
    monkeypatch.setattr(exact_lists, "_STRIPE", 8)
    monkeypatch.setattr(exact_lists, "_ROWS", 8)
    monkeypatch.setattr(parts, "_ROWS", 16)


@pytest.mark.parametrize("number", [0, 1, 2, 3, KNOWN, KNOWN + 1, refresh.WIDTH + 1, 60, 200])
@pytest.mark.usefixtures("small_blocks")
def test_the_graph_is_what_brute_force_finds(tmp_path: Path, number: int) -> None:
    vectors = drawn(number, 12) if number else {}
    done = refreshed(tmp_path, vectors)
    assert (done.changed, done.rebuilt, done.added, done.removed) == (True, True, number, 0)
    assert_right(done.neighbours, vectors)
    opened = open_neighbours(tmp_path)
    assert opened is not None
    assert_equal(opened, done.neighbours)


def test_blocks_as_large_as_they_are_find_the_same(tmp_path: Path) -> None:
    vectors = drawn(2500, 24)
    graph = refreshed(tmp_path, vectors).neighbours
    ordered = np.stack([vectors[content] for content in sorted(vectors)])
    steps = np.rint(ordered.astype(np.float64) * 2**25).astype(np.int64)
    right = (steps @ steps.T / 2**50).astype(np.float32)
    np.fill_diagonal(right, -np.inf)
    order = np.argsort(-right, axis=1, kind="stable")[:, :KNOWN]
    np.testing.assert_array_equal(graph.indices, order)
    np.testing.assert_array_equal(graph.cosines, np.take_along_axis(right, order, axis=1))


@pytest.mark.usefixtures("small_blocks")
def test_neither_order_nor_place_of_vectors_matters(tmp_path: Path) -> None:
    vectors = drawn(500, 64)
    first = refreshed(tmp_path / "1", vectors).neighbours
    backwards = refreshed(tmp_path / "2", vectors, order=reversed(list(vectors)), pieces=5, hole_every=7, copies=2)
    assert_equal(backwards.neighbours, first)


Step = tuple[set[int], set[int]]
_NUMBERS = st.sets(st.integers(0, 119), max_size=60)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.sets(st.integers(0, 119), max_size=120), steps=st.lists(st.tuples(_NUMBERS, _NUMBERS), max_size=4))
@pytest.mark.usefixtures("small_blocks")
def test_any_additions_and_removals_end_in_the_graph_of_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, first: set[int], steps: list[Step]
) -> None:
    path = tmp_path_factory.mktemp("index")
    pool = list(drawn(120, 6, seed=3).items())
    there = set(first)
    refreshed(path / "kept", dict(pool[i] for i in there))
    for version, (added, removed) in enumerate(steps, start=2):
        there = (there | added) - removed
        refreshed(
            path / "kept", dict(pool[i] for i in sorted(there, reverse=version % 2 == 0)), version, pieces=version
        )
    anew = refreshed(path / "anew", dict(pool[i] for i in there)).neighbours
    kept = open_neighbours(path / "kept")
    assert kept is not None
    assert_equal(kept, anew)


@pytest.mark.usefixtures("small_blocks")
def test_what_is_new_is_compared_and_only_rows_that_lost_too_much_are_asked_again(tmp_path: Path) -> None:
    vectors = drawn(300, 12)
    refreshed(tmp_path, vectors)
    more = vectors | drawn(20, 12, seed=1)
    done = refreshed(tmp_path, more, 2)
    assert (done.added, done.removed, done.asked, done.rebuilt) == (20, 0, 0, False)
    assert_right(done.neighbours, more)
    graph = done.neighbours
    lost = [graph.contents[int(node)] for node in graph.indices[5][: refresh.WIDTH - KNOWN]]
    done = refreshed(tmp_path, {c: v for c, v in more.items() if c not in lost}, 3)
    assert (done.added, done.removed, done.asked) == (0, len(lost), 0)
    lost += [done.neighbours.contents[int(node)] for node in done.neighbours.indices[0][:15]]
    left = {c: v for c, v in more.items() if c not in lost}
    done = refreshed(tmp_path, left, 4)
    assert 0 < done.asked < 150
    assert_right(done.neighbours, left)


def test_an_index_that_was_laid_out_anew_costs_nothing(tmp_path: Path) -> None:
    vectors = drawn(80, 12)
    before = refreshed(tmp_path, vectors, 1).neighbours
    index = index_of(tmp_path, vectors, 2, order=reversed(list(vectors)), copies=2)
    assert not before.info.covers(index.info)
    done = refresh_neighbours(index, LogProgress())
    assert not done.changed
    assert done.neighbours.info.covers(index.info)
    assert done.neighbours.info.file == before.info.file
    again = refresh_neighbours(index, LogProgress())
    assert (again.changed, again.added, again.removed) == (False, 0, 0)


def test_a_burst_does_not_hide_the_rest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene, *others = rng.standard_normal((31, 64))
    vectors = {content_of(f"frame {i}"): unit(scene + 0.01 * rng.standard_normal(64)) for i in range(200)}
    for i, other in enumerate(others):  # each a little like the scene
        vectors[content_of(f"other {i}")] = unit(0.6 * scene + other)
    crop = content_of("crop")
    vectors[crop] = unit(scene + 0.3 * others[0])
    original = unit(0.6 * scene + 0.75 * others[0])
    vectors[content_of("original")] = original
    done = refreshed(tmp_path, vectors)
    graph = done.neighbours
    (node,) = graph.node_of([crop])
    frames = set(graph.node_of([content_of(f"frame {i}") for i in range(200)]).tolist())
    assert set(graph.indices[node].tolist()) <= frames
    found, cosines = graph.distinct()
    assert len(frames & set(found[node].tolist())) == 3
    assert int(graph.node_of([content_of("original")])[0]) in found[node]
    assert (found[node] >= 0).all()
    assert (np.diff(cosines[node]) <= 0).all()
    assert done.filled >= 201
    assert_right(graph, vectors)


@pytest.mark.parametrize("noise", [0.0, 1e-8, 1e-3])
@pytest.mark.usefixtures("small_blocks")
def test_all_images_alike(tmp_path: Path, noise: float) -> None:
    rng = np.random.default_rng(0)
    scene = unit(rng.standard_normal(16))
    vectors = {content_of(i): unit(scene + noise * rng.standard_normal(16)) for i in range(150)}
    graph = refreshed(tmp_path, vectors).neighbours
    assert_right(graph, vectors)
    assert set(graph.parts.tolist()) == {0}


def test_ordinary_images_are_not_asked_again(tmp_path: Path) -> None:
    vectors = unit(np.random.default_rng(0).standard_normal((400, 32)))
    assert refreshed(tmp_path, {content_of(i): vector for i, vector in enumerate(vectors)}).filled == 0


def test_a_vector_that_is_no_number_is_no_node(tmp_path: Path) -> None:
    vectors = drawn(70, 12)
    broken = content_of("broken")
    both = vectors | {broken: np.full(12, np.nan, np.float32)}
    for version in (1, 2):
        graph = refreshed(tmp_path, both, version).neighbours
        assert_right(graph, vectors)
        assert graph.node_of([broken, next(iter(sorted(vectors)))]).tolist() == [-1, 0]


def test_another_threshold_makes_parts_anew_and_compares_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = drawn(80, 12)
    index = index_of(tmp_path, vectors)
    refresh_neighbours(index, LogProgress(), dense_from=0.5)
    monkeypatch.setattr(exact_lists, "of_all", None)
    done = refresh_neighbours(index, LogProgress())
    assert (done.changed, done.asked) == (True, 0)
    assert_right(done.neighbours, vectors)


def test_a_prefix_of_the_distinct_lists(tmp_path: Path) -> None:
    graph = refreshed(tmp_path, drawn(60, 12)).neighbours
    np.testing.assert_array_equal(graph.distinct(5)[0], graph.distinct()[0][:, :5])
    with pytest.raises(ValueError, match="at most 20"):
        graph.distinct(21)


def test_an_approximate_graph_has_the_near_pairs_and_follows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = unit(rng.standard_normal((2400, 32)))
    near = unit(base[:400] + 0.05 * rng.standard_normal((400, 32)))
    vectors = {content_of(i): vector for i, vector in enumerate(np.concatenate([base, near[:200]]))}
    more = vectors | {content_of(2600 + i): vector for i, vector in enumerate(near[200:])}

    def recall(graph: Neighbours, pairs: int) -> float:
        first = graph.node_of([content_of(i) for i in range(pairs)])
        second = graph.node_of([content_of(2400 + i) for i in range(pairs)])
        both = (graph.indices[first] == second[:, None]).any(axis=1) & (graph.indices[second] == first[:, None]).any(
            axis=1
        )
        return float(both.mean())

    done = refresh_neighbours(index_of(tmp_path, vectors, approximate=True), LogProgress(), exact_vectors=1000)
    assert not done.neighbours.info.exact
    assert recall(done.neighbours, 200) >= 0.98
    followed = refresh_neighbours(index_of(tmp_path, more, 2, approximate=True), LogProgress(), exact_vectors=1000)
    assert (followed.added, followed.rebuilt) == (200, False)
    assert recall(followed.neighbours, 400) >= 0.98
    exact = refresh_neighbours(index_of(tmp_path, more, 3), LogProgress())
    assert exact.rebuilt
    assert exact.neighbours.info.exact
    assert_equal(exact.neighbours, refreshed(tmp_path / "anew", more).neighbours)
    node = followed.neighbours.indices
    assert ((node >= 0).sum(axis=1) >= DISTINCT).all()


@pytest.mark.parametrize("place", ["write_whole", "sync"])
def test_a_build_that_ends_halfway_changes_nothing_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    vectors = drawn(50, 12)
    before = refreshed(tmp_path, vectors).neighbours
    more = vectors | drawn(5, 12, seed=1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stored, place, killed)
        with pytest.raises(KeyboardInterrupt):
            refreshed(tmp_path, more, 2)
    left = open_neighbours(tmp_path)
    assert left is not None
    assert left.info == before.info
    assert_equal(left, before)
    assert len(list(location_of(tmp_path).glob("*.arrow"))) == 2
    assert_right(refreshed(tmp_path, more, 2).neighbours, more)
    assert len(list(location_of(tmp_path).glob("*.arrow"))) == 1


def _cut(path: Path) -> None:
    (file,) = path.glob("*.arrow")
    file.write_bytes(file.read_bytes()[:100])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut, "can't be opened"),
        (lambda path: next(path.glob("*.arrow")).unlink(), "lacks its file"),
        (lambda path: (path / "current.json").write_text("{"), "damaged current.json"),
        (lambda path: (path / "current.json").write_text('{"format": 99}'), "another version"),
    ],
)
def test_a_damaged_graph_is_named_and_made_anew(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    assert open_neighbours(tmp_path) is None
    vectors = drawn(50, 12)
    refreshed(tmp_path, vectors)
    damage(location_of(tmp_path))
    with pytest.raises(CurationError, match=said) as raised:
        open_neighbours(tmp_path)
    assert "\n" not in str(raised.value)
    done = refreshed(tmp_path, vectors)
    assert done.rebuilt
    assert_right(done.neighbours, vectors)


def test_a_graph_of_another_model_is_not_gone_on_from(tmp_path: Path) -> None:
    refreshed(tmp_path, drawn(50, 12))
    said = json.loads((location_of(tmp_path) / "current.json").read_text())
    (location_of(tmp_path) / "current.json").write_text(json.dumps(said | {"model_fingerprint": "other"}))
    assert refreshed(tmp_path, drawn(50, 12)).rebuilt


def test_an_index_of_an_earlier_version_has_no_graph(tmp_path: Path) -> None:
    index = index_of(tmp_path, drawn(5, 12))
    index.path = None
    with pytest.raises(CurationError, match="stored index"):
        refresh_neighbours(index, LogProgress())
