"""``curation search`` and ``label``: finding images, and which of some texts suits each."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import webbrowser
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from curation_assets.commands.options import (
    AsOfOption,
    CameraOption,
    FolderOption,
    FromOption,
    GpsOption,
    ImagesOption,
    JsonOption,
    LakeOption,
    MinSideOption,
    ModelOption,
    NameOption,
    ToOption,
    WhereOption,
    filter_of,
    keys_of,
    pipeline_of,
    place_of,
    settings_of,
    texts_of,
)
from curation_assets.commands.output import err, out, print_json, refuse_folder
from curation_assets.commands.progress import quiet_libraries, stoppable
from curation_assets.errors import CurationError
from curation_assets.images.names import printable, text_from_path

if TYPE_CHECKING:
    import polars as pl

    from curation_assets.pipeline import Pipeline
    from curation_assets.search.query import Query
    from curation_assets.search.searcher import Searcher, SearchResult

_EVERYTHING = 10**9  # images


def search(
    texts: Annotated[
        list[str] | None, typer.Argument(help="What the images should show; several are added up.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=10_000, help="How many images.")] = 12,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Leave out that many of the first.")] = 0,
    everything: Annotated[bool, typer.Option("--all", help="All images, however many there are.")] = False,
    sort: Annotated[
        str | None, typer.Option("--sort", help="A list's order: COLUMN or COLUMN:desc, say captured_at:desc [path].")
    ] = None,
    distinct: Annotated[bool, typer.Option("--distinct", help="Of copies, equal or near, only one.")] = False,
    image: Annotated[list[Path] | None, typer.Option("--image", help="An image file to look for the like of.")] = None,
    like: Annotated[list[str] | None, typer.Option("--like", help="A stored image, by its relative path.")] = None,
    unwanted: Annotated[list[str] | None, typer.Option("--not", help="A text that they should not show.")] = None,
    weight: Annotated[
        list[float] | None, typer.Option("--weight", help="Of the texts, one each, in their order [1].")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Say which of these texts, two or more, suits each image best.")
    ] = None,
    folder: FolderOption = None,
    name: NameOption = None,
    camera: CameraOption = None,
    captured_from: FromOption = None,
    captured_to: ToOption = None,
    min_side: MinSideOption = None,
    gps: GpsOption = None,
    problem: Annotated[
        list[str] | None, typer.Option("--problem", help="Only images with this kind of problem, or any; repeatable.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="Only images that somebody tagged so; repeatable.")
    ] = None,
    where: WhereOption = None,
    as_of: AsOfOption = None,
    model_version: ModelOption = None,
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a table: a header, and a line an image.")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write the images found as a page, in one file.")] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open that page in the browser.")] = False,
    export_images: Annotated[
        str | None,
        typer.Option(
            "--export-images", help="Write the image files found, and their list, to a new or empty folder, or s3://…"
        ),
    ] = None,
) -> None:
    """Find images by words, by an example, or by both, the best first; without either, list what meets the filters.

    Scores are cosines. `(2 copies)` says that two other images have the same content.
    """
    quiet_libraries()
    from curation_assets.search.ordering import ONLY_COPIES

    if label:
        from curation_assets.search.zero_shot import check_labels

        check_labels(label)  # before anything is printed
    if everything and (html is not None or open_page):
        raise CurationError("--all makes no page: leave out --html and --open, or choose how many with -k")
    if as_json and as_csv:
        raise CurationError("--json and --csv are two ways to print: choose one")
    pipeline = pipeline_of(settings_of(images, lake))
    query = _query(pipeline, texts or [], image or [], like or [], unwanted or [], weight, model_version)
    chosen = filter_of(
        folder=texts_of(folder),
        name=None if name is None else text_from_path(name),
        camera=camera,
        captured_from=captured_from,
        captured_to=captured_to,
        min_side=min_side,
        has_gps=gps,
        problem=None if problem is None else _kinds(problem),
        tag=tag,
        where=where,
    )
    from curation_assets.search.export import write_csv

    versions = {"model_version": model_version, "table_version": as_of}
    searcher = pipeline.searcher
    most = _EVERYTHING if everything else k
    found = searcher.search(query, most, offset=offset, sort=sort, distinct=distinct, filter=chosen, **versions)  # type: ignore[arg-type]
    if html is None and open_page:
        html = Path(tempfile.mkdtemp(prefix="curation-")) / "search.html"
    refuse_folder("--html", html)
    if html is not None:
        _write_page(pipeline, html, found, _rows(searcher, found, label), model_version)
    if found.behind:
        err.print(f"note: {found.behind}", markup=False, soft_wrap=True)
    if found.folded is not None and not found.folded.are_near_known:
        err.print(f"note: {ONLY_COPIES}; `curation curate` compares them", markup=False, soft_wrap=True)
    if export_images is not None:
        _export(pipeline, found, label, export_images)
    parts = (_rows(searcher, part, label) for part in found.batches())
    if as_json:
        _print_json(found, parts)
    elif as_csv:
        write_csv(sys.stdout.buffer, (part.drop("position") for part in parts), {})
    else:
        _print_found(found, parts)
        if html is not None:
            out.print(f"page  {html}", markup=False)
    if open_page and html is not None and not webbrowser.open(Path(os.path.abspath(html)).as_uri()):
        raise CurationError(f"no browser could be opened; the page is {html}")


def label(
    labels: Annotated[list[str], typer.Argument(help="Two texts or more to choose between.")],
    folder: FolderOption = None,
    where: WhereOption = None,
    as_of: AsOfOption = None,
    model_version: ModelOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Zero-shot labels: which of some texts suits each image best, counted by folder; --json has every image."""
    quiet_libraries()
    pipeline = pipeline_of(settings_of(None, lake))
    chosen = filter_of(folder=texts_of(folder), where=where)
    found = pipeline.searcher.labels(labels, filter=chosen, model_version=model_version, table_version=as_of)
    if as_json:
        print_json({"labels": labels, "images": found.to_dicts()})
        return
    _print_labels(found, labels)


def _query(
    pipeline: Pipeline,
    texts: list[str],
    files: list[Path],
    likes: list[str],
    unwanted: list[str],
    weights: list[float] | None,
    model_version: str | None,
) -> Query:
    from curation_assets.search.query import Like, Picture, Query, Text

    if weights is not None and len(weights) != len(texts):
        raise CurationError(f"--weight is given {len(weights)} times, for {len(texts)} texts: give one for each")
    parts: list[Text | Like | Picture] = [
        Text(text, weight) for text, weight in zip(texts, weights or [1.0] * len(texts), strict=True)
    ]
    for file in files:
        data = file.read_bytes()
        parts.append(
            pipeline.searcher.embed_image(data, pipeline.settings.decode_options, printable(str(file)), model_version)
        )
    parts += [Like(_stored(pipeline, key)) for key in likes]
    parts += [Text(text, -1.0) for text in unwanted]
    return Query(tuple(parts))


def _stored(pipeline: Pipeline, file: str) -> str:
    """The key that an argument means: a relative path, or a path on disk below the images root."""
    keys = keys_of(pipeline.settings, file)
    return next((key for key in keys if pipeline.tables.row(key) is not None), keys[0])


def _kinds(names: list[str]) -> tuple[str, ...]:
    from curation_assets.curate.problems import check_filter

    return check_filter(names)


def _export(pipeline: Pipeline, found: SearchResult, labels: list[str] | None, target: str) -> None:
    """Write the images, and say so beside what is printed."""
    if not len(found.numbers):
        raise CurationError("--export-images: no image was found")
    rows = _rows(pipeline.searcher, found, labels).drop("position")
    about = found.provenance() | {"total": found.total}
    with stoppable() as shown:
        done = pipeline.export_found(rows, about, place_of("--export-images", target), shown)
    told = f"wrote {done.images:,} images ({done.bytes / 1e6:,.1f} MB) and images.csv to {target}"
    told += f"; {done.from_table:,} came out of the table, as their files are gone or others" if done.from_table else ""
    err.print(told, markup=False, soft_wrap=True)


def _write_page(
    pipeline: Pipeline, html: Path, found: SearchResult, rows: pl.DataFrame, model_version: str | None
) -> None:
    from curation_assets.search.page import write_search_page

    title = found.query.describe()
    if found.filter:
        title += " · " + ", ".join(f"{name} {value}" for name, value in found.filter.facts().items())
    searcher = pipeline.searcher
    previews = searcher.previews(found.index, rows["relative_path"])
    write_search_page(html, searcher.model(model_version), [(printable(title), rows)], previews)


def _rows(searcher: Searcher, found: SearchResult, labels: list[str] | None) -> pl.DataFrame:
    """The images found, with their number of copies, the column that they are sorted by, and their labels.

    Where each photograph stands once, with their number of near copies too.
    """
    import polars as pl

    from curation_assets.search.ordering import NEAR_COPIES

    rows = found.rows.with_columns(pl.Series("copies", found.copies, pl.Int64))
    if found.distinct:
        near = searcher.further(found.index, found.numbers, [NEAR_COPIES])[NEAR_COPIES]
        rows = rows.with_columns(near.fill_null(0).alias(NEAR_COPIES))
    if found.sort is not None and found.sort.column not in rows.columns:
        rows = rows.hstack(searcher.further(found.index, found.numbers, [found.sort.column]))
    if labels:
        columns = searcher.label(found, labels).select("relative_path", "label", "margin")
        rows = rows.join(columns, on="relative_path", how="left", maintain_order="left")
    return rows


def _print_json(found: SearchResult, parts: Iterable[pl.DataFrame]) -> None:
    """One document, written part by part."""
    from curation_assets.search.export import write_objects

    head = json.dumps(found.provenance() | {"total": found.total}, indent=2, ensure_ascii=False, default=str)
    out_bytes = sys.stdout.buffer
    sys.stdout.flush()
    out_bytes.write(head.removesuffix("\n}").encode("utf-8", "backslashreplace") + b',\n  "images": ')
    write_objects(out_bytes, (part.drop("position") for part in parts))
    out_bytes.write(b"\n}\n")
    out_bytes.flush()


def _print_found(found: SearchResult, parts: Iterable[pl.DataFrame]) -> None:
    number = len(found.numbers)
    if not found.total:
        out.print("no image meets the conditions")
        return
    by = None if found.sort is None or found.sort.column == "relative_path" else found.sort.column
    for part in parts:
        for row in part.iter_rows(named=True):
            said = f"  {row['label']} (+{row['margin']:.3f})" if row.get("label") else ""
            if marks := _marks(row):
                said += f"  ({marks})"
            before = "" if row["score"] is None else f"{row['score']:.3f}  "
            if by is not None:
                before = f"{'-' if row[by] is None else printable(str(row[by]))}  "
            out.print(f"{before}{printable(row['relative_path'])}{said}", markup=False)
    if found.total > number:
        order = "by cosine" if found.sort is None else f"by {found.sort}"
        err.print(f"{number:,} of {found.total:,} images, {order}; -k or --all shows more", markup=False)
    if found.folded is not None and (folded := found.folded.describe()):
        err.print(f"folded: {folded}; `curation duplicates` shows them", markup=False)


def _marks(row: dict[str, Any]) -> str:
    """How many other images have the same content, or show the same photograph under other bytes."""
    copies, alike = row["copies"], row.get("near_copies", 0) - row["copies"]
    said = [f"{copies:,} {'copy' if copies == 1 else 'copies'}"] if copies else []
    return ", ".join([*said, f"{alike:,} alike"] if alike > 0 else said)


def _print_labels(found: pl.DataFrame, labels: list[str]) -> None:
    import polars as pl

    table = Table(box=None, pad_edge=False)
    table.add_column("folder")
    for text in [*labels, "median margin"]:
        table.add_column(escape(text), justify="right")
    for (folder,), rows in found.group_by("folder", maintain_order=True):
        counts = dict(rows.group_by("label").len().iter_rows())
        margin = rows.select(pl.col("margin").median()).item()
        cells = [f"{counts.get(text, 0):,}" for text in labels]
        table.add_row(escape(printable(str(folder))), *cells, f"{margin:.3f}")
    out.print(table)
