"""Which images may be found: conditions on their rows, applied before ranking."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from curation_assets.errors import CurationError, first_line

Status = Literal["ok", "corrupt", "unsupported", "too_large", "unreadable"]
Point = tuple[float, float]

# Columns of an index, which a condition may name; `docs/search.md` shows the same list.
COLUMNS = (
    "relative_path",
    "file_name",
    "folder",
    "size_bytes",
    "created_at",
    "modified_at",
    "captured_at",
    "camera",
    "format",
    "mode",
    "width",
    "height",
    "orientation",
    "latitude",
    "longitude",
    "status",
    "error",
    "content_sha256",
    "embedded_at",
)
PROBLEMS = "problems"  # a column that joins an index: kinds of problem, as `blurry, dark`
TAGS = "tags"  # another one: what people tagged it with, as `hard, night`
ANY_PROBLEM = "any"
MAP_COLUMNS = ("map_x", "map_y")  # of an image's place on the map; they join an index where a region needs them

# Functions that a condition may use. None of them makes more of a text than it was given, as LPAD or REPLACE do.
# fmt: off
FUNCTIONS = frozenset((
    "abs", "round", "floor", "ceil", "sqrt", "pow", "mod", "sign", "least", "greatest", "coalesce", "nullif",
    "ifnull", "if", "lower", "upper", "initcap", "length", "char_length", "substr", "substring", "left",
    "right", "trim", "ltrim", "rtrim", "starts_with", "ends_with", "strpos", "regexp_like", "concat", "extract",
    "date_part", "strftime", "date", "cast", "try_cast", "avg", "min", "max", "sum", "count", "median",
    "stddev",
))
# fmt: on
_BEFORE_BRACKETS = frozenset(("in", "and", "or", "not", "when", "then", "else", "between", "like", "ilike", "is"))
_OPERATION = re.compile(r"[-+*/%|<>=!~,(\[]+|::|\b(?:AND|OR|NOT|LIKE|ILIKE|IN|IS|BETWEEN|CASE|WHEN)\b", re.IGNORECASE)
# What a condition is made of beside its own words: texts, quoted names; and what hides where those end.
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|`[^`]*`|(--|/\*|\$|(?<!\w)[a-zA-Z]&?(?=')|['"`])""")
_WINDOW = re.compile(r"\b(?:over|window|qualify)\b", re.IGNORECASE)
_CLAUSE = re.compile(r"^\s*(cluster)\b")  # a column, which polars takes for a clause where a condition begins with it
_EMPTY_CALL = re.compile(r"\b([a-z_][a-z_0-9]*)\s*\(\s*\)", re.IGNORECASE)
MAX_CONDITION = 1000  # characters
_MAX_OPERATIONS = 100  # polars takes seconds for some hundred, and some thousand end the process


# What polars raises for a condition that it can't work out; a panic of its own is no `Exception`.
UNUSABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


class Filter(BaseModel):
    """Conditions that an image has to meet, all of them. An empty one lets every image through.

    Attributes:
        folder: folders, each with all below it; one of them has to hold the image.
        name: part of the relative path, in any case.
        captured_from: captured at this moment or later; without a zone it is UTC. An image without a time is left out.
        captured_to: captured before this moment.
        camera: part of make and model, in any case.
        format: image formats, for example ``JPEG``.
        status: ``ok``, ``corrupt``, …; only ``ok`` images have vectors.
        min_bytes, max_bytes: size of the file.
        min_side, max_side: pixels of the shorter side.
        has_gps: whether the image says where it was taken.
        problem: kinds of problem, of which it has to have one; ``any`` is any.
        tag: tags that people gave, of which it has to have one.
        where: a condition in SQL, as polars understands it, over ``COLUMNS`` and those that join an index:
            ``width > 2 * height``.
        region: corners of a polygon on the map, at least three (x, y).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: tuple[str, ...] = ()
    name: str | None = None
    captured_from: datetime | None = None
    captured_to: datetime | None = None
    camera: str | None = None
    format: tuple[str, ...] = ()
    status: tuple[Status, ...] = ()
    min_bytes: int | None = Field(None, ge=0)
    max_bytes: int | None = Field(None, ge=0)
    min_side: int | None = Field(None, ge=0)
    max_side: int | None = Field(None, ge=0)
    has_gps: bool | None = None
    problem: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    where: str | None = None
    region: tuple[Point, ...] = Field((), max_length=10_000)

    @field_validator("folder", "format", "status", "problem", "tag", mode="before")
    @classmethod
    def _one_is_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("folder")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(folder.strip("/") for folder in value):
            raise ValueError("a folder is named relative to the images root; '.' is the root itself")
        return value

    @field_validator("captured_from", "captured_to")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        try:
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        except OverflowError:
            raise ValueError("this lies before or after all years there are") from None

    @field_validator("region")
    @classmethod
    def _a_polygon(cls, value: tuple[Point, ...]) -> tuple[Point, ...]:
        if value and len(value) < 3:
            raise ValueError("a region needs at least three corners")
        if not all(math.isfinite(number) for point in value for number in point):
            raise ValueError("a region's corners are finite numbers")
        return value

    def __bool__(self) -> bool:
        return bool(self.facts())

    def facts(self) -> dict[str, Any]:
        """The conditions that are set, as JSON can hold them."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def expression(self, further: Mapping[str, pl.DataType] | None = None) -> pl.Expr | None:
        """The conditions as one polars expression; None lets everything through.

        Args:
            further: columns that ``where`` may name beside ``COLUMNS``, with their types.

        Raises:
            CurationError: ``where`` is no condition over these columns.
        """
        parts = self._conditions(further or {})
        return pl.all_horizontal(part.fill_null(False) for part in parts) if parts else None

    def _conditions(self, further: Mapping[str, pl.DataType]) -> list[pl.Expr]:
        found: list[pl.Expr] = []
        if self.folder:
            found.append(pl.any_horizontal(_below(folder) for folder in self.folder))
        if self.name:
            found.append(_contains("relative_path", self.name))
        if self.camera:
            found.append(_contains("camera", self.camera))
        if self.format:
            found.append(pl.col("format").is_in([name.upper() for name in self.format]))
        if self.status:
            found.append(pl.col("status").is_in(list(self.status)))
        if self.captured_from is not None:
            found.append(pl.col("captured_at") >= self.captured_from)
        if self.captured_to is not None:
            found.append(pl.col("captured_at") < self.captured_to)
        side = pl.min_horizontal("width", "height")
        for column, low, high in (
            (pl.col("size_bytes"), self.min_bytes, self.max_bytes),
            (side, self.min_side, self.max_side),
        ):
            if low is not None:
                found.append(column >= low)
            if high is not None:
                found.append(column <= high)
        if self.has_gps is not None:
            has = pl.col("latitude").is_not_null() & pl.col("longitude").is_not_null()
            found.append(has if self.has_gps else ~has)
        if self.problem:
            names = pl.col(PROBLEMS).str.split(", ")
            found.append(
                pl.any_horizontal(
                    names.is_not_null() if kind == ANY_PROBLEM else names.list.contains(kind) for kind in self.problem
                )
            )
        if self.tag:
            tags = pl.col(TAGS).str.split(", ")
            found.append(pl.any_horizontal(tags.list.contains(tag) for tag in self.tag))
        if self.where is not None and self.where.strip():
            found.append(parse_condition(self.where, further))
        if self.region:
            found.append(_within(self.region))
        return found


def make_filter(**conditions: Any) -> Filter:
    """A filter from what a user wrote; None is no condition.

    Raises:
        CurationError: naming the condition that can't be used.
    """
    try:
        return Filter(**{name: value for name, value in conditions.items() if value is not None})
    except ValidationError as error:
        problems = [
            f"{problem['loc'][0]}={str(problem['input'])!r}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        ]
        raise CurationError(f"filter {'; '.join(problems)}") from None


def parse_condition(text: str, further: Mapping[str, pl.DataType] | None = None) -> pl.Expr:
    """A condition in SQL → a boolean expression.

    Args:
        further: columns that it may name beside ``COLUMNS``, with their types.

    Raises:
        CurationError: it can't be parsed, names another column, or is no condition.
    """
    called = "filter where="
    condition, kind = _parsed(text, further, called)
    if kind != [pl.Boolean]:
        raise CurationError(f"{called}{text!r}: this is no condition, for example width > 1000")
    return condition


def parse_value(text: str, further: Mapping[str, pl.DataType] | None, called: str) -> pl.Expr:
    """A column, or what SQL makes of columns, as a text: ``camera``, ``strftime(captured_at, '%Y')``.

    Args:
        further: columns that it may name beside ``COLUMNS``, with their types.
        called: what a fault names it.

    Raises:
        CurationError: it can't be parsed, names another column, or is no single value.
    """
    value, kind = _parsed(text, further, f"{called}: ")
    if len(kind) != 1 or kind[0].is_nested():
        raise CurationError(f"{called}: {text!r} is no single value, as a text or a number is")
    return value.cast(pl.String)


def columns_named(text: str) -> set[str]:
    """Columns that a condition or value names; none where it can't be parsed, which whoever uses it is told."""
    try:
        return set(pl.sql_expr(_CLAUSE.sub(r'"\1"', text)).meta.root_names())
    except UNUSABLE:
        return set()


def _parsed(text: str, further: Mapping[str, pl.DataType] | None, called: str) -> tuple[pl.Expr, list[pl.DataType]]:
    """An expression of SQL, and the types of what it gives."""
    schema = _schema() | dict(further or {})
    _refuse_costly(text, called)
    try:
        expression = pl.sql_expr(_CLAUSE.sub(r'"\1"', text))
        unknown = sorted(set(expression.meta.root_names()) - set(schema))
        if unknown:
            raise CurationError(
                f"{called}{text!r}: there is no column {', '.join(unknown)}; there are {', '.join(schema)}"
            )
        # On no rows: finds also what only evaluating does, as a function of the wrong arguments.
        return expression, pl.DataFrame(schema=schema).select(expression).dtypes
    except (*UNUSABLE, ValueError, TypeError, OverflowError) as error:
        hint = "; write a date as DATE '2026-05-15'" if "date" in str(error).lower() else ""
        raise CurationError(f"{called}{text!r}: {first_line(error)}{hint}") from None


def _refuse_costly(text: str, asked: str) -> None:
    if hidden := next((found[1] for found in _QUOTED.finditer(text) if found[1]), None):
        raise CurationError(
            f"{asked}{text!r}: {hidden} can't be used: write 'text' and \"name\" plainly, and no comments"
        )
    bare = _QUOTED.sub(lambda found: "''" if found[0].startswith("'") else found[0], text)
    if found := _WINDOW.search(_QUOTED.sub("", bare)):
        raise CurationError(
            f"{asked}{text!r}: a window function ({found[0].upper()}) would go over all images, not only those "
            "that meet the conditions, and can't be used"
        )
    if empty := _EMPTY_CALL.search(bare):  # polars panics at some of them
        raise CurationError(f"{asked}{text!r}: {empty[1].upper()}() is given nothing")
    if len(text) > MAX_CONDITION or len(_OPERATION.findall(bare)) > _MAX_OPERATIONS:
        raise CurationError(
            f"{asked}{text[:40]!r}…: at most {MAX_CONDITION:,} characters and {_MAX_OPERATIONS} operators"
        )
    called = {name.lower() for name in re.findall(r'(\w+)"?\s*\(', bare)}
    if unknown := sorted(called - FUNCTIONS - _BEFORE_BRACKETS):
        names = ", ".join(sorted(FUNCTIONS))
        raise CurationError(f"{asked}{text!r}: {', '.join(unknown)} can't be used; the functions are {names}")


def _schema() -> dict[str, Any]:
    utc = pl.Datetime("us", "UTC")
    kinds: dict[str, Any] = dict.fromkeys(COLUMNS, pl.String)
    kinds |= dict.fromkeys(("created_at", "modified_at", "captured_at", "embedded_at"), utc)
    kinds |= dict.fromkeys(("width", "height", "orientation"), pl.Int32)
    return kinds | dict.fromkeys(("latitude", "longitude"), pl.Float64) | {"size_bytes": pl.Int64}


def lies_below(folder: str | None) -> pl.Expr:
    """Whether ``relative_path`` lies in a folder or below it; nothing and ``.`` are all."""
    folder = (folder or "").strip("/")
    return pl.lit(True) if folder in ("", ".") else pl.col("relative_path").str.starts_with(f"{folder}/")


def is_equal(column: str, value: str) -> str:
    """The condition in SQL that a column of text is some value."""
    name = column if column.isidentifier() else '"{}"'.format(column.replace('"', '""'))
    return "{} = '{}'".format(name, value.replace("'", "''"))


def _below(folder: str) -> pl.Expr:
    folder = folder.rstrip("/")
    if folder == ".":
        return pl.col("folder") == "."
    # The path too: with FOLDER_DEPTH a partition holds folders below it.
    return (
        (pl.col("folder") == folder)
        | pl.col("folder").str.starts_with(folder + "/")
        | pl.col("relative_path").str.starts_with(folder + "/")
    )


def _within(corners: Sequence[Point]) -> pl.Expr:
    """Whether an image lies in a polygon of the map; one that is not on the map doesn't."""

    def contains(columns: Sequence[pl.Series]) -> pl.Series:
        from matplotlib.path import Path

        inside = Path(np.array(corners)).contains_points(np.column_stack([column.to_numpy() for column in columns]))
        return pl.Series(inside) & columns[0].is_not_null()

    return pl.map_batches(list(MAP_COLUMNS), contains, return_dtype=pl.Boolean)


def _contains(column: str, part: str) -> pl.Expr:
    return pl.col(column).str.to_lowercase().str.contains(part.lower(), literal=True)
