"""``curation decisions``: what people say of images, said, taken back, listed, and carried between lakes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation_assets.commands.options import (
    ImagesOption,
    JsonOption,
    LakeOption,
    keys_of,
    pipeline_of,
    settings_of,
)
from curation_assets.commands.output import err, out, print_json
from curation_assets.errors import CurationError
from curation_assets.images.names import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from curation_assets.decisions.record import Row
    from curation_assets.pipeline import Pipeline

app = typer.Typer(
    help="What people say of images: keep, remove, keeper, relabel, same, different, unsure, tag, untag.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
ByOption = Annotated[str | None, typer.Option("--by", help="Who decides; without it, the login name.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why, in your own words.")]


@app.command()
def add(
    kind: Annotated[str, typer.Argument(help="keep, remove, keeper, relabel, same, different, unsure, tag or untag.")],
    path: Annotated[str, typer.Argument(help="The image: relative to the images root, or on disk.")],
    other: Annotated[str | None, typer.Argument(help="The other image, of same and different.")] = None,
    field: Annotated[
        str | None,
        typer.Option("--field", help="Of keep and remove quality (the default) or duplicate; of relabel the field."),
    ] = None,
    value: Annotated[
        str | None, typer.Option("--value", help="Of relabel the label, of tag and untag the tag.")
    ] = None,
    reason: ReasonOption = None,
    by: ByOption = None,
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say something of an image, or of two. It is kept by content, so it holds for copies and renamed files too."""
    from curation_assets.decisions import kinds
    from curation_assets.decisions.record import append, login_name

    pipeline = pipeline_of(settings_of(images, lake))
    kinds.check_kind(kind)
    key, content = _image(pipeline, path)
    row: Row = {
        "decided_by": by or login_name(),
        "kind": kind,
        "relative_path": key,
        "content_sha256": content,
        "other_sha256": None if other is None else _image(pipeline, other)[1],
        "field": kinds.field_of(kind, field),
        "value": value or None,
        "reason": reason or None,
        "shown": None,
    }
    if fault := kinds.fault_of(row):
        raise CurationError(f"{fault}; see `curation decisions add --help`")
    row["shown"] = _shown(pipeline, row)
    (made,) = append(pipeline.tables.decisions, lambda _: [row])
    _followed(pipeline, [made])
    if as_json:
        print_json({"decision": made})
    else:
        _print(made)


@app.command()
def undo(
    decision: Annotated[str | None, typer.Argument(help="Its id, or the beginning of it.")] = None,
    last: Annotated[bool, typer.Option("--last", help="The last one of yours that counts.")] = False,
    reason: ReasonOption = None,
    by: ByOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a decision back; the one before it counts again. Taking back what took one back brings that one back."""
    from curation_assets.decisions.record import login_name
    from curation_assets.decisions.record import undo as take_back

    if (decision is None) != last:
        raise CurationError("name one decision by its id, or give --last")
    pipeline = pipeline_of(settings_of(None, lake))
    undone, row = take_back(pipeline.tables.decisions, decision, by or login_name(), reason)
    _followed(pipeline, [row])
    if as_json:
        print_json({"undone": undone, "decision": row})
    else:
        _print(undone, "in force again" if undone["undoes"] else "taken back")


@app.command("list")
def list_decisions(
    kind: Annotated[list[str] | None, typer.Option("--kind", help="Only this kind; repeatable.")] = None,
    path: Annotated[str | None, typer.Option("--path", help="Only of this image, by its path then or now.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what a later decision or an undo has overruled.")
    ] = False,
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A header, and a line a decision.")] = False,
) -> None:
    """What counts now, the earliest first."""
    import polars as pl

    from curation_assets.decisions import kinds
    from curation_assets.decisions.record import read_rows
    from curation_assets.decisions.standing import standing
    from curation_assets.search.export import write_csv

    if as_json and as_csv:
        raise CurationError("--json and --csv are two ways to print: choose one")
    chosen = [kinds.check_kind(name) for name in kind or ()]
    pipeline = pipeline_of(settings_of(images, lake))
    rows = read_rows(pipeline.tables.decisions)
    counts = standing(rows).rows["decision_id"]
    rows = rows.with_columns(standing=pl.col("decision_id").is_in(counts.implode()))
    if not everything:
        rows = rows.filter("standing")
    if chosen:
        rows = rows.filter(pl.col("kind").is_in(chosen))
    if path is not None:
        rows = rows.filter(_is_of(pipeline, path))
    if as_json:
        print_json({"total": len(rows), "decisions": rows.to_dicts()})
    elif as_csv:
        write_csv(sys.stdout.buffer, [rows], {})
    else:
        for row in rows.iter_rows(named=True):
            _print(row, "" if row["standing"] else "takes back" if row["undoes"] else "overruled")
        if not len(rows):
            out.print("no decision" + (" of that kind or image" if chosen or path else ""))


@app.command("export")
def export_decisions(
    file: Annotated[Path, typer.Argument(help="A .csv, .jsonl or .parquet file to write.")],
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write every decision to a file, also those that are overruled: `import` reads it, into this lake or another."""
    from curation_assets.decisions.exchange import write_decisions
    from curation_assets.decisions.record import read_rows

    rows = read_rows(pipeline_of(settings_of(None, lake)).tables.decisions)
    write_decisions(file, rows)
    if as_json:
        print_json({"file": str(file), "decisions": len(rows)})
    else:
        out.print(f"{len(rows):,} decisions  {file}", markup=False)


@app.command("import")
def import_decisions(
    file: Annotated[Path, typer.Argument(help="A .csv, .jsonl or .parquet file, as `export` writes it.")],
    by: ByOption = None,
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add the decisions of a file, all or none; those whose id is there already are not added again."""
    from curation_assets.decisions.exchange import FaultyFileError, read_file
    from curation_assets.decisions.record import append, login_name, read_rows

    pipeline = pipeline_of(settings_of(images, lake))
    found = read_file(file)
    contents = pipeline.tables.contents(found.paths())
    who = by or login_name()
    table = pipeline.tables.decisions
    try:
        added = found.new_rows(read_rows(table), contents, who)
        if added:  # or nothing is written, and no table made
            added = append(table, lambda rows: found.new_rows(rows(), contents, who))
            _followed(pipeline, added)
    except FaultyFileError as error:
        for fault in error.faults:
            err.print(printable(fault), markup=False, soft_wrap=True)
        raise
    known = len(found.rows) - len(added)
    if as_json:
        print_json({"file": str(file), "added": len(added), "already_there": known})
    else:
        out.print(f"{len(added):,} decisions added, {known:,} were there already")


def _followed(pipeline: Pipeline, rows: Sequence[Row]) -> None:
    """Let follow what follows from decisions; what can't is told."""
    from curation_assets.progress import LogProgress
    from curation_assets.review.following import follow_decisions

    why = follow_decisions(pipeline, rows, LogProgress())
    if why is not None:
        err.print(f"label issues not brought in line: {why}", markup=False, soft_wrap=True)


def _image(pipeline: Pipeline, path: str) -> tuple[str, str]:
    """Relative path and content of an image.

    Raises:
        CurationError: it is not in the directory table, or was never read.
    """
    keys = keys_of(pipeline.settings, path)
    found = pipeline.tables.contents(keys)
    key = next((key for key in keys if key in found), None)
    if key is None:
        where = pipeline.tables.directory.path
        raise CurationError(f"no image {path!r} in {where}; is it under {pipeline.settings.images_root}?")
    content = found[key]
    if content is None:
        raise CurationError(f"{path!r} could not be read, so nothing can be said of its content; see `curation status`")
    return key, content


def _is_of(pipeline: Pipeline, path: str) -> pl.Expr:
    import polars as pl

    keys = keys_of(pipeline.settings, path)
    contents = [content for content in pipeline.tables.contents(keys).values() if content is not None]
    of_content = pl.col("content_sha256").is_in(contents) | pl.col("other_sha256").is_in(contents)
    return pl.col("relative_path").is_in(keys) | of_content.fill_null(value=False)


def _shown(pipeline: Pipeline, row: Row) -> str | None:
    """What is known of the picture's quality, where that is what is decided on."""
    from curation_assets.decisions.kinds import QUALITY

    quality = pipeline.quality_of(row) if row["field"] == QUALITY else None
    return None if quality is None else json.dumps({"quality": quality})


def _print(row: dict[str, Any], said: str = "") -> None:
    about = f" {row['field']}" if row["field"] else ""
    value = f" = {row['value']}" if row["value"] else ""
    other = f" and {row['other_sha256'][:12]}" if row["other_sha256"] else ""
    place = row["relative_path"] or row["content_sha256"][:12]
    why = f": {row['reason']}" if row["reason"] else ""
    text = f"{row['decision_id']}  {row['decided_at']:%Y-%m-%d %H:%M}  {row['kind']}{about}{value}  {place}{other}"
    text += f"  {row['decided_by']}{why}" + (f"  ({said})" if said else "")
    out.print(printable(text), markup=False)
