"""``curation leakage``: images on two sides of a split that show the same photograph or scene."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation_assets.commands.options import (
    CameraOption,
    FolderOption,
    FromOption,
    GpsOption,
    ImagesOption,
    JsonOption,
    LakeOption,
    MinSideOption,
    NameOption,
    ToOption,
    WhereOption,
    filter_of,
    meeting,
    pipeline_of,
    settings_of,
    texts_of,
)
from curation_assets.commands.output import err, out, print_json, print_paths, refuse_folder
from curation_assets.commands.progress import quiet_libraries
from curation_assets.errors import CurationError
from curation_assets.images.names import printable, text_from_path

if TYPE_CHECKING:
    import polars as pl

    from curation_assets.annotations.sources import Source
    from curation_assets.curate.leakage import Leakage
    from curation_assets.curate.splits import SplitImages
    from curation_assets.pipeline import Pipeline

_ON_A_PAGE = 200  # images with what they share
_BESIDE = 5  # of an image on a page
_LABELS = 12


def leakage(
    file: Annotated[Path | None, typer.Argument(help="The file that says it.")] = None,
    split_from: Annotated[
        str, typer.Option("--split-from", help="path, annotations, or csv, parquet, coco, yolo, label-studio.")
    ] = "annotations",
    pattern: Annotated[
        str | None, typer.Option("--pattern", help="Of path: '{split}/*', '{split}/{class}/*', 'set/{split}_*/**'.")
    ] = None,
    field: Annotated[str, typer.Option("--field", help="Whose labels are told.")] = "class",
    kind: Annotated[str | None, typer.Option("--kind", help="List only exact, near or burst.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1_000_000, help="How many images are shown.")] = 20,
    give_way: Annotated[
        bool, typer.Option("--give-way", help="Print only the paths whose side should give them up.")
    ] = False,
    null: Annotated[bool, typer.Option("-0", "--null", help="End each path with a NUL, not a line.")] = False,
    folder: FolderOption = None,
    name: NameOption = None,
    camera: CameraOption = None,
    captured_from: FromOption = None,
    captured_to: ToOption = None,
    min_side: MinSideOption = None,
    gps: GpsOption = None,
    where: WhereOption = None,
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write the pairs as a page, side by side.")] = None,
) -> None:
    """Which images of different splits are the same bytes, photograph or scene. Ends with 1 where there are any."""
    quiet_libraries()
    from curation_assets.curate import splits
    from curation_assets.curate.duplicates.overview import check_duplicate_kind

    if kind is not None:
        check_duplicate_kind(kind)
    if give_way and as_json:
        raise CurationError("--give-way and --json are two ways to print: choose one")
    if null and not give_way:
        raise CurationError("-0 is of --give-way")
    refuse_folder("--html", html)
    source = _source(split_from, file, pattern, field)
    pipeline = pipeline_of(settings_of(images, lake))
    tables, settings = pipeline.tables, pipeline.settings
    if not tables.directory.exists():
        raise CurationError(f"there is no table at {tables.directory.path}; `curation run` creates it")
    told = splits.split_images(tables, source, str(settings.images_root), pipeline.annotation_order, field)
    chosen = filter_of(
        folder=texts_of(folder),
        name=None if name is None else text_from_path(name),
        camera=camera,
        captured_from=captured_from,
        captured_to=captured_to,
        min_side=min_side,
        has_gps=gps,
        where=where,
    )
    those = meeting(pipeline, told.images, chosen)
    if not len(those):
        raise CurationError(f"none of the {len(told.images):,} images with a split meets the conditions")
    found = splits.leakage_of(tables, those, pipeline.agreements, settings.keeper_order)
    failed = splits.not_examined(tables, those, pipeline.agreements)
    listed = _of_kind(found.images, kind)
    if give_way:
        print_paths(listed.filter("gives_way")["relative_path"], null=null)
    elif as_json:
        print_json(_facts(found, told, failed, listed))
    else:
        _print(found, told, failed, listed, k)
    if html is not None:
        _write_page(pipeline, html, found, listed)
        err.print(f"page  {html}", markup=False, soft_wrap=True)
    raise typer.Exit(1 if found.pairs else 0)


def _source(split_from: str, file: Path | None, pattern: str | None, field: str) -> Source | None:
    """Where the splits come from; None: the table of annotations."""
    from curation_assets.annotations.sources import FORMATS, make_source

    ways = ("path", "annotations", *(name for name in FORMATS if name != "folders"))
    if split_from not in ways:
        raise CurationError(f"--split-from {split_from!r}: choose among {', '.join(ways)}")
    if split_from == "annotations":
        if file is not None or pattern is not None:
            raise CurationError(f"--split-from annotations takes no {'file' if file is not None else 'pattern'}")
        return None
    if split_from == "path":
        if pattern is None or file is not None:
            raise CurationError("--split-from path takes --pattern, for example '{split}/*', and no file")
        return make_source(format="folders", pattern=pattern, field=field)
    if file is None or pattern is not None:
        raise CurationError(f"--split-from {split_from} takes a file, and no pattern")
    path = Path(os.path.abspath(os.path.expanduser(file)))
    return make_source(format=split_from, path=path)


def _of_kind(listed: pl.DataFrame, kind: str | None) -> pl.DataFrame:
    import polars as pl

    return listed if kind is None else listed.filter(pl.col("kind") == kind)


def _giving(listed: pl.DataFrame) -> dict[str, int]:
    return dict(listed.filter("gives_way")["split"].value_counts().sort("count", "split", descending=True).iter_rows())


def _giving_way(listed: pl.DataFrame) -> pl.DataFrame:
    """Images that should give way, those in most pairs first: of every pair one does."""
    return listed.filter("gives_way").sort("others", "relative_path", descending=[True, False])


def _pairs(number: int, kind: str = "") -> str:
    return f"{number:,} {kind} pair".replace("  ", " ") + "s" * (number != 1)


def _labels(listed: pl.DataFrame) -> dict[str, int]:
    counted = listed["label"].drop_nulls().value_counts()
    return dict(counted.sort("count", "label", descending=[True, False]).iter_rows())


def _facts(found: Leakage, told: SplitImages, failed: pl.DataFrame, listed: pl.DataFrame) -> dict[str, Any]:
    import polars as pl

    beside = found.nearest.group_by("relative_path", maintain_order=True).agg(
        nearest=pl.struct(relative_path="other", split="other_split", kind="kind", similarity="similarity")
    )
    rows = listed.join(beside, on="relative_path", how="left", maintain_order="left")
    columns = ["relative_path", "split", "label", "kind", "others", "gives_way", "nearest"]
    return {
        "splits": found.splits,
        "without_split": told.without,
        "not_examined": failed.to_dicts(),
        "pairs": found.pairs,
        "counts": found.counts.to_dicts(),
        "labels": _labels(listed),
        "give_way": _giving(listed),
        "images": rows.select(columns).to_dicts(),
    }


def _print(found: Leakage, told: SplitImages, failed: pl.DataFrame, listed: pl.DataFrame, k: int) -> None:
    sizes = ", ".join(f"{printable(split)} {number:,}" for split, number in found.splits.items())
    without = f"; {told.without:,} images without a split" if told.without else ""
    out.print(f"splits  {sizes}{without}", markup=False, soft_wrap=True)
    if len(failed):
        out.print(f"note: of {len(failed):,} images only equal bytes are seen, as their pictures can't be compared")
    if not found.pairs:
        out.print("no image is on two sides")
        return
    for kind, split, other, number in found.counts.iter_rows():
        out.print(f"{kind:<6}  {_pairs(number):>14} of {printable(split)} and {printable(other)}", markup=False)
    labels = _labels(listed)
    if labels:
        some = ", ".join(f"{printable(label)} {number:,}" for label, number in list(labels.items())[:_LABELS])
        out.print(f"labels  {some}", markup=False, soft_wrap=True)
    nearest = found.nearest.group_by("relative_path", maintain_order=True).first()
    giving = _giving_way(listed)
    shown = giving.head(k)
    for row in shown.join(nearest, on="relative_path", maintain_order="left").iter_rows(named=True):
        near = "" if row["similarity"] is None else f" {row['similarity']:.3f}"
        more = f", and {row['others'] - 1:,} more" if row["others"] > 1 else ""
        out.print(
            f"  {printable(row['relative_path'])} ({printable(row['split'])})  {row['kind_right']}{near}  "
            f"{printable(row['other'])} ({printable(row['other_split'])}){more}",
            markup=False,
            soft_wrap=True,
        )
    if len(giving) > k:
        out.print(f"  … and {len(giving) - k:,} images more: -k, --json or --html")
    sides = ", ".join(f"{number:,} of {printable(split)}" for split, number in _giving(listed).items())
    out.print(f"→ {sides} should give way; --give-way prints their paths", markup=False, soft_wrap=True)


def _write_page(pipeline: Pipeline, html: Path, found: Leakage, listed: pl.DataFrame) -> None:
    import polars as pl

    from curation_assets.search.page import Heading, Section, tile, write_page

    giving = _giving_way(listed)
    chosen = giving.head(_ON_A_PAGE)
    beside = found.nearest.join(chosen.select("relative_path"), on="relative_path", how="semi")
    beside = beside.group_by("relative_path", maintain_order=True).head(_BESIDE)
    pictures = pipeline.tables.pictures({*chosen["relative_path"], *beside["other"]})

    def shown(path: str, label: str, score: str) -> Any:
        where, preview = pictures[path]
        return tile({"relative_path": path, "file_path": where}, preview, label, score)

    sections = []
    for row in chosen.iter_rows(named=True):
        path = row["relative_path"]
        if path not in pictures:
            continue
        tiles = [shown(path, row["split"], "gives way")]
        for other in beside.filter(pl.col("relative_path") == path).iter_rows(named=True):
            if other["other"] in pictures:
                near = "" if other["similarity"] is None else f" {other['similarity']:.3f}"
                tiles.append(shown(other["other"], other["other_split"], f"{other['kind']}{near}"))
        more = f" and {row['others']:,} on another side"
        label = "" if row["label"] is None else f" ({printable(row['label'])})"
        sections.append(Section(f"{printable(path.rpartition('/')[2])}{label}{more}", tiles))
    counts = "; ".join(
        f"{_pairs(number, kind)} of {printable(split)} and {printable(other)}"
        for kind, split, other, number in found.counts.iter_rows()
    )
    sizes = ", ".join(f"{printable(split)} {number:,}" for split, number in found.splits.items())
    text = f"Images of {sizes}: {counts or 'no image is on two sides'}."
    detail = f"Shown are {len(sections):,} of {len(giving):,} images that should give way, each with its nearest."
    write_page(html, Heading("On two sides of a split", text, detail), sections)
