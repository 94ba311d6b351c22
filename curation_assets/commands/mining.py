"""``curation mine``: which images to label next, for what a model failed on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation_assets.commands.datasets import check_file, named
from curation_assets.commands.options import (
    FolderOption,
    ImagesOption,
    JsonOption,
    LakeOption,
    WhereOption,
    filter_of,
    keys_of,
    pipeline_of,
    settings_of,
    texts_of,
)
from curation_assets.commands.output import err, out, print_json
from curation_assets.commands.progress import quiet_libraries, stoppable
from curation_assets.images.names import printable

if TYPE_CHECKING:
    import polars as pl

    from curation_assets.datasets.mining.mining import Mined
    from curation_assets.pipeline import Pipeline

_MOST = 8  # reasons that stand in a line


def mine(
    failed: Annotated[
        list[str],
        typer.Option(
            "--failed",
            help="An image on which a model failed, in the lake or not; or a CSV file: path, and loss if there is one; "
            "repeatable.",
        ),
    ],
    size: Annotated[int, typer.Option("--size", min=1, max=100_000, help="How many images.")] = 50,
    not_in: Annotated[
        list[str] | None,
        typer.Option("--not-in", help="Nothing that NAME or NAME@VERSION keeps, nor the like; repeatable."),
    ] = None,
    labelled: Annotated[bool, typer.Option("--labelled", help="Also images that have a label.")] = False,
    field: Annotated[
        str | None, typer.Option("--field", help="Only a label of this field counts as one [any].")
    ] = None,
    folder: FolderOption = None,
    where: WhereOption = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write them as a CSV file.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write them as a page, in one file.")] = None,
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find images to label next: near to what a model failed on, not all alike, and none that is tested on.

    None is in test in any version, nor shows the same as one that is, or as what failed; none has a problem or a label.
    """
    quiet_libraries()
    from curation_assets.datasets.mining.mining import Asked

    check_file(csv, "--csv")
    check_file(html, "--html")
    pipeline = pipeline_of(settings_of(images, lake))
    chosen = filter_of(folder=texts_of(folder), where=where)
    asked = Asked(size, chosen, [named(name) for name in not_in or ()], labelled, field)
    with stoppable() as shown:
        found = pipeline.mine(failed, asked, lambda name: keys_of(pipeline.settings, name), shown)
    if found.behind:
        err.print(f"note: {found.behind}", markup=False, soft_wrap=True)
    listed = found.images.drop("file_path")
    if csv is not None:
        from io import BytesIO

        from curation_assets.files import write_whole

        content = BytesIO()
        listed.write_csv(content)
        write_whole(csv.absolute(), content.getvalue())
    if html is not None:
        _write_page(pipeline, html, found)
    if as_json:
        print_json(_facts(found, listed))
        return
    for row in listed.iter_rows(named=True):
        told = f"{row['cosine']:.3f}  {row['relative_path']}  near to {row['failed']}"
        out.print(printable(told), markup=False, soft_wrap=True)
    _print_summary(found, size)
    for option, file in (("csv", csv), ("page", html)):
        if file is not None:
            out.print(f"{option}  {file}", markup=False, soft_wrap=True)


def _print_summary(found: Mined, size: int) -> None:
    served, outside = (
        found.images["failed"].n_unique(),
        f", {found.outside:,} of them not in the lake" * bool(found.outside),
    )
    few = f" (asked for {size:,}: there are no more)" if len(found.images) < size else ""
    out.print(
        f"{len(found.images):,} images{few}, near to {served:,} of {found.failures:,} that failed{outside}; of "
        f"{found.candidates:,} that could be taken",
        markup=False,
    )
    reasons = sorted(found.aside.items(), key=lambda one: (-one[1], one[0]))
    told = ", ".join(f"{reason} {number:,}" for reason, number in reasons[:_MOST])
    more = f" and {len(reasons) - _MOST:,} more reasons" if len(reasons) > _MOST else ""
    if told:
        out.print(printable(f"left aside: {told}{more}"), markup=False, soft_wrap=True)


def _facts(found: Mined, listed: pl.DataFrame) -> dict[str, Any]:
    """The same for ``--json``."""
    return {
        "failures": found.failures,
        "outside": found.outside,
        "candidates": found.candidates,
        "left_aside": found.aside,
        "behind": found.behind,
        "images": listed.to_dicts(),
    }


def _write_page(pipeline: Pipeline, html: Path, found: Mined) -> None:
    """A section for each failure, with what was taken for it."""
    from curation_assets.search.page import Heading, Section, tile, write_page

    previews = pipeline.searcher.previews(pipeline.searcher.open(), found.images["relative_path"])
    sections = []
    for (name,), rows in found.images.group_by("failed", maintain_order=True):
        tiles = [
            tile(row, previews.get(row["relative_path"]), None, f"cosine {row['cosine']:.3f}")
            for row in rows.iter_rows(named=True)
        ]
        sections.append(Section(printable(f"near to {name}  (loss {rows['loss'][0]:g})"), tiles))
    text = "Photographs that are near to what a model failed on, and not all alike."
    detail = f"{len(found.images):,} of {found.candidates:,} that could be taken, for {found.failures:,} that failed"
    write_page(html, Heading("To be labelled next", text, detail), sections)
