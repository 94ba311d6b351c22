"""Boxes that can't be meant: outside of the picture, drawn twice, tiny, without a label. Pure functions over frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.annotations.boxes import TOLERANCE

OUTSIDE, DOUBLED, TINY, UNLABELLED = "box_outside", "box_doubled", "box_tiny", "box_unlabelled"
KINDS = (OUTSIDE, DOUBLED, TINY, UNLABELLED)

OVERLAP = 0.9  # of two boxes with one label, intersection over union from which on they are one drawn twice
EQUAL = 0.5  # pixels that edges of boxes with two labels may differ by and be equal: files round
TINY_PIXELS = 4.0  # a side below it shows nothing that could be told
TINY_SHARE = 0.002  # of the picture's same side: less than 1.3 pixels where a model sees 640
_SIDES = ("x", "y", "w", "h")
_FOUND: dict[str, Any] = {
    "relative_path": pl.String,
    "content_sha256": pl.String,
    "field": pl.String,
    "kind": pl.String,
    "number": pl.Int64,
    "reason": pl.String,
}
FOUND = pl.Schema(_FOUND)
_OF = ["relative_path", "content_sha256", "field"]


def box_faults(rows: pl.DataFrame) -> pl.DataFrame:
    """What is wrong with boxes.

    Args:
        rows: ``relative_path``, ``content_sha256``, ``field``, ``boxes`` as the table of annotations has them, and
            ``width`` and ``height`` of the upright image in pixels (null: not known); one an image and field.

    Returns:
        Rows of ``FOUND``, one an image, field and kind, sorted: ``number`` of boxes at fault, and in ``reason`` the
        first of them.
    """
    rows = rows.with_row_index("row")
    flat = _flat(rows)
    if not len(flat):
        return FOUND.to_frame()
    numbers = pl.all_horizontal(pl.col(name).is_finite().fill_null(value=False) for name in _SIDES)
    has_size = (pl.col("w") > 0) & (pl.col("h") > 0)
    inside = (pl.col("x") >= -TOLERANCE) & (pl.col("y") >= -TOLERANCE)
    inside &= (pl.col("x") + pl.col("w") <= pl.col("width") + TOLERANCE).fill_null(value=True)
    inside &= (pl.col("y") + pl.col("h") <= pl.col("height") + TOLERANCE).fill_null(value=True)
    too_thin = [
        pl.col(side) < pl.max_horizontal(pl.lit(TINY_PIXELS), TINY_SHARE * pl.col(whole))
        for side, whole in (("w", "width"), ("h", "height"))
    ]
    label = pl.col("label").str.strip_chars()
    size = (pl.col(side).cast(pl.Int64).cast(pl.String).fill_null("?") for side in ("width", "height"))
    picture = pl.format("the picture of {} × {}", *size)
    places = (pl.col(side).round(2).cast(pl.String).str.strip_suffix(".0").fill_null("?") for side in _SIDES)
    told = pl.format("box {} at {}, {} of {} × {}", _quoted("label"), *places)
    whole = flat.filter(numbers & has_size).sort("row", "x", "at")
    other, is_same = _doubled(whole)
    again = whole.with_columns(
        twin=pl.Series(other >= 0), is_same=pl.Series(is_same), other_label=whole["label"].gather(np.maximum(other, 0))
    ).filter("twin")
    twice, both = pl.format("{} is there twice", told), pl.format("{} is labelled {} too", told, _quoted("other_label"))
    doubled = pl.when("is_same").then(twice).otherwise(both)
    faults = [
        (OUTSIDE, flat.filter(~numbers), pl.format("{} lacks a number", told)),
        (OUTSIDE, flat.filter(numbers & ~inside), pl.format("{} lies outside of {}", told, picture)),
        (DOUBLED, again, doubled),
        (TINY, flat.filter(numbers & ~has_size), pl.format("{} has no size", told)),
        (TINY, flat.filter(numbers & has_size & pl.any_horizontal(too_thin)), pl.format("{} is tiny", told)),
        (UNLABELLED, flat.filter(label.is_null() | (label == "")), pl.format("{} has no label", told)),
    ]
    every = pl.concat([some.select("row", "at", kind=pl.lit(kind), said=said) for kind, some, said in faults])
    every = every.sort("row", "kind", "at")
    more = pl.when(pl.len() > 1).then(pl.format(", and {} more", pl.len() - 1)).otherwise(pl.lit(""))
    return (
        every.group_by("row", "kind", maintain_order=True)
        .agg(number=pl.len(), reason=pl.col("said").first() + more)
        .join(rows.select("row", *_OF), on="row")
        .select(FOUND.names())
        .cast(FOUND)
        .sort(*_OF, "kind")
    )


def _flat(rows: pl.DataFrame) -> pl.DataFrame:
    """A row a box; ``row`` counts images, ``at`` their boxes."""
    flat = (
        rows.filter(pl.col("boxes").list.len() > 0)
        .select("row", "boxes", "width", "height")
        .with_columns(at=pl.int_ranges(0, pl.col("boxes").list.len()))
        .explode("boxes", "at")
    )
    parts = {"label": "label", "x": "x", "y": "y", "w": "width", "h": "height"}
    box = pl.col("boxes").struct
    return flat.with_columns(pl.col("width", "height").cast(pl.Float64)).select(
        "row", "at", "width", "height", **{name: box.field(part) for name, part in parts.items()}
    )


def _quoted(column: str) -> pl.Expr:
    return pl.format("'{}'", pl.col(column).fill_null(""))


def _doubled(boxes: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Of each box the first that it is drawn over, among the earlier ones of its image, and whether labels are equal.

    Args:
        boxes: with numbers and sizes, sorted by ``row``, ``x`` and ``at``.

    Returns:
        Two arrays, a value a box: the other's place (-1: none), and that.
    """
    row, at = boxes["row"].to_numpy(), boxes["at"].to_numpy()
    label = boxes["label"].fill_null("").rank("dense").to_numpy()
    x, y, w, h = (boxes[side].to_numpy() for side in _SIDES)
    other = np.full(len(boxes), -1, np.int64)
    first_at = np.full(len(boxes), np.iinfo(np.int64).max)
    is_same = np.zeros(len(boxes), np.bool_)

    def note(earlier: NDArray[np.int64], later: NDArray[np.int64], same: NDArray[np.bool_]) -> None:
        order = np.argsort(-at[earlier], kind="stable")  # of several of one box the first is written last
        order = order[at[earlier[order]] < first_at[later[order]]]
        earlier, later, same = earlier[order], later[order], same[order]
        first_at[later], other[later], is_same[later] = at[earlier], earlier, same

    # Of boxes that are equal in everything one is compared with the others, however many there are.
    keys = boxes.select("row", "label", *_SIDES, at="at").with_row_index("place").sort("place")
    leader = keys.select(pl.col("place").sort_by("at").first().over("row", "label", *_SIDES))["place"].to_numpy()
    alone = np.flatnonzero(leader == np.arange(len(boxes)))
    copies = np.flatnonzero(leader != np.arange(len(boxes)))
    note(leader[copies].astype(np.int64), copies, np.ones(len(copies), np.bool_))
    # In the order of left edges: whoever overlaps by so much begins within that part of the width.
    reach = x + np.maximum((1 - OVERLAP) * w, EQUAL)
    going = np.arange(len(alone))
    step = 0
    while len(going):
        step += 1
        going = going[going + step < len(alone)]
        one, two = alone[going], alone[going + step]
        near = (row[one] == row[two]) & (x[two] <= reach[one])
        going, one, two = going[near], one[near], two[near]
        across = np.minimum(x[one] + w[one], x[two] + w[two]) - np.maximum(x[one], x[two])
        down = np.minimum(y[one] + h[one], y[two] + h[two]) - np.maximum(y[one], y[two])
        shared = np.maximum(across, 0) * np.maximum(down, 0)
        overlap = shared / (w[one] * h[one] + w[two] * h[two] - shared)
        same = label[one] == label[two]
        edges = [np.abs(x[one] - x[two]), np.abs(x[one] + w[one] - x[two] - w[two])]
        edges += [np.abs(y[one] - y[two]), np.abs(y[one] + h[one] - y[two] - h[two])]
        found = (same & (overlap >= OVERLAP)) | (~same & (np.max(edges, axis=0) <= EQUAL))
        one, two, same = one[found], two[found], same[found]
        swapped = at[one] > at[two]
        note(np.where(swapped, two, one), np.where(swapped, one, two), same)
    return other, is_same
