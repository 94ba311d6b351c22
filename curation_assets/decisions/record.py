"""The table of decisions: read whole, and added to by one commit a batch."""

from __future__ import annotations

import getpass
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from curation_assets.decisions.standing import COLUMNS, SCHEMA, Decisions, in_force, standing
from curation_assets.errors import CurationError
from curation_assets.lake import hive
from curation_assets.lake.appending import commit_added
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable

Row = dict[str, Any]  # the table's columns by name; those that are not named are null


def read_rows(table: LakeTable) -> pl.DataFrame:
    """Every row of the table, the earliest first; none where there is no table.

    Raises:
        CurationError: it can't be read.
    """
    return _rows(table.latest()) if table.exists() else pl.DataFrame(schema=SCHEMA)


def read_decisions(table: LakeTable) -> Decisions:
    """What counts now.

    Raises:
        CurationError: the table can't be read.
    """
    return standing(read_rows(table))


def append(table: LakeTable, plan: Callable[[Callable[[], pl.DataFrame]], Sequence[Row]]) -> list[Row]:
    """Add rows, all in one commit; creates the table where there is none.

    Args:
        plan: makes them; it is given what reads the rows there are, and called again if somebody else added some
            meanwhile. A row without ``decision_id`` or ``decided_at`` gets them.

    Returns:
        The rows that were added.

    Raises:
        CurationError: the table can't be written, or whatever ``plan`` says.
    """
    added: list[Row] = []

    def work(change: Rewrite) -> None:
        added[:] = _completed(plan(lambda: _rows(change.base)))
        if not added:
            return
        commit_added(change, pl.DataFrame(added, schema=SCHEMA))

    table.create()
    rewrite(table, hive.WHOLE, work, info={"job": "decisions"})
    return added


def undo(table: LakeTable, decision: str | None, by: str, reason: str | None = None) -> tuple[Row, Row]:
    """Take a decision back, or the taking back of one, which brings it into force again.

    Args:
        decision: its id, or the beginning of it; None: the last decision of ``by`` that is in force.

    Returns:
        The row that was taken back, and the one that says so.

    Raises:
        CurationError: there is no such decision, it was taken back before, or the table can't be written.
    """
    if not table.exists():
        raise CurationError(f"there are no decisions in {table.path}; `curation decisions add` makes them")
    found: Row = {}

    def plan(rows: Callable[[], pl.DataFrame]) -> list[Row]:
        found.update(_to_undo(rows(), decision, by))
        # A clock that runs behind must not put it before what it takes back.
        at = max(datetime.now(UTC), found["decided_at"] + timedelta(microseconds=1))
        said = {"decided_at": at, "decided_by": by, "reason": reason, "shown": None, "undoes": found["decision_id"]}
        return [{name: value for name, value in found.items() if name != "decision_id"} | said]

    (row,) = append(table, plan)
    return found, row


def login_name() -> str:
    """Who decides, where nobody says it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without an entry for its user
        return "unknown"


def _rows(snapshot: Snapshot) -> pl.DataFrame:
    found = snapshot.read(COLUMNS).drop("_file").cast(SCHEMA)
    return found.unique("decision_id", keep="first").sort("decided_at", "decision_id")


def _to_undo(rows: pl.DataFrame, decision: str | None, by: str) -> Row:
    rows = rows.with_columns(_stands=in_force(rows))
    if decision is None:
        mine = rows.filter((pl.col("decided_by") == by) & pl.col("undoes").is_null() & pl.col("_stands"))
        if not len(mine):
            raise CurationError(f"{by} has no decision to take back; `curation decisions list` shows all")
        return mine.drop("_stands").row(-1, named=True)
    found = rows.filter(pl.col("decision_id").str.starts_with(decision)) if decision else rows.clear()
    if len(found) != 1:
        said = f"{len(found)} decisions begin with" if len(found) else "there is no decision"
        raise CurationError(f"{said} {decision!r}; `curation decisions list --all` shows their ids")
    if not found["_stands"].item():
        last = rows.filter((pl.col("undoes") == found["decision_id"].item()) & pl.col("_stands"))["decision_id"][-1]
        raise CurationError(f"{decision} was taken back before; `curation decisions undo {last}` brings it back")
    return found.drop("_stands").row(0, named=True)


def _completed(rows: Sequence[Row]) -> list[Row]:
    """Rows with all columns; ids sort as they were made, also within a batch."""
    now, nanoseconds = datetime.now(UTC), time.time_ns()
    made = []
    for place, row in enumerate(rows):
        given = {name: value for name, value in row.items() if value is not None and value != ""}
        own = {"decision_id": f"{nanoseconds:016x}{place:08x}{secrets.token_hex(4)}", "decided_at": now}
        made.append(dict.fromkeys(COLUMNS) | own | given)
    return made
