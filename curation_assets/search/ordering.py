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


def distinct(index: SearchIndex, rows: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Of some rows, None is all, the first of each content, in their order; those of unknown content are each one."""
    numbers = np.arange(len(index.rows)) if rows is None else rows
    content = index.rows["content_sha256"]
    content = content if rows is None else content[numbers]
    is_first: NDArray[np.bool_] = (content.is_null() | content.is_first_distinct()).to_numpy()
    return numbers[is_first]


def without_contents_of(index: SearchIndex, rows: NDArray[np.int64], keys: tuple[str, ...]) -> NDArray[np.int64]:
    """Rows that don't have the content of one of some images."""
    asked = [number for key in keys if (number := index.row_number(key)) is not None]
    contents = index.rows["content_sha256"][asked].drop_nulls() if asked else pl.Series(dtype=pl.String)
    if not len(contents):
        return rows
    is_asked: NDArray[np.bool_] = (
        index.rows["content_sha256"][rows].is_in(contents.implode()).fill_null(False).to_numpy()
    )
    return np.asarray(rows[~is_asked], np.int64)
