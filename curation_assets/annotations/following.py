"""Annotations follow their images: a file that was moved or renamed keeps what was said of it, by its content.

A row is lost where its image is gone from its path or has another content there. It goes to a path that has its content
and no row of the field and source: one of the same file name if there is one, else the first. One row goes to one path,
so a copy never gets what its original keeps. Where there is none, the row stays and waits, and doesn't count.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from curation_assets.annotations.record import KEY, change_rows
from curation_assets.annotations.said import COLUMNS, SCHEMA
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


def follow(directory: LakeTable, annotations: LakeTable, progress: Progress | None = None) -> Following:
    """Bring the places of annotations in line with the images.

    Raises:
        CurationError: a table can't be read or written.
    """
    done = Following()
    if not annotations.exists() or not directory.exists():
        return done

    def plan(base: Snapshot) -> tuple[pl.DataFrame, pl.DataFrame]:
        images = directory.latest()
        lost, unknown = lost_rows(images, base)
        moves = _moves(images, base, lost)
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
    return done


def movable(images: Snapshot, annotations: Snapshot) -> int:
    """How many rows :func:`follow` would let go elsewhere."""
    lost, unknown = lost_rows(images, annotations)
    return len(_moves(images, annotations, lost)) + len(unknown)


def lost_rows(images: Snapshot, annotations: Snapshot) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows whose image is not at their path, in their partition, with their content; and rows that had no content yet.

    Returns:
        ``KEY`` and ``content_sha256`` of the lost; and of the others, whose image could not be read when they came and
        can be now, where they stay, as :func:`_moves` has it.
    """
    lost = [pl.DataFrame(schema=dict.fromkeys([*KEY, "content_sha256"], pl.String))]
    unknown = [pl.DataFrame(schema=_MOVE)]
    for folders in partitions_in_parts(annotations):
        rows = annotations.read([*KEY, "folder", "content_sha256"], files=annotations.files_of(folders)).drop("_file")
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


def _moves(images: Snapshot, annotations: Snapshot, lost: pl.DataFrame) -> pl.DataFrame:
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
    free = free.join(
        there, left_on=["to", "field", "source"], right_on=["relative_path", "field", "source"], how="anti"
    )
    question = ["content_sha256", "field", "source"]
    left = lost.with_columns(_name=_name("relative_path"))
    free = free.with_columns(_name=_name("to"))
    found = []
    for of in ([*question, "_name"], question):
        left = left.sort("relative_path").with_columns(_rank=pl.int_range(pl.len()).over(of))
        free = free.sort("to").with_columns(_rank=pl.int_range(pl.len()).over(of))
        pairs = left.join(free, on=[*of, "_rank"])
        found.append(pairs.with_columns(to_content="content_sha256").select(list(_MOVE)))
        left = left.join(pairs, on=KEY, how="anti")
        free = free.join(pairs.select("to", "field", "source"), on=["to", "field", "source"], how="anti")
    return pl.concat(found)


def _name(column: str) -> pl.Expr:
    return pl.col(column).str.extract(r"([^/]+)$")


def _keys(base: Snapshot) -> pl.DataFrame:
    return pl.DataFrame(schema=dict.fromkeys(base.spec.key, pl.String))
