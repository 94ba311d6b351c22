"""The order of a list of images, and lists in which each content stands once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.errors import CurationError
from curation_assets.search.attachments import Attachments
from curation_assets.search.filters import COLUMNS
from curation_assets.search.index import SearchIndex

_SHORT = {"path": "relative_path", "name": "file_name", "size": "size_bytes", "label": "zero_shot_label"}
_DIRECTIONS = {"asc": False, "desc": True}
# Columns that are attached, where images are compared.
NEAR_GROUP, NEAR_KEEPER, NEAR_COPIES = "near_group", "near_keeper", "near_copies"
_PATH = "relative_path"


@dataclass(frozen=True)
class Sort:
    """The column that images are listed by; those without a value come last, equals in the order of their paths.

    Attributes:
        column: of an index, or one that joins it.
        descending: the largest first.
    """

    column: str = _PATH
    descending: bool = False

    @classmethod
    def of(cls, text: str, attachments: Attachments) -> Sort:
        """What a user wrote: ``COLUMN``, ``COLUMN:asc`` or ``COLUMN:desc``; ``path``, ``name``, ``size`` are short.

        Raises:
            CurationError: there is no such column or direction.
        """
        column, colon, direction = text.strip().partition(":")
        column = _SHORT.get(column, column)
        known = [*COLUMNS, *attachments.types]
        if column not in known:
            raise CurationError(f"sort={text!r}: there is no column {column!r}; there are {', '.join(known)}")
        if colon and direction.lower() not in _DIRECTIONS:
            raise CurationError(f"sort={text!r}: write {column}, {column}:asc or {column}:desc")
        return cls(column, _DIRECTIONS.get(direction.lower(), False))

    def __str__(self) -> str:
        return f"{self.column}:desc" if self.descending else self.column


def ordered(
    index: SearchIndex, attachments: Attachments, rows: NDArray[np.int64] | None, sort: Sort
) -> NDArray[np.int64]:
    """Numbers of some rows of an index, None is all, in an order.

    Raises:
        CurationError: what holds the column is broken.
    """
    numbers = np.arange(len(index.rows)) if rows is None else rows
    if sort.column == _PATH:  # as they lie
        return numbers[::-1] if sort.descending else numbers
    frame = index.rows if sort.column in COLUMNS else attachments.of(index, [sort.column])
    values = pl.DataFrame({"value": frame[sort.column][numbers], "number": numbers})
    # No number is as good as none.
    if values["value"].dtype.is_float():
        values = values.with_columns(pl.col("value").fill_nan(None))
    found = values.sort("value", descending=sort.descending, nulls_last=True, maintain_order=True)
    return np.asarray(found["number"].to_numpy(), np.int64)


def distinct(index: SearchIndex, rows: NDArray[np.int64] | None, attachments: Attachments) -> NDArray[np.int64]:
    """Of some rows, None is all, one of each photograph, in their order; those of unknown content are each one.

    Of copies, equal or near, it is the one to keep if it is among them, else the first. Near ones are known where
    groups are attached.
    """
    numbers = np.arange(len(index.rows)) if rows is None else rows
    frame = _photographs(index, attachments)[numbers].with_row_index("_at")
    best = frame.sort(pl.col(NEAR_KEEPER).fill_null(value=False), "_at", descending=[True, False])
    kept = best.filter(pl.col("photograph").is_null() | pl.col("photograph").is_first_distinct())
    return np.asarray(numbers[kept["_at"].sort().to_numpy()], np.int64)


def without_photographs_of(
    index: SearchIndex, rows: NDArray[np.int64], keys: tuple[str, ...], attachments: Attachments
) -> NDArray[np.int64]:
    """Rows that don't show the photograph of one of some images."""
    asked = [number for key in keys if (number := index.row_number(key)) is not None]
    photograph = _photographs(index, attachments)["photograph"]
    known = photograph[asked].drop_nulls() if asked else pl.Series(dtype=pl.String)
    if not len(known):
        return rows
    is_asked: NDArray[np.bool_] = photograph[rows].is_in(known.implode()).fill_null(False).to_numpy()
    return np.asarray(rows[~is_asked], np.int64)


def _photographs(index: SearchIndex, attachments: Attachments) -> pl.DataFrame:
    """``photograph`` (near group, else content) and ``near_keeper`` of each row."""
    found = attachments.of(index, [NEAR_GROUP, NEAR_KEEPER])
    content = index.rows["content_sha256"]
    if NEAR_GROUP not in found.columns:
        return pl.DataFrame({"photograph": content, NEAR_KEEPER: pl.Series([None] * len(content), dtype=pl.Boolean)})
    return found.select(pl.coalesce(NEAR_GROUP, content).alias("photograph"), NEAR_KEEPER)
