"""What a search found, as files: the images, and a list that says which is which and why it is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from curation_assets import __version__
from curation_assets.datasets.versions import as_manifest
from curation_assets.export.exporting import LIST, ImagesWritten, write_images
from curation_assets.export.folders import Folders
from curation_assets.export.gathering import with_facts
from curation_assets.export.lists import write_csv
from curation_assets.export.protocol import BOX, IMAGES, WRITTEN, Content, Options
from curation_assets.export.reading import ImageReader
from curation_assets.export.staging import new_file
from curation_assets.export.store_staging import StoreTarget
from curation_assets.export.targets import stage_of
from curation_assets.images.guard import DecodeOptions
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress

QUERY = "search.json"


def export_found(
    rows: pl.DataFrame,
    about: Mapping[str, Any],
    target: Path | StoreTarget,
    directory: LakeTable,
    reader: ImageReader,
    threads: int,
    decoding: DecodeOptions,
    progress: Progress,
    note: Callable[[ImagesWritten], None],
) -> ImagesWritten:
    """Write images to a folder, with ``images.csv``, in the order in which they were found, and ``search.json``.

    Args:
        rows: ``relative_path``, ``content_sha256``, and whatever else the list should have, ``score`` for example.
        about: the query and the versions that it was asked of; JSON.
        target: folder that isn't there or is empty; absolute; or the same in a store.
        note: is told of the export before anybody sees of it.

    Raises:
        CurationError: an image can't be had, or the place can't be written to; the next run goes on then.
    """
    image = ["relative_path", "content_sha256"]
    known = with_facts(rows.select(*image, data_file=pl.lit("-")), directory)
    known = known.with_columns(
        labels=pl.lit([], pl.List(pl.String)),
        boxes=pl.lit([], pl.List(BOX)),
        split=pl.lit(None),
        kept_apart=pl.lit(None),
    )
    content = Content("search", 0, {}, known.select(IMAGES.names()).cast(IMAGES), rows.clear(), Options())
    told = ImagesWritten()
    asked = {name: value for name, value in about.items() if name != "exported_at"}
    said = {"code": __version__, "about": asked, "images": rows["relative_path"].to_list()}
    with stage_of(target, as_manifest(said | {"target": str(target)}), is_file=False) as stage:
        noted = partial(note, told)
        done = write_images(content, Folders(), stage, reader, told, threads, decoding, progress, noted)
        files = done.rows.select(*image, "file", *WRITTEN)
        listed = rows.join(files, on=image, how="left", maintain_order="left").select("file", pl.all().exclude("file"))
        write_csv(stage.path(LIST), listed)
        with new_file(stage.path(QUERY)) as out:
            out.write(json.dumps(about, indent=2, ensure_ascii=False, default=str).encode() + b"\n")
        if stage.is_hidden:
            noted()
        stage.publish()
    return told
