"""``curation run``, ``status`` and ``show``: bringing photographs into the tables, and what is in them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from curation_assets.commands.annotate import annotation_line
from curation_assets.commands.options import (
    FoldersOption,
    ImagesOption,
    JsonOption,
    LakeOption,
    folder_of,
    keys_of,
    pipeline_of,
    settings_of,
)
from curation_assets.commands.output import out, print_json
from curation_assets.commands.progress import stoppable
from curation_assets.commands.reports import (
    issues_behind_line,
    print_bad,
    print_broken,
    print_run,
    print_status,
    run_facts,
)
from curation_assets.errors import CurationError
from curation_assets.images.names import printable

if TYPE_CHECKING:
    from curation_assets.curate.duplicates.overview import Group
    from curation_assets.ingest import RunSummary
    from curation_assets.pipeline import Pipeline


def run(
    images: ImagesOption = None,
    lake: LakeOption = None,
    folders: FoldersOption = None,
    rescan: Annotated[bool, typer.Option("--rescan", help="Read every file again, also unchanged ones.")] = False,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Remove the rows of images that are gone, though most are or a whole disk is."),
    ] = False,
    curate: Annotated[
        bool,
        typer.Option(
            "--curate/--no-curate", help="End by measuring the quality of new images, and comparing them with all."
        ),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Scan the folders, register the model, embed every image. Running it again finishes or updates the work."""
    settings = settings_of(images, lake)
    chosen = None if folders is None else [folder_of(folder, str(settings.images_root)) for folder in folders]
    summary = run_shown(pipeline_of(settings), folders=chosen, rescan=rescan, prune=prune, curate=curate)
    if as_json:
        print_json(run_facts(settings, summary))
    else:
        print_run(settings, summary)
    raise typer.Exit(exit_code(summary))


def status(images: ImagesOption = None, lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Per folder: files, ok, bad, embedded, stale (ok images without a vector of the current model)."""
    from curation_assets.curate.duplicates.overview import waiting, waiting_line

    pipeline = pipeline_of(settings_of(images, lake))
    # A registry that can't be reached is no matter where nothing is embedded.
    model = pipeline.selection.current() if pipeline.tables.embeddings.exists() else None
    rows = pipeline.tables.status(model)
    totals = rows.drop("folder").sum().row(0, named=True)
    bad = pipeline.tables.bad_files()
    unmeasured = pipeline.tables.unmeasured()
    not_compared = waiting(pipeline.tables.directory, pipeline.tables.compared, pipeline.agreements)
    not_scored = 0
    with suppress(CurationError):  # of an index that can't be read; the next run makes it anew
        not_scored = pipeline.not_scored()
    issues_behind = pipeline.label_issues_behind() if pipeline.tables.annotations.exists() else 0
    broken = pipeline.tables.broken()
    if as_json:
        facts = {"folders": rows.to_dicts(), "total": totals}
        counted: dict[str, Any] = {"unmeasured": unmeasured, "not_compared": not_compared, "not_scored": not_scored}
        counted |= {"label_issues_behind": issues_behind, "broken": broken}
        print_json(facts | {name: number for name, number in counted.items() if number})
    else:
        print_status(rows.to_dicts(), totals)
        if unmeasured:
            out.print(f"quality of {unmeasured:,} images is not measured; `curation curate` does that", markup=False)
        if not_compared:
            out.print(waiting_line(not_compared), markup=False, soft_wrap=True)
        if not_scored:
            told = f"{not_scored:,} images have no outlier score and cluster; `curation curate` gives them one"
            out.print(told, markup=False, soft_wrap=True)
        if issues_behind:
            out.print(issues_behind_line(issues_behind), markup=False, soft_wrap=True)
        for row in bad.iter_rows(named=True):
            print_bad(row["relative_path"], row["status"], row["error"])
        print_broken(broken)
    if broken:
        raise typer.Exit(1)


def show(
    file: Annotated[str, typer.Argument(help="Path of the image: relative to the images root, or on disk.")],
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything the tables hold about one image."""
    from curation_assets.curate.duplicates.overview import groups_with
    from curation_assets.decisions.record import read_decisions

    settings = settings_of(images, lake)
    pipeline = pipeline_of(settings)
    row = next((found for key in keys_of(settings, file) if (found := pipeline.tables.row(key))), None)
    if row is None:
        raise CurationError(
            f"no row for {file!r} in {pipeline.tables.directory.path}; is it under {settings.images_root}?"
        )
    vectors = pipeline.tables.vectors_of(row["relative_path"]).to_dicts()
    for vector in vectors:
        vector["current_content"] = vector.pop("content_sha256") == row["content_sha256"]
    copies = pipeline.tables.copies_of(row)
    quality = pipeline.quality_of(row)
    said_of = pipeline.annotations_of(row)
    decisions = read_decisions(pipeline.tables.decisions).of_image(row["relative_path"], row["content_sha256"])
    groups = groups_with(pipeline.tables.groups, pipeline.tables.pairs, row["relative_path"])
    scores = pipeline.scores_of(row)
    predictions = pipeline.predictions_of(row)
    issues = pipeline.label_issues_of(row)
    if as_json:
        facts = {"image": row, "embeddings": vectors, "copies": copies}
        if groups:
            columns = ["relative_path", "is_keeper", "similarity", "rule", "how"]
            facts["groups"] = [
                {"kind": g.kind, "group_id": g.group_id, "images": g.images.select(columns).to_dicts()} for g in groups
            ]
        facts |= {"annotations": said_of} if said_of else {}
        facts |= {"label_issues": issues} if issues else {}
        facts |= {"decisions": decisions.to_dicts()} if len(decisions) else {}
        facts |= {} if scores is None else {"scores": scores}
        facts |= {"predictions": predictions} if predictions else {}
        print_json(facts | ({} if quality is None else {"quality": quality}))
        return
    for name, value in row.items():
        if value is not None:
            out.print(f"[bold]{name:<15}[/] {escape(_human(name, value))}")
    for vector in vectors:
        stale = "" if vector["current_content"] else ", of an earlier content"
        text = f"{vector['model_name']} version {vector['model_version']}, {vector['dimension']} floats{stale}"
        out.print(f"[bold]{'embedded':<15}[/] {escape(text)}")
    for name, value in (quality or {}).items():
        if value is not None:
            shown = f"{value:.3f}" if isinstance(value, float) else ", ".join(value) or "none"
            out.print(f"[bold]{name:<15}[/] {escape(shown)}")
    for one in said_of:
        out.print(f"[bold]{'annotated':<15}[/] {escape(printable(annotation_line(one)))}")
    for one in predictions:
        out.print(f"[bold]{'predicted':<15}[/] {escape(printable(prediction_line(one)))}")
    for issue in issues:
        text = f"{issue['kind']} ({issue['field']}): {issue['reason']}"
        out.print(f"[bold]{'label issue':<15}[/] {escape(printable(text))}", soft_wrap=True)
    _print_scores(scores)
    for said in decisions.iter_rows(named=True):
        about = " ".join(filter(None, (said["kind"], said["field"], said["value"])))
        text = f"{about}, by {said['decided_by']}" + (f": {said['reason']}" if said["reason"] else "")
        out.print(f"[bold]{'decided':<15}[/] {escape(printable(text))}")
    _print_alike(row, copies, groups)


def prediction_line(one: dict[str, Any]) -> str:
    """What a classifier says of an image, and of its label if it has one."""
    if one["predicted"] is None:
        return f"{one['field']}: nothing, as its vector is no number"
    said = f"{one['field']}: {one['predicted']}, confidence {one['confidence']:.2f}"
    if one["label"] is None:
        return said
    quality = "" if one["label_quality"] is None else f", quality {one['label_quality']:.2f}"
    rather = "" if one["suggested"] is None else f", rather {one['suggested']}"
    return f"{said}; label {one['label']}{quality}{rather}"


def _print_scores(scores: dict[str, Any] | None) -> None:
    """How far an image lies from the others, its cluster and its nearest."""
    for name in ("outlier_score", "uniqueness"):
        if scores is not None and scores[name] is not None:
            out.print(f"[bold]{name:<15}[/] {scores[name]:.3f}")
    if scores is not None:
        medoid = ", the most typical of it" if scores["is_medoid"] else ""
        out.print(f"[bold]{'cluster':<15}[/] {scores['cluster']}: {escape(scores['cluster_name'])}{medoid}")
        for near in scores["neighbours"]:
            told = f"{printable(near['relative_path'])} (cosine {near['cosine']:.3f})"
            out.print(f"[bold]{'neighbour':<15}[/] {escape(told)}", soft_wrap=True)


def _print_alike(row: dict[str, Any], copies: list[str], groups: list[Group]) -> None:
    """An image's copies, and the other images of its groups; each copy once, with whether it is the one to keep."""
    kept = {(group.kind, group.keeper): group.images["rule"][0] for group in groups}

    def line(name: str, path: str, told: str | None) -> None:
        said = f" ({told})" if told else ""
        out.print(f"[bold]{name:<15}[/] {escape(printable(path) + said)}", soft_wrap=True)

    for copy in copies:
        rule = kept.get(("exact", copy))
        line("copy", copy, f"keep: {rule}" if rule else None)
    for group in groups:
        for other in group.images.iter_rows(named=True):
            path, is_copy = other["relative_path"], other["content_sha256"] == row["content_sha256"]
            if other["is_keeper"] and not (group.kind == "exact" and path in copies):
                line(f"{group.kind} group", path, f"keep: {other['rule']}")
            elif not other["is_keeper"] and not is_copy:
                line(f"{group.kind} group", path, other["how"] or group.kind)


def run_shown(
    pipeline: Pipeline,
    *,
    folders: list[str] | None = None,
    rescan: bool = False,
    prune: bool = False,
    curate: bool = True,
) -> RunSummary:
    """Scan, register and embed, with progress."""
    from curation_assets.ingest import run as ingest

    with stoppable() as shown:
        return ingest(pipeline, shown, folders=folders, rescan=rescan, prune=prune, curate=curate)


def exit_code(summary: RunSummary) -> int:
    """1 if some images could not be used or examined, some folders not be listed or some rows not be read; else 0."""
    incomplete = summary.failed or summary.unlisted or summary.unread or summary.broken
    unread = summary.annotations is not None and bool(summary.annotations.failed)
    unmeasured = any(result.done.failed or result.done.waiting for result in summary.quality or ())
    return 1 if len(summary.bad) or incomplete or unmeasured or unread else 0


def _human(name: str, value: Any) -> str:
    if name == "size_bytes":
        return f"{value:,}"
    return printable(str(value))
