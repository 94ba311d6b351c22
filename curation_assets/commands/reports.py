"""How what was done is told, to a reader and as JSON: a run, the tables' state, an index."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from curation_assets.commands.annotate import followed_facts, print_followed
from curation_assets.commands.output import out
from curation_assets.images.names import printable, text_from_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from curation_assets.curate.duplicates.overview import Duplicates
    from curation_assets.curate.labels.issues import LabelIssues
    from curation_assets.curate.labels.predicting import FieldPredictions, Predictions
    from curation_assets.curate.quality import QualityResult
    from curation_assets.curate.scores.scoring import Scoring
    from curation_assets.ingest import RunSummary
    from curation_assets.maintain import MaintenanceReport
    from curation_assets.repair import RepairReport
    from curation_assets.search.refresh import IndexRefresh
    from curation_assets.settings import Settings

MAX_TABLE_ROWS = 40
_FEW = 5  # classes with too few images that are named


def print_run(settings: Settings, summary: RunSummary) -> None:
    """What a run did and where the tables are, for a reader."""
    from curation_assets.scan.result import compared_line

    totals = summary.status.drop("folder").sum().row(0, named=True)
    print_status(summary.status.to_dicts(), totals)
    for row in summary.bad.iter_rows(named=True):
        print_bad(row["relative_path"], row["status"], row["error"])
    for path, reason in summary.failed:
        print_bad(path, "not embedded", reason)
    for place, reason in summary.unlisted.items():
        print_bad(place, "not listed", f"{reason}; what the table has of it stays")
    for path, reason in summary.unread.items():
        print_bad(path, "not examined", f"{reason}; its row stays as it is")
    for file, reason in summary.lost.items():
        out.print(f"mended {file} {reason}", markup=False)
    print_broken(summary.broken)
    scan, embed = _totals(summary)
    again = f"{scan['outdated']:,} read otherwise by this version, " if scan["outdated"] else ""
    out.print(
        f"\nscan   {scan['read']:,} files read ({scan['new']:,} new, {scan['changed']:,} changed), "
        f"{again}{scan['vanished']:,} gone, {scan['seconds']:.1f} s{_speed(scan)}"
    )
    if compared := compared_line(scan["compared"], scan["assumed"], scan["uncompared"]):
        out.print(f"       {compared}")
    chosen = summary.chosen
    model = chosen.model
    out.print(
        f"model  {model.name} version {model.version}{' (new)' if chosen.is_new else ''}, {model.source}, "
        f"{model.dimension} floats, {model.parameters:,} parameters"
    )
    if chosen.unavailable is not None:
        out.print(f"       chosen by hand, and used on though another can't be had: {chosen.unavailable}", markup=False)
    elif chosen.overruled is not None:
        out.print(
            f"       promoted by hand; CURATION_MODEL_SOURCE is version {chosen.overruled.version}, which "
            f"`curation model promote {chosen.overruled.version}` makes the champion"
        )
    how = f" on {embed['device']} in {embed['precision']}" if embed["device"] else ""
    out.print(
        f"embed  {embed['encoded']:,} images{how}, {embed['copied']:,} copies of the same content, "
        f"{embed['removed']:,} rows removed, {embed['seconds']:.1f} s{_speed(embed)}"
    )
    followed: tuple[tuple[str, Any, str | None, Callable[[Any], None]], ...] = (
        ("quality not brought in line", summary.quality, summary.quality_error, print_quality),
        ("index  not brought in line", summary.index, summary.index_error, print_index),
        ("annotations not brought in line", summary.annotations, summary.annotations_error, print_followed),
        ("duplicates not brought in line", summary.duplicates, summary.duplicates_error, print_duplicates),
        ("scores not brought in line", summary.scores, summary.scores_error, print_scores),
        ("labels not classified", summary.predictions, summary.predictions_error, print_predictions),
        ("label issues not brought in line", summary.label_issues, summary.label_issues_error, print_label_issues),
    )
    for failing, done, why, show in followed:
        if done is not None:
            show(done)
        elif why is not None:
            out.print(f"{failing}: {why}", markup=False)
    for table in (settings.directory_table, settings.embeddings_table):
        out.print(f"table  {settings.table_path(table)}", markup=False)
    if summary.tree.passed_over:
        passed = ", ".join(f"{count} {reason}" for reason, count in summary.tree.passed_over.most_common())
        out.print(f"passed over: {passed}")
    if model.demonstration:
        out.print("The embedded model is for demonstration, not for decisions; CURATION_MODEL_SOURCE chooses another.")


def print_index(done: IndexRefresh) -> None:
    """What became of a search index."""
    out.print(f"index  {index_line(done)}")


def index_line(done: IndexRefresh) -> str:
    """What became of a search index."""
    info = done.index.info
    what = f"{len(done.added):,} new, {done.removed:,} removed, {done.seconds:.1f} s" if done.changed else "up to date"
    kind = "exact" if info.kind == "exact" else f"approximate, recall@10 {info.recall:.3f}"
    return f"{info.vectors:,} vectors ({kind}), {what}"


def index_facts(done: IndexRefresh) -> dict[str, Any]:
    """The same for ``--json``."""
    info = done.index.info
    return {
        "folder": str(done.index.path),
        "images": info.images,
        "vectors": info.vectors,
        "added": len(done.added),
        "removed": done.removed,
        "changed": done.changed,
        "rebuilt": done.rebuilt,
        "kind": info.kind,
        "recall_at_10": info.recall,
        "latency_ms": info.latency_ms,
        "embeddings_table_version": info.embeddings_version,
        "directory_table_version": info.directory_version,
        "model_version": info.model_version,
        "seconds": done.seconds,
    }


def print_quality(done: Sequence[QualityResult]) -> None:
    """What measuring did, and what could not be measured."""
    for result in done:
        for path, reason in (result.done.failed | result.done.waiting).items():
            print_bad(path, "not measured", reason)
    facts = quality_facts(done)
    again = f", {facts['read_again']:,} of them decoded again" if facts["read_again"] else ""
    speed = f", {facts['measured'] / facts['seconds']:,.0f}/s" if facts["measured"] and facts["seconds"] else ""
    out.print(
        f"quality {facts['measured']:,} images measured{again}, {facts['removed']:,} rows removed, "
        f"{facts['seconds']:.1f} s{speed}"
    )


def quality_facts(done: Sequence[QualityResult]) -> dict[str, Any]:
    """The same for ``--json``."""
    return {
        "measured": sum(result.measured for result in done),
        "read_again": sum(result.done.read_again for result in done),
        "removed": sum(result.removed for result in done),
        "commits": sum(result.commits for result in done),
        "seconds": sum(result.seconds for result in done),
        "failed": [
            {"relative_path": path, "error": reason} for result in done for path, reason in result.done.failed.items()
        ],
        "waiting": [
            {"relative_path": path, "error": reason} for result in done for path, reason in result.done.waiting.items()
        ],
        "broken": [result.broken for result in done if result.broken is not None],
    }


def print_duplicates(done: Duplicates) -> None:
    """What comparing did, and what could not be compared."""
    facts = duplicates_facts(done)
    for content, reason in done.comparison.failed.items():
        print_bad(content, "not compared", reason)
    counts = ", ".join(f"{facts['groups'][kind]:,} {kind} groups" for kind in facts["groups"])
    out.print(f"duplicates {counts}; {facts['verified']:,} pairs compared, {facts['seconds']:.1f} s")


def duplicates_facts(done: Duplicates) -> dict[str, Any]:
    """The same for ``--json``."""
    comparison, grouping = done.comparison, done.grouping
    return {
        "contents": comparison.contents,
        "verified": comparison.verified,
        "found": comparison.found,
        "crowded": comparison.crowded,
        "removed": comparison.removed,
        "failed": [{"content_sha256": content, "error": reason} for content, reason in comparison.failed.items()],
        "groups": grouping.groups,
        "images": grouping.images,
        "commits": comparison.commits + grouping.commits,
        "seconds": comparison.seconds + grouping.seconds,
    }


def print_scores(done: Scoring) -> None:
    """What scoring and clustering did."""
    laid_out = " laid out anew" if done.laid_out else ""
    out.print(
        f"scores {done.scored:,} contents scored, {done.images:,} images in {done.clusters:,} clusters{laid_out}, "
        f"{done.seconds:.1f} s"
    )


def predictions_line(done: Predictions) -> str:
    """What became of the predictions."""
    fields = [one for one in done.fields if one.why_not is None]
    fitted = sum(one.fitted for one in fields)
    what = f"classifiers fitted to {fitted:,} contents, " if fitted else ""
    predicted = sum(one.predicted for one in fields)
    images = sum(one.images for one in fields)
    what += (
        f"{predicted:,} contents predicted, {images:,} predictions of {len(fields):,} field{'s' * (len(fields) != 1)}"
    )
    return f"labels {what}, {done.seconds:.1f} s"


def print_predictions(done: Predictions) -> None:
    """What classifying did, and why not where it can't be done."""
    if any(one.why_not is None for one in done.fields):
        out.print(predictions_line(done), soft_wrap=True)
    for one in done.fields:
        if one.why_not is not None:
            out.print(f"labels not classified: {printable(one.why_not)}", markup=False, soft_wrap=True)


def left_out(told: FieldPredictions) -> str:
    """What a field's classifier is not fitted to; empty where there is nothing."""
    few = ", ".join(f"{name} ({number})" for name, number in list(told.few.items())[:_FEW])
    more = f" and {len(told.few) - _FEW:,} more" if len(told.few) > _FEW else ""
    said = [
        (len(told.few), f"{len(told.few):,} classes with too few images: {few}{more}"),
        (told.several, f"{told.several:,} images with several labels"),
        (told.nothing, f"{told.nothing:,} with none"),
        (told.conflicting, f"{told.conflicting:,} whose equal copies are labelled otherwise"),
        (told.no_vector, f"{told.no_vector:,} without a vector"),
    ]
    return "; ".join(text for number, text in said if number)


def issues_behind_line(number: int) -> str:
    """That label issues are of earlier tables."""
    return f"{number:,} label issues are not as they would be now; `curation curate` brings them in line"


def print_label_issues(done: LabelIssues) -> None:
    """What speaks against labels and boxes."""
    from curation_assets.curate.problems import MISLABELLED

    doubted = done.kinds.get(MISLABELLED, 0)
    counts = [f"{doubted:,} labels doubted, {done.likely_wrong:,} below the threshold"] if doubted else []
    counts += [f"{number:,} {kind}" for kind, number in done.kinds.items() if number and kind != MISLABELLED]
    out.print(f"label issues {', '.join(counts) or 'none'}; {done.changed:,} rows changed, {done.seconds:.1f} s")


def _speed(totals: dict[str, Any]) -> str:
    return f", {totals['images_per_second']:,.0f}/s" if totals["images_per_second"] else ""


def _totals(summary: RunSummary) -> tuple[dict[str, Any], dict[str, Any]]:
    compared = ("compared", "assumed", "uncompared")
    scan_keys = ("new", "changed", "outdated", "vanished", "read", "bytes_read", *compared, "commits", "seconds")
    embed_keys = ("encoded", "copied", "removed", "bytes", "commits", "seconds", "encode_seconds")
    scan: dict[str, Any] = {key: sum(getattr(result, key) for result in summary.scans) for key in scan_keys}
    embed: dict[str, Any] = {key: sum(getattr(result, key) for result in summary.embeds) for key in embed_keys}
    scan["images_per_second"] = scan["read"] / scan["seconds"] if scan["read"] else 0.0
    embed["images_per_second"] = embed["encoded"] / embed["encode_seconds"] if embed["encoded"] else 0.0
    used = next((result.computed for result in summary.embeds if result.computed), None)
    return scan, embed | {
        "device": used.device if used else None,
        "devices": used.devices if used else 0,
        "precision": used.precision if used else None,
        "share_of_limit": used.mfu(embed["encoded"], embed["encode_seconds"]) if used else None,
    }


def run_facts(settings: Settings, summary: RunSummary) -> dict[str, Any]:
    """The same for ``--json``."""
    scan, embed = _totals(summary)
    chosen = summary.chosen
    model = chosen.model
    annotations: dict[str, Any] = {}  # only where there are some
    if summary.annotations is not None:
        annotations["annotations"] = followed_facts(summary.annotations)
    if summary.annotations_error is not None:
        annotations["annotations_error"] = summary.annotations_error
    if summary.predictions is not None and summary.predictions.fields:
        annotations["predictions"] = asdict(summary.predictions)
    if summary.predictions_error is not None:
        annotations["predictions_error"] = summary.predictions_error
    if summary.label_issues is not None:
        annotations["label_issues"] = asdict(summary.label_issues)
    if summary.label_issues_error is not None:
        annotations["label_issues_error"] = summary.label_issues_error
    return annotations | {
        "images_root": text_from_path(str(settings.images_root)),
        "tables": {
            "directory": str(settings.table_path(settings.directory_table)),
            "embeddings": str(settings.table_path(settings.embeddings_table)),
        },
        "model": {
            "name": model.name,
            "version": model.version,
            "new": chosen.is_new,
            "overrules": chosen.overruled.version if chosen.overruled else None,
            "source_unavailable": chosen.unavailable,
            "source": model.source,
            "fingerprint": model.fingerprint,
            "dimension": model.dimension,
            "parameters": model.parameters,
            "demonstration": model.demonstration,
        },
        "scan": scan,
        "embed": embed,
        "quality": None if summary.quality is None else quality_facts(summary.quality),
        "quality_error": summary.quality_error,
        "duplicates": None if summary.duplicates is None else duplicates_facts(summary.duplicates),
        "duplicates_error": summary.duplicates_error,
        "scores": None if summary.scores is None else asdict(summary.scores),
        "scores_error": summary.scores_error,
        "index": None if summary.index is None else index_facts(summary.index),
        "index_error": summary.index_error,
        "passed_over": dict(Counter(summary.tree.passed_over)),
        "total": summary.status.drop("folder").sum().row(0, named=True),
        "folders": summary.status.to_dicts(),
        "bad": summary.bad.to_dicts(),
        "unlisted": [{"folder": place, "error": reason} for place, reason in summary.unlisted.items()],
        "broken": summary.broken,
        "mended": [{"file": file, "reason": reason} for file, reason in summary.lost.items()],
        "unread": [{"relative_path": path, "error": reason} for path, reason in summary.unread.items()],
        "not_embedded": [{"relative_path": path, "error": reason} for path, reason in summary.failed],
    }


def print_status(rows: list[dict[str, Any]], totals: dict[str, int]) -> None:
    """A table of folders, the first ``MAX_TABLE_ROWS`` of them, and the totals."""
    table = Table(box=None, pad_edge=False)
    table.add_column("folder")
    for name in ("files", "ok", "bad", "embedded", "stale"):
        table.add_column(name, justify="right")
    for row in rows[:MAX_TABLE_ROWS]:
        table.add_row(escape(printable(row["folder"])), *(f"{row[name]:,}" for name in totals))
    if len(rows) > MAX_TABLE_ROWS:
        table.add_row(f"… and {len(rows) - MAX_TABLE_ROWS:,} more (--json lists all)", *("" for _ in totals))
    table.add_row(f"[bold]{len(rows):,} folders[/]", *(f"[bold]{value:,}[/]" for value in totals.values()))
    out.print(table)


def print_bad(path: str, status: str, reason: str) -> None:
    """A file that can't be used, and why."""
    out.print(f"bad    {printable(path)}  {status}: {reason}", markup=False)


def print_broken(files: list[dict[str, str]]) -> None:
    """Data files of the tables that can't be read."""
    for file in files:
        where = f"{file['table']}/{file['file']}"
        out.print(f"broken {printable(where)} {file['reason']}; folder {printable(file['folder'])}", markup=False)
    if files:
        out.print("       the rows in them are left out, and their folders as they are; `curation repair` mends them")


def print_repair(report: RepairReport, *, dry_run: bool) -> None:
    """What a repair found and did."""
    for damage in report.found:
        rows = f", {damage.rows:,} rows" if damage.rows else ""
        place = "" if damage.partition is None else f"; folder {damage.partition}"
        out.print(f"broken {printable(f'{damage.table}/{damage.file} {damage.reason}{rows}{place}')}", markup=False)
    out.print(f"check  {report.checked:,} data files read, {len(report.found):,} faults")
    if dry_run:
        return
    if report.found:
        out.print(
            f"mended {report.read:,} images read, {report.encoded:,} encoded, {report.labelled:,} labelled, "
            f"{report.measured:,} measured; what was torn in a log lies in _repaired beside it"
        )
    if report.freed:
        out.print(f"freed  {report.freed / 1e6:,.1f} MB of unfinished files")
    for line in report.not_mended:
        out.print(f"left   {printable(line)}", markup=False)


def repair_facts(report: RepairReport) -> dict[str, Any]:
    """The same as JSON."""
    return asdict(report)


def print_maintenance(report: MaintenanceReport, *, dry_run: bool) -> None:
    """What a maintenance did, or would do."""
    would = "would be " if dry_run else ""
    for table in report.tables:
        done = [
            f"{table.joined:,} small files {would}joined ({table.joined_bytes / 1e6:,.1f} MB)",
            f"{table.vacuumed:,} files of old versions {would}deleted ({table.vacuumed_bytes / 1e6:,.1f} MB)",
        ]
        if table.dropped_rows:
            done.append(f"{table.dropped_rows:,} vectors of unused versions {would}let go")
        if table.unfinished_bytes:
            done.append(f"{table.unfinished_bytes / 1e6:,.1f} MB of unfinished files deleted")
        out.print(f"table  {table.table}: {', '.join(done)}")
    for name in report.indexes:
        out.print(f"index  {name} {would}deleted", markup=False)
    if report.kept:
        out.print(f"kept   vectors and indexes of version {', '.join(report.kept)}")
