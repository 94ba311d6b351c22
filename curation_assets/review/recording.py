"""Writing down what people answer: whoever asks is told when it is on the disk, and many answers share a commit."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import polars as pl

from curation_assets.decisions.kinds import fault_of
from curation_assets.decisions.record import Row, append
from curation_assets.decisions.standing import COLUMNS, QUESTION, SCHEMA, in_force, standing
from curation_assets.errors import CurationError, reason_of
from curation_assets.lake.table import LakeTable
from curation_assets.review.group_answers import IS_OF_GROUP, GroupAnswers, is_of_group

logger = logging.getLogger(__name__)

Question = tuple[str | None, ...]
Status = Literal["recorded", "already", "conflict"]
TOKEN = re.compile(r"[0-9a-f]{16}")
_WINDOW_S = 0.2  # answers that come within it share a commit
_QUIET_S = 1.0  # without an answer, before groups and label issues follow
_TICK = timedelta(microseconds=1)
_ANSWER = ["kind", "field", "value"]


@dataclass(frozen=True)
class Asked:
    """An answer that is to be written down, or the taking back of one.

    Attributes:
        token: 16 hexadecimal digits: however often it is asked for with these, it is written down once.
        row: columns of the table of decisions by name, but for ``decision_id``, ``decided_at`` and ``undoes``.
        seen: id of the latest decision that the person could know of; another person's other answer to the same
            question, or to the same group of duplicates, that is later is a conflict. None: none is looked for.
        undoes: id, or token, of the decision that is taken back; of ``row`` then only ``decided_by`` and ``reason``
            count.
    """

    token: str
    row: Row
    seen: str | None = None
    undoes: str | None = None


@dataclass(frozen=True)
class Answer:
    """What became of it.

    Attributes:
        status: ``recorded``; ``already``, where it was before, or what it takes back is taken back; ``conflict``, where
            nothing is written.
        row: that was written, or is there already, or that it is in conflict with.
    """

    status: Status
    row: Row


class NotWrittenError(CurationError):
    """The table can't be written now; the same may be asked for again."""


@dataclass
class _Job:
    asked: Sequence[Asked]
    done: Future[list[Answer]] = field(default_factory=Future)


class Recorder:
    """Writes answers, in a thread of its own. Threads may share it.

    Args:
        table: of decisions.
        follow: is called with the rows that were written, once people pause; what it raises is logged.
    """

    def __init__(self, table: LakeTable, follow: Callable[[Sequence[Row]], object]) -> None:
        self._table = table
        self._follow = follow
        self._change = threading.Condition()
        self._jobs: list[_Job] = []
        self._to_follow: list[Row] = []
        self._closing = False
        self._threads: list[threading.Thread] = []

    def record(self, asked: Sequence[Asked]) -> list[Answer]:
        """Write answers down, all or none.

        Returns:
            What became of each, in their order, once it is on the disk.

        Raises:
            CurationError: one says nothing, or takes back what isn't there.
            NotWrittenError: the table can't be written, or no thread does it any more.
        """
        for one in asked:
            if not TOKEN.fullmatch(one.token):
                raise CurationError(f"the token {one.token!r:.60} is not 16 lower-case hexadecimal digits")
            if one.undoes is None and (fault := fault_of(dict.fromkeys(COLUMNS) | one.row)):
                raise CurationError(fault)
        job = _Job(asked)
        with self._change:
            if self._closing:
                raise NotWrittenError("the gallery is stopping")
            if not self._threads:
                self._threads = [
                    threading.Thread(target=work, name=name, daemon=True)
                    for work, name in ((self._write_all, "decisions"), (self._follow_all, "following"))
                ]
                for thread in self._threads:
                    thread.start()
            self._jobs.append(job)
            self._change.notify_all()
        return job.done.result()

    def close(self) -> None:
        """Write what was asked for, let follow what follows, and end the threads."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        for thread in self._threads:  # the one that writes first
            thread.join()
            with self._change:
                self._change.notify_all()

    # The thread that writes

    def _write_all(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._jobs or self._closing)
                if not self._jobs:
                    return
                if not self._closing:
                    self._change.wait_for(lambda: self._closing, _WINDOW_S)
                jobs, self._jobs = self._jobs, []
            self._write(jobs)

    def _write(self, jobs: Sequence[_Job]) -> None:
        """Jobs in one commit; if one of them can't be, each in its own."""
        try:
            answers = self._written([one for job in jobs for one in job.asked])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].done.set_exception(error)
                return
            for job in jobs:
                self._write([job])
            return
        for job in jobs:
            job.done.set_result(answers[: len(job.asked)])
            answers = answers[len(job.asked) :]

    def _written(self, asked: Sequence[Asked]) -> list[Answer]:
        answers: list[Answer] = []
        refused: list[CurationError] = []

        def plan(rows: Callable[[], pl.DataFrame]) -> list[Row]:
            try:
                answers[:] = answered(asked, rows())
            except CurationError as error:
                refused.append(error)
                raise
            return [answer.row for answer in answers if answer.status == "recorded"]

        try:
            rows = append(self._table, plan)
        except (CurationError, OSError) as error:
            if error in refused:
                raise
            reason = str(error) if isinstance(error, CurationError) else reason_of(error)
            raise NotWrittenError(f"it can't be written: {reason}") from error
        with self._change:
            self._to_follow += rows
            self._change.notify_all()
        return answers

    # The thread that lets follow

    def _follow_all(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._to_follow or self._ended())
                before = -1
                while before != len(self._to_follow) and not self._ended():  # as long as somebody goes on deciding
                    before = len(self._to_follow)
                    self._change.wait_for(self._ended, _QUIET_S)
                rows, self._to_follow = self._to_follow, []
            if not rows:
                return
            try:
                self._follow(rows)
            except CurationError as error:
                logger.warning("%s", error)
            except Exception:
                logger.exception("what follows from decisions was not brought in line; `curation curate` does that")

    def _ended(self) -> bool:
        return self._closing and not self._threads[0].is_alive()


def answered(asked: Sequence[Asked], there: pl.DataFrame) -> list[Answer]:
    """What becomes of answers, beside all rows of the table.

    Raises:
        CurationError: one takes back a decision that isn't there.
    """
    known = _places_of({one.token for one in asked} | {one.undoes for one in asked if one.undoes}, there)
    stands = in_force(there)
    undone: set[str] = set()
    said = [one for one in asked if one.undoes is None]
    counts = standing(there).rows if said else there.clear()
    questions = iter(_standing_of([one.row for one in said], counts))
    latest = dict[Question, Row]()  # of this batch
    now, nanoseconds = datetime.now(UTC), time.time_ns()
    groups = _of_groups(said, counts, now)
    answers, made = list[Answer](), dict[str, Row]()
    for number, one in enumerate(asked):
        question, stands_there = (None, None) if one.undoes is not None else next(questions)
        if question is not None:
            stands_there = latest.get(question, stands_there)
        if one.token in made:
            answers.append(Answer("already", made[one.token]))
            continue
        if (at := known.get(one.token)) is not None:
            answers.append(Answer("already", there.row(at, named=True)))
            continue
        at_once = now + timedelta(microseconds=number)
        if one.undoes is not None:
            at = known.get(one.undoes)
            before = made.get(one.undoes) if at is None else there.row(at, named=True)
            if before is None:
                raise CurationError(f"there is no decision {one.undoes!r:.60} to take back")
            if before["decision_id"] in undone or (at is not None and not stands[at]):
                answers.append(Answer("already", before))
                continue
            undone.add(before["decision_id"])
            groups.drop(before)
            by = {"decided_by": one.row["decided_by"], "reason": one.row.get("reason"), "shown": None}
            row = before | by | {"undoes": before["decision_id"]}
            overruled = [before]
        else:
            overruled = groups.against(one.row)
            unseen = [other for other in overruled if _is_unseen(one, other)]
            if stands_there is not None:
                overruled.append(stands_there)
                unseen += [stands_there] if _is_unseen(one, stands_there) and _says_else(one, stands_there) else []
            if unseen:
                answers.append(Answer("conflict", max(unseen, key=lambda other: str(other["decision_id"]))))
                continue
            row = dict.fromkeys(COLUMNS) | one.row
        row["decision_id"] = f"{nanoseconds + number:016x}{one.token}"
        # After what it overrules, also where the clock of whoever said that runs ahead.
        row["decided_at"] = max([at_once, *(other["decided_at"] + _TICK for other in overruled)])
        made[one.token] = row
        if question is not None:
            latest[question] = row
            if stands_there is not None:
                groups.drop(stands_there)
            groups.add(row)
        answers.append(Answer("recorded", row))
    return answers


def _places_of(names: set[str], there: pl.DataFrame) -> dict[str, int]:
    """Of ids and tokens the places of their rows."""
    wanted = pl.Series(sorted(names), dtype=pl.String).implode()
    decision, token = pl.col("decision_id"), pl.col("decision_id").str.tail(16)
    found = there.lazy().with_row_index("_at").filter(decision.is_in(wanted) | token.is_in(wanted))
    places = found.select("_at", decision, token.alias("token")).collect()
    return {name: at for at, *both in places.iter_rows() for name in both}


def _standing_of(rows: Sequence[Row], counts: pl.DataFrame) -> list[tuple[Question, Row | None]]:
    """Of each answer its question, and the decision that counts now on it.

    Args:
        counts: rows of the table that count now.
    """
    if not rows:
        return []
    asked = pl.DataFrame([dict.fromkeys(COLUMNS) | row for row in rows], schema=SCHEMA).select(**QUESTION)
    keys = counts.select(**QUESTION).with_row_index("_at")
    found = asked.join(keys, on=[*QUESTION], how="left", nulls_equal=True, maintain_order="left")
    places = found["_at"].to_list()
    return [
        (question, None if at is None else counts.row(at, named=True))
        for question, at in zip(asked.iter_rows(), places, strict=True)
    ]


def _of_groups(asked: Sequence[Asked], counts: pl.DataFrame, now: datetime) -> GroupAnswers:
    """What counts of groups, as far as an answer may be in conflict with it, or has to be made later than it."""
    seen = [one.seen for one in asked if is_of_group(one.row)]
    if not seen:
        return GroupAnswers()
    least = min((one for one in seen if one is not None), default=None)
    is_news = pl.lit(value=False) if least is None else pl.col("decision_id") > least
    found = counts.filter(IS_OF_GROUP & (is_news | (pl.col("decided_at") >= now)))
    return GroupAnswers(found.iter_rows(named=True))


def _is_unseen(one: Asked, other: Row) -> bool:
    """Whether a decision is another person's, and later than what whoever answers could know of."""
    return one.seen is not None and other["decision_id"] > one.seen and other["decided_by"] != one.row["decided_by"]


def _says_else(one: Asked, other: Row) -> bool:
    return any(other[name] != one.row.get(name) for name in _ANSWER)
