"""A page of what several searches found, with thumbnails; one file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from curation_assets.clip.versions import RegisteredModel
from curation_assets.files import write_whole
from curation_assets.images.names import path_from_text, printable


@dataclass(frozen=True)
class Tile:
    """One image on the page.

    Attributes:
        name: relative path as people read it.
        link: ``file:`` address of the image itself.
        thumbnail: ``data:`` address of its preview; empty where the table holds none.
        score: cosine of query and image; None where the images are not ranked.
        label: what it was labelled as, with the margin; None without labels.
    """

    name: str
    link: str
    thumbnail: str
    score: float | None
    label: str | None = None


def write_page(
    page: Path, model: RegisteredModel, found: list[tuple[str, pl.DataFrame]], previews: Mapping[str, bytes]
) -> None:
    """Write the page, replacing what was there.

    Args:
        page: the HTML file.
        model: whose vectors were searched; the page says what it is.
        found: what each search is called, with its images as in ``SearchResult.rows``, perhaps with their ``label``.
        previews: JPEG by relative path, as ``Searcher.previews`` gives them.
    """
    searches = [
        (name, [_tile(row, previews.get(row["relative_path"])) for row in hits.iter_rows(named=True)])
        for name, hits in found
    ]
    environment = Environment(
        loader=PackageLoader("curation_assets.search"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template("page.html").render(searches=searches, model=model)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_whole(page, text.encode())


def _tile(row: dict[str, object], preview: bytes | None) -> Tile:
    thumbnail = f"data:image/jpeg;base64,{base64.b64encode(preview).decode()}" if preview else ""
    link = Path(path_from_text(str(row["file_path"]))).as_uri()
    label = f"{row['label']} (+{row['margin']:.3f})" if row.get("label") else None
    score = row["score"]
    return Tile(
        printable(str(row["relative_path"])), link, thumbnail, None if score is None else float(str(score)), label
    )
