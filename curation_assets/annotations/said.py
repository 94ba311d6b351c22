"""What a file says of images, before it is known which images those are: what every format is read into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa

from curation_assets.errors import CurationError
from curation_assets.lake.schemas import ANNOTATIONS

COLUMNS = tuple(ANNOTATIONS.arrow_schema.names)
SCHEMA = pl.Schema(ANNOTATIONS.arrow_schema.remove_metadata())
BOXES = SCHEMA["boxes"]
DEFAULT_FIELD = "class"
SHOWN_FAULTS = 10

# A row a statement; `row` counts them. Boxes are in the unit of `Said.unit`. What is not known is null.
_SAID: dict[str, Any] = {
    "name": pl.String,  # of the image: its path in the lake, the end of it, or the file's name alone
    "other_name": pl.String,  # tried where no image has the first
    "field": pl.String,
    "values": pl.List(pl.String),
    "split": pl.String,
    "boxes": BOXES,
    "kept_apart": pl.String,
    "stated_width": pl.Int64,  # of the image, as the file has it
    "stated_height": pl.Int64,
    "is_stored": pl.Boolean,  # whether boxes are of the image before EXIF turns it; null: as the stated size tells
    "row": pl.UInt32,
}
SAID = pl.Schema(_SAID)
_ARROW = {field.name: field.type for field in ANNOTATIONS.arrow_schema} | {"name": pa.string()}


class FaultyAnnotationsError(CurationError):
    """A source that is not imported.

    Attributes:
        faults: the first of them, each with its place.
    """

    def __init__(self, origin: str, faults: list[str], number: int) -> None:
        what = "1 fault" if number == 1 else f"{number:,} faults"
        self.faults = faults
        super().__init__(f"{origin}: {what}, nothing was imported: {faults[0]}")


@dataclass
class Faults:
    """Collects what is wrong with a source: the first ones in words, and how many there are.

    Attributes:
        origin: the file, or the pattern.
    """

    origin: str
    first: list[str] = field(default_factory=list)
    number: int = 0

    def add(self, fault: str, number: int = 1) -> None:
        """Note one, or one that stands for several."""
        self.number += number
        if len(self.first) < SHOWN_FAULTS:
            self.first.append(fault)

    def extend(self, rows: pl.DataFrame, told: Callable[[dict[str, Any]], str]) -> None:
        """Note one for each of some rows."""
        self.number += len(rows)
        left = max(0, SHOWN_FAULTS - len(self.first))
        self.first += [told(row) for row in rows.head(left).iter_rows(named=True)]

    def check(self) -> None:
        """Go on only if there are none.

        Raises:
            FaultyAnnotationsError: there are.
        """
        if self.number:
            raise FaultyAnnotationsError(self.origin, self.first, self.number)


@dataclass
class Said:
    """What a file says.

    Attributes:
        rows: of the schema ``SAID``.
        place: number of a row → where in the file it stands.
        faults: what is wrong with it, as far as the file alone tells.
        unit: of the boxes: ``pixels``, or ``shares`` of the image's sides.
        may_repeat: whether several rows may speak of one image and field: their values are joined.
        is_stem: whether names lack the images' endings (``.jpg``).
        notes: what is not taken over, in words.
    """

    rows: pl.DataFrame
    place: Callable[[int], str]
    faults: Faults
    unit: str = "pixels"
    may_repeat: bool = False
    is_stem: bool = False
    notes: list[str] = field(default_factory=list)


def said_frame(columns: dict[str, list[Any]]) -> pl.DataFrame:
    """Rows of ``SAID`` of lists; columns that are not given are null, and ``row`` is counted."""
    number = len(next(iter(columns.values()))) if columns else 0
    # By way of Arrow: polars takes ten times as long to make lists of dictionaries a column.
    given = [pl.Series(name, pa.array(values, _ARROW.get(name))) for name, values in columns.items()]
    return complete(pl.DataFrame(given), number)


def complete(rows: pl.DataFrame, number: int | None = None) -> pl.DataFrame:
    """Some columns of ``SAID`` → all."""
    number = len(rows) if number is None else number
    lacking = [pl.lit(None, of).alias(name) for name, of in SAID.items() if name not in rows.columns and name != "row"]
    counted = [] if "row" in rows.columns else [pl.int_range(pl.len(), dtype=pl.UInt32).alias("row")]
    return rows.with_columns(*lacking, *counted).select(SAID.names()).cast(SAID) if number else SAID.to_frame()
