"""Every pair across splits is counted once, as the gravest kind that it is of, whatever way it is known."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import polars as pl
import pytest

from curation_assets.curate.duplicates.groups import Words
from curation_assets.curate.leakage import NEAREST, leaks

SPLITS = ("train", "val", "test")
GROUPS = pl.Schema({"kind": pl.String, "group_id": pl.String, "content_sha256": pl.String, "similarity": pl.Float32})
PAIRS = pl.Schema({"first": pl.String, "second": pl.String, "kind": pl.String, "similarity": pl.Float32})


def images_of(*rows: tuple[str, str, str]) -> pl.DataFrame:
    """Paths, contents, splits."""
    columns = ["relative_path", "content_sha256", "split"]
    return pl.DataFrame(rows, columns, orient="row").with_columns(label=pl.lit(None, pl.String))


def frame(schema: pl.Schema, rows: list[tuple]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema, orient="row")


def words(same: tuple = (), different: tuple = ()) -> Words:
    schema = {"first": pl.String, "second": pl.String}
    return Words(*(pl.DataFrame(list(rows), schema, orient="row") for rows in (same, different)))


def drawn(seed: int) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, dict[frozenset, str]]:
    """Images, groups and pairs by chance; and of each two images, by brute force, what they are to each other."""
    rng = random.Random(seed)
    contents = [f"c{number:02}" for number in range(40)]
    images = [(f"{n:03}.jpg", rng.choice(contents), rng.choice(SPLITS)) for n in range(120)]
    left = rng.sample(contents, len(contents))
    near_groups = [[left.pop() for _ in range(size)] for size in (5, 4, 3, 2, 2)]
    unit = {c: f"n{g}" for g, group in enumerate(near_groups) for c in group}
    keepers = [group[0] for group in near_groups] + left
    rng.shuffle(keepers)
    bursts = [[keepers.pop() for _ in range(size)] for size in (4, 3, 2)]
    burst = {unit.get(c, c): f"b{g}" for g, group in enumerate(bursts) for c in group}
    rows = [("near", unit[c], c, 0.9) for group in near_groups for c in group]
    rows += [("burst", burst[unit.get(c, c)], c, 0.8) for group in bursts for c in group]
    told = {}
    for a, b in rng.sample(list(itertools.combinations(contents, 2)), 60):
        told[a, b] = rng.choice(["near", "burst"])
    pairs = [(a, b, kind, round(rng.uniform(0.76, 1), 3)) for (a, b), kind in told.items()]

    def kind_of(a: str, b: str) -> str | None:
        known = told.get((min(a, b), max(a, b)))
        one, other = unit.get(a, a), unit.get(b, b)
        if a == b:
            return "exact"
        if known == "near" or one == other:
            return "near"
        return "burst" if known == "burst" or burst.get(one, one) == burst.get(other, other) else None

    relation = {}
    for (p, a, s), (q, b, t) in itertools.combinations(images, 2):
        if s != t and (kind := kind_of(a, b)) is not None:
            relation[frozenset((p, q))] = kind
    return images_of(*images), frame(GROUPS, rows), frame(PAIRS, pairs), relation


@pytest.mark.parametrize("seed", range(12))
def test_every_pair_across_is_counted_once_and_listed(seed: int) -> None:
    images, groups, pairs, relation = drawn(seed)
    found = leaks(images, groups, pairs, words())
    split = dict(images.select("relative_path", "split").iter_rows())
    expected = Counter((kind, *sorted((split[p] for p in two), reverse=True)) for two, kind in relation.items())
    order = {name: place for place, name in enumerate(found.splits)}
    counted = {
        (kind, *sorted((a, b), reverse=True)): number
        for kind, a, b, number in found.counts.iter_rows()
        if order[a] < order[b]
    }
    assert counted == dict(expected)
    assert found.pairs == len(relation)
    of_each = Counter(path for two in relation for path in two)
    assert dict(found.images.select("relative_path", "others").iter_rows()) == dict(of_each)
    listed = found.nearest.group_by("relative_path").agg("other", "kind").iter_rows()
    for path, others, kinds in listed:
        assert len(set(others)) == len(others) == min(NEAREST, of_each[path])
        assert [relation[frozenset((path, other))] for other in others] == kinds
        ranks = [("exact", "near", "burst").index(kind) for kind in kinds]
        assert ranks == sorted(ranks)
    assert list(found.splits) == ["test", "val", "train"]
    gives = set(found.images.filter("gives_way")["relative_path"])
    later = {max(two, key=lambda path: order[split[path]]) for two in relation}
    assert gives == later


def test_a_dense_part_is_counted_by_its_sizes_and_listed_by_its_members() -> None:
    frames = [(f"{side}/{n:05}.jpg", f"{side}{n:05}", side) for side in ("train", "test") for n in range(5_000)]
    groups = frame(GROUPS, [("near", "g", content, 0.9) for _, content, _ in frames])
    found = leaks(images_of(*frames), groups, frame(PAIRS, []), words())
    assert found.counts.rows() == [("near", "test", "train", 25_000_000)]
    assert set(found.images["others"]) == {5_000}
    assert set(found.nearest.group_by("relative_path").len()["len"]) == {NEAREST}


def test_planted_leaks_are_all_found_among_many() -> None:
    rng = random.Random(0)
    rows = [(f"{n}.jpg", f"c{n:05}", rng.choice(SPLITS)) for n in range(20_000)]
    chosen = rng.sample(range(20_000), 1_000)
    pairs = []
    for a, b in zip(chosen[::2], chosen[1::2], strict=True):
        one, other = sorted((a, b))
        rows[one] = (*rows[one][:2], "train")
        rows[other] = (*rows[other][:2], "test")
        pairs.append((f"c{one:05}", f"c{other:05}", "near", 0.95))
    found = leaks(images_of(*rows), frame(GROUPS, []), frame(PAIRS, pairs), words())
    assert found.pairs == 500
    assert set(found.images["relative_path"]) == {f"{n}.jpg" for n in chosen}


def test_what_people_said_counts() -> None:
    images = images_of(("a", "1", "train"), ("b", "2", "test"), ("c", "3", "test"))
    pairs = frame(PAIRS, [("1", "2", "near", 0.95)])
    said = words(same=(("1", "3"),), different=(("1", "2"),))
    found = leaks(images, frame(GROUPS, []), pairs, said)
    assert found.nearest.select("relative_path", "other").rows() == [("a", "c"), ("c", "a")]


def test_nothing_in_common_is_no_leak() -> None:
    images = images_of(("a", "1", "train"), ("b", "1", "train"), ("c", "2", "test"))
    found = leaks(images, frame(GROUPS, []), frame(PAIRS, []), words())
    assert (found.pairs, len(found.images), len(found.nearest)) == (0, 0, 0)
    assert found.splits == {"test": 1, "train": 2}
