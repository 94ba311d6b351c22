"""Which decisions count: the last of a question, what is taken back, and what each question is about."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from curation_assets.decisions.kinds import fault_of
from curation_assets.decisions.standing import COLUMNS, SCHEMA, Decisions, standing

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
_START = datetime(2026, 1, 1, tzinfo=UTC)


def said(number: int, kind: str, content: str = A, **more: Any) -> dict[str, Any]:
    """A row that was decided ``number`` minutes after the start."""
    row = {"decision_id": f"{number:04}", "decided_at": _START + timedelta(minutes=number), "decided_by": "ann"}
    field = "quality" if kind in ("keep", "remove", "unsure") else None
    return dict.fromkeys(COLUMNS) | row | {"kind": kind, "content_sha256": content, "field": field} | more


def count(*rows: dict[str, Any]) -> Decisions:
    return standing(pl.DataFrame(list(rows), schema=SCHEMA))


def ids(decisions: Decisions) -> list[str]:
    return decisions.rows["decision_id"].to_list()


def test_nothing_said_is_nothing_that_counts() -> None:
    none = count()
    frames = (none.rows, none.same_pairs(), none.keepers(), none.removed(), none.kept(), none.relabelled())
    assert [len(frame) for frame in frames] == [0] * 6


def test_the_last_decision_on_the_quality_of_a_content_counts_wherever_it_lies() -> None:
    rows = [said(1, "keep", relative_path="x.jpg"), said(2, "remove", relative_path="y.jpg"), said(3, "keep", B)]
    assert ids(count(*rows)) == ["0002", "0003"]
    assert count(*rows).removed()["content_sha256"].to_list() == [A]
    assert count(*rows).kept()["content_sha256"].to_list() == [B]
    assert len(count(*rows, said(4, "unsure")).removed()) == 0


def test_duplicates_and_keepers_are_of_a_path_and_its_content() -> None:
    rows = [
        said(1, "keeper", relative_path="x.jpg"),
        said(2, "remove", relative_path="y.jpg", field="duplicate"),
        said(3, "remove", relative_path="z.jpg", field="duplicate"),
        said(4, "keep", relative_path="z.jpg", field="duplicate"),
    ]
    found = count(*rows)
    assert found.keepers().select("relative_path", "content_sha256").rows() == [("x.jpg", A)]
    assert found.removed_duplicates()["relative_path"].to_list() == ["y.jpg"]
    assert found.kept_duplicates()["relative_path"].to_list() == ["z.jpg"]
    assert len(found.removed()) == len(found.kept()) == 0, "of the quality nothing was said"
    # The same path with another content is another image.
    other = count(*rows, said(5, "remove", B, relative_path="x.jpg", field="duplicate"))
    assert len(other.keepers()) == 1
    same = count(*rows, said(5, "remove", relative_path="x.jpg", field="duplicate"))
    assert len(same.keepers()) == 0
    assert ids(Decisions(found.of_image("y.jpg", A))) == ["0002"]


def test_tags_are_by_name_and_of_a_content() -> None:
    rows = [
        said(1, "tag", value="hard", relative_path="x.jpg"),
        said(2, "tag", B, value="hard"),
        said(3, "tag", value="at night"),
        said(4, "untag", value="hard", relative_path="moved.jpg"),
        said(5, "remove"),
    ]
    assert count(*rows).tagged().rows() == [(A, "at night"), (B, "hard")]
    back = said(6, "untag", undoes="0004", value="hard")
    assert count(*rows, back).tagged().rows() == [(A, "at night"), (A, "hard"), (B, "hard")]


def test_a_pair_has_no_order() -> None:
    rows = [said(1, "same", B, other_sha256=A), said(2, "same", A, other_sha256=C)]
    assert sorted(count(*rows).same_pairs().rows()) == [(A, B), (A, C)]
    turned = count(*rows, said(3, "different", A, other_sha256=B))
    assert turned.same_pairs().rows() == [(A, C)]
    assert turned.different_pairs().rows() == [(A, B)]
    assert count(*rows, said(3, "keep", A)).same_pairs().height == 2, "another question"


def test_labels_are_by_field_and_unsure_of_one_leaves_the_others() -> None:
    rows = [
        said(1, "relabel", field="class", value="rust"),
        said(2, "relabel", field="species", value="oats"),
        said(3, "relabel", field="class", value="mildew"),
        said(4, "remove"),
    ]
    assert sorted(count(*rows).relabelled().rows()) == [(A, "class", "mildew"), (A, "species", "oats")]
    unsure = count(*rows, said(5, "unsure", field="class"))
    assert unsure.relabelled().rows() == [(A, "species", "oats")]
    assert len(unsure.removed()) == 1


def test_taking_back_brings_back_the_one_before_and_taking_that_back_the_one_itself() -> None:
    rows = [said(1, "keep"), said(2, "remove")]
    undone = [*rows, said(3, "remove", undoes="0002")]
    assert ids(count(*undone)) == ["0001"]
    redone = [*undone, said(4, "remove", undoes="0003")]
    assert ids(count(*redone)) == ["0002"]
    assert ids(count(*redone, said(5, "remove", undoes="0004"))) == ["0001"]
    assert ids(count(*undone, said(4, "keep", undoes="0001"))) == []


def test_at_the_same_moment_the_later_id_counts_and_the_order_of_rows_is_no_matter() -> None:
    rows = [said(number, ["keep", "remove", "unsure"][number % 3], decided_at=_START) for number in range(9)]
    rows += [said(20, "remove", undoes="0008", decided_at=_START), said(21, "same", B, other_sha256=A)]
    expected = count(*rows).rows
    assert expected["decision_id"].to_list() == ["0007", "0021"]
    rng = random.Random(4)
    for _ in range(20):
        rng.shuffle(rows)
        assert count(*rows).rows.equals(expected)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (said(1, "kep"), "there is no kind 'kep'"),
        (said(1, "keep", "xyz"), "content_sha256 'xyz' is no SHA-256"),
        (said(1, "keep", content_sha256=None), "content_sha256 is missing"),
        (said(1, "same"), "same is about two images, and one is given"),
        (said(1, "same", other_sha256=A), "both images have the same content"),
        (said(1, "keep", other_sha256=B), "keep is about one image, and two are given"),
        (said(1, "keep", field="taste"), "keep is about quality or duplicate, not 'taste'"),
        (said(1, "keeper"), "keeper is about one path, and none is given"),
        (said(1, "remove", field="duplicate"), "remove of a duplicate is about one path"),
        (said(1, "unsure", field="duplicate"), "unsure is about quality or a field of labels"),
        (said(1, "keeper", field="quality", relative_path="x.jpg"), "keeper takes no field"),
        (said(1, "relabel", value="rust"), "relabel needs the field of labels"),
        (said(1, "relabel", field="class"), "relabel needs a value"),
        (said(1, "keep", value="rust"), "keep takes no value"),
        (said(1, "keep", shown="{"), "shown is not JSON"),
        (said(1, "tag"), "a tag needs a value: its name"),
        (said(1, "tag", value="a, b"), "the tag 'a, b' has a comma"),
        (said(1, "untag", value=" a"), "the tag ' a' has a comma, blanks at an end"),
        (said(1, "tag", value="x" * 101), "a tag has at most 100 characters"),
        (said(1, "tag", value="a\nb"), "the tag 'a\\nb' has a comma"),
        (said(1, "tag", value="a", field="quality"), "tag takes no field"),
        (said(1, "tag", value="<b>hard"), None),
        (said(1, "keep"), None),
        (said(1, "relabel", field="duplicate", value="x"), None),
        (said(1, "relabel", field="my field", value="x"), "a field can't be called 'my field'"),
        (said(1, "relabel", field="issues", value="x"), "a field can't be called 'issues': label_issues is another"),
        (said(1, "unsure", field="my field"), "a field can't be called 'my field'"),
        (said(1, "unsure", field="quality"), None),
        (said(1, "unsure", field="class"), None),
    ],
    ids=str,
)
def test_what_a_row_has_to_say(row: dict[str, Any], fault: str | None) -> None:
    found = fault_of(row)
    assert found is None if fault is None else str(found).startswith(fault)
