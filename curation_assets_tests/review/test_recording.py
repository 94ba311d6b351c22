"""What people answer is written once, in few commits, and never over another person's word unseen."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation_assets.decisions.record import append, read_decisions, read_rows
from curation_assets.decisions.standing import SCHEMA
from curation_assets.errors import CurationError
from curation_assets.lake.schemas import DECISIONS
from curation_assets.lake.table import LakeTable
from curation_assets.review import recording
from curation_assets.review.recording import Asked, NotWrittenError, Recorder, answered

A, B, C, D = (letter * 64 for letter in "abcd")


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    return LakeTable(tmp_path / "decisions", DECISIONS)


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    monkeypatch.setattr(recording, "_QUIET_S", 0.01)
    return []


@pytest.fixture
def recorder(table: LakeTable, followed: list[int]) -> Iterator[Recorder]:
    made = Recorder(table, lambda rows: followed.append(len(rows)))
    yield made
    made.close()


def asked(number: int, kind: str = "keep", content: str = A, by: str = "ann", **more: Any) -> Asked:
    own = {name: more.pop(name) for name in ("seen", "undoes") if name in more}
    field = {"field": "quality"} if kind in ("keep", "remove", "unsure") else {}
    return Asked(f"{number:016x}", {"decided_by": by, "kind": kind, "content_sha256": content} | field | more, **own)


def kinds(table: LakeTable) -> dict[str, str]:
    return dict(read_decisions(table).rows.select("content_sha256", "kind").iter_rows())


def test_what_is_acknowledged_is_in_the_table_once_and_what_follows_from_it_follows(
    table: LakeTable, recorder: Recorder, followed: list[int]
) -> None:
    first, second = recorder.record([asked(1), asked(2, "remove", B)])
    assert (first.status, second.status) == ("recorded", "recorded")
    assert kinds(table) == {A: "keep", B: "remove"}
    again, other = recorder.record([asked(2, "remove", B), asked(3, "remove")])
    assert (again.status, other.status) == ("already", "recorded")
    assert again.row["decision_id"] == second.row["decision_id"]
    assert kinds(table) == {A: "remove", B: "remove"}
    recorder.close()
    assert sum(followed) == len(read_rows(table)) == 3
    with pytest.raises(NotWrittenError, match="stopping"):  # what is refused otherwise is not sent again
        recorder.record([asked(4)])


def test_answers_of_many_at_once_share_commits(table: LakeTable, recorder: Recorder) -> None:
    with ThreadPoolExecutor(40) as pool:
        answers = [*pool.map(lambda number: recorder.record([asked(number, content=f"{number:064x}")]), range(40))]
    assert {answer.status for each in answers for answer in each} == {"recorded"}
    assert len(read_rows(table)) == 40
    assert table.newest_version() <= 10
    assert read_rows(table)["decision_id"].n_unique() == 40


def test_another_persons_later_word_is_a_conflict_until_it_was_seen(table: LakeTable, recorder: Recorder) -> None:
    (ours,) = recorder.record([asked(1)])
    seen = ours.row["decision_id"]
    (theirs,) = recorder.record([asked(2, "remove", by="ben", seen=seen)])
    assert theirs.status == "recorded"
    (refused,) = recorder.record([asked(3, "keep", by="ann", seen=seen)])
    assert (refused.status, refused.row["decided_by"]) == ("conflict", "ben")
    assert kinds(table) == {A: "remove"}
    agreed, told, own = recorder.record(
        [
            asked(4, "remove", seen=seen),  # the same answer
            asked(5, "keep", seen=theirs.row["decision_id"]),  # it was seen
            asked(6, "unsure", seen=seen),  # over one's own word
        ]
    )
    assert (agreed.status, told.status, own.status) == ("recorded",) * 3
    assert kinds(table) == {A: "unsure"}


def keeper(path: str, content: str, members: str = A + B, kind: str | None = "near") -> dict[str, Any]:
    """Of the group of some contents; its kind isn't always known."""
    shown = {"members": [members[at : at + 64] for at in range(0, len(members), 64)]} | ({"kind": kind} if kind else {})
    return {"kind": "keeper", "relative_path": path, "content": content, "shown": json.dumps(shown)}


FIRST, SECOND = keeper("a.jpg", A), keeper("b.jpg", B)
KEPT = {"kind": "keep", "field": "duplicate", "relative_path": "b.jpg", "content": B, "shown": '{"kind": "near"}'}
APART = {"kind": "different", "content": B, "other_sha256": A}


@pytest.mark.parametrize(
    ("theirs", "ours", "status"),
    [
        (FIRST, SECOND, "conflict"),
        (FIRST, keeper("b.jpg", B, "", None), "conflict"),
        (keeper("a.jpg", A, ""), SECOND, "conflict"),
        (keeper("a.jpg", A, A), keeper("copy.jpg", A, A), "conflict"),
        (FIRST, KEPT, "conflict"),
        (KEPT, FIRST, "conflict"),
        (FIRST, APART, "conflict"),
        (APART, FIRST, "conflict"),
        (FIRST, FIRST, "recorded"),
        (FIRST, keeper("b.jpg", B, kind="burst"), "recorded"),
        (FIRST, keeper("c.jpg", C, C + D), "recorded"),
        (FIRST, APART | {"other_sha256": C}, "recorded"),
        (KEPT | {"field": "quality"}, FIRST, "recorded"),
        (KEPT, APART, "recorded"),
        (KEPT | {"content": C}, FIRST, "recorded"),
    ],
)
def test_two_who_answer_one_group_otherwise_are_in_conflict_also_at_once(
    theirs: dict[str, Any], ours: dict[str, Any], status: str
) -> None:
    nothing = pl.DataFrame(schema=SCHEMA)
    said = answered([asked(1, **theirs, by="ben", seen=""), asked(2, **ours, seen=""), asked(3, **ours)], nothing)
    assert [answer.status for answer in said] == ["recorded", status, "recorded"]
    assert [answer.row["decided_by"] for answer in said] == ["ben", "ben" if status == "conflict" else "ann", "ann"]
    there = pl.DataFrame([said[0].row, said[2].row], SCHEMA)
    (later,) = answered([asked(4, **theirs, by="ben", seen=said[0].row["decision_id"])], there)
    assert later.status == status, "what is in the table already is met too"


def test_a_groups_answer_is_written_over_what_was_seen_ones_own_and_what_was_taken_back(
    table: LakeTable, recorder: Recorder
) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=1)
    row = asked(1, **FIRST, by="ben").row | {"decision_id": "0" * 31 + "1", "decided_at": ahead}
    append(table, lambda _: [row])
    own = recorder.record([asked(2, **SECOND, seen="0" * 31 + "1"), asked(3, **KEPT, seen="")])
    assert [answer.status for answer in own] == ["recorded", "conflict"], "b.jpg is another's, but not one's own"
    last = read_decisions(table).keepers()["relative_path"][-1]
    assert last == "b.jpg", "it counts after what it overrules, whatever the clocks say"
    back = Asked(f"{4:016x}", {"decided_by": "ben"}, undoes="0" * 31 + "1")
    assert [one.status for one in recorder.record([back, asked(5, **KEPT, seen="")])] == ["recorded"] * 2


def test_of_two_who_answer_in_the_same_moment_one_is_told(table: LakeTable, recorder: Recorder) -> None:
    begin = threading.Barrier(2)

    def say(by: str, kind: str, number: int) -> str:
        begin.wait()
        return recorder.record([asked(number, kind, by=by, seen="0")])[0].status

    with ThreadPoolExecutor(2) as pool:
        said = [*pool.map(say, ("ann", "ben"), ("keep", "remove"), (1, 2))]
    assert sorted(said) == ["conflict", "recorded"]


def test_taking_back_and_back_again(table: LakeTable, recorder: Recorder) -> None:
    (first,) = recorder.record([asked(1)])
    both = recorder.record([asked(2, "remove"), Asked(f"{3:016x}", {"decided_by": "ann"}, undoes=f"{2:016x}")])
    assert [answer.status for answer in both] == ["recorded", "recorded"]
    assert kinds(table) == {A: "keep"}
    (again,) = recorder.record([Asked(f"{4:016x}", {"decided_by": "ann"}, undoes=both[0].row["decision_id"])])
    assert again.status == "already"
    recorder.record([Asked(f"{5:016x}", {"decided_by": "ann"}, undoes=both[1].row["decision_id"])])
    assert kinds(table) == {A: "remove"}
    with pytest.raises(CurationError, match="no decision 'nothing'"):
        recorder.record([Asked(f"{6:016x}", {"decided_by": "ann"}, undoes="nothing")])
    assert first.row["undoes"] is None


def test_a_word_counts_after_what_it_overrules_whatever_the_clocks_say(table: LakeTable, recorder: Recorder) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=1)
    row = asked(1, "remove", by="ben").row | {"decided_at": ahead}
    append(table, lambda _: [row])
    recorder.record([asked(2, "keep")])
    assert kinds(table) == {A: "keep"}


def test_what_says_nothing_is_refused_and_keeps_nobody_elses_from_being_written(
    table: LakeTable, recorder: Recorder
) -> None:
    with pytest.raises(CurationError, match="16 lower-case hexadecimal"):
        recorder.record([Asked("X", asked(1).row)])
    with pytest.raises(CurationError, match="no kind 'burn'"):
        recorder.record([asked(1, "burn")])
    with ThreadPoolExecutor(2) as pool:
        bad = pool.submit(recorder.record, [Asked(f"{8:016x}", {"decided_by": "ann"}, undoes="nothing")])
        good = pool.submit(recorder.record, [asked(9)])
        assert good.result()[0].status == "recorded"
        with pytest.raises(CurationError):
            bad.result()


def test_a_table_that_can_not_be_written_is_told_and_the_next_answer_is_taken(
    table: LakeTable, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise CurationError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(recording, "append", full)
        with pytest.raises(NotWrittenError, match="it can't be written: No space left"):
            recorder.record([asked(1)])
    assert recorder.record([asked(1)])[0].status == "recorded"
    assert read_rows(table).select(pl.len()).item() == 1
