"""Folders as a tree with counts, from the rows of an index."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from curation_assets.search.index import SearchIndex

COUNTS = ("files", "ok", "bad", "embedded")


@dataclass(frozen=True)
class Branch:
    """A folder with all that is below it.

    Attributes:
        folder: its path; empty is the images root with everything.
        name: last part of the path.
        counts: files, ok, bad and embedded, of it and of all below it.
        has_more: whether there are folders below it.
    """

    folder: str
    name: str
    counts: dict[str, int]
    has_more: bool


def count_folders(index: SearchIndex) -> pl.DataFrame:
    """One row a folder that holds image files: folder, files, ok, bad, embedded; sorted."""
    ok = pl.col("status") == "ok"
    return (
        index.rows.lazy()
        .group_by("folder")
        .agg(files=pl.len(), ok=ok.sum(), bad=(~ok).sum(), embedded=pl.col("position").is_not_null().sum())
        .sort("folder")
        .collect()
    )


def branches(counts: pl.DataFrame, folder: str) -> list[Branch]:
    """The folders right below one, each with all below it; at the top the root's own images too, as ``.``.

    Args:
        counts: as :func:`count_folders` gives them.
        folder: empty is the top.
    """
    start = f"{folder}/" if folder else ""
    below = counts.filter(pl.col("folder").str.starts_with(start)) if start else counts
    rest = pl.col("folder").str.slice(len(start))
    grouped = (
        below.with_columns(name=rest.str.split("/").list.first(), deeper=rest.str.contains("/", literal=True))
        .group_by("name")
        .agg(*(pl.col(count).sum() for count in COUNTS), pl.col("deeper").any())
        .sort("name")
    )
    return [
        Branch(start + row["name"], row["name"], {count: row[count] for count in COUNTS}, row["deeper"])
        for row in grouped.iter_rows(named=True)
    ]


def totals(counts: pl.DataFrame, folder: str) -> dict[str, int]:
    """Counts of a folder and all below it; empty is everything."""
    chosen = counts.filter(_within(folder)) if folder else counts
    return {count: int(chosen[count].sum()) for count in COUNTS}


def bad_files(index: SearchIndex, folder: str) -> pl.DataFrame:
    """Rows of a folder, and of all below it, whose status isn't ok; empty is everything."""
    bad = index.rows.filter(pl.col("status") != "ok")
    return bad.filter(_within(folder)) if folder else bad


def _within(folder: str) -> pl.Expr:
    """A folder and all below it; below ``.`` there is nothing, as paths in the root don't begin with it."""
    return (pl.col("folder") == folder) | pl.col("folder").str.starts_with(f"{folder}/")
