"""Groups are a function of pairs and images: nobody chains, nobody is lost, what they are called goes on."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation_assets.curate.duplicates.groups import Words, complete_links, group_rows
from curation_assets.curate.duplicates.keepers import ORDER, check_order
from curation_assets.errors import CurationError
from curation_assets.lake.schemas import GROUPS

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NONE = pl.DataFrame(schema=pl.Schema(GROUPS.arrow_schema.remove_metadata()))
EDGES = st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda pair: pair[0] < pair[1]), max_size=30)


def images(*named: tuple[str, str], **facts: dict[str, object]) -> pl.DataFrame:
    """Paths and contents; of a path further facts."""
    rows = [
        {
            "relative_path": path,
            "content_sha256": content,
            "sharpness": None,
            "decided": None,
            "annotated": None,
            "pixels": 100,
            "bytes_a_pixel": 1.0,
            "taken_at": NOW,
        }
        | facts.get(path, {})
        for path, content in named
    ]
    types = {"sharpness": pl.Float32, "decided": pl.Int32, "annotated": pl.Int32}
    return pl.DataFrame(rows, schema_overrides=types)


def pairs(*found: tuple[str, str, str, float], method: str = "hash") -> pl.DataFrame:
    rows = [(min(a, b), max(a, b), kind, similarity, method) for a, b, kind, similarity in found]
    schema = {
        "first": pl.String,
        "second": pl.String,
        "kind": pl.String,
        "similarity": pl.Float32,
        "method": pl.String,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def said(*two: tuple[str, str]) -> pl.DataFrame:
    return pl.DataFrame(two, schema={"first": pl.String, "second": pl.String}, orient="row")


def grouped(rows: pl.DataFrame, kind: str) -> list[list[str]]:
    of_kind = rows.filter(pl.col("kind") == kind).sort("relative_path")
    return sorted(of_kind.group_by("group_id").agg("relative_path")["relative_path"].to_list())


@settings(max_examples=100, deadline=None)
@given(EDGES)
def test_every_two_members_are_a_pair_and_no_two_groups_could_be_one(edges: set[tuple[int, int]]) -> None:
    named = {(f"c{a}", f"c{b}") for a, b in edges}
    groups = complete_links(sorted(named))
    for group in groups:
        assert all(pair in named for pair in itertools.combinations(group, 2))
    for one, other in itertools.combinations(groups, 2):
        assert not set(one) & set(other)
        assert not all((min(a, b), max(a, b)) in named for a in one for b in other)
    assert all({a, b} & {c for group in groups for c in group} for a, b in named), "no pair is left out whole"


@settings(max_examples=100, deadline=None)
@given(EDGES, st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order_of_what_they_are_made_of(
    edges: set[tuple[int, int]], chance: random.Random
) -> None:
    found = [(f"c{a}", f"c{b}", "near" if (a + b) % 3 else "burst", 0.9 + a * b / 1000) for a, b in sorted(edges)]
    known = [(f"p{n}", f"c{n}") for n in range(10)] + [("copy", "c3")]
    rows = group_rows(images(*known), pairs(*found), Words.none(), ORDER, NONE, NOW)
    chance.shuffle(found)
    chance.shuffle(known)
    assert rows.equals(group_rows(images(*known), pairs(*found), Words.none(), ORDER, NONE, NOW))


def test_kinds_are_not_mixed_up_and_a_near_group_has_every_path_of_its_contents() -> None:
    known = images(("a", "1"), ("a copy", "1"), ("b", "2"), ("c", "3"), a={"pixels": 900}, b={"pixels": 400})
    rows = group_rows(known, pairs(("1", "2", "near", 0.97), ("2", "3", "burst", 0.8)), Words.none(), ORDER, NONE, NOW)
    assert grouped(rows, "exact") == [["a", "a copy"]]
    assert grouped(rows, "near") == [["a", "a copy", "b"]]
    assert grouped(rows, "burst") == [["a", "c"]], "formed over the keeper, though the pair was with another"
    near = {row["relative_path"]: row for row in rows.filter(pl.col("kind") == "near").iter_rows(named=True)}
    assert {row["keeper"] for row in near.values()} == {"a"}
    assert near["b"]["rule"] == "more pixels"
    assert near["b"]["similarity"] == pytest.approx(0.97)
    assert near["a copy"]["similarity"] == 1


def test_the_keeper_is_ranked_and_the_first_criterion_that_differs_is_told() -> None:
    known = images(
        ("a", "1"), ("b", "2"), ("c", "3"), b={"pixels": 200}, c={"pixels": 200, "sharpness": 0.9}, a={"decided": 1}
    )
    three = pairs(("1", "2", "near", 0.95), ("1", "3", "near", 0.95), ("2", "3", "near", 0.95))

    def rules(*order: str) -> dict[str, tuple[bool, str]]:
        rows = group_rows(known, three, Words.none(), check_order(order), NONE, NOW)
        return {row["relative_path"]: (row["is_keeper"], row["rule"]) for row in rows.iter_rows(named=True)}

    assert rules(*ORDER) == {
        "a": (True, "a person's word"),
        "b": (False, "a person's word"),
        "c": (False, "a person's word"),
    }
    assert rules("pixels", "sharpness") == {
        "c": (True, "sharper"),
        "a": (False, "more pixels"),
        "b": (False, "sharper"),
    }
    with pytest.raises(CurationError, match="no criterion 'size'"):
        check_order(["size"])
    with pytest.raises(CurationError, match="twice"):
        check_order(["pixels", "pixels"])


def test_a_persons_word_joins_and_parts() -> None:
    known = images(("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"))
    found = pairs(("1", "2", "near", 0.99), ("3", "4", "burst", 0.8))
    rows = group_rows(known, found, Words(said(("3", "4")), said(("1", "2"))), ORDER, NONE, NOW)
    assert grouped(rows, "near") == [["c", "d"]]
    assert grouped(rows, "burst") == []


def test_a_crowd_holds_together_by_whom_it_is_like() -> None:
    known = images(*[(f"f{n}", f"{n:03}") for n in range(6)], ("x", "9"))
    framed = pairs(*[("000", f"{n:03}", "near", 0.99) for n in range(1, 6)], method="frame")
    also = pl.concat([framed, pairs(("000", "9", "near", 0.95))])
    rows = group_rows(known, also, Words.none(), ORDER, NONE, NOW)
    assert grouped(rows, "near") == [[f"f{n}" for n in range(6)]], "x is like one of them, and not known to be of all"


def test_ids_stay_with_the_most_of_a_group() -> None:
    known = images(*[(f"p{n}", str(n)) for n in range(1, 6)])
    three = [("1", "2", "near", 0.99), ("1", "3", "near", 0.98), ("2", "3", "near", 0.97)]
    before = group_rows(known, pairs(*three, ("4", "5", "near", 0.9)), Words.none(), ORDER, NONE, NOW)
    ids = {row["relative_path"]: row["group_id"] for row in before.iter_rows(named=True)}
    later = NOW + timedelta(days=1)
    renamed = images(*[(f"moved/{n}", str(n)) for n in range(1, 6) if n != 3])
    after = group_rows(renamed, pairs(three[0], ("4", "5", "near", 0.9)), Words.none(), ORDER, before, later)
    assert {row["relative_path"]: row["group_id"] for row in after.iter_rows(named=True)} == {
        "moved/1": ids["p1"],
        "moved/2": ids["p1"],
        "moved/4": ids["p4"],
        "moved/5": ids["p4"],
    }
    assert (after["first_seen_at"] == NOW).all()
    parted = group_rows(
        known, pairs(("1", "4", "near", 0.9), ("2", "3", "near", 0.9)), Words.none(), ORDER, before, later
    )
    of = {row["relative_path"]: (row["group_id"], row["first_seen_at"]) for row in parted.iter_rows(named=True)}
    assert of["p2"] == (ids["p1"], NOW)
    assert of["p1"][0] == ids["p4"], "of two that were of other groups the older, and then the name, decides"
