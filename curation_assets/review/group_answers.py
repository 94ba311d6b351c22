"""Answers to one group of duplicates that contradict each other, though each is a question of its own.

A keeper is of one path, keeping all is of each path, and whether two show the same is of two contents. So two people
who answer one group otherwise would not meet in any of these questions.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator

import polars as pl

from curation_assets.decisions.kinds import DIFFERENT, DUPLICATE, KEEP, KEEPER
from curation_assets.decisions.record import Row

# Rows of the table of decisions that may answer a group.
IS_OF_GROUP = pl.col("kind").is_in([KEEPER, DIFFERENT]) | (
    (pl.col("kind") == KEEP) & (pl.col("field") == DUPLICATE)
).fill_null(value=False)


def is_of_group(row: Row) -> bool:
    """The same of one row."""
    return row["kind"] in (KEEPER, DIFFERENT) or (row["kind"] == KEEP and row.get("field") == DUPLICATE)


def shown_of(text: str | None) -> dict[str, object]:
    """What a person saw when they decided; empty where that isn't known."""
    try:
        shown = json.loads(text or "null")
    except ValueError:
        return {}
    return shown if isinstance(shown, dict) else {}


def members_of(text: str | None) -> Iterator[str]:
    """Contents of the group of which a person chose a keeper."""
    members = shown_of(text).get("members")
    return (member for member in members if isinstance(member, str)) if isinstance(members, list) else iter(())


class GroupAnswers:
    """Decisions on groups, by the contents that they are about."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._by_content: dict[str, dict[str, Row]] = defaultdict(dict)
        self._about: dict[str, frozenset[str]] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """One more counts; nothing happens where it is of no group."""
        if not is_of_group(row):
            return
        self._about[row["decision_id"]] = _about(row)
        for content in self._about[row["decision_id"]]:
            self._by_content[content][row["decision_id"]] = row

    def drop(self, row: Row) -> None:
        """One doesn't count any more."""
        for content in self._about.pop(row["decision_id"], ()):
            del self._by_content[content][row["decision_id"]]

    def against(self, row: Row) -> list[Row]:
        """Those that contradict a row that is none of them: of another question, and of the same group.

        A keeper contradicts another keeper, that all are kept, and that two of the group are not the same.
        """
        if not is_of_group(row):
            return []
        about = _about(row)
        met = {there: one for content in about for there, one in self._by_content.get(content, {}).items()}
        return [one for there, one in met.items() if _contradict(row, about, one, self._about[there])]


def _about(row: Row) -> frozenset[str]:
    contents = [row["content_sha256"], row.get("other_sha256")]
    members = members_of(row.get("shown")) if row["kind"] == KEEPER else ()
    return frozenset(content for content in (*contents, *members) if content is not None)


def _contradict(one: Row, of_one: frozenset[str], other: Row, of_other: frozenset[str]) -> bool:
    """Whether two decisions do.

    Args:
        of_one, of_other: contents that each is about.
    """
    if KEEPER not in (one["kind"], other["kind"]):
        return False
    if one["kind"] != KEEPER:
        one, of_one, other, of_other = other, of_other, one, of_one
    if other["kind"] == DIFFERENT:
        return of_other <= of_one
    if (one["relative_path"], one["content_sha256"]) == (other["relative_path"], other["content_sha256"]):
        return False  # that is one question
    of = [shown_of(row.get("shown")).get("kind") for row in (one, other)]
    if None not in of and of[0] != of[1]:
        return False  # a near group and a burst, say
    return other["content_sha256"] in of_one or (other["kind"] == KEEPER and one["content_sha256"] in of_other)
