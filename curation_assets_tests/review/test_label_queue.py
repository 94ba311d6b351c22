"""Labels that something speaks against, and which of them somebody answered."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from curation_assets.decisions.standing import SCHEMA, standing
from curation_assets.review.label_queue import LabelQueue

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def queue_of(*rows: tuple[str, str, list[str], int | None, list[str] | None]) -> LabelQueue:
    names = ["relative_path", "content_sha256", "issues", "number", "evidence"]
    schema = {"relative_path": pl.String, "content_sha256": pl.String, "issues": pl.List(pl.String)}
    schema |= {"number": pl.Int64, "evidence": pl.List(pl.String)}
    frame = pl.DataFrame([dict(zip(names, row, strict=True)) for row in rows], schema=schema)
    told = {"suggested": pl.lit(None, pl.String), "label_quality": pl.lit(None, pl.Float32)}
    return LabelQueue(frame.with_columns(field=pl.lit("class"), given=pl.lit("rust"), **told))


def said(**row: str) -> dict[str, object]:
    return {"decision_id": "1", "decided_at": datetime(2026, 11, 28, tzinfo=UTC), "decided_by": "ann"} | row


def test_two_that_are_not_the_same_are_answered_both_unless_more_speaks_against_one() -> None:
    queue = queue_of(
        ("a.jpg", A, ["conflicting"], 1, ["b.jpg"]),
        ("b.jpg", B, ["conflicting"], 1, ["a.jpg"]),
        ("b2.jpg", B, ["conflicting", "mislabelled"], 1, ["a.jpg"]),
        ("c.jpg", C, ["conflicting"], 2, ["a.jpg", "b.jpg"]),
        ("d.jpg", "d" * 64, ["mislabelled"], None, None),
    )
    rows = pl.DataFrame([said(kind="different", content_sha256=B, other_sha256=A)], schema=SCHEMA)
    assert queue.decided(standing(rows)).to_list() == ["different", "different", None, None, None]
    assert queue.decided(standing(rows.clear())).to_list() == [None] * 5


def test_a_label_is_answered_for_every_copy_of_its_content() -> None:
    queue = queue_of(("a.jpg", A, ["mislabelled"], None, None), ("copy.jpg", A, ["mislabelled"], None, None))
    given = said(kind="relabel", field="class", value="healthy", content_sha256=A, relative_path="a.jpg")
    assert queue.decided(standing(pl.DataFrame([given], schema=SCHEMA))).to_list() == ["healthy", "healthy"]
    other = given | {"field": "variety"}
    assert queue.decided(standing(pl.DataFrame([other], schema=SCHEMA))).to_list() == [None, None]


SHOWN = {"issues": ["mislabelled"], "given": "rust", "suggested": "miner", "label_quality": 0.03, "number": None}
KEPT, MOVED, UNSURE = ({"kind": "relabel", "value": "rust"}, {"kind": "relabel", "value": "miner"}, {"kind": "unsure"})


@pytest.mark.parametrize(
    ("said_so", "shown", "now", "is_open"),
    [
        (KEPT, SHOWN, {}, False),
        (KEPT, SHOWN, {"label_quality": 0.02}, False),
        (KEPT, SHOWN, {"label_quality": 0.01}, True),
        (KEPT, SHOWN, {"label_quality": 0.04}, False),
        (KEPT, SHOWN, {"suggested": "phoma"}, True),
        (KEPT, SHOWN, {"suggested": None}, False),
        (KEPT, SHOWN, {"issues": ["conflicting", "mislabelled"], "number": 1}, True),
        (KEPT, SHOWN | {"sample": "1"}, {"issues": ["conflicting", "mislabelled"], "number": 1}, False),
        (KEPT, SHOWN | {"issues": ["conflicting"], "number": 2}, {"issues": ["conflicting"], "number": 2}, False),
        (KEPT, SHOWN | {"issues": ["conflicting"], "number": 2}, {"issues": ["conflicting"], "number": 3}, True),
        (MOVED, SHOWN, {}, False),  # label issues were not found anew yet
        (MOVED, SHOWN, {"given": "miner", "suggested": "rust", "label_quality": 0.001}, False),
        (MOVED, SHOWN, {"given": "miner", "suggested": "phoma"}, True),
        (UNSURE, SHOWN, {}, False),
        (UNSURE, SHOWN, {"given": "phoma"}, True),
        (UNSURE, SHOWN, {"suggested": "phoma"}, True),
        (UNSURE, SHOWN, {"label_quality": 0.01}, True),
        (KEPT, None, {"suggested": "phoma", "label_quality": 0.0}, False),
        (KEPT, {"given": "rust", "label_quality": "much"}, {"suggested": "phoma"}, False),
    ],
)
def test_a_label_is_asked_about_again_where_it_is_another_question(
    said_so: dict[str, str], shown: dict[str, object] | None, now: dict[str, object], is_open: bool
) -> None:
    row = said(field="class", content_sha256=A, **said_so) | {"shown": None if shown is None else json.dumps(shown)}
    asked = queue_of(("a.jpg", A, ["mislabelled"], None, None)).rows
    there = {"suggested": "miner", "label_quality": 0.03} | now
    asked = asked.with_columns(pl.lit(value).cast(asked.schema[name]).alias(name) for name, value in there.items())
    (answer,) = LabelQueue(asked).decided(standing(pl.DataFrame([row], schema=SCHEMA)))
    assert answer == (None if is_open else said_so.get("value", "unsure"))
