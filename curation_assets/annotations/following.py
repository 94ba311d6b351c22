"""Annotations follow their images: a file that was moved or renamed keeps what was said of it, by its content.

A row is lost where its image is gone from its path or has another content there. It goes to a new path that has its
content and no annotation of the field: one of the same file name if there is one, else the first. One row goes to one
path, so a copy never gets what its original keeps. Where there is none, the row stays and waits, and doesn't count.

A path is new if it did not have that content in the version of the directory table that the row came in at, nor in the
newest one that is known to have been as the disk was, which is noted beside the index. While a scan is under way, or
rows of files that are gone wait for a word, an image stands in the table at its old path and its new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import polars as pl

from curation_assets.annotations.record import KEY, change_rows
from curation_assets.annotations.said import COLUMNS, SCHEMA
from curation_assets.clip.notes import read_note, write_note
from curation_assets.errors import CurationError
from curation_assets.lake.removed import RETENTION
from curation_assets.lake.snapshot import Snapshot, partitions_in_parts
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress

_PLACE = ["folder", "relative_path", "content_sha256"]


@dataclass
class Following:
    """What following did.

    Attributes:
        moved: rows that went to where their image is now.
        waiting: rows whose image is gone, or has another content; they don't count.
    """

    moved: int = 0
    waiting: int = 0
    version: int = -1


def follow(
    directory: LakeTable,
    annotations: LakeTable,
    progress: Progress | None = None,
    note: Path | None = None,
    is_settled: Callable[[], bool] | None = None,
) -> Following:
    """Bring the places of annotations in line with the images.

    Args:
        note: where it is noted which version of the directory table was as the disk was, the last time.
        is_settled: asked afterwards, if need be: whether that table is so now.

    Raises:
        CurationError: a table can't be read or written.
    """
    done = Following()
    if not annotations.exists() or not directory.exists():
        return done
    state: dict[str, str | int] = {}

    def plan(base: Snapshot) -> tuple[pl.DataFrame, pl.DataFrame]:
        images = directory.latest()
        state.update(table=images.table_id, version=images.version)
        lost, unknown = lost_rows(images, base)
        moves = _moves(directory, images, base, lost, note)
        done.moved, done.waiting = len(moves), len(lost) - len(moves)
        changed = pl.concat([moves, unknown])
        if not len(changed):
            return _keys(base), pl.DataFrame(schema=SCHEMA)
        where = pl.col("relative_path").is_in(changed["relative_path"].unique().implode())
        columns = [*COLUMNS, *base.added_columns]
        rows = base.read(columns, where=where).drop("_file").unique(KEY, keep="first")
        new = rows.join(changed, on=KEY, how="inner").with_columns(
            relative_path="to", folder="to_folder", content_sha256="to_content"
        )
        # Whatever was said of another content at that path is of no image any more.
        return pl.concat([changed.select(KEY), new.select(KEY)]).unique(), new.select(columns)

    done.version = change_rows(annotations, plan, {"job": "annotations"}, progress)
    if note is not None and is_settled is not None and read_note(note) != state and is_settled():
        write_note(note, state)
    return done


def movable(directory: LakeTable, annotations: LakeTable, note: Path) -> int:
    """How many rows :func:`follow` would let go elsewhere."""
    images, rows = directory.latest(), annotations.latest()
    lost, unknown = lost_rows(images, rows)
    return len(_moves(directory, images, rows, lost, note)) + len(unknown)


def lost_rows(images: Snapshot, annotations: Snapshot) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows whose image is not at their path, in their partition, with their content; and rows that had no content yet.

    Returns:
        ``KEY``, ``content_sha256`` and ``annotated_at`` of the lost; and of the others, whose image could not be read
        when they came and can be now, where they stay, as :func:`_moves` has it.
    """
    lost = [pl.DataFrame(schema={name: SCHEMA[name] for name in (*KEY, "content_sha256", "annotated_at")})]
    unknown = [pl.DataFrame(schema=_MOVE)]
    for folders in partitions_in_parts(annotations):
        wanted = [*KEY, "folder", "content_sha256", "annotated_at"]
        rows = annotations.read(wanted, files=annotations.files_of(folders)).drop("_file")
        here = images.read(_PLACE, files=images.files_of(folders)).drop("_file").unique("relative_path", keep="first")
        damaged = [file.partition for file, _ in images.broken()]  # what of them is gone can't be told
        rows = rows.filter(~pl.col("folder").is_in(damaged))
        now = here.rename({"folder": "to_folder", "content_sha256": "to_content"}).with_columns(to="relative_path")
        rows = rows.unique(KEY, keep="first").join(now, on="relative_path", how="left")
        same = pl.col("content_sha256").eq(pl.col("to_content")).fill_null(value=False)
        told_late = pl.col("content_sha256").is_null() & pl.col("to_content").is_not_null()
        lost.append(rows.filter(~same & ~told_late & pl.col("content_sha256").is_not_null()).select(lost[0].columns))
        unknown.append(rows.filter(told_late).select(list(_MOVE)))
    return pl.concat(lost), pl.concat(unknown)


_MOVE = dict.fromkeys([*KEY, "to", "to_folder", "to_content"], pl.String)


def _moves(
    directory: LakeTable, images: Snapshot, annotations: Snapshot, lost: pl.DataFrame, note: Path | None
) -> pl.DataFrame:
    """Where lost rows go: ``KEY`` and the path, folder and content there."""
    if not len(lost):
        return pl.DataFrame(schema=_MOVE)
    contents = lost["content_sha256"].unique()
    places = images.read(_PLACE, where=pl.col("content_sha256").is_in(contents.implode())).drop("_file")
    places = places.unique("relative_path", keep="first")
    questions = lost.select("content_sha256", "field", "source").unique()
    free = places.rename({"relative_path": "to", "folder": "to_folder"}).join(questions, on="content_sha256")
    # Whoever is annotated already, by a row that is not lost itself.
    at_places = pl.col("relative_path").is_in(places["relative_path"].implode())
    there = annotations.read([*KEY, "content_sha256"], where=at_places).drop("_file").join(lost, on=KEY, how="anti")
    free = free.join(there, left_on=["to", "field"], right_on=["relative_path", "field"], how="anti")
    question = ["content_sha256", "field", "source"]
    left = lost.with_columns(_path="relative_path", _name=_name("relative_path"))
    free = free.with_columns(_path="to", _name=_name("to"))
    found = []
    for of in ([*question, "_path"], [*question, "_name"], question):  # first: the image lies in another partition
        left = left.sort("relative_path").with_columns(_rank=pl.int_range(pl.len()).over(of))
        free = free.sort("to").with_columns(_rank=pl.int_range(pl.len()).over(of))
        pairs = left.join(free, on=[*of, "_rank"])
        found.append(pairs.with_columns(to_content="content_sha256").select(list(_MOVE)))
        left = left.join(pairs, on=KEY, how="anti")
        free = free.join(pairs.select("to", "field", "source"), on=["to", "field", "source"], how="anti")
        if "_path" in of:
            free = free.join(
                _there_before(directory, images, left, free, note), on=["to", "content_sha256"], how="anti"
            )
    return pl.concat(found)


def _there_before(
    directory: LakeTable, images: Snapshot, lost: pl.DataFrame, free: pl.DataFrame, note: Path | None
) -> pl.DataFrame:
    """``to`` and ``content_sha256`` of places that are not new; of what can't be told, all."""
    places = free.select("to", "content_sha256").unique()
    since = lost.join(places, on="content_sha256", how="semi").group_by("content_sha256").agg(pl.max("annotated_at"))
    if not len(since):
        return places
    noted = (None if note is None else read_note(note)) or {}
    times = directory.commit_times()
    # Files of versions that are older still may have been vacuumed.
    oldest = max(times.values()) - RETENTION
    least = max((version for version, at in times.items() if at <= oldest), default=min(times))
    if noted.get("table") == images.table_id and isinstance(noted.get("version"), int):
        least = max(least, noted["version"])
    found = []
    for content, at in since.iter_rows():
        came = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        found.append((content, max((version for version, made in times.items() if made <= came), default=least)))
    versions = pl.DataFrame(found, schema={"content_sha256": pl.String, "version": pl.Int64}, orient="row")
    versions = versions.with_columns(pl.col("version").clip(lower_bound=least))
    before = [places.clear()]
    for (version,), group in versions.group_by("version"):
        mine = places.join(group, on="content_sha256", how="semi")
        try:
            earlier = directory.snapshot(int(str(version)))
            where = pl.col("content_sha256").is_in(group["content_sha256"].implode())
            rows = earlier.read(["relative_path", "content_sha256"], where=where).rename({"relative_path": "to"})
            before.append(mine if earlier.broken() else mine.join(rows, on=["to", "content_sha256"], how="semi"))
        except CurationError:  # it is in the log no more
            before.append(mine)
    return pl.concat(before)


def _name(column: str) -> pl.Expr:
    return pl.col(column).str.extract(r"([^/]+)$")


def _keys(base: Snapshot) -> pl.DataFrame:
    return pl.DataFrame(schema=dict.fromkeys(base.spec.key, pl.String))
