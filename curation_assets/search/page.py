"""A page of what several searches found, with thumbnails; one file that needs nothing beside it."""

from __future__ import annotations

import base64
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from curation_assets.clip.registry import RegisteredModel
from curation_assets.images.names import path_from_text, printable
from curation_assets.lake.table import Snapshot


@dataclass(frozen=True)
class Picture:
    """One image on the page.

    Attributes:
        name: relative path as people read it.
        link: ``file:`` address of the image itself.
        thumbnail: ``data:`` address of its preview; empty where the table holds none.
        score: cosine of query and image.
    """

    name: str
    link: str
    thumbnail: str
    score: float


def write_page(page: Path, model: RegisteredModel, directory: Snapshot, found: list[tuple[str, pl.DataFrame]]) -> None:
    """Write the page, replacing what was there.

    Args:
        page: the HTML file.
        model: whose vectors were searched; the page says what it is.
        directory: the directory table, for the previews.
        found: each query with its images, as ``exact.search`` returns them.
    """
    wanted = sorted({path for _, hits in found for path in hits["relative_path"]})
    previews = directory.read(["relative_path", "preview"], where=pl.col("relative_path").is_in(wanted))
    thumbnails = dict(previews.select("relative_path", "preview").iter_rows())
    searches = [
        (query, [_picture(row, thumbnails.get(row["relative_path"])) for row in hits.iter_rows(named=True)])
        for query, hits in found
    ]
    environment = Environment(
        loader=PackageLoader("curation_assets.search"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template("page.html").render(searches=searches, model=model)
    page.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=".search-page-", dir=page.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(draft, 0o644)
        os.replace(draft, page)
    except BaseException:
        os.unlink(draft)
        raise


def _picture(row: dict[str, object], preview: bytes | None) -> Picture:
    thumbnail = f"data:image/jpeg;base64,{base64.b64encode(preview).decode()}" if preview else ""
    link = Path(path_from_text(str(row["file_path"]))).as_uri()
    return Picture(printable(str(row["relative_path"])), link, thumbnail, float(str(row["score"])))
