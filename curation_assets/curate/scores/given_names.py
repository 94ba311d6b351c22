"""Names that people give clusters: rows that are only added, which of them counts, and how a new one is checked.

A name is that of a cluster of one model's vectors: another model has other clusters. What `scoring` calls a cluster
stays in the table of scores; whoever reads that shows what :func:`as_named` makes of it.
"""

from __future__ import annotations

import secrets
import time
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed.vectors import MODEL_COLUMNS, is_current
from curation_assets.errors import CurationError
from curation_assets.lake import hive
from curation_assets.lake.appending import append_rows
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.schemas import CLUSTER_NAMES
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable

MOST_CHARACTERS = 100
_TICK = timedelta(microseconds=1)
_SCHEMA = pl.Schema(CLUSTER_NAMES.arrow_schema.remove_metadata())
_CLUSTER = [*MODEL_COLUMNS, "cluster"]
_SCORED = [*_CLUSTER, "cluster_name"]


class RefusedError(CurationError):
    """The name can't be given, however often it is tried."""


class RenamedError(RefusedError):
    """Somebody named the cluster meanwhile: nothing is written."""


@dataclass(frozen=True)
class Named:
    """What a cluster is called.

    Attributes:
        own: what the program calls it.
        name: what a person calls it, else the same.
        by, at: who gave the name, and when; None: nobody did.
        is_new: whether that was written just now.
    """

    cluster: int
    own: str
    name: str
    by: str | None = None
    at: datetime | None = None
    is_new: bool = False


def read_names(names: LakeTable) -> pl.DataFrame:
    """The row of each cluster that counts, if it has a name; no rows where there is no table.

    Raises:
        CurationError: the table can't be read.
    """
    return _counting(_rows(names.latest())) if names.exists() else pl.DataFrame(schema=_SCHEMA)


def as_named(rows: pl.DataFrame, given: pl.DataFrame) -> pl.DataFrame:
    """Rows of the table of scores, with what people call their clusters as ``cluster_name``.

    Args:
        rows: with the model's columns, ``cluster`` and ``cluster_name``.
        given: as :func:`read_names` has them.
    """
    if not len(given):
        return rows
    told = given.select(*_CLUSTER, _given="name")
    found = rows.join(told, on=_CLUSTER, how="left", maintain_order="left")
    return found.with_columns(cluster_name=pl.coalesce("_given", "cluster_name")).drop("_given")


def highest_named(names: LakeTable, model: RegisteredModel) -> int:
    """The largest number of a cluster of a model that anybody named; -1: none. What is new gets no number of a name.

    Raises:
        CurationError: the table can't be read.
    """
    if not names.exists():
        return -1
    rows = names.latest().read(["cluster"], where=is_current(model))
    return int(str(rows["cluster"].max())) if len(rows) else -1


def checked_name(text: str) -> str:
    """A name as it is kept: without spaces around it, its letters composed.

    Raises:
        RefusedError: it is empty, too long, or has characters that can't be shown.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise RefusedError("a cluster's name is empty; write some letters")
    if not name.isprintable():
        raise RefusedError(f"the name {name[:60]!r} has characters that can't be shown")
    if len(name) > MOST_CHARACTERS:
        raise RefusedError(f"a cluster's name has at most {MOST_CHARACTERS} characters, this one {len(name):,}")
    return name


def name_cluster(
    names: LakeTable, scores: LakeTable, cluster: int, name: str | None, by: str, seen: str | None = None
) -> Named:
    """Give a cluster a name, or take it back; creates the table where there is none.

    Args:
        name: None: what the program calls it.
        by: who says so.
        seen: what it was called when the person looked; None: whatever that was.

    Returns:
        What it is called now, once it is on the disk. Nothing is written where it was called so before.

    Raises:
        RefusedError: there is no such cluster, the name can't be used, or another cluster is called so.
        RenamedError: it is called otherwise than ``seen`` by now.
        CurationError: a table can't be read or written.
    """
    wanted = None if name is None else checked_name(name)
    by = by.strip()
    if not by:
        raise RefusedError("say who names the cluster")
    found: list[Named] = []

    def work(change: Rewrite) -> None:
        rows = _rows(change.base)
        called, its = _called(scores, _counting(rows))
        now = _among(called, cluster)
        if (now.name, now.by is None) == (wanted or now.own, wanted is None):
            found[:] = [now]
            return
        if seen is not None and now.name != seen:
            who = f"{now.by} named cluster {cluster}" if now.by else f"cluster {cluster} became"
            raise RenamedError(f"{who} {now.name!r} meanwhile, it was {seen[:MOST_CHARACTERS]!r}")
        _refuse_used(called, now, wanted)
        # A clock that runs behind must not put it before what it comes after.
        at = max([datetime.now(UTC), *(said + _TICK for said in rows["named_at"].tail(1))])
        row = dict(zip(_CLUSTER, its[cluster], strict=True)) | {"name": wanted, "named_by": by, "named_at": at}
        row["name_id"] = f"{time.time_ns():016x}{secrets.token_hex(8)}"
        append_rows(change, pl.DataFrame([row], schema=_SCHEMA))
        mine = wanted is not None
        found[:] = [Named(cluster, now.own, wanted or now.own, by if mine else None, at if mine else None, is_new=True)]

    if scores.newest_version() < 1:
        raise RefusedError(f"no image is scored yet in {scores.path}; `curation curate` does that")
    names.create()
    rewrite(names, hive.WHOLE, work, info={"job": "cluster name"})
    return found[0]


def _rows(names: Snapshot) -> pl.DataFrame:
    """All of them, the earliest first."""
    return names.read(_SCHEMA.names()).drop("_file").cast(_SCHEMA).sort("named_at", "name_id")


def _counting(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.unique(_CLUSTER, keep="last", maintain_order=True).drop_nulls("name")


def _called(scores: LakeTable, given: pl.DataFrame) -> tuple[list[Named], dict[int, tuple[object, ...]]]:
    """What every cluster is called, and whose each is: the values of ``_CLUSTER``."""
    rows = scores.latest().read(_SCORED).select(_SCORED).unique(_CLUSTER).sort("cluster")
    told = given.select(*_CLUSTER, "name", "named_by", "named_at")
    rows = rows.join(told, on=_CLUSTER, how="left", maintain_order="left")
    called = [
        Named(row["cluster"], row["cluster_name"], row["name"] or row["cluster_name"], row["named_by"], row["named_at"])
        for row in rows.iter_rows(named=True)
    ]
    return called, {row[_CLUSTER.index("cluster")]: row for row in rows.select(_CLUSTER).iter_rows()}


def _among(called: list[Named], cluster: int) -> Named:
    found = next((one for one in called if one.cluster == cluster), None)
    if found is None:
        there = ", ".join(str(one.cluster) for one in called) or "none"
        raise RefusedError(f"there is no cluster {cluster}; there are {there}")
    return found


def _refuse_used(called: list[Named], now: Named, wanted: str | None) -> None:
    """Two clusters of one name could not be told apart by conditions. The program's own names may be alike."""
    name = wanted or now.own
    for other in called:
        if other.cluster != now.cluster and other.name.casefold() == name.casefold() and (wanted or other.by):
            raise RefusedError(f"cluster {other.cluster} is called {other.name!r} already; two can't share a name")
