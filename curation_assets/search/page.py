"""A page of images in sections, with thumbnails; one file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from curation_assets.clip.versions import RegisteredModel
from curation_assets.files import write_whole
from curation_assets.images.names import path_from_text, printable
from curation_assets.stores.address import is_address


@dataclass(frozen=True)
class Tile:
    """One image on the page.

    Attributes:
        name: relative path as people read it.
        link: address of the image itself: ``file:``, or relative to the page; empty where there is none.
        thumbnail: ``data:`` address of its preview; empty where the table holds none.
        label: what is said of it.
        score: what it is here for, in small print.
    """

    name: str
    link: str
    thumbnail: str
    label: str | None = None
    score: str | None = None


@dataclass(frozen=True)
class Cell:
    """A number in a table.

    Attributes:
        shade: 0 to 1, how dark it is.
        section: number, from 1, of the section that it leads to.
    """

    text: str
    shade: float = 0.0
    section: int | None = None


@dataclass(frozen=True)
class Matrix:
    """A table: names of the columns, and of each row its name and cells."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]


@dataclass(frozen=True)
class Section:
    """Images under a title, or a table, or facts.

    Attributes:
        note: what to know of them.
        facts: names, and what each is.
    """

    title: str
    tiles: Sequence[Tile]
    note: str | None = None
    matrix: Matrix | None = None
    facts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Heading:
    """What stands above all.

    Attributes:
        detail: in small print.
        warning: a sentence to heed, after its beginning in bold.
    """

    title: str
    text: str
    detail: str = ""
    warning: tuple[str, str] | None = None


def write_page(page: Path, heading: Heading, sections: Sequence[Section]) -> None:
    """Write the page, replacing what was there.

    Args:
        page: the HTML file.
    """
    text = page_of(heading, sections)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_whole(page, text.encode())


def page_of(heading: Heading, sections: Sequence[Section]) -> str:
    """The page, as HTML."""
    environment = Environment(
        loader=PackageLoader("curation_assets.search"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html").render(heading=heading, sections=sections)


def write_search_page(
    page: Path, model: RegisteredModel, found: list[tuple[str, pl.DataFrame]], previews: Mapping[str, bytes]
) -> None:
    """Write the page of some searches.

    Args:
        page: the HTML file.
        model: whose vectors were searched; the page says what it is.
        found: what each search is called, with its images as in ``SearchResult.rows``, perhaps with their ``label``.
        previews: JPEG by relative path, as ``Searcher.previews`` gives them.
    """
    warning = (
        "For demonstration only.",
        "The embedded model is small and knows little more than the kinds of photographs it was trained on. Base no "
        "decision on it.",
    )
    heading = Heading(
        "Search over the photographs",
        "For each search, the photographs whose vectors lie nearest to it, best first.",
        f"{model.name} version {model.version} · {model.source} · {model.dimension} floats · "
        f"{model.parameters:,} parameters",
        warning if model.demonstration else None,
    )
    write_page(page, heading, [Section(name, _found(hits, previews)) for name, hits in found])


def tile(row: Mapping[str, Any], preview: bytes | None, label: str | None = None, score: str | None = None) -> Tile:
    """An image on the page, of its ``relative_path`` and ``file_path``."""
    location = str(row["file_path"])
    link = location if is_address(location) else Path(path_from_text(location)).as_uri()
    return Tile(printable(str(row["relative_path"])), link, thumbnail(preview), label, score)


def thumbnail(preview: bytes | None) -> str:
    """``data:`` address of a JPEG; empty for None."""
    return f"data:image/jpeg;base64,{base64.b64encode(preview).decode()}" if preview else ""


def _found(hits: pl.DataFrame, previews: Mapping[str, bytes]) -> list[Tile]:
    tiles = []
    for row in hits.iter_rows(named=True):
        label = f"{row['label']} (+{row['margin']:.3f})" if row.get("label") else None
        score = None if row["score"] is None else f"cosine {row['score']:.3f}"
        tiles.append(tile(row, previews.get(row["relative_path"]), label, score))
    return tiles
