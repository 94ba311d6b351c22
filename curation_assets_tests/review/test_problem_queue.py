"""The queue of a kind of problem: what is answered, and what is a new question."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from curation_assets.curate.problems import KINDS
from curation_assets.decisions.standing import SCHEMA, Decisions, standing
from curation_assets.review.problem_queue import ProblemQueue

SHAS = [letter * 64 for letter in "abcd"]


def queue(kind: str, scores: list[float]) -> ProblemQueue:
    rows = {"relative_path": [f"{at}.jpg" for at in range(len(scores))], "content_sha256": SHAS[: len(scores)]}
    return ProblemQueue(KINDS[kind], pl.DataFrame(rows | {"score": scores, "at": scores}), len(scores))


def said(*answers: tuple[str, str, dict[str, object] | None]) -> Decisions:
    rows = [
        {
            "decision_id": f"{at}",
            "decided_at": datetime(2026, 11, 28, tzinfo=UTC),
            "kind": kind,
            "field": "quality",
            "content_sha256": sha,
            "shown": None if shown is None else json.dumps(shown),
        }
        for at, (kind, sha, shown) in enumerate(answers)
    ]
    return standing(pl.DataFrame(rows, schema=SCHEMA))


@pytest.mark.parametrize(
    ("kind", "now", "then", "is_open"),
    [
        ("blurry", 0.30, 0.30, False),
        ("blurry", 0.28, 0.30, False),
        ("blurry", 0.26, 0.30, True),
        ("blurry", 0.39, 0.30, False),
        ("outlier", 6.7, 6.0, True),
        ("outlier", 6.5, 6.0, False),
        ("outlier", 4.0, 6.0, False),
    ],
)
def test_a_score_that_got_worse_is_a_new_question(kind: str, now: float, then: float, is_open: bool) -> None:
    elsewhere = {"problem": "dark", "score": 0.5, "scores": {"dark": 0.5, kind: then}}
    for shown in ({"problem": kind, "score": then, "scores": {kind: -9}}, {"scores": {kind: then}}, elsewhere):
        answers = queue(kind, [now]).answers(said(("keep", SHAS[0], shown)))
        assert answers.rows() == [("keep", is_open)], "what was said counts until it is answered anew"


def test_what_was_said_of_another_kind_or_without_a_score_is_no_question_of_this_one() -> None:
    shown = {"problem": "dark", "score": 0.9}
    words: list[tuple[str, str, dict[str, object] | None]] = [
        ("keep", SHAS[0], shown),
        ("remove", SHAS[1], None),
        ("unsure", SHAS[2], {"problem": "blurry", "score": "much"}),
    ]
    answers = queue("blurry", [0.1, 0.1, 0.1, 0.1]).answers(said(*words))
    assert answers.rows() == [("keep", False), ("remove", False), ("unsure", False), (None, True)]
