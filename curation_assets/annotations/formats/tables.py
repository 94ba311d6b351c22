"""CSV and Parquet: a column that names the image, and columns that are fields, the split, or a box.

Of a file with the columns ``field`` and ``values`` each row is of the field that it names; of any other, each further
column is a field. Several rows of an image add up, so that a file may have a row a box or a row a label.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from curation_assets.annotations.fields import check_field, fault_of_field
from curation_assets.annotations.said import BOXES, DEFAULT_FIELD, SAID, Faults, Said, complete
from curation_assets.errors import CurationError, explained

NAMES = ("relative_path", "path", "image_path", "image", "file_name", "filename", "file")  # the first that is there
LABELS = ("label", "labels", "value", "values")  # a column that is the field which nobody named
_BOX = ("x", "y", "width", "height")
_KNOWN = ("split", "boxes", "kept_apart")
_OF_TABLE = ("folder", "source", "content_sha256", "annotated_at")  # of an export of the table itself


def read_csv(path: Path, fields: Sequence[str], separator: str | None = None) -> Said:
    """What a CSV file says, with commas, semicolons or tabs; an empty cell says nothing.

    Args:
        fields: columns that are fields; none: all that are nothing else.
        separator: between several values in one cell.

    Raises:
        CurationError: it can't be read, or its columns don't say what is what.
    """
    rows, faults, place = rows_of_csv(path)
    faults.check()
    return _said(path, rows, fields, separator, faults, place)


def rows_of_csv(path: Path) -> tuple[pl.DataFrame, Faults, Callable[[int], str]]:
    """The rows of a CSV file, all of them texts, and null where a cell is empty; what is wrong; where a row stands.

    Raises:
        CurationError: it can't be read, or its first line names no columns.
    """
    from pyarrow import csv as arrow

    unread = explained((UnicodeDecodeError, csv.Error), lambda reason: f"{path} can't be read as csv: {reason}")
    with path.open(encoding="utf-8-sig", newline="") as file, unread:
        first = file.readline()
        delimiter = max(",;\t", key=first.count)
        header = next(csv.reader([first], delimiter=delimiter), [])
    if len(set(header)) < len(header) or not header:
        raise CurationError(f"{path}: the first line has to name the columns, once each; it is {first.strip()!r}")
    wrong: list[Any] = []

    def noted(row: Any) -> str:
        wrong.append(row)
        return "skip"

    with explained(pa.ArrowException, lambda reason: f"{path} can't be read as csv: {reason}"):
        table = arrow.read_csv(
            path,
            read_options=arrow.ReadOptions(use_threads=False, column_names=header, skip_rows=1, encoding="utf8"),
            parse_options=arrow.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=noted),
            convert_options=arrow.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
    faults = Faults(str(path))
    lines = _Lines(path, delimiter)
    if wrong:
        for row in wrong:
            faults.add(
                f"line {lines.of_text(row.text)}: {row.actual_columns} cells below {row.expected_columns} columns"
            )
    rows = pl.from_arrow(table)
    assert isinstance(rows, pl.DataFrame)
    return rows, faults, lines.of_row


def read_parquet(path: Path, fields: Sequence[str], separator: str | None = None) -> Said:
    """What a Parquet file says: columns of texts, numbers or lists of them, ``boxes`` as in the table of annotations.

    Raises:
        CurationError: as :func:`read_csv`.
    """
    rows, faults, place = rows_of_parquet(path)
    return _said(path, rows, fields, separator, faults, place)


def rows_of_parquet(path: Path) -> tuple[pl.DataFrame, Faults, Callable[[int], str]]:
    """The rows of a Parquet file, as :func:`rows_of_csv`, but of its own types.

    Raises:
        CurationError: it can't be read.
    """
    with path.open("rb"):  # polars doesn't name a file that isn't there
        pass
    with explained(pl.exceptions.PolarsError, lambda reason: f"{path} can't be read as parquet: {reason}"):
        rows = pl.read_parquet(path, glob=False, hive_partitioning=False)
    return rows, Faults(str(path)), lambda row: f"row {row + 1}"


def _said(
    path: Path, rows: pl.DataFrame, fields: Sequence[str], separator: str | None, faults: Faults, place: Any
) -> Said:
    named = next((name for name in NAMES if name in rows.columns), None)
    if named is None:
        raise CurationError(f"{path}: no column names the image; call it {', '.join(NAMES[:-1])} or {NAMES[-1]}")
    rows = rows.with_row_index("_row")
    has_boxes = all(name in rows.columns for name in _BOX)
    taken = {named, "_row", *NAMES, *_KNOWN, *(_BOX if has_boxes else ())}
    long = next((name for name in ("values", "value") if name in rows.columns), None)
    common = {"name": pl.col(named).cast(pl.String), "row": pl.col("_row")}
    common["split"] = _text("split") if "split" in rows.columns else pl.lit(None, pl.String)
    common["kept_apart"] = pl.col("kept_apart") if "kept_apart" in rows.columns else pl.lit(None, pl.String)
    if "field" in rows.columns and long is not None:
        names = rows["field"].drop_nulls().unique().to_list()
        if fields:
            rows = rows.filter(pl.col("field").is_in(list(fields)))
            names = [name for name in names if name in fields]
        for name in names:
            if fault := fault_of_field(name):
                raise CurationError(f"{path}: {fault}")
        if not fields:
            faults.extend(rows.filter(pl.col("field").is_null()), lambda row: f"{place(row['_row'])}: no field")
        columns: dict[str | None, str | None] = {None: long}
    else:
        columns = _fields(path, rows, fields, taken)
    if (has_boxes or "boxes" in rows.columns) and len(columns) != 1:
        raise CurationError(
            f"{path}: boxes are of one field, and there are {', '.join(map(str, columns))}; --field names it"
        )
    parts = []
    for name, column in columns.items():
        values = pl.lit(None, pl.List(pl.String)) if column is None else _values(rows, column, separator)
        part = rows.with_columns(_values=values)
        boxes = pl.lit(None, BOXES)
        if has_boxes:
            part = _with_boxes(part, faults, place)
            boxes = pl.col("_boxes")
        elif "boxes" in rows.columns:
            try:
                part = part.with_columns(_boxes=pl.col("boxes").cast(BOXES))
            except pl.exceptions.PolarsError:
                raise CurationError(f"{path}: boxes are a list of label, x, y, width and height") from None
            boxes = pl.col("_boxes")
        of = pl.col("field") if name is None else pl.lit(name)
        part = complete(part.select(field=of, values="_values", boxes=boxes, **common))
        says = pl.any_horizontal(pl.col(each).is_not_null() for each in ("values", "split", "boxes"))
        parts.append(part.filter(says))
    return Said(pl.concat([SAID.to_frame(), *parts]), place, faults, may_repeat=True)


def _fields(path: Path, rows: pl.DataFrame, fields: Sequence[str], taken: set[str]) -> dict[str | None, str | None]:
    """Field → the column that it is."""
    others = [name for name in rows.columns if name not in taken and name not in _OF_TABLE]
    unnamed = [name for name in LABELS if name in others]
    found: dict[str | None, str | None] = {}
    if not fields:
        if unnamed and DEFAULT_FIELD not in others:
            found[DEFAULT_FIELD] = unnamed[0]
            others.remove(unnamed[0])
        elif not others:
            if "split" in rows.columns or "boxes" in rows.columns:
                return {DEFAULT_FIELD: None}
            raise CurationError(
                f"{path}: beside {', '.join(sorted(taken & {*rows.columns} - {'_row'}))} there is no column"
            )
        try:
            found |= {check_field(name): name for name in others}
        except CurationError as error:
            raise CurationError(f"{path}: {error}; --field chooses the columns that are fields") from None
    for name in fields:
        if name in others:
            found[check_field(name)] = name
        elif len(fields) == 1 and (unnamed or "split" in rows.columns or "boxes" in rows.columns):
            found[check_field(name)] = unnamed[0] if unnamed else None
        else:
            raise CurationError(
                f"{path}: no column {name!r}; there are {', '.join(n for n in rows.columns if n != '_row')}"
            )
    return found


def _text(column: str) -> pl.Expr:
    text = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def _values(rows: pl.DataFrame, column: str, separator: str | None) -> pl.Expr:
    if isinstance(rows.schema[column], pl.List):
        return pl.col(column).list.eval(pl.element().cast(pl.String).str.strip_chars()).list.unique(maintain_order=True)
    text = _text(column)
    if separator is None:
        return pl.when(text.is_not_null()).then(pl.concat_list(text))
    parts = text.str.split(separator).list.eval(pl.element().str.strip_chars())
    return parts.list.eval(pl.element().filter(pl.element() != "")).list.unique(maintain_order=True)


def _with_boxes(rows: pl.DataFrame, faults: Faults, place: Any) -> pl.DataFrame:
    """Rows with ``_boxes``: one box, where any of its four numbers is there."""
    numbers = {f"_{name}": pl.col(name).cast(pl.Float64, strict=False) for name in _BOX}
    rows = rows.with_columns(**numbers)
    some = pl.any_horizontal(pl.col(name).is_not_null() for name in _BOX)
    all_numbers = pl.all_horizontal(pl.col(f"_{name}").is_not_null() for name in _BOX)
    faults.extend(
        rows.filter(some & ~all_numbers),
        lambda row: f"{place(row['_row'])}: the box {', '.join(f'{n}={row[n]!r}' for n in _BOX)} is not four numbers",
    )
    label = pl.col("_values").list.first().alias("label")
    box = pl.struct(label, *(pl.col(f"_{name}").alias(name) for name in _BOX))
    return rows.with_columns(_boxes=pl.when(some & all_numbers).then(pl.concat_list(box)))


class _Lines:
    """Where records of a CSV file stand: asked for only when something is wrong, so it is read again then."""

    def __init__(self, path: Path, delimiter: str) -> None:
        self._path = path
        self._delimiter = delimiter
        self._known: dict[int, int] = {}

    def of_row(self, row: int) -> str:
        """The line of a record, counted from 0 below the header."""
        if row not in self._known:
            self._known = self._read(row)
        return f"line {self._known.get(row, row + 2)}"

    def of_text(self, text: str) -> int:
        """The first line that holds a text's first line."""
        wanted = text.splitlines()[0] if text else ""
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            return next((number for number, line in enumerate(file, 1) if line.rstrip("\r\n") == wanted), 0)

    def _read(self, row: int) -> dict[int, int]:
        found: dict[int, int] = {}
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            lines, begins, at = csv.reader(file, delimiter=self._delimiter), 1, -1
            for cells in lines:
                if cells:
                    if at >= 0:
                        found[at] = begins
                    at += 1
                begins = lines.line_num + 1
                if at > row + 100_000:  # faults come in order
                    break
        return found
