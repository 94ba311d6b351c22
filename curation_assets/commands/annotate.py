"""``curation annotate``: what sources say is on images, read into the table, listed, and taken out."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation_assets.commands.following import find_label_issues
from curation_assets.commands.options import ImagesOption, JsonOption, LakeOption, pipeline_of, settings_of
from curation_assets.commands.output import err, out, print_json
from curation_assets.commands.progress import stoppable
from curation_assets.errors import CurationError
from curation_assets.images.names import printable

if TYPE_CHECKING:
    from curation_assets.annotations.configured import Followed
    from curation_assets.annotations.overview import SourceField
    from curation_assets.annotations.record import Import
    from curation_assets.curate.labels.issues import LabelIssues
    from curation_assets.pipeline import Pipeline

_MOST = 12  # labels that are shown of a field


def annotate(
    file: Annotated[Path | None, typer.Argument(help="The file; of yolo its data.yaml or folder.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="folders, csv, parquet, coco, yolo or label-studio.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option("--pattern", help="Of folders: '{class}/*', '{split}/{class}/*', 'f/**/{class}_*'.")
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option("--field", help="What the labels are of (class); of csv and parquet the columns, repeatable."),
    ] = None,
    source: Annotated[str | None, typer.Option("--source", help="Who says it; else the file's name.")] = None,
    separator: Annotated[
        str | None, typer.Option("--separator", help="Of csv and parquet: between several values in a cell.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Of all images that the file names.")] = None,
    annotator: Annotated[
        str | None, typer.Option("--annotator", help="Of label-studio: whose words, where several speak of an image.")
    ] = None,
    orientation: Annotated[
        str | None,
        typer.Option("--orientation", help="`stored`: boxes are of pictures that EXIF has not turned; else upright."),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="What the source said of other images before stays.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="What there is, and where sources disagree.")] = False,
    conflicts: Annotated[bool, typer.Option("--conflicts", help="The images that sources disagree about.")] = False,
    remove: Annotated[str | None, typer.Option("--remove", help="Take a source out.")] = None,
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read what a source says is on images: all of it or, if anything is wrong, nothing. Again: what it says now."""
    given = {
        "--from": from_,
        "--pattern": pattern,
        "--field": field,
        "--source": source,
        "--separator": separator,
        "--split": split,
        "--annotator": annotator,
        "--orientation": orientation,
        "--add": add or None,
        "a file": file,
    }
    asked = [name for name, said in (("--list", list_), ("--conflicts", conflicts), ("--remove", remove)) if said]
    if len(asked) > 1 or (asked and any(value is not None for value in given.values())):
        others = [name for name, value in given.items() if value is not None]
        raise CurationError(f"{asked[0]} goes alone, without {', '.join([*asked[1:], *others])}")
    if dry_run and (list_ or conflicts):
        raise CurationError(f"{asked[0]} writes nothing in any case, so --dry-run says nothing")
    pipeline = pipeline_of(settings_of(images, lake))
    if not pipeline.tables.directory.exists():
        raise CurationError(f"there is no table at {pipeline.tables.directory.path}; `curation run` creates it")
    if list_:
        _list(pipeline, as_json)
    elif conflicts:
        _conflicts(pipeline, as_json)
    elif remove is not None:
        _remove(pipeline, remove, dry_run, as_json)
    else:
        _import(pipeline, given, add, dry_run, as_json)


def _import(pipeline: Pipeline, given: dict[str, Any], add: bool, dry_run: bool, as_json: bool) -> None:
    from curation_assets.annotations.said import FaultyAnnotationsError
    from curation_assets.annotations.sources import make_source

    path = given["a file"]
    chosen = make_source(
        format=given["--from"],
        path=None if path is None else Path(os.path.abspath(os.path.expanduser(path))),
        pattern=given["--pattern"],
        field=given["--field"],
        source=given["--source"],
        separator=given["--separator"],
        split=given["--split"],
        annotator=given["--annotator"],
        orientation=given["--orientation"],
    )
    if chosen.format is None:
        raise CurationError("say what it is --from: folders, csv, parquet, coco, yolo or label-studio")
    try:
        with stoppable() as shown:
            done = pipeline.annotate(chosen, shown, add=add, dry_run=dry_run)
            issues = None if dry_run else find_label_issues(pipeline, shown)
    except FaultyAnnotationsError as error:
        for fault in error.faults[1:]:  # the error itself says the first
            err.print(printable(fault), markup=False, soft_wrap=True)
        raise
    if as_json:
        print_json(import_facts(done, dry_run=dry_run) | _issues_facts(issues))
    else:
        print_import(done, add=add, dry_run=dry_run)
        _print_issues(issues)


def import_facts(done: Import, *, dry_run: bool = False) -> dict[str, Any]:
    """What an import did, for ``--json``."""
    return {
        "source": done.source,
        "rows": done.rows,
        "images": done.images,
        "added": done.added,
        "changed": done.changed,
        "removed": done.removed,
        "labels": done.labels,
        "splits": done.splits,
        "boxes": done.boxes,
        "notes": done.notes,
        "dry_run": dry_run,
    }


def print_import(done: Import, *, add: bool = False, dry_run: bool = False) -> None:
    """The same for a reader."""
    for field, counts in done.labels.items():
        out.print(printable(f"{field:<12} {_told(counts)}"), markup=False, soft_wrap=True)
    if done.splits:
        out.print(printable(f"{'split':<12} {_told(done.splits)}"), markup=False, soft_wrap=True)
    for note in done.notes:
        out.print(f"note: {printable(note)}", markup=False, soft_wrap=True)
    if done.removed and not add:
        out.print("note: what the source said before and says no more goes; --add keeps it", soft_wrap=True)
    boxes = f", {done.boxes:,} boxes" if done.boxes else ""
    would = "would be " if dry_run else ""
    out.print(
        printable(
            f"annotations of {done.source}: {done.images:,} images{boxes}; {done.added:,} rows {would}added, "
            f"{done.changed:,} changed, {done.removed:,} removed"
        ),
        markup=False,
        soft_wrap=True,
    )


def annotation_line(said: dict[str, Any]) -> str:
    """What a source says of an image, as ``Pipeline.annotations_of`` gives it."""
    labels = "nothing said" if said["values"] is None else ", ".join(said["values"]) or "none"
    more = f", {len(said['boxes']):,} boxes" if said["boxes"] else ""
    more += f", split {said['split']}" if said["split"] else ""
    overruled = "" if said["counts"] or said["values"] is None else ", overruled"
    return f"{said['field']}: {labels}{more} ({said['source'] or 'no source'}{overruled})"


def print_followed(done: Followed) -> None:
    """What following the sources of the setting did."""
    for source, why in done.failed.items():
        out.print(f"bad    annotations of {printable(source)}: {printable(why)}", markup=False, soft_wrap=True)
    rows = [sum(getattr(each, name) for each in done.imports) for name in ("added", "changed", "removed")]
    moved = f", {done.places.moved:,} went with their images" if done.places.moved else ""
    waiting = f", {done.places.waiting:,} wait for an image that is gone or changed" if done.places.waiting else ""
    out.print(
        f"annotations {rows[0]:,} rows added, {rows[1]:,} changed, {rows[2]:,} removed, of {len(done.imports)} sources "
        f"read{moved}{waiting}",
        soft_wrap=True,
    )


def followed_facts(done: Followed) -> dict[str, Any]:
    """The same for ``--json``."""
    return {
        "read": [import_facts(each) for each in done.imports],
        "unchanged": done.unchanged,
        "failed": [{"source": source, "error": why} for source, why in done.failed.items()],
        "moved": done.places.moved,
        "waiting": done.places.waiting,
    }


def _list(pipeline: Pipeline, as_json: bool) -> None:
    from curation_assets.annotations.overview import disagreements, overview

    tables = pipeline.tables
    found = overview(tables.directory, tables.annotations, pipeline.annotation_order)
    unlike = dict(disagreements(tables.directory, tables.annotations)["field"].value_counts().sort("field").iter_rows())
    if as_json:
        print_json({"sources": [_facts(each) for each in found], "conflicts": unlike})
        return
    for each in found:
        told = [f"{each.images:,} images", _told(each.labels)] if each.labels else [f"{each.images:,} images"]
        told += [f"{each.boxes:,} boxes"] if each.boxes else []
        told += [f"split {_told(each.splits)}"] if each.splits else []
        told += [f"{each.waiting:,} rows wait for an image that is gone or changed"] if each.waiting else []
        out.print(printable(f"{each.source}  {each.field}: {'; '.join(told)}"), markup=False, soft_wrap=True)
    for field, number in unlike.items():
        said = f"sources disagree about {field} of {number:,} images; the first above counts (--conflicts names them)"
        out.print(printable(said), markup=False, soft_wrap=True)
    if not found:
        out.print("no annotations; `curation annotate --from …` reads some")


def _facts(each: SourceField) -> dict[str, Any]:
    return {
        "source": each.source,
        "field": each.field,
        "images": each.images,
        "labels": each.labels,
        "splits": each.splits,
        "boxes": each.boxes,
        "waiting": each.waiting,
        "annotated_at": each.annotated_at,
    }


def _conflicts(pipeline: Pipeline, as_json: bool) -> None:
    from curation_assets.annotations.overview import disagreements
    from curation_assets.annotations.standing import in_order

    found = disagreements(pipeline.tables.directory, pipeline.tables.annotations)
    said = []
    for row in found.iter_rows(named=True):
        labels = dict(zip(row["sources"], row["labels"], strict=True))
        ordered = {source: labels[source] for source in in_order(row["sources"], pipeline.annotation_order)}
        said.append({"relative_path": row["relative_path"], "field": row["field"], "labels": ordered})
    if as_json:
        print_json({"total": len(said), "conflicts": said})
        return
    for each in said:
        told = ", ".join(f"{labels or 'none'} ({source})" for source, labels in each["labels"].items())
        out.print(printable(f"{each['relative_path']}  {each['field']}: {told}"), markup=False, soft_wrap=True)
    if not said:
        out.print("no two sources disagree")


def _remove(pipeline: Pipeline, source: str, dry_run: bool, as_json: bool) -> None:
    from curation_assets.annotations.record import remove

    if any(each.name == source and each.format is not None for each in pipeline.settings.annotations):
        raise CurationError(f"CURATION_ANNOTATIONS names {source!r}, so it would come back: take it out there first")
    number = remove(pipeline.tables.annotations, source, dry_run=dry_run)
    with stoppable() as shown:
        issues = None if dry_run else find_label_issues(pipeline, shown)
    if as_json:
        print_json({"source": source, "removed": number, "dry_run": dry_run} | _issues_facts(issues))
    else:
        would = "would be " if dry_run else ""
        out.print(printable(f"annotations of {source}: {number:,} rows {would}removed"), markup=False)
        _print_issues(issues)


def _issues_facts(issues: LabelIssues | None) -> dict[str, Any]:
    return {} if issues is None else {"label_issues": asdict(issues)}


def _print_issues(issues: LabelIssues | None) -> None:
    from curation_assets.commands.reports import print_label_issues

    if issues is not None:
        print_label_issues(issues)


def _told(counts: dict[str, int]) -> str:
    shown = [f"{label} {number:,}" for label, number in list(counts.items())[:_MOST]]
    more = [f"and {len(counts) - _MOST:,} more"] if len(counts) > _MOST else []
    return ", ".join(shown + more) or "no labels"
