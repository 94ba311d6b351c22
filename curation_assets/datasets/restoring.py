"""Images of a version whose file is gone or another by now, out of the directory table and its history."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from curation_assets.datasets.versions import held_by
from curation_assets.errors import CurationError
from curation_assets.files import write_whole
from curation_assets.images.names import path_from_text
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress

_TOGETHER = 64  # images that are in memory at a time


@dataclass
class Restored:
    """What was had.

    Attributes:
        images: written.
        lacking: path → why its bytes can't be had.
    """

    images: int = 0
    lacking: dict[str, str] = field(default_factory=dict)


def restore(
    rows: pl.DataFrame, wanted: Iterable[str], directory: LakeTable, target: Path, progress: Progress
) -> Restored:
    """Write images to a folder, each under its path; what lies there already with the same bytes stays.

    Args:
        rows: of the version: ``relative_path``, ``content_sha256`` and ``file``.
        wanted: paths.

    Raises:
        CurationError: a file can't be written.
    """
    done = Restored()
    chosen = rows.filter(pl.col("relative_path").is_in(pl.Series([*wanted], dtype=pl.String).implode()))
    image = ["relative_path", "content_sha256"]
    # Rows may have moved to another file since, as small files are joined.
    now = directory.latest().read(image).rename({"_file": "file"})
    chosen, lost = chosen.select(image).join(now, on=image), chosen.join(now, on=image, how="anti")
    chosen = pl.concat([chosen, held_by(lost.select(*image, "file"), directory)])
    progress.start("restore", len(chosen))
    for (file,), part in chosen.sort("file", "relative_path").group_by("file", maintain_order=True):
        for start in range(0, len(part), _TOGETHER):
            some = part[start : start + _TOGETHER]
            _restore(some, str(file), directory, target, done)
            progress.advance(len(some))
    return done


def _restore(rows: pl.DataFrame, file: str, directory: LakeTable, target: Path, done: Restored) -> None:
    try:
        texts = directory.cells(file, "image_base64", rows["relative_path"].to_list())
    except CurationError:
        done.lacking |= dict.fromkeys(rows["relative_path"], "its data file is gone from the directory table's history")
        return
    for path, content in rows.select("relative_path", "content_sha256").iter_rows():
        text = texts.get(path)
        if text is None:
            done.lacking[path] = "the table held no bytes (CURATION_STORE_IMAGES)"
            continue
        data = base64.b64decode(text)
        if hashlib.sha256(data).hexdigest() != content:
            done.lacking[path] = "the table holds other bytes"
            continue
        place = target / path_from_text(path)
        if place.exists() and place.read_bytes() != data:
            done.lacking[path] = f"{place} is another file"
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, data)
        done.images += 1
