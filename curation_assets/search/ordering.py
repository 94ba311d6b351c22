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
ONLY_COPIES = "images are not compared yet, so only copies of the same bytes are folded"
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


@dataclass(frozen=True)
class Folded:
    """How many images of a result another one stands for.

    Attributes:
        copies: of the same bytes as another.
        near_copies: of other bytes, which show the same photograph.
        are_near_known: whether groups were ever formed: else copies alone are known.
    """

    copies: int
    near_copies: int
    are_near_known: bool

    def facts(self) -> dict[str, int]:
        """The counts, as JSON."""
        return {"copies": self.copies, "near_copies": self.near_copies}

    def describe(self) -> str:
        """The same for a reader; empty where there is none."""
        counts = ((self.copies, "copy", "copies"), (self.near_copies, "near copy", "near copies"))
        return " and ".join(f"{number:,} {one if number == 1 else more}" for number, one, more in counts if number)


@dataclass(frozen=True)
class Photographs:
    """Which of some rows of an index show the same photograph: the same bytes, or a near group.

    Attributes:
        first: (rows of the index,) of those that are asked for the first one that shows the same; else -1.
        keeper: (rows of the index,) of its near group the one to keep, if it is asked for; else -1.
    """

    first: NDArray[np.int64]
    keeper: NDArray[np.int64]
    folded: Folded

    @classmethod
    def among(cls, index: SearchIndex, numbers: NDArray[np.int64], attachments: Attachments) -> Photographs:
        """Those of some rows; what has no known content is a photograph of its own."""
        first, keeper = (np.full(len(index.rows), -1, np.int64) for _ in range(2))
        first[numbers] = numbers
        order = pl.DataFrame({"number": numbers, "place": np.arange(len(numbers))})
        # In their order, those that may show the same as another.
        frame = order.join(_shared(index, attachments), on="number").sort("place")
        number, shown = pl.col("number"), "photograph"
        told = frame.select(
            "number",
            first=number.first().over(shown),
            keeper=pl.when(NEAR_KEEPER).then(number).max().over(shown).fill_null(-1),
        )
        first[told["number"]] = told["first"].to_numpy()
        keeper[told["number"]] = told["keeper"].to_numpy()
        copies = len(frame) - frame["content"].n_unique()
        near_copies = len(frame) - copies - told["first"].n_unique()
        return cls(first, keeper, Folded(copies, near_copies, attachments.holds(index, NEAR_GROUP)))

    def places(self, ordered: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where in an order each photograph comes first, in that order.

        Args:
            ordered: rows that were asked for.
        """
        return np.sort(np.unique(self.first[ordered], return_index=True)[1])

    def stand_in(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each of some rows the one to keep of its photograph, else itself."""
        keeper = self.keeper[numbers]
        return np.where(keeper < 0, numbers, keeper)


def distinct(numbers: NDArray[np.int64], photographs: Photographs) -> NDArray[np.int64]:
    """Of a list's rows one of each photograph, at its own place: the one to keep if it is there, else the first."""
    stands = np.zeros(len(photographs.first), bool)
    stands[photographs.stand_in(numbers[photographs.places(numbers)])] = True
    return numbers[stands[numbers]]


def without_photographs_of(
    index: SearchIndex, rows: NDArray[np.int64], keys: tuple[str, ...], attachments: Attachments
) -> NDArray[np.int64]:
    """Rows that don't show the photograph of one of some images."""
    asked = [number for key in keys if (number := index.row_number(key)) is not None]
    if not asked:
        return rows
    shared = _shared(index, attachments)
    photographs = shared.filter(pl.col("number").is_in(asked))["photograph"]
    same = shared.filter(pl.col("photograph").is_in(photographs.implode()))["number"]
    return np.asarray(rows[~np.isin(rows, [*asked, *same])], np.int64)


def _shared(index: SearchIndex, attachments: Attachments) -> pl.DataFrame:
    """Rows of an index that may show the same as another: ``number``, ``content``, ``photograph``, ``near_keeper``.

    The photograph is that of the near group, else of the content. Of a million images few are among them.
    """
    found = attachments.of(index, [NEAR_GROUP, NEAR_KEEPER])
    if NEAR_GROUP not in found.columns:
        found = pl.DataFrame(schema={NEAR_GROUP: pl.String, NEAR_KEEPER: pl.Boolean}).clear(len(index.rows))
    number = np.flatnonzero((index.copies > 0) | found[NEAR_GROUP].is_not_null().to_numpy())
    frame = found[number].with_columns(number=number, content=index.rows["content_sha256"].gather(number))
    # A copy that came since the groups were formed is in that of its content.
    group = pl.col(NEAR_GROUP).max().over("content")
    return frame.select("number", "content", NEAR_KEEPER, photograph=pl.coalesce(group, "content"))
