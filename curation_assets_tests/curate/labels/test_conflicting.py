"""Every pair of images that are one photograph with two labels is found, whatever way it is known."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import polars as pl
import pytest

from curation_assets.curate.labels.conflicting import EVIDENCE, conflicting
from curation_assets_tests.curate.test_leakage import GROUPS, PAIRS, frame, words

LABELS = ("rust", "miner", "phoma")


def labels_of(*rows: tuple[str, str, str], field: str = "class") -> pl.DataFrame:
    """Paths, contents, labels."""
    found = pl.DataFrame(rows, ["relative_path", "content_sha256", "key"], orient="row")
    return found.with_columns(field=pl.lit(field), given="key")


def drawn(seed: int) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, dict[frozenset, tuple[str, float | None]]]:
    """Labels, groups and pairs by chance; and of each two images, by brute force, how they are one photograph."""
    rng = random.Random(seed)
    contents = [f"c{number:02}" for number in range(30)]
    # Of few images all are named; of many, with labels from frequent to rare, as many as are to be.
    number, weights = ((120, (1, 1, 1)), (900, (30, 3, 1)))[seed % 2]
    images = [(f"{n:03}.jpg", rng.choice(contents), rng.choices(LABELS, weights)[0]) for n in range(number)]
    left = rng.sample(contents, len(contents))
    unit = {c: f"n{g}" for g, size in enumerate((5, 4, 3, 2)) for c in [left.pop() for _ in range(size)]}
    rows = [("near", group, content, 0.9) for content, group in unit.items()]
    rows += [("burst", "b0", content, 0.8) for content in left[:4]]
    told = {two: rng.choice(["near", "burst"]) for two in rng.sample(list(itertools.combinations(contents, 2)), 40)}
    pairs = [(a, b, kind, round(rng.uniform(0.76, 1), 3)) for (a, b), kind in told.items()]
    similarity = {(a, b): s for a, b, kind, s in pairs if kind == "near"}
    relation: dict[frozenset, tuple[str, float | None]] = {}
    for (p, a, s), (q, b, t) in itertools.combinations(images, 2):
        if s == t:
            continue
        two = (min(a, b), max(a, b))
        if a == b:
            relation[frozenset((p, q))] = ("same file", 1.0)
        elif two in similarity:
            relation[frozenset((p, q))] = ("pair", similarity[two])
        elif unit.get(a, a) == unit.get(b, b):
            relation[frozenset((p, q))] = ("group", None)
    return labels_of(*images), frame(GROUPS, rows), frame(PAIRS, pairs), relation


@pytest.mark.parametrize("seed", range(12))
def test_every_conflicting_pair_is_found_and_the_nearest_are_named(seed: int) -> None:
    labels, groups, pairs, relation = drawn(seed)
    found = conflicting(labels, groups, pairs, words())
    of_each = Counter(path for two in relation for path in two)
    assert dict(found.select("relative_path", "number").iter_rows()) == dict(of_each)
    assert found["relative_path"].is_sorted()
    ways = ("same file", "pair", "group")
    for row in found.iter_rows(named=True):
        path, evidence = row["relative_path"], row["evidence"]
        assert len(set(evidence)) == len(evidence) == min(EVIDENCE, of_each[path])
        known = [relation[frozenset((path, other))] for other in evidence]
        ranks = [(ways.index(way), -(agreement or 0)) for way, agreement in known]
        assert ranks == sorted(ranks), "the nearest first"
        assert row["nearest"] == evidence[0]
        assert row["is_copy"] == (known[0][0] == "same file")


def test_fields_are_asked_for_one_by_one() -> None:
    labels = pl.concat(
        [labels_of(("a", "1", "rust"), ("b", "1", "rust")), labels_of(("a", "1", "x"), ("b", "1", "y"), field="plot")]
    )
    found = conflicting(labels, frame(GROUPS, []), frame(PAIRS, []), words())
    assert found.select("relative_path", "field").rows() == [("a", "plot"), ("b", "plot")]


def test_the_label_of_most_is_suggested_and_of_as_many_none() -> None:
    labels = labels_of(("a", "1", "rust"), ("b", "1", "rust"), ("c", "2", "miner"), ("d", "3", "rust"), ("e", "3", "x"))
    groups = frame(GROUPS, [("near", "g", "1", 1.0), ("near", "g", "2", 0.9)])
    found = conflicting(labels, groups, frame(PAIRS, []), words())
    assert found.select("relative_path", "suggested", "number").rows() == [
        ("a", None, 1),
        ("b", None, 1),
        ("c", "rust", 2),
        ("d", None, 1),
        ("e", None, 1),
    ]


def test_what_people_said_of_pairs_counts() -> None:
    labels = labels_of(("a", "1", "rust"), ("b", "2", "miner"), ("c", "3", "miner"))
    pairs = frame(PAIRS, [("1", "2", "near", 0.95)])
    found = conflicting(labels, frame(GROUPS, []), pairs, words(same=(("1", "3"),), different=(("1", "2"),)))
    assert found.select("relative_path", "evidence").rows() == [("a", ["c"]), ("c", ["a"])]


def test_thousands_of_copies_are_counted_by_their_numbers_and_named_by_a_few() -> None:
    rows = [(f"{n:05}.jpg", f"{n:05}", "rust" if n % 2 else "miner") for n in range(20_000)]
    groups = frame(GROUPS, [("near", "g", content, 0.9) for _, content, _ in rows])
    found = conflicting(labels_of(*rows), groups, frame(PAIRS, []), words())
    assert (len(found), set(found["number"])) == (20_000, {10_000})
    assert set(found["evidence"].list.len()) == {EVIDENCE}


def test_thousands_of_labels_of_one_photograph_do_no_harm() -> None:
    rows = [(f"{n:05}.jpg", "same", f"plot {n}") for n in range(20_000)]
    found = conflicting(labels_of(*rows), frame(GROUPS, []), frame(PAIRS, []), words())
    assert set(found["number"]) == {19_999}
    assert set(found["evidence"].list.len()) == {EVIDENCE}


def test_a_label_of_most_leaves_room_for_the_rare_ones() -> None:
    rows = [(f"{n:05}.jpg", "same", "rust") for n in range(500)] + [("zz.jpg", "same", "miner")]
    found = conflicting(labels_of(*rows), frame(GROUPS, []), frame(PAIRS, []), words())
    assert set(found.filter(pl.col("relative_path") != "zz.jpg")["evidence"].list.join(",")) == {"zz.jpg"}
    assert len(found.filter(pl.col("relative_path") == "zz.jpg")["evidence"][0]) == EVIDENCE


def test_nothing_in_common_is_no_conflict() -> None:
    labels = labels_of(("a", "1", "rust"), ("b", "1", "rust"), ("c", "2", "miner"))
    assert not len(conflicting(labels, frame(GROUPS, []), frame(PAIRS, []), words()))
    assert not len(conflicting(labels.clear(), frame(GROUPS, []), frame(PAIRS, []), words()))
