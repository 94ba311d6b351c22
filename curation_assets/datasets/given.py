"""A fixed set that a recipe is given as a file: images that lie on a side, whatever else is asked for."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from curation_assets.annotations.formats.tables import rows_of_csv, rows_of_parquet
from curation_assets.datasets.recipe import FILES
from curation_assets.errors import CurationError, reason_of
from curation_assets.images.names import printable

_ALL = "test"  # where images lie that no column gives a side
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAMES = ("relative_path", "content_sha256")


@dataclass(frozen=True)
class Given:
    """A file of images on sides.

    Attributes:
        name: as the recipe has it.
        sha256: of its bytes, hexadecimal.
        rows: ``row``, ``relative_path``, ``content_sha256`` (null: an image of any bytes) and ``split``.
        place: number of a row → where in the file it stands.
        images: that it names among those that are looked at.
    """

    name: str
    sha256: str
    rows: pl.DataFrame
    place: Callable[[int], str]
    images: int = 0


def read_given(folder: Path, name: str, sides: Sequence[str]) -> Given:
    """Read a CSV or Parquet file: ``relative_path`` or ``content_sha256``, or both, and ``split``; without it ``test``.

    Args:
        folder: of the recipe.
        sides: that the recipe has.

    Raises:
        CurationError: it can't be read, lacks a column, or a row of it says nothing that can be used: with its line.
    """
    path = folder / name
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        read = rows_of_csv if path.suffix.lower() == FILES[0] else rows_of_parquet
        rows, faults, place = read(path)
    except OSError as error:
        raise CurationError(f"split.given: {path}: {reason_of(error)}") from None
    if faults.number:
        raise CurationError(f"{path}: {faults.first[0]}")
    named = [column for column in _NAMES if column in rows.columns]
    if not named:
        there = ", ".join(map(printable, rows.columns))
        raise CurationError(f"{path}, line 1: no column names the images, {' or '.join(_NAMES)}; there are {there}")
    if "split" not in rows.columns and _ALL not in sides:
        raise CurationError(
            f"{path}, line 1: without a column split all images are {_ALL}, and the recipe has {', '.join(sides)}"
        )
    text = {column: _text(column) if column in rows.columns else pl.lit(None, pl.String) for column in _NAMES}
    rows = rows.with_row_index("row").select(
        "row",
        relative_path=text["relative_path"].str.replace(r"^(?:\./+)+", ""),
        content_sha256=text["content_sha256"].str.to_lowercase(),
        split=_text("split") if "split" in rows.columns else pl.lit(_ALL),
    )
    given = Given(name, digest, rows, place)
    for row, relative_path, content, split in rows.iter_rows():
        if fault := _fault(relative_path, content, split, sides):
            raise CurationError(f"{path}, {place(row)}: {fault}")
    if not len(rows):
        raise CurationError(f"{path}: it names no image")
    _check_sides(given, rows.with_columns(key=pl.coalesce("content_sha256", "relative_path")))
    return given


def sides_given(images: pl.DataFrame, given: Given) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Which images lie where, and rows that name none. A content that a row gives counts before its path.

    Args:
        images: ``relative_path`` and ``content_sha256``.

    Returns:
        ``relative_path`` and ``split``, and rows as ``Given`` has them.

    Raises:
        CurationError: an image lies on two sides, or none is named.
    """
    keys = images.select(key="relative_path", content_sha256="content_sha256")
    by_content = given.rows.drop_nulls("content_sha256").join(keys, on="content_sha256")
    of_path = given.rows.filter(pl.col("content_sha256").is_null())
    by_path = of_path.join(keys.select("key", relative_path="key"), on="relative_path")
    found = pl.concat([part.select("row", "key", "split") for part in (by_content, by_path)])
    lacking = given.rows.join(found, on="row", how="anti").sort("row")
    if not len(found):
        raise CurationError(
            f"split.given: {given.name} names none of the images that are looked at; its first is {_called(lacking)}"
        )
    _check_sides(given, found)
    return found.unique("key").select("split", relative_path="key"), lacking


def told_lacking(given: Given, lacking: pl.DataFrame) -> str:
    """What is said of rows that name no image."""
    return (
        f"{len(lacking):,} of {len(given.rows):,} images of {given.name} are not among those that are looked at, for "
        f"example {_called(lacking)}"
    )


def _called(rows: pl.DataFrame) -> str:
    path, content = rows.select("relative_path", "content_sha256").row(0)
    return printable(path) if path is not None else str(content)


def _text(column: str) -> pl.Expr:
    text = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def _fault(path: str | None, content: str | None, split: str | None, sides: Sequence[str]) -> str | None:
    if path is None and content is None:
        return "it names no image"
    if content is not None and _SHA256.fullmatch(content) is None:
        return f"content_sha256 is {printable(content)!r}, not 64 hexadecimal digits"
    if split is None:
        return "split is empty"
    if split in sides:
        return None
    near = difflib.get_close_matches(split, sides, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sides)}"
    return f"the recipe has no side {printable(split)!r}; {hint}"


def _check_sides(given: Given, rows: pl.DataFrame) -> None:
    """Refuse an image on two sides.

    Args:
        rows: ``row``, ``key`` (of an image) and ``split``.
    """
    first = rows.sort("row").with_columns(was=pl.col("split").first().over("key"), at=pl.col("row").first().over("key"))
    twice = first.filter(pl.col("split") != pl.col("was"))
    if len(twice):
        row, key, split, was, at = twice.select("row", "key", "split", "was", "at").row(0)
        raise CurationError(
            f"{given.name}, {given.place(row)}: {printable(key)} lies on {split}, and on {was} by {given.place(at)}"
        )
