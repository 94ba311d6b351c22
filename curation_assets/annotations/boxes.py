"""Boxes: in pixels of the upright image, whatever a file has them in; and whether they lie in it."""

from __future__ import annotations

from typing import Any

import polars as pl

from curation_assets.annotations.said import Said
from curation_assets.images.names import printable

TOLERANCE = 1.0  # pixels by which a box may be over an edge: files round
_X, _Y, _W, _H = (pl.col(name) for name in ("x", "y", "w", "h"))
_WIDTH, _HEIGHT = (pl.col(name).cast(pl.Float64) for name in ("width", "height"))


def upright(said: Said, rows: pl.DataFrame, *, is_stored: bool = False) -> pl.DataFrame:
    """Rows whose boxes are in pixels of the upright image.

    Where a file states the size of the image as it is stored, before EXIF's orientation turns it, its boxes are turned
    too.

    Args:
        rows: as :func:`~curation_assets.annotations.matching.matched` gives them.
        is_stored: boxes are of images as they are stored, whatever size is stated.

    Returns:
        The rows; boxes that can't be are faults of ``said``.
    """
    with_boxes = rows.filter(pl.col("boxes").list.len() > 0)
    if not len(with_boxes):
        _check_sizes(said, rows)
        return rows
    is_turned = pl.col("orientation").is_in([5, 6, 7, 8]).fill_null(value=False)
    differs = (pl.col("width") != pl.col("height")) & is_turned
    swapped = (pl.col("stated_width") == pl.col("height")) & (pl.col("stated_height") == pl.col("width"))
    turn = pl.lit(value=True) if is_stored else pl.coalesce("is_stored", differs & swapped).fill_null(value=False)
    _check_sizes(said, rows)
    unknown = with_boxes.filter(pl.col("width").is_null())
    said.faults.extend(
        unknown,
        lambda row: f"{_place(said, row)}: a box on {_path(row)}, whose size is not known, as it can't be read",
    )
    flat = (
        with_boxes.filter(pl.col("width").is_not_null())
        .select("row", "relative_path", "width", "height", "orientation", "boxes", turn=turn)
        .explode("boxes")
        .with_row_index("_at")
        .with_columns(
            label=pl.col("boxes").struct.field("label"),
            x=pl.col("boxes").struct.field("x"),
            y=pl.col("boxes").struct.field("y"),
            w=pl.col("boxes").struct.field("width"),
            h=pl.col("boxes").struct.field("height"),
        )
        .drop("boxes")
    )
    turns = pl.when("turn").then(pl.col("orientation").fill_null(1)).otherwise(1)
    flat = flat.with_columns(turns=turns)
    if said.unit == "shares":
        across = pl.when(pl.col("turns") >= 5).then(_HEIGHT).otherwise(_WIDTH)
        down = pl.when(pl.col("turns") >= 5).then(_WIDTH).otherwise(_HEIGHT)
        flat = flat.with_columns(x=_X * across, y=_Y * down, w=_W * across, h=_H * down)
    flat = turned(flat)
    _check_places(said, flat)
    made = flat.group_by("row", maintain_order=True).agg(
        boxes=pl.struct("label", "x", "y", width="w", height="h").sort_by("_at")
    )
    order = rows.join(made.rename({"boxes": "_boxes"}), on="row", how="left", maintain_order="left")
    return order.with_columns(boxes=pl.coalesce("_boxes", "boxes")).drop("_boxes")


def turned(flat: pl.DataFrame) -> pl.DataFrame:
    """Boxes of the stored picture → of the upright one, whose sides are ``width`` and ``height``.

    Args:
        flat: ``x``, ``y``, ``w`` and ``h`` of a box a row, and ``turns``, what EXIF says of its picture, 1 to 8. With
            the sides of the stored picture, and the turn back, it is the other way round.
    """
    turns = pl.col("turns")
    from_right, from_below = _WIDTH - _X - _W, _HEIGHT - _Y - _H
    x = (
        pl.when(turns.is_in([2, 3]))
        .then(from_right)
        .when(turns.is_in([5, 8]))
        .then(_Y)
        .when(turns.is_in([6, 7]))
        .then(_WIDTH - _Y - _H)
        .otherwise(_X)
    )
    y = (
        pl.when(turns.is_in([3, 4]))
        .then(from_below)
        .when(turns.is_in([5, 6]))
        .then(_X)
        .when(turns.is_in([7, 8]))
        .then(_HEIGHT - _X - _W)
        .otherwise(_Y)
    )
    w, h = pl.when(turns >= 5).then(_H).otherwise(_W), pl.when(turns >= 5).then(_W).otherwise(_H)
    return flat.with_columns(x=x, y=y, w=w, h=h)


def _check_sizes(said: Said, rows: pl.DataFrame) -> None:
    """A file that knows an image in another size has boxes of another picture."""
    asked = rows.filter(
        pl.col("stated_width").is_not_null() & pl.col("stated_height").is_not_null() & pl.col("width").is_not_null()
    )
    same = (pl.col("stated_width") == pl.col("width")) & (pl.col("stated_height") == pl.col("height"))
    turned = (pl.col("stated_width") == pl.col("height")) & (pl.col("stated_height") == pl.col("width"))
    may_be_turned = pl.col("orientation").is_in([5, 6, 7, 8]).fill_null(value=False)
    said.faults.extend(
        asked.filter(~(same | (turned & may_be_turned))).sort("row"),
        lambda row: (
            f"{_place(said, row)}: {_path(row)} is {row['width']} × {row['height']}, and stated as "
            f"{row['stated_width']} × {row['stated_height']}"
        ),
    )


def _check_places(said: Said, flat: pl.DataFrame) -> None:
    numbers = pl.all_horizontal(pl.col(name).is_finite().fill_null(value=False) for name in ("x", "y", "w", "h"))
    has_size = (_W > 0) & (_H > 0)
    inside = (_X >= -TOLERANCE) & (_Y >= -TOLERANCE)
    inside &= (_X + _W <= _WIDTH + TOLERANCE) & (_Y + _H <= _HEIGHT + TOLERANCE)
    bad = flat.filter(~(numbers & has_size & inside).fill_null(value=False))

    def told(row: dict[str, Any]) -> str:
        name, place = printable(row["label"] or ""), _place(said, row)
        box = f"box '{name}' at {_number(row['x'])}, {_number(row['y'])} of {_number(row['w'])} × {_number(row['h'])}"
        if any(row[each] is None or row[each] != row[each] for each in ("x", "y", "w", "h")):
            return f"{place}: {box} lacks a number"
        if row["w"] <= 0 or row["h"] <= 0:
            return f"{place}: {box} has no size"
        return f"{place}: {box} lies outside of {_path(row)} ({row['width']} × {row['height']})"

    said.faults.extend(bad.sort("row", "_at"), told)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.6g}"


def _place(said: Said, row: dict[str, Any]) -> str:
    return said.place(row["row"])


def _path(row: dict[str, Any]) -> str:
    return printable(row["relative_path"])
