"""Boxes as formats of object detection have them: which classes there are, and in which picture they lie.

What EXIF turns is shown as it is stored by some readers and upright by others; a format states which its readers do.
"""

from __future__ import annotations

import polars as pl

from curation_assets.annotations.boxes import turned
from curation_assets.errors import CurationError
from curation_assets.export.protocol import BOX, Content, images_have
from curation_assets.export.rewriting import shown_turned
from curation_assets.images.names import printable

_BACK = {6: 8, 8: 6}  # the turn that takes a turn back; every other one is its own


def check_boxes(content: Content, name: str) -> list[str]:
    """Before anything is written: whether every box can be written.

    Returns:
        What is lost: labels of images that no box has.

    Raises:
        CurationError: there are no boxes, one has no label, or the size of an image with boxes is not known.
    """
    with_boxes = content.rows.filter(pl.col("boxes").list.len() > 0)
    if not len(with_boxes):
        raise CurationError(
            f"{name} is for boxes, and no image of {content.name} has one: `curation annotate` takes them over, or "
            "choose folders"
        )
    label = pl.element().struct.field("label")
    unnamed = with_boxes.filter(pl.col("boxes").list.eval((label.fill_null("") == "").any()).list.first())
    if len(unnamed):
        raise CurationError(
            f"{name} needs a label for each box, and {images_have(len(unnamed))} a box without, for example "
            f"{printable(unnamed['relative_path'][0])}; `curation problems bad_box` names them"
        )
    unknown = with_boxes.filter(pl.col("width").is_null() | pl.col("height").is_null())
    if len(unknown):
        raise CurationError(
            f"{name} needs the size of each image, and that of {len(unknown):,} with boxes is not known any more, for "
            f"example {printable(unknown['relative_path'][0])}"
        )
    notes = []
    lost = content.rows.filter(
        pl.col("labels").list.len() > pl.col("labels").list.set_intersection(_labels_of_boxes()).list.len()
    )
    if len(lost):
        notes.append(f"{images_have(len(lost))} a label that no box there has: {name} is of boxes alone")
    if bare := int((content.rows["boxes"].list.len() == 0).sum()):
        notes.append(f"{images_have(bare)} no box: to who trains on {name}, nothing is there")
    return notes


def as_stored(rows: pl.DataFrame, *, upright: bool) -> pl.DataFrame:
    """Rows with ``width``, ``height`` and ``boxes`` of the picture before EXIF turns it.

    Args:
        rows: of ``IMAGES``.
        upright: whether it is written upright, so that nothing is left to turn.
    """
    if upright:
        return rows
    turns = pl.when(shown_turned()).then("orientation").otherwise(1)
    lies = turns.is_between(5, 8)
    sides = rows.with_columns(
        turns=turns.replace(_BACK),
        width=pl.when(lies).then("height").otherwise("width"),
        height=pl.when(lies).then("width").otherwise("height"),
    )
    flat = sides.select("relative_path", "width", "height", "turns", "boxes").explode(
        "boxes", keep_nulls=False, empty_as_null=False
    )
    names = {"x": "x", "y": "y", "w": "width", "h": "height"}
    flat = flat.with_columns(
        label=pl.col("boxes").struct.field("label"),
        **{new: pl.col("boxes").struct.field(old) for new, old in names.items()},
    )
    box = pl.struct("label", "x", "y", width="w", height="h")
    made = turned(flat).group_by("relative_path", maintain_order=True).agg(boxes=box).cast({"boxes": pl.List(BOX)})
    found = sides.drop("boxes", "turns").join(made, on="relative_path", how="left", maintain_order="left")
    return found.with_columns(pl.col("boxes").fill_null(pl.lit([], pl.List(BOX)))).select(rows.columns)


def within(
    boxes: list[dict[str, float | str]], width: int, height: int
) -> list[tuple[str, float, float, float, float]]:
    """Boxes cut at the edges of their picture: label, x, y, width, height; those of no size are left out."""
    found = []
    for box in boxes:
        left, top = max(0.0, float(box["x"])), max(0.0, float(box["y"]))
        right = min(float(width), float(box["x"]) + float(box["width"]))
        below = min(float(height), float(box["y"]) + float(box["height"]))
        if right > left and below > top:
            found.append((str(box["label"]), left, top, right - left, below - top))
    return found


def _labels_of_boxes() -> pl.Expr:
    return pl.col("boxes").list.eval(pl.element().struct.field("label"))
