"""Results of the library → what an asset's page in Dagster shows."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import polars as pl
import pyarrow as pa
from PIL import Image, ImageOps

from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError
from curation_assets.images.contact_sheet import contact_sheet
from curation_assets.images.names import printable
from curation_assets.lake.schemas import DIRECTORY, EMBEDDINGS, TableSpec
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable
from curation_assets.pipeline import Pipeline
from curation_assets.stores.address import StoreAddress

Facts = dict[str, dg.MetadataValue]

THUMBNAILS = 6
_GLIMPSES = 4
_GLIMPSE_SIZES = ((56, 42), (40, 30), (24, 18))  # pixels of each
_SHOWN_CHARACTERS = 1000  # from here on Dagster 1.13 shows a link that opens the Markdown
BAD_FILES_SHOWN = 50
_PATH_SHOWN = 40  # characters

MADE_ELSEWHERE = "found up to date in the table; made outside Dagster"

DEMONSTRATION_NOTE = (
    "The embedded model is **for demonstration, not for decisions**: it knows little more than the photographs "
    "it was trained on."
)


def column_schema(spec: TableSpec) -> dg.TableSchema:
    """A table's columns for the catalog."""
    # All fields of a struct in one word leave no room for what it means, which names them.
    types = {c.name: "struct" if pa.types.is_struct(c.type) else str(c.type) for c in spec.columns}
    return dg.TableSchema([dg.TableColumn(c.name, types[c.name], c.comment) for c in spec.columns])


def column_lineage(upstream: dg.AssetKey) -> dg.TableColumnLineage:
    """Which columns of the embeddings come from the directory."""
    shared = {c.name for c in DIRECTORY.columns} & {c.name for c in EMBEDDINGS.columns}
    origins = {name: [name] for name in shared} | {"embeddings": ["image_base64"]}
    return dg.TableColumnLineage(
        {name: [dg.TableColumnDep(upstream, origin) for origin in of] for name, of in sorted(origins.items())}
    )


def table_facts(path: Path | StoreAddress, name: str, snapshot: Snapshot, folder: str) -> Facts:
    """Where the table is and how large the folder's part of it."""
    return {
        "dagster/uri": dg.MetadataValue.text(path.as_uri()),
        "dagster/table_name": dg.MetadataValue.text(name),
        "dagster/partition_row_count": dg.MetadataValue.int(snapshot.rows(folder)),
        "table rows": dg.MetadataValue.int(snapshot.rows()),
        "table version": dg.MetadataValue.int(snapshot.version),
        "folder MB": dg.MetadataValue.float(round(snapshot.bytes(folder) / 1e6, 3)),
    }


def mlflow_run(pipeline: Pipeline, model: RegisteredModel) -> dg.MetadataValue:
    """The run that logged a model: its page on a tracking server, else its id."""
    try:
        url = pipeline.registry.run_url(model)
    except CurationError:  # the run was deleted, or the server doesn't answer: no reason to fail what is done
        url = None
    return dg.MetadataValue.text(model.run_id) if url is None else dg.MetadataValue.url(url)


def thumbnails(directory: Snapshot, folder: str) -> Facts:
    """A row of a few of the folder's pictures; nothing if it has none."""
    previews: list[bytes] = []
    for file in directory.files(folder):  # file by file: a folder's previews together may be gigabytes
        rows = directory.read(["preview"], files=[file], where=pl.col("status") == "ok")
        previews += rows.head(THUMBNAILS - len(previews))["preview"].to_list()
        if len(previews) == THUMBNAILS:
            break
    if not previews:
        return {}
    sheet = picture(contact_sheet(previews), f"{len(previews)} images", "jpeg")
    return glimpse(previews) | {"thumbnails": sheet}


def glimpse(previews: Sequence[bytes]) -> Facts:
    """A few of the pictures, so small that Dagster's pages show them without a click: Markdown under 1,000 characters.

    Returns:
        One entry of metadata; none if they can't be made that small.
    """
    for size, quality in itertools.product(_GLIMPSE_SIZES, range(60, 0, -8)):
        row = Image.new("RGB", (size[0] * _GLIMPSES, size[1]), "white")
        for number, preview in enumerate(previews[:_GLIMPSES]):
            with Image.open(BytesIO(preview)) as image:
                row.paste(ImageOps.fit(image.convert("RGB"), size), (number * size[0], 0))
        out = BytesIO()
        row.save(out, "WEBP", quality=quality, method=6)
        shown = picture(out.getvalue(), "a few of the images", "webp")
        if len(str(shown.value)) < _SHOWN_CHARACTERS:
            return {"glimpse": shown}
    return {}


def picture(data: bytes, what: str, kind: Literal["jpeg", "png", "webp"], above: str = "") -> dg.MetadataValue:
    """An image as a page shows it.

    Args:
        what: it shows, for those who can't see it.
        above: Markdown that stands above it.
    """
    image = f"![{what}](data:image/{kind};base64,{base64.b64encode(data).decode()})"
    return dg.MetadataValue.md(f"{above}\n\n{image}" if above else image)


def bad_files(rows: Sequence[tuple[str, ...]]) -> dg.MetadataValue:
    """Files that can't be used: relative_path, status and error of each."""
    names = ("relative_path", "status", "error")
    records = [
        dg.TableRecord({name: printable(str(value)) for name, value in zip(names, row, strict=True)})
        for row in rows[:BAD_FILES_SHOWN]
    ]
    schema = dg.TableSchema([dg.TableColumn(name) for name in names])
    return dg.MetadataValue.table(records, schema)


def escaped(text: str) -> str:
    """A text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~-])", r"\\\1", text)


def end_of_path(path: str) -> str:
    """The end of a path that is long: a wide table hides its last columns, and those of the tables beside it."""
    name = printable(path)
    return name if len(name) <= _PATH_SHOWN else f"…{name[1 - _PATH_SHOWN :]}"


def records(columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> dg.MetadataValue:
    """A table.

    Args:
        columns: name → type.
    """
    schema = dg.TableSchema([dg.TableColumn(name, of) for name, of in columns.items()])
    return dg.MetadataValue.table([dg.TableRecord(dict(zip(columns, row, strict=True))) for row in rows], schema)


def sheets(pipeline: Pipeline, name: str, what: str, shown: Sequence[tuple[list[str], str]]) -> Facts:
    """Rows of pictures below what is said of each; and the first of them so small that it shows without a click."""
    pictures = pipeline.tables.pictures({path for paths, _ in shown for path in paths})
    made: list[str] = []
    first: Facts = {}
    for paths, said in shown:
        previews = [there[1] for path in paths if (there := pictures.get(path)) is not None and there[1] is not None]
        if previews:
            first = first or glimpse(previews)
            made.append(str(picture(contact_sheet(previews), what, "jpeg", escaped(said)).value))
    if not made:
        return {}
    return {f"{name}: the first": fact for fact in first.values()} | {name: dg.MetadataValue.md("\n\n".join(made))}


def whole_table_facts(table: LakeTable, name: str) -> Facts:
    """Where a table that has no partitions is, and how large."""
    snapshot = table.latest()
    return {
        "dagster/uri": dg.MetadataValue.text(table.path.as_uri()),
        "dagster/table_name": dg.MetadataValue.text(name),
        "dagster/row_count": dg.MetadataValue.int(snapshot.rows()),
        "table version": dg.MetadataValue.int(snapshot.version),
    }
