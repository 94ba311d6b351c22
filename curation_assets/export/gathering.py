"""What is known of a version's images, whether their files and rows are still there or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import polars as pl

from curation_assets.annotations.record import KEY, read_rows
from curation_assets.annotations.said import DEFAULT_FIELD
from curation_assets.annotations.standing import boxes_apart
from curation_assets.datasets.changes.moments import tables_of
from curation_assets.datasets.versions import checked_version, held_by, read_manifest, read_version
from curation_assets.errors import CurationError
from curation_assets.export.protocol import BOX, IMAGES, Content, Options
from curation_assets.lake.problems import explained_table
from curation_assets.lake.snapshot import scan_files
from curation_assets.lake.table import LakeTable
from curation_assets.tables import Tables

_FACTS = ["format", "width", "height", "orientation", "size_bytes"]
_IMAGE = ["relative_path", "content_sha256"]


def content_of(
    tables: Tables,
    dataset: str,
    version: int | None,
    order: Sequence[str],
    options: Options,
    card: Mapping[str, Any] | None = None,
) -> Content:
    """A version, with all that formats hold of its images.

    Args:
        version: None: the newest.
        order: of sources of annotations, whose boxes count.
        card: what people say of the data; None: what the version's recipe says.

    Raises:
        CurationError: there is no such dataset or version, or a table can't be read.
    """
    number = checked_version(tables.datasets, dataset, version)
    manifest = read_manifest(tables.datasets, dataset, number)
    rows = read_version(tables.datasets, dataset, number)
    kept = rows.filter("kept").rename({"file": "data_file"})
    kept = with_facts(kept, tables.directory)
    recipe = manifest.get("recipe") or {}
    boxes, notes = _boxes(kept.select(_IMAGE), manifest, tables, order)
    kept = kept.join(boxes, on=_IMAGE, how="left").with_columns(labels=_labels(recipe))
    kept = kept.with_columns(pl.col("boxes").fill_null(pl.lit([], pl.List(BOX))))
    return Content(
        dataset,
        number,
        manifest,
        kept.select(IMAGES.names()).cast(IMAGES).sort("relative_path"),
        rows,
        options,
        (recipe.get("card") or {}) if card is None else card,
        notes,
    )


def with_facts(rows: pl.DataFrame, directory: LakeTable) -> pl.DataFrame:
    """Images with what the directory table says, or said, of them; null where its history is gone.

    Args:
        rows: ``relative_path``, ``content_sha256`` and ``data_file``, that the images were in.

    Returns:
        Also ``format``, ``width``, ``height``, ``orientation`` and ``size_bytes``; ``data_file`` is the one they are in
        now, as small files are joined.
    """
    now = directory.latest().read([*_IMAGE, *_FACTS]).rename({"_file": "_now"})
    found = rows.join(now, on=_IMAGE, how="left", maintain_order="left")
    gone = found.filter(pl.col("_now").is_null())
    found = found.with_columns(data_file=pl.coalesce("_now", "data_file")).drop("_now")
    if not len(gone):
        return found
    gone = held_by(gone.select(*_IMAGE, file="data_file"), directory).rename({"file": "data_file"})
    held = gone.rename({"data_file": "_held"})
    found = found.join(held, on=_IMAGE, how="left", maintain_order="left")
    found = found.with_columns(data_file=pl.coalesce("_held", "data_file")).drop("_held")
    then = [_facts_of(directory, str(file), part) for (file,), part in gone.group_by("data_file")]
    both = found.join(pl.concat(then), on=_IMAGE, how="left", suffix="_then", maintain_order="left")
    was = [pl.coalesce(name, f"{name}_then").alias(name) for name in _FACTS]
    return both.with_columns(was).drop(f"{name}_then" for name in _FACTS)


def previews_of(rows: pl.DataFrame, directory: LakeTable) -> dict[str, bytes]:
    """Small JPEGs by path, as far as the table has them.

    Args:
        rows: of a version: ``relative_path``, ``content_sha256`` and ``file``.
    """
    now = directory.latest().read(_IMAGE).rename({"_file": "_now"})
    files = rows.join(now, on=_IMAGE, how="left").with_columns(file=pl.coalesce("_now", "file"))
    found: dict[str, bytes] = {}
    for (file,), part in files.group_by("file", maintain_order=True):
        with suppress(CurationError):  # its data file is gone: the card has no picture of it
            cells = directory.cells(str(file), "preview", part["relative_path"].to_list())
            found |= {path: preview for path, preview in cells.items() if preview}
    return found


def _facts_of(directory: LakeTable, file: str, rows: pl.DataFrame) -> pl.DataFrame:
    types = pl.Schema(directory.spec.arrow_schema)
    types = pl.Schema({name: types[name] for name in (*_IMAGE, *_FACTS)})
    try:
        with explained_table(directory.storage):
            frame = scan_files(directory.storage, [file], types).drop("_file")
            return frame.filter(pl.col("relative_path").is_in(rows["relative_path"].implode())).collect()
    except CurationError:  # vacuumed: whether the bytes can be had is told by who reads them
        return pl.DataFrame(schema=types)


def _labels(recipe: Mapping[str, Any]) -> pl.Expr:
    """``label`` as a list: several stand in it as ``miner, rust`` where the recipe keeps such images."""
    labels = recipe.get("labels") or {}
    label = pl.col("label")
    several = label.str.split(", ") if labels.get("several") == "keep" else pl.concat_list(label)
    return pl.when(label.is_null()).then(pl.lit([], pl.List(pl.String))).otherwise(several)


def _boxes(
    images: pl.DataFrame, manifest: Mapping[str, Any], tables: Tables, order: Sequence[str]
) -> tuple[pl.DataFrame, list[str]]:
    """Boxes that count, of the annotations as they were for the version; and a note where they can't be had as such."""
    labels = (manifest.get("recipe") or {}).get("labels") or {}
    field, notes = labels.get("field") or DEFAULT_FIELD, list[str]()
    columns, where = [*KEY, "boxes", "kept_apart", "content_sha256"], pl.col("field") == field
    if "tables" in manifest and "annotations" in manifest["tables"]:
        try:
            said = read_rows(tables_of(manifest, tables)["annotations"], where, columns)
        except CurationError as error:
            said = read_rows(tables.annotations, where, columns)
            notes.append(f"boxes are those of the annotations now: {error}")
    else:
        said = read_rows(tables.annotations, pl.lit(value=False), columns)
    found = boxes_apart(said, order, images).drop("field")
    merged = {old: new for new, olds in (labels.get("merge") or {}).items() for old in olds}
    if merged:
        label = pl.element().struct.field("label").replace(merged).alias("label")
        others = [pl.element().struct.field(name) for name in ("x", "y", "width", "height")]
        found = found.with_columns(pl.col("boxes").list.eval(pl.struct(label, *others)))
    return found.cast({"boxes": pl.List(BOX)}), notes
