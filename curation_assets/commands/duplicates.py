"""``curation duplicates``: which images are the same bytes, photograph or scene, and which of each to keep."""

from __future__ import annotations

from enum import StrEnum
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

    from curation_assets.curate.duplicates.overview import Group
    from curation_assets.pipeline import Pipeline
    from curation_assets.search.filters import Filter

_EVERYTHING = 10**9  # groups
_ON_A_PAGE = 200  # groups of a kind
_EXAMPLES = 3


class Listed(StrEnum):
    """What ``--list`` prints."""

    KEEP = "keep"
    REMOVE = "remove"


def duplicates(
    kind: Annotated[str | None, typer.Option("--kind", help="Only exact, near or burst.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1_000_000, help="How many groups of a kind.")] = 20,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Leave out that many of the largest.")] = 0,
    everything: Annotated[bool, typer.Option("--all", help="All groups, however many there are.")] = False,
    listed: Annotated[
        Listed | None,
        typer.Option("--list", help="Print paths alone: what to keep or to remove of exact and near (or --kind)."),
    ] = None,
    null: Annotated[bool, typer.Option("-0", "--null", help="End each path of --list with a NUL, not a line.")] = False,
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
    html: Annotated[Path | None, typer.Option("--html", help="Write the groups as a page, side by side.")] = None,
) -> None:
    """The same photograph twice: groups of the same bytes, photograph or scene, whom to keep, and why."""
    quiet_libraries()
    from curation_assets.curate.duplicates import overview

    if kind is not None:
        overview.check_duplicate_kind(kind)
    if listed is not None and as_json:
        raise CurationError("--list and --json are two ways to print: choose one")
    if null and listed is None:
        raise CurationError("-0 is of --list")
    refuse_folder("--html", html)
    pipeline = pipeline_of(settings_of(images, lake))
    rows = overview.group_table(pipeline.tables.groups)
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
    rows = _with_member(pipeline, rows, chosen)
    if waiting := overview.waiting(pipeline.tables.directory, pipeline.tables.compared, pipeline.agreements):
        err.print(f"note: {waiting:,} images are not compared yet; `curation curate` does that")
    shown = rows if listed is not None and html is None else overview.explained(rows, pipeline.tables.pairs)
    if listed is not None:
        _print_paths(pipeline, rows, kind, listed, null=null)
    else:
        most = _EVERYTHING if everything else k
        kinds = overview.KINDS if kind is None else (kind,)
        groups = {each: list(overview.groups_of(shown, each)) for each in kinds}
        if as_json:
            print_json(_facts(rows, groups, offset, most, waiting))
        else:
            _print(rows, groups, offset, most if kind is not None or everything else _EXAMPLES)
    if html is not None:
        _write_page(pipeline, html, shown, kind, offset, _EVERYTHING if everything else min(k, _ON_A_PAGE))
        err.print(f"page  {html}", markup=False, soft_wrap=True)


def _with_member(pipeline: Pipeline, rows: pl.DataFrame, chosen: Filter) -> pl.DataFrame:
    """Whole groups of which an image meets the conditions."""
    if not chosen:
        return rows
    members = meeting(pipeline, rows, chosen)
    return rows.join(members.select("kind", "group_id").unique(), on=["kind", "group_id"], how="semi")


def _print_paths(pipeline: Pipeline, rows: pl.DataFrame, kind: str | None, listed: Listed, *, null: bool) -> None:
    """Keepers, or the others but for those that a person wants to keep beside them."""
    import polars as pl

    from curation_assets.decisions.record import read_decisions

    kinds = ["exact", "near"] if kind is None else [kind]
    rows = rows.filter(pl.col("kind").is_in(kinds))
    wanted = read_decisions(pipeline.tables.decisions).kept_duplicates()
    spare_rows = rows.filter(~pl.col("is_keeper"))
    spare_rows = spare_rows.join(wanted, on=["relative_path", "content_sha256"], how="anti")
    spare = set(spare_rows["relative_path"])
    kept = {path for path in rows.filter("is_keeper")["relative_path"] if path not in spare}
    print_paths(sorted(kept if listed is Listed.KEEP else spare), null=null)


def _print(rows: pl.DataFrame, groups: dict[str, list[Group]], offset: int, most: int) -> None:
    from curation_assets.curate.duplicates.overview import ADVICE, MEANING, counts

    counted = counts(rows)
    for kind, of_kind in groups.items():
        count = counted[kind]
        head = f"{kind:<6} {count['groups']:>8,} groups of {count['images']:,} images, {count['spare']:,} to spare"
        out.print(f"[bold]{head}[/]" if of_kind else head)
        if not of_kind:
            continue
        out.print(f"  {MEANING[kind]}", markup=False)
        for group in of_kind[offset : offset + most]:
            for row in group.images.iter_rows(named=True):
                _print_image(row)
        if len(of_kind) > offset + most:
            out.print(
                f"  … and {len(of_kind) - offset - most:,} groups more: `curation duplicates --kind {kind} --all`"
            )
        out.print(f"  → {ADVICE[kind]}; `curation duplicates --kind {kind} --list remove` prints the others")


def _print_image(row: dict[str, Any]) -> None:
    if row["is_keeper"]:
        out.print(f"  keep {printable(row['relative_path'])}  ({row['rule']})", markup=False)
        return
    told = [] if row["similarity"] is None or row["kind"] == "exact" else [f"{row['similarity']:.3f}"]
    told += [row["how"]] if row["how"] is not None else []
    out.print(f"       {printable(row['relative_path'])}  {'; '.join(told)}".rstrip(), markup=False)


def _facts(rows: pl.DataFrame, groups: dict[str, list[Group]], offset: int, most: int, waiting: int) -> dict[str, Any]:
    from curation_assets.curate.duplicates.overview import counts

    columns = ["relative_path", "content_sha256", "is_keeper", "similarity", "rule", "how"]
    return {
        "kinds": counts(rows),
        "not_compared": waiting,
        "groups": [
            {
                "kind": group.kind,
                "group_id": group.group_id,
                "keeper": group.keeper,
                "first_seen_at": group.images["first_seen_at"][0],
                "images": group.images.select(columns).to_dicts(),
            }
            for of_kind in groups.values()
            for group in of_kind[offset : offset + most]
        ],
    }


def _write_page(pipeline: Pipeline, html: Path, rows: pl.DataFrame, kind: str | None, offset: int, most: int) -> None:
    from curation_assets.curate.duplicates.overview import KINDS, MEANING, groups_of
    from curation_assets.search.page import Heading, Section, tile, write_page

    kinds = KINDS if kind is None else (kind,)
    chosen = [group for each in kinds for group in list(groups_of(rows, each))[offset : offset + most]]
    pictures = pipeline.tables.pictures({path for group in chosen for path in group.images["relative_path"]})
    sections = []
    for group in chosen:
        tiles = []
        for row in group.images.iter_rows(named=True):
            if (there := pictures.get(row["relative_path"])) is None:
                continue
            score = f"keep: {row['rule']}" if row["is_keeper"] else row["how"] or MEANING[group.kind]
            label = None if row["similarity"] is None or row["is_keeper"] else f"{row['similarity']:.3f}"
            tiles.append(tile({"relative_path": row["relative_path"], "file_path": there[0]}, there[1], label, score))
        others = f" and {len(group.images) - 1:,} more"
        sections.append(Section(f"{group.kind}: {printable(group.keeper.rpartition('/')[2])}{others}", tiles))
    text = "Groups of the same bytes, photograph or scene, the largest first; in each, the image to keep comes first."
    write_page(html, Heading("The same photograph twice", text), sections)
