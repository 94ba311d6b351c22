"""Subsets by vectors: what they promise of distances, classes and order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from curation_assets.curate.neighbours import exact_lists
from curation_assets.curate.neighbours.exact_lists import cores
from curation_assets.curate.neighbours.vectors import NodeVectors
from curation_assets.datasets.building import Built, build
from curation_assets.datasets.gathering import Gathered
from curation_assets.datasets.recipe import Subset
from curation_assets.datasets.subsets import facility_location, k_centre
from curation_assets.datasets.subsets.choosing import choose
from curation_assets.datasets.subsets.nearest import Nearest, Places
from curation_assets.progress import LogProgress
from curation_assets_tests.datasets.test_building import image, lake, many, recipe, sha

Floats = NDArray[np.float32]


def clustered(number: int, clusters: int = 7, seed: int = 0, dimension: int = 24) -> Floats:
    """Unit vectors in clusters of very different sizes and widths."""
    drawn = np.random.default_rng(seed)
    centres = drawn.standard_normal((clusters, dimension))
    of = drawn.choice(clusters, number, p=drawn.dirichlet(np.ones(clusters)))
    vectors = centres[of] + drawn.standard_normal((number, dimension)) * drawn.gamma(2, 0.3, (number, 1))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def places_of(number: int) -> Places:
    return Places(np.ones(number, bool), np.zeros(number, np.int64), np.zeros(1, np.int64))


def asked(vectors: Floats, **given: Any) -> pl.DataFrame:
    """Images with these vectors; ``given``: columns in place of the usual ones."""
    paths = [f"photo{at:05}.jpg" for at in range(len(vectors))]
    columns: dict[str, Any] = {"label": ["a"] * len(vectors), "last": [None] * len(vectors), "must": False}
    schema = {"position": pl.Int64, "last": pl.String, "label": pl.String}
    rows = {"relative_path": paths, "content_sha256": [sha(path) for path in paths], "position": range(len(vectors))}
    return pl.DataFrame(rows | columns | given, schema_overrides=schema)


def test_what_lies_farthest_is_chosen_as_by_looking_at_all_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(k_centre, "_CANDIDATES", 40)
    vectors = np.concatenate([clustered(600), clustered(1, seed=9).repeat(5, axis=0)])  # equals too
    with cores() as each:
        nearest = Nearest(NodeVectors([vectors], np.arange(605)), each)
        found = k_centre.farthest_first(
            NodeVectors([vectors], np.arange(605)), nearest, 100, places_of(605), LogProgress()
        )
    exact = np.rint(vectors.astype(np.float64) * 2**25)
    best, expected = np.full(605, -np.inf), []
    for _ in range(100):
        expected.append(int(best.argmin()))
        best = np.maximum(best, exact @ exact[expected[-1]])
        best[expected] = np.inf
    assert found.tolist() == expected
    assert nearest.items[found].tolist() == expected
    assert nearest.distances.max() == pytest.approx(1 - (vectors @ vectors[found].T).max(axis=1).min(), abs=1e-6)


@pytest.mark.parametrize("sample", [facility_location.SAMPLE, 200])
def test_no_swap_with_a_member_of_its_own_brings_the_mean_distance_down(
    monkeypatch: pytest.MonkeyPatch, sample: int
) -> None:
    monkeypatch.setattr(facility_location, "SAMPLE", sample)
    monkeypatch.setattr(facility_location, "_ROUNDS", 50)
    vectors = clustered(900, seed=3)
    items = NodeVectors([vectors], np.arange(900))
    with cores() as each:
        nearest = Nearest(items, each)
        found = facility_location.facility_location(items, nearest, 60, places_of(900), each, LogProgress())
    assert len(set(found.tolist())) == 60
    cosines = vectors @ vectors[found].T
    assert nearest.distances.mean() == pytest.approx(1 - cosines.max(axis=1).mean(), abs=1e-6)
    for at, item in enumerate(found):
        members = np.flatnonzero(nearest.items == item)
        sums = vectors[members] @ vectors[members].sum(axis=0)
        assert sums.max() <= (vectors[members] @ vectors[members].sum(axis=0))[members == found[at]][0] + 1e-4


@pytest.mark.parametrize("of_classes", [False, True])
def test_no_swap_of_two_brings_the_mean_distance_down(of_classes: bool) -> None:
    vectors = clustered(70, seed=8)
    items, classes = NodeVectors([vectors], np.arange(70)), np.arange(70) % 2
    places = Places(np.arange(70) > 2, classes, np.array([4, 4]) * of_classes)
    with cores() as each:
        nearest = Nearest(items, each)
        nearest.add(np.arange(2))  # are in it, and stay
        found = facility_location.facility_location(items, nearest, 8, places, each, LogProgress()).tolist()
    assert np.bincount(classes[found], minlength=2).min() >= 4 * of_classes
    assert not set(found) & {0, 1, 2}  # the third may not be chosen

    def mean(chosen: list[int]) -> float:
        return float((vectors @ vectors[[0, 1, *chosen]].T).max(axis=1).mean())

    others = [item for item in range(3, 70) if item not in found]
    for at, old in enumerate(found):
        for new in others:
            if not of_classes or classes[new] == classes[old]:
                assert mean([*found[:at], new, *found[at + 1 :]]) <= mean(found) + 1e-6


@pytest.mark.parametrize("strategy", ["diverse", "representative"])
def test_each_strategy_is_better_than_chance_at_what_it_is_for(strategy: str) -> None:
    for seed in range(3):
        vectors = clustered(500, seed=seed)
        measured = choose(asked(vectors), Subset(size=25, strategy=strategy), [vectors], LogProgress()).measured
        assert measured is not None
        assert (measured.among, measured.chosen, measured.last) == (500, 25, {})
        if strategy == "diverse":
            assert measured.largest < measured.largest_at_random
        else:
            assert measured.mean < measured.mean_at_random


@pytest.mark.parametrize("strategy", ["diverse", "representative"])
def test_a_subset_is_a_function_of_the_set_of_images(strategy: str) -> None:
    vectors = clustered(300, seed=5)
    images = asked(vectors, label=["a" if at % 9 else "b" for at in range(300)])
    wanted = Subset(size=30, strategy=strategy, per_class_at_least=10, seed=3)
    found = choose(images, wanted, [vectors], LogProgress())
    order = np.random.default_rng(1).permutation(300)
    other = images[order].with_columns(position=pl.int_range(300))  # come in another order, and lie otherwise
    again = choose(other, wanted, [vectors[order][:100], vectors[order][100:]], LogProgress())
    assert again.paths.sort().equals(found.paths.sort())
    assert again.measured == found.measured
    assert again.stands_for.sort("relative_path").equals(found.stands_for.sort("relative_path"))
    if strategy == "diverse":  # of as few as these the other begins at no place drawn by chance
        seeded = choose(images, wanted.model_copy(update={"seed": 4}), [vectors], LogProgress())
        assert set(seeded.paths) != set(found.paths)


@pytest.mark.parametrize("strategy", ["diverse", "representative"])
def test_the_number_of_threads_and_the_shape_of_blocks_change_nothing(
    monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    vectors = clustered(400, seed=2)
    told = []
    for cores_there, block in ((1, 4096), (2, 64), (5, 33)):
        monkeypatch.setattr(exact_lists, "_number_of_cores", lambda number=cores_there: number)
        monkeypatch.setattr("curation_assets.datasets.subsets.nearest.BLOCK", block)
        monkeypatch.setattr(facility_location, "BLOCK", block)
        found = choose(asked(vectors), Subset(size=40, strategy=strategy), [vectors], LogProgress())
        told.append((found.paths.sort().to_list(), found.measured))
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("strategy", ["diverse", "representative"])
def test_what_has_a_problem_comes_last_unless_it_is_needed(strategy: str) -> None:
    vectors = clustered(100, seed=1)
    last = ["outlier" if at < 20 else "blurry" if at < 30 else None for at in range(100)]
    label = ["rare" if at in (0, 1, 50) else "a" for at in range(100)]
    positions = [None if at == 40 else at for at in range(100)]
    images = asked(vectors, last=last, label=label, position=positions)
    names = images["relative_path"].to_list()

    def numbers(size: int, least: int = 0, **given: Any) -> set[int]:
        some = images.with_columns(**given)
        found = choose(some, Subset(size=size, strategy=strategy, per_class_at_least=least), [vectors], LogProgress())
        assert len(found.paths) == size
        assert set(found.stands_for["witness"]) <= set(found.paths)
        assert found.measured is not None
        assert found.measured.among == 69
        assert found.measured.last == {"blurry": 10, "no vector": 1, "outlier": 20}
        return {names.index(path) for path in found.paths}

    held_back = {*range(30), 40}
    assert not numbers(20) & held_back
    assert numbers(20, least=3) & held_back == {0, 1}  # the class has one other
    assert numbers(20, must=pl.col("relative_path") == names[5]) & held_back == {5}
    assert len(numbers(80) & held_back) == 80 - 69


@pytest.mark.parametrize("strategy", ["diverse", "representative"])
def test_a_subset_of_what_has_no_vector_alone_is_no_less_a_subset(strategy: str) -> None:
    vectors, wanted = clustered(10), Subset(size=1, strategy=strategy)
    positions = [None if at == 3 else at for at in range(10)]
    images = asked(vectors, position=positions, must=[at == 3 for at in range(10)])
    found = choose(images, wanted, [vectors], LogProgress())
    assert (found.paths.to_list(), len(found.stands_for), found.measured) == (["photo00003.jpg"], 0, None)
    nothing = choose(asked(vectors, position=[None] * 10), wanted, [], LogProgress())
    assert (len(nothing.paths), nothing.measured) == (1, None)


@pytest.mark.parametrize("strategy", ["diverse", "representative"])
def test_copies_are_chosen_only_where_nothing_else_is_left(strategy: str) -> None:
    vectors = clustered(12, seed=1).repeat(4, axis=0)
    found = choose(asked(vectors), Subset(size=12, strategy=strategy), [vectors], LogProgress())
    assert found.measured is not None
    assert found.measured.largest == pytest.approx(0, abs=1e-6)
    assert len(choose(asked(vectors), Subset(size=30, strategy=strategy), [vectors], LogProgress()).paths) == 30
    everything = choose(asked(vectors), Subset(size=90, strategy=strategy), [vectors], LogProgress())
    assert (len(everything.paths), len(everything.stands_for)) == (48, 0)


def with_vectors(made: Gathered, vectors: Floats) -> Gathered:
    positions = pl.int_range(len(made.images)).cast(pl.Int64)
    images = made.images.with_columns(position=positions, last=pl.lit(None, pl.String))
    return replace(made, images=images, segments=[vectors])


@pytest.mark.parametrize("strategy", ["diverse", "representative"])
def test_a_recipe_keeps_what_its_subset_chose_and_each_other_names_the_nearest(strategy: str) -> None:
    made = with_vectors(lake([*many(60, 2), image("rare/x.jpg"), image("rare/y.jpg")]), clustered(62))
    kept_by_word = made.images["relative_path"][7]
    made = replace(made, images=made.images.with_columns(must_have=pl.col("relative_path") == kept_by_word))

    def of(size: int, before: Built | None = None) -> Built:
        told = None if before is None else before.kept.select("relative_path", "content_sha256", "split", last=True)
        subset = {"size": size, "strategy": strategy, "per_class_at_least": 2}
        return build(recipe(subset=subset, split={"train": 0.5, "test": 0.5}), made, told)

    built = of(20)
    assert len(built.kept) == 20
    assert kept_by_word in set(built.kept["relative_path"])
    assert built.kept["label"].value_counts().filter(pl.col("label") == "rare")["count"].to_list() == [2]
    left = built.rows.filter(pl.col("reason") == "subset")
    assert set(left["witness"]) <= set(built.kept["relative_path"])
    assert left["similarity"].is_between(-1, 1).all()
    assert built.subset is not None
    assert (built.subset.among, built.subset.chosen) == (62, 20)
    more = of(30, built)
    assert set(built.kept["relative_path"]) <= set(more.kept["relative_path"])
