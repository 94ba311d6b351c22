"""``curation curate`` and ``problems``: what is wrong with the images, brought in line and shown."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation_assets.commands.annotate import followed_facts, print_followed
from curation_assets.commands.options import (
    CameraOption,
    FolderOption,
    FoldersOption,
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
    folders_of,
    meeting,
    pipeline_of,
    settings_of,
    texts_of,
)
from curation_assets.commands.output import err, out, print_json, refuse_folder
from curation_assets.commands.progress import quiet_libraries, stoppable
from curation_assets.commands.reports import (
    duplicates_facts,
    index_facts,
    issues_behind_line,
    print_duplicates,
    print_index,
    print_label_issues,
    print_predictions,
    print_quality,
    print_scores,
    quality_facts,
)
from curation_assets.decisions.kinds import KEEP, REMOVE
from curation_assets.errors import CurationError
from curation_assets.images.names import printable, text_from_path

if TYPE_CHECKING:
    import polars as pl

    from curation_assets.curate.evidence import Evidence
    from curation_assets.curate.labels.not_told import Lacking
    from curation_assets.curate.overview import KindCount
    from curation_assets.curate.problems import Thresholds
    from curation_assets.pipeline import Pipeline
    from curation_assets.search.page import Tile

_EVERYTHING = 10**9  # images
_ON_A_PAGE = 24  # of each kind


def curate(
    images: ImagesOption = None,
    lake: LakeOption = None,
    folders: FoldersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring quality, index, annotations, duplicates, scores, predictions, label issues in line, as `curation run`."""
    from curation_assets.ingest import curate as bring_in_line

    settings = settings_of(images, lake)
    pipeline = pipeline_of(settings)
    if not pipeline.tables.directory.exists():
        raise CurationError(f"there is no table at {pipeline.tables.directory.path}; `curation run` creates it")
    chosen = None if folders is None else folders_of(pipeline, folders)
    with stoppable() as shown:
        done = bring_in_line(pipeline, shown, chosen)
    facts, predicted = quality_facts(done.quality), done.predictions
    if as_json:
        told: dict[str, Any] = {"quality": facts, "duplicates": duplicates_facts(done.duplicates)}
        told |= {} if done.index is None else {"index": index_facts(done.index)}
        told |= {} if done.index_error is None else {"index_error": done.index_error}
        told |= {} if done.annotations is None else {"annotations": followed_facts(done.annotations)}
        if predicted is not None and predicted.fields:
            told["predictions"] = asdict(predicted)
        told |= {} if done.label_issues is None else {"label_issues": asdict(done.label_issues)}
        print_json(told | {"scores": None if done.scores is None else asdict(done.scores)})
    else:
        print_quality(done.quality)
        if done.index is not None and done.index.changed:
            print_index(done.index)
        elif done.index_error is not None:
            out.print(f"index  not brought in line: {done.index_error}", markup=False)
        if done.annotations is not None:
            print_followed(done.annotations)
        print_duplicates(done.duplicates)
        if done.scores is not None:
            print_scores(done.scores)
        if predicted is not None:
            print_predictions(predicted)
        if done.label_issues is not None:
            print_label_issues(done.label_issues)
        out.print(
            "`curation problems` shows what is wrong, `curation duplicates` what is there twice, `curation clusters` "
            "what there is"
        )
    is_whole = done.annotations is None or not done.annotations.failed
    raise typer.Exit(1 if facts["failed"] or facts["waiting"] or facts["broken"] or not is_whole else 0)


def problems(
    kind: Annotated[str | None, typer.Argument(help="Only this kind: its images, the worst first.")] = None,
    of_kind: Annotated[str | None, typer.Option("--kind", help="The same, as an option.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=10_000, help="How many images of a kind.")] = 24,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Leave out that many of the worst.")] = 0,
    everything: Annotated[bool, typer.Option("--all", help="All images, however many there are.")] = False,
    threshold: Annotated[
        list[str] | None, typer.Option("--threshold", help="KIND=NUMBER, in place of the setting; repeatable.")
    ] = None,
    decided: Annotated[
        bool, typer.Option("--decided", help="Also images that somebody decided to keep (`curation decisions`).")
    ] = False,
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
    as_csv: Annotated[bool, typer.Option("--csv", help="Of a kind: a header, and a line an image.")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write the images as a page, in one file.")] = None,
) -> None:
    """What is wrong with the images: of each kind how many, some examples, what to do; of one kind its images."""
    quiet_libraries()
    from curation_assets.curate import problems as kinds
    from curation_assets.curate.overview import as_decided, decided_of, overview

    if None not in (kind, of_kind) and kind != of_kind:
        raise CurationError(f"{kind} and --kind {of_kind} are two kinds: name one, or none for all")
    kind = kind or of_kind
    chosen_kind = None if kind is None else kinds.KINDS[kinds.check_kind(kind)]
    if as_json and as_csv:
        raise CurationError("--json and --csv are two ways to print: choose one")
    if as_csv and chosen_kind is None:
        raise CurationError("--csv prints the images of one kind: name it, for example `curation problems blurry`")
    refuse_folder("--html", html)
    pipeline = pipeline_of(settings_of(images, lake))
    limits = kinds.thresholds(dict(pipeline.settings.problem_thresholds) | _given(threshold or []))
    rows = pipeline.judged_rows(limits)
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
    rows = meeting(pipeline, rows, chosen)
    most = _EVERYTHING if everything else k
    said = decided_of(rows)
    counts = overview(rows.drop("decided") if decided else rows, limits)
    shown = rows if decided else as_decided(rows)
    if chosen_kind is not None:
        counts = [count for count in counts if count.kind is chosen_kind]
        _show_kind(pipeline, shown, counts[0], limits, offset, most, as_json=as_json, as_csv=as_csv)
    elif as_json:
        why, lacking = pipeline.leaks.why_not(), pipeline.labels_lacking()
        not_told = lacking.not_told | ({} if why is None else {kinds.LEAK: why})
        facts = overview_facts(shown, counts, said) | ({"not_told": not_told} if not_told else {})
        print_json(facts | _behind_facts(lacking) | duplicate_counts(pipeline))
    else:
        print_overview(shown, counts, said)
        print_not_told(pipeline)
        lacking = pipeline.labels_lacking()
        _print_labels_not_told(lacking)
        _print_behind(lacking)
        print_duplicate_counts(pipeline)
    if html is not None:
        _write_page(pipeline, html, shown, counts, offset, min(most, 10_000) if chosen_kind else _ON_A_PAGE)
        err.print(f"page  {html}", markup=False)


def duplicate_counts(pipeline: Pipeline) -> dict[str, Any]:
    """What the overview tells of duplicates in ``--json``.

    Returns:
        ``duplicates``, where groups were formed: of each kind groups, images, and images to spare; ``not_compared``:
        contents that wait to be compared, where some do.
    """
    from curation_assets.curate.duplicates.overview import counts, group_table, waiting

    tables, told = pipeline.tables, {}
    if tables.groups.newest_version() >= 0:
        told["duplicates"] = counts(group_table(tables.groups))
    not_compared = waiting(tables.directory, tables.compared, pipeline.agreements)
    return told | ({"not_compared": not_compared} if not_compared else {})


def print_duplicate_counts(pipeline: Pipeline) -> None:
    """The same for a reader, of the whole lake."""
    from curation_assets.curate.duplicates.overview import waiting_line

    told = duplicate_counts(pipeline)
    for kind, count in told.get("duplicates", {}).items():
        if count["groups"]:
            out.print(
                f"{kind:<16} {count['spare']:>8,}  to spare of {count['images']:,} images in {count['groups']:,} groups"
                f": `curation duplicates --kind {kind}`",
                soft_wrap=True,
                markup=False,
            )
    if "not_compared" in told:
        out.print(waiting_line(told["not_compared"]), soft_wrap=True, markup=False)


def _given(texts: list[str]) -> dict[str, str]:
    given = {}
    for text in texts:
        kind, equals, number = text.partition("=")
        if not equals:
            raise CurationError(f"--threshold {text!r}: write KIND=NUMBER, for example blurry=0.4")
        given[kind.strip()] = number.strip()
    return given


def print_not_told(pipeline: Pipeline) -> None:
    """Why nothing is told of leaks, where nothing is."""
    if (why := pipeline.leaks.why_not()) is not None:
        out.print(f"of leaks nothing is told: {why}", soft_wrap=True, markup=False)


def _print_labels_not_told(lacking: Lacking) -> None:
    """The same of labels and boxes."""
    for why in dict.fromkeys(lacking.not_told.values()):
        what = "labels and boxes" if len(lacking.not_told) > 1 else "mislabelled images"
        out.print(f"of {what} nothing is told: {why}", soft_wrap=True, markup=False)


def _behind_facts(lacking: Lacking) -> dict[str, Any]:
    """For ``--json``, where what is told of labels is of earlier tables."""
    behind = {"label_issues_behind": lacking.issues_behind, "predictions_behind": lacking.predictions_behind}
    return {name: value for name, value in behind.items() if value}


def _print_behind(lacking: Lacking) -> None:
    """The same for a reader."""
    if lacking.predictions_behind:
        note = "images, labels or model changed since labels were judged; `curation classify` judges them anew"
        err.print(f"note: {note}", soft_wrap=True)
    elif lacking.issues_behind:
        err.print(f"note: {issues_behind_line(lacking.issues_behind)}", soft_wrap=True)


def print_overview(rows: pl.DataFrame, counts: list[KindCount], decided: dict[str, int]) -> None:
    """What is wrong, kind by kind, for a reader.

    Args:
        rows: their verdicts as they are to be counted.
        decided: as :func:`~curation_assets.curate.overview.decided_of` gives it.
    """
    from curation_assets.curate.overview import any_problem, decided_of

    out.print(f"{len(rows):,} images measured, {any_problem(rows):,} with a problem")
    if failed := rows["error"].is_not_null().sum():
        out.print(f"{failed:,} could not be measured in full: the table's column `error` says why", markup=False)
    if decided[KEEP]:
        more = "; they are counted too" if decided_of(rows)[KEEP] else ": `--decided` counts and shows them too"
        out.print(f"{decided[KEEP]:,} with a problem were decided to be kept{more}")
    if decided[REMOVE]:
        out.print(f"{decided[REMOVE]:,} were decided to be removed: `curation decisions list --kind remove`")
    for count in counts:
        kind = count.kind
        head = f"{kind.name:<16} {count.images:>8,}  {count.share:>6.1%}  {kind.limit(count.threshold)}"
        out.print(f"\n[bold]{head}[/]" if count.images else f"\n{head}")
        if count.images:
            out.print(f"  {kind.meaning}", markup=False)
            for path in count.examples:
                out.print(f"  {printable(path)}", markup=False)
            out.print(f"  → {kind.advice}: `curation problems {kind.name}`", markup=False)
    out.print("\nA threshold moves with the folder and camera; docs/curation.md says how, and how sure each kind is.")


def overview_facts(rows: pl.DataFrame, counts: list[KindCount], decided: dict[str, int]) -> dict[str, Any]:
    """The same for ``--json``."""
    from curation_assets.curate.overview import any_problem

    return {
        "images": len(rows),
        "with_problem": any_problem(rows),
        "not_measured": int(rows["error"].is_not_null().sum()),
        "decided": decided,
        "kinds": [
            {
                "kind": count.kind.name,
                "images": count.images,
                "share": count.share,
                "threshold": count.threshold,
                "examples": count.examples,
                "kept": count.kept,
                "meaning": count.kind.meaning,
                "advice": count.kind.advice,
            }
            for count in counts
        ],
    }


def _show_kind(
    pipeline: Pipeline,
    rows: pl.DataFrame,
    count: KindCount,
    limits: Thresholds,
    offset: int,
    most: int,
    *,
    as_json: bool,
    as_csv: bool,
) -> None:
    from curation_assets.curate.labels.not_told import Lacking
    from curation_assets.curate.overview import worst
    from curation_assets.curate.problems import LEAK, MISLABELLED, problem_names
    from curation_assets.search.export import write_csv

    kind = count.kind
    found = worst(rows, kind.name)
    total, found = len(found), found.slice(offset, most)
    listed = found.select("relative_path", "content_sha256", "folder").with_columns(
        score=found[f"{kind.name}_score"],
        severity=found[f"{kind.name}_severity"],
        problems=problem_names(found),
        decided=found["decided"],
    )
    told = pipeline.evidence(kind.name, found)
    lacking = Lacking({})
    if kind.told_by == "label_issues":
        lacking = pipeline.labels_lacking(judged=kind.name == MISLABELLED)
    if not as_json:
        _print_behind(lacking)
    if as_json:
        facts = {"kind": kind.name, "threshold": limits[kind.name], "images": len(rows), "total": total}
        facts["kept"] = count.kept
        images = listed.to_dicts()
        for row in images:
            row |= told[row["relative_path"]].facts if row["relative_path"] in told else {}
        why = pipeline.leaks.why_not() if kind.name == LEAK else lacking.not_told.get(kind.name)
        facts |= _behind_facts(lacking)
        print_json(facts | ({} if why is None else {"not_told": why}) | {"found": images})
    elif as_csv:
        write_csv(sys.stdout.buffer, [_with_cells(listed, told)], {})
    elif not total:
        out.print(f"no image is {kind.name}: {kind.limit(limits[kind.name])}")
        if kind.name == LEAK:
            print_not_told(pipeline)
        elif kind.name in lacking.not_told:
            _print_labels_not_told(lacking)
        _print_kept(count)
    else:
        shown = ("relative_path", "score", "problems", "decided")
        for path, score, names, said in listed.select(shown).iter_rows():
            others = ", ".join(other for other in names.split(", ") if other != kind.name)
            also = f"  (also {others})" if others else ""
            word = f"  (decided: {said})" if said else ""
            number = f"{score:.0f}" if kind.is_counted else f"{score:.3f}"
            out.print(f"{number}  {printable(path)}{also}{word}", markup=False)
            if path in told and told[path].said:
                out.print(f"  {told[path].said}", markup=False, soft_wrap=True)
        if total > len(listed):
            err.print(f"{len(listed):,} of {total:,} images, the worst first; -k or --all shows more", markup=False)
        _print_kept(count)


def _with_cells(listed: pl.DataFrame, told: Mapping[str, Evidence]) -> pl.DataFrame:
    """The images with a column for everything that their evidence tells."""
    import polars as pl

    names = list(dict.fromkeys(name for one in told.values() for name in one.cells))
    cells = [told[path].cells if path in told else {} for path in listed["relative_path"]]
    return listed.with_columns(pl.Series(name, [each.get(name) for each in cells], pl.String) for name in names)


def _print_kept(count: KindCount) -> None:
    if count.kept:
        err.print(f"{count.kept:,} more are decided to be kept; --decided shows them too", markup=False)


def _write_page(
    pipeline: Pipeline, html: Path, rows: pl.DataFrame, counts: list[KindCount], offset: int, most: int
) -> None:
    from curation_assets.curate.evidence import Evidence
    from curation_assets.curate.overview import any_problem, worst
    from curation_assets.search.page import Heading, Section, tile, write_page

    chosen = {count.kind.name: worst(rows, count.kind.name).slice(offset, most) for count in counts if count.images}
    told = {name: pipeline.evidence(name, found) for name, found in chosen.items()}
    beside = {path for of_kind in told.values() for one in of_kind.values() for path, _ in one.beside}
    pictures = pipeline.tables.pictures({path for found in chosen.values() for path in found["relative_path"]} | beside)
    sections = []

    def shown_tile(path: str, said: str) -> list[Tile]:
        there = pictures.get(path)
        return [] if there is None else [tile({"relative_path": path, "file_path": there[0]}, there[1], None, said)]

    for count in counts:
        if (found := chosen.get(count.kind.name)) is None:
            continue
        tiles = []
        for path, score in zip(found["relative_path"], found[f"{count.kind.name}_score"], strict=True):
            one = told[count.kind.name].get(path, Evidence())
            tiles += shown_tile(path, one.said or f"{count.kind.scale} {score:.3g}")
            for other, what in one.beside:
                tiles += shown_tile(other, f"↑ {what}")
        said = (f"{sentence[0].upper()}{sentence[1:]}." for sentence in (count.kind.meaning, count.kind.advice))
        sections.append(Section(f"{count.kind.name}: {count.images:,}", tiles, " ".join(said)))
    text = f"{len(rows):,} images measured, {any_problem(rows):,} with a problem; of each kind the worst first."
    write_page(html, Heading("What is wrong with these images", text), sections)
