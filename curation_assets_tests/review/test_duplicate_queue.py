"""Groups of duplicates as questions: in which order, and when one is answered."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation_assets.decisions.standing import SCHEMA, Decisions, standing
from curation_assets.lake.schemas import PAIRS
from curation_assets.lake.table import LakeTable
from curation_assets.review.duplicate_queue import DuplicateQueue, duplicate_queue

A, B, C, D, E, F = (letter * 64 for letter in "abcdef")
GROUPS = {
    ("near", "n1"): {"a.jpg": A, "b.jpg": B, "c.jpg": C},
    ("near", "n2"): {"d.jpg": D, "e.jpg": E},
    ("exact", "x1"): {"f.jpg": F, "g.jpg": F},
    ("burst", "s1"): {"a.jpg": A, "d.jpg": D, "f.jpg": F, "odd/h.jpg": B},
}
NOTHING = [("burst", None), ("near", None), ("exact", None), ("near", None)]


@pytest.fixture
def queue(tmp_path: Path) -> DuplicateQueue:
    rows = [
        {
            "relative_path": path,
            "kind": kind,
            "content_sha256": content,
            "group_id": group,
            "keeper": next(iter(members)),
        }
        | {"is_keeper": path == next(iter(members)), "similarity": 1.0, "rule": "first path"}
        for (kind, group), members in GROUPS.items()
        for path, content in members.items()
    ]
    pairs = LakeTable(tmp_path / "pairs", PAIRS)
    pairs.create()
    return duplicate_queue(pl.DataFrame(rows), pairs)


def decided(queue: DuplicateQueue, *decisions: dict[str, Any]) -> list[tuple[str, str | None]]:
    return list(zip(queue.groups["kind"], queue.decided(said(*decisions)), strict=True))


def said(*decisions: dict[str, Any]) -> Decisions:
    now = datetime.now(UTC)
    rows = [
        {"decision_id": f"{number:032x}", "decided_at": now + timedelta(seconds=number), "decided_by": "ann"} | decision
        for number, decision in enumerate(decisions)
    ]
    return standing(pl.DataFrame(rows, SCHEMA))


def keeper(path: str, content: str, members: Any, **more: Any) -> dict[str, Any]:
    shown = json.dumps({"members": members} | more)
    return {"kind": "keeper", "relative_path": path, "content_sha256": content, "shown": shown}


def test_the_largest_group_comes_first_and_nothing_is_answered(queue: DuplicateQueue) -> None:
    assert list(queue.groups["size"]) == [4, 3, 2, 2]
    assert queue.images["relative_path"][queue.groups["start"][1]] == "a.jpg"
    assert decided(queue) == NOTHING
    assert list(queue.below("odd/")) == [True, False, False, False]


@pytest.mark.parametrize(
    ("decision", "answered"),
    [
        (keeper("b.jpg", B, [A, B, C]), 1),
        (keeper("b.jpg", B, [A, B, C], images=3), 1),
        (keeper("f.jpg", F, [F], images=2), 2),
        (keeper("d.jpg", D, sorted([A, B, D, F])), 0),
        (keeper("b.jpg", B, [A, B]), None),  # c.jpg is new
        (keeper("f.jpg", F, [F], images=1), None),  # a copy is new
        (keeper("c.jpg", A, [A, B, C]), None),  # the path holds another picture by now
        (keeper("b.jpg", B, None), None),
        (keeper("b.jpg", B, [A, B, C]) | {"shown": None}, None),
        (keeper("b.jpg", B, [A, B, C]) | {"shown": "[1]"}, None),
        ({"kind": "different", "content_sha256": E, "other_sha256": D}, 3),
        ({"kind": "different", "content_sha256": A, "other_sha256": B}, None),  # of three
    ],
)
def test_a_group_is_answered_for_the_images_that_were_looked_at(
    queue: DuplicateQueue, decision: dict[str, Any], answered: int | None
) -> None:
    expected = list(NOTHING)
    if answered is not None:
        expected[answered] = (expected[answered][0], decision["kind"])
    assert decided(queue, decision) == expected


def test_all_are_kept_only_where_each_is(queue: DuplicateQueue) -> None:
    keep = [
        {"kind": "keep", "field": "duplicate", "relative_path": path, "content_sha256": content}
        for path, content in GROUPS["near", "n1"].items()
    ]
    assert decided(queue, *keep[:2]) == NOTHING
    assert decided(queue, *keep)[1] == ("near", "keep")
    last = keep[2] | {"decision_id": "f" * 32, "undoes": f"{2:032x}"}
    assert decided(queue, *keep, last) == NOTHING
