"""What of all annotations counts: pure functions over rows of the table, an order of sources, and what people decided.

Of each field, a person's word (``relabel`` of the decisions) comes first, also where it was given to another picture
of the same photograph (a near pair); then the sources in their order. Labels, split and boxes are asked for one by one:
the first source that says something of each counts. Sources that disagree all stay in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from curation_assets.annotations.said import BOXES
from curation_assets.decisions.standing import Decisions

DECIDED = "decided"  # in place of a source's name
INHERITED = "decided of a near copy"
_KEY = ["relative_path", "content_sha256", "field"]
_COUNTING: dict[str, Any] = {
    "relative_path": pl.String,
    "content_sha256": pl.String,
    "field": pl.String,
    "values": pl.List(pl.String),
    "source": pl.String,
    "split": pl.String,
    "boxes": BOXES,
}
COUNTING = pl.Schema(_COUNTING)


def in_order(sources: Sequence[str], order: Sequence[str]) -> list[str]:
    """Sources as they count: those of the order, then the others by name."""
    there = set(sources)
    named = [source for source in dict.fromkeys(order) if source in there]
    return named + sorted(there.difference(named))


def counting(
    rows: pl.DataFrame,
    order: Sequence[str],
    images: pl.DataFrame,
    decisions: Decisions | None = None,
    near: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """What counts of each image and field.

    Args:
        rows: of the table; those of a content that the image has no more don't count.
        order: names of sources, the first counts most; others follow by name.
        images: ``relative_path`` and ``content_sha256`` of the directory table.
        decisions: that count now.
        near: ``first`` and ``second`` of contents that are the same photograph.

    Returns:
        Rows of ``COUNTING``, one an image and field, sorted by both; ``source`` is that of the values, ``DECIDED`` or
        ``INHERITED``.
    """
    ordered = _ordered(rows, order, images)
    said = pl.col("values").is_not_null()
    best = ordered.group_by(_KEY, maintain_order=True).agg(
        pl.col("values").filter(said).first(),
        pl.col("source").filter(said).first(),
        pl.col("split").drop_nulls().first(),
        pl.col("boxes").drop_nulls().first(),
    )
    words = _words(decisions, near)
    if len(words):
        given = images.join(words, on="content_sha256", how="inner")
        best = best.join(given, on=_KEY, how="full", coalesce=True)
        has = pl.col("word").is_not_null()
        best = best.with_columns(
            values=pl.when(has).then(pl.concat_list("word")).otherwise("values"),
            source=pl.when(has).then("by").otherwise("source"),
        )
    return best.select(COUNTING.names()).cast(COUNTING).sort("relative_path", "field")


def boxes_apart(rows: pl.DataFrame, order: Sequence[str], images: pl.DataFrame) -> pl.DataFrame:
    """Boxes that count of each image and field, and what else their source said, which no column holds.

    Args:
        rows, order, images: as of :func:`counting`.

    Returns:
        ``relative_path``, ``content_sha256``, ``field``, ``boxes`` and ``kept_apart``, JSON or null; of images with
        places alone.
    """
    ordered = _ordered(rows, order, images).filter(pl.col("boxes").is_not_null())
    return ordered.group_by(_KEY, maintain_order=True).agg(pl.col("boxes", "kept_apart").first())


def _ordered(rows: pl.DataFrame, order: Sequence[str], images: pl.DataFrame) -> pl.DataFrame:
    """Rows of contents that images have, of the source that counts most first."""
    mine = rows.join(images, on=["relative_path", "content_sha256"], how="semi")
    sources = in_order(mine["source"].unique().to_list(), order)
    ranks = pl.DataFrame(
        {"source": sources, "_rank": range(len(sources))}, schema={"source": pl.String, "_rank": pl.Int32}
    )
    return mine.join(ranks, on="source", how="left").sort("_rank")


def conflicts(rows: pl.DataFrame, images: pl.DataFrame) -> pl.DataFrame:
    """Where sources disagree about the labels of an image, in whatever order they list them.

    Args:
        rows: of the table; those of a content that the image has no more don't count.
        images: ``relative_path`` and ``content_sha256`` of the directory table.

    Returns:
        ``relative_path``, ``content_sha256``, ``field``, ``sources`` and, beside each, its ``labels``, as ``miner,
        rust``; sorted by path and field.
    """
    mine = rows.filter(pl.col("values").is_not_null())
    mine = mine.join(images, on=["relative_path", "content_sha256"], how="semi")
    told = mine.with_columns(labels=pl.col("values").list.unique().list.sort().list.join(", ")).sort("source")
    found = told.group_by(_KEY, maintain_order=True).agg(pl.col("source").alias("sources"), "labels")
    return found.filter(pl.col("labels").list.n_unique() > 1).sort("relative_path", "field")


def _words(decisions: Decisions | None, near: pl.DataFrame | None) -> pl.DataFrame:
    """Labels that people gave: ``content_sha256``, ``field``, ``word`` and ``by``, whom it comes from."""
    schema = {"content_sha256": pl.String, "field": pl.String, "word": pl.String, "by": pl.String}
    if decisions is None or not len(said := decisions.relabelled()):
        return pl.DataFrame(schema=schema)
    own = said.select("content_sha256", "field", word="value", by=pl.lit(DECIDED))
    if near is None or not len(near):
        return own
    apart = decisions.different_pairs()
    pairs = pl.concat([near.select("first", "second"), decisions.same_pairs()]).unique()
    pairs = pairs.join(apart, on=["first", "second"], how="anti")
    both = pl.concat([pairs, pairs.select(first="second", second="first")])
    given = said.with_row_index("_at").join(both, left_on="content_sha256", right_on="first", how="inner")
    # Of two neighbours' words the later one.
    given = given.sort("_at").unique(["second", "field"], keep="last", maintain_order=True)
    inherited = given.select(pl.col("second").alias("content_sha256"), "field", word="value", by=pl.lit(INHERITED))
    return pl.concat([own, inherited.join(own, on=["content_sha256", "field"], how="anti")])
