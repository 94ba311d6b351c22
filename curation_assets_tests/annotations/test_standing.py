"""Which annotations count: the order of sources, a person's word, and where sources disagree."""

from __future__ import annotations

from typing import Any

import polars as pl

from curation_assets.annotations.said import SCHEMA
from curation_assets.annotations.standing import DECIDED, INHERITED, conflicts, counting, in_order
from curation_assets.decisions.standing import SCHEMA as DECISIONS
from curation_assets.decisions.standing import Decisions, standing

IMAGES = pl.DataFrame({"relative_path": ["a", "b", "c"], "content_sha256": ["A", "B", "C"]})


def said(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """Rows of (path, source, values, split), of the content that is the path in capitals."""
    columns = {
        "relative_path": [row[0] for row in rows],
        "content_sha256": [row[0].upper() for row in rows],
        "source": [row[1] for row in rows],
        "values": [row[2] for row in rows],
        "split": [row[3] if len(row) > 3 else None for row in rows],
    }
    frame = pl.DataFrame(columns, schema_overrides={"values": pl.List(pl.String), "split": pl.String})
    missing = [pl.lit(None, SCHEMA[name]).alias(name) for name in SCHEMA if name not in frame.columns]
    return frame.with_columns(*missing).with_columns(field=pl.lit("class")).select(SCHEMA.names())


def relabels(*rows: tuple[str, str], same: tuple[tuple[str, str], ...] = (), different: Any = ()) -> Decisions:
    made = [{"kind": "relabel", "content_sha256": content, "field": "class", "value": value} for content, value in rows]
    made += [{"kind": "same", "content_sha256": first, "other_sha256": second} for first, second in same]
    made += [{"kind": "different", "content_sha256": first, "other_sha256": second} for first, second in different]
    return standing(pl.DataFrame([{"decision_id": f"{at:04}"} | row for at, row in enumerate(made)], schema=DECISIONS))


def labels(found: pl.DataFrame) -> list[tuple[Any, ...]]:
    return found.select("relative_path", "values", "source").rows()


def test_sources_of_the_order_come_first_and_the_others_by_name() -> None:
    assert in_order(["x", "b", "a"], ["b", "gone", "b"]) == ["b", "a", "x"]


def test_the_first_source_that_says_something_counts_of_labels_and_split_each() -> None:
    rows = said(("a", "anna", None, "test"), ("a", "folders", ["rust"], "train"), ("b", "folders", [], None))
    found = counting(rows, ["anna", "folders"], IMAGES)
    assert labels(found) == [("a", ["rust"], "folders"), ("b", [], "folders")]
    assert found["split"].to_list() == ["test", None]
    both = said(("a", "anna", ["miner"]), ("a", "zoe", ["rust"]))
    assert labels(counting(both, [], IMAGES)) == [("a", ["miner"], "anna")]
    assert labels(counting(both.reverse(), ["zoe"], IMAGES)) == [("a", ["rust"], "zoe")]


def test_what_was_said_of_an_earlier_content_or_a_gone_image_does_not_count() -> None:
    rows = said(("a", "anna", ["rust"]), ("z", "anna", ["rust"])).with_columns(content_sha256=pl.lit("earlier"))
    assert counting(rows, [], IMAGES).is_empty()


def test_a_persons_word_wins_for_the_content_and_its_near_copies() -> None:
    rows = said(("a", "anna", ["rust"], "train"), ("b", "anna", ["rust"]), ("c", "anna", ["rust"]))
    near = pl.DataFrame({"first": ["A", "B"], "second": ["B", "C"]})
    found = counting(rows, ["anna"], IMAGES, relabels(("A", "miner")), near)
    assert labels(found) == [
        ("a", ["miner"], DECIDED),
        ("b", ["miner"], INHERITED),
        ("c", ["rust"], "anna"),  # near to b alone: a word doesn't go on from copy to copy
    ]
    assert found["split"].to_list() == ["train", None, None]
    own = counting(rows, [], IMAGES, relabels(("A", "miner"), ("B", "phoma")), near)
    assert labels(own)[:2] == [("a", ["miner"], DECIDED), ("b", ["phoma"], DECIDED)]
    assert labels(own)[2] == ("c", ["phoma"], INHERITED)


def test_pairs_that_a_person_told_apart_inherit_nothing_and_those_told_the_same_do() -> None:
    rows = said(("b", "anna", ["rust"]), ("c", "anna", ["rust"]))
    near = pl.DataFrame({"first": ["A"], "second": ["B"]})
    words = relabels(("A", "miner"), same=(("A", "C"),), different=(("A", "B"),))
    found = counting(rows, [], IMAGES, words, near)
    assert labels(found) == [("a", ["miner"], DECIDED), ("b", ["rust"], "anna"), ("c", ["miner"], INHERITED)]


def test_sources_that_disagree_are_told_and_the_order_of_labels_is_no_matter() -> None:
    rows = said(
        ("a", "zoe", ["rust"]),
        ("a", "anna", ["miner", "rust"]),
        ("b", "zoe", ["rust", "miner"]),
        ("b", "anna", ["miner", "rust"]),
        ("c", "anna", None, "train"),
        ("c", "zoe", [], "train"),
    )
    assert conflicts(rows, IMAGES).select("relative_path", "field", "sources", "labels").rows() == [
        ("a", "class", ["anna", "zoe"], ["miner, rust", "rust"])
    ]
