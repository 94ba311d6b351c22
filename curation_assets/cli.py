"""The ``curation`` command.

Exit codes: 0 done; 1 finished, but some images could not be used (each is named); 2 the call or the configuration is
wrong (one line says how); 130 stopped with Ctrl-C, to be run again. Results go to standard output, progress to
standard error.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from contextlib import nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from curation_assets import __version__
from curation_assets.errors import CurationError
from curation_assets.images.names import printable, text_from_path
from curation_assets.progress import LogProgress
from curation_assets.settings import Settings, load_settings, project_dir

if TYPE_CHECKING:
    from curation_assets.pipeline import Pipeline, RunSummary

app = typer.Typer(
    help="Turn folders of photographs into searchable, curated Delta tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

ImagesOption = Annotated[Path | None, typer.Option("--images", help="Tree of image folders [CURATION_IMAGES_ROOT].")]
LakeOption = Annotated[Path | None, typer.Option("--lake", help="Folder of the tables [CURATION_LAKE_ROOT].")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print a machine-readable summary.")]
MAX_TABLE_ROWS = 40


def main() -> None:
    """Run the command; errors a user can put right become one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that isn't UTF-8 still gets every name
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except CurationError as error:
        _fail(printable(str(error)))
    except OSError as error:
        _fail(printable(f"{error.filename or 'operating system'}: {error.strerror or error}"))


def _fail(message: str) -> None:
    err.print(f"error: {message}", markup=False, soft_wrap=True)
    sys.exit(2)


def _version(asked: bool) -> None:
    if asked:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@app.command("run")
def run_command(
    images: ImagesOption = None,
    lake: LakeOption = None,
    folders: Annotated[
        list[str] | None, typer.Option("--folders", help="Only this image folder (relative to the root); repeatable.")
    ] = None,
    rescan: Annotated[bool, typer.Option("--rescan", help="Read every file again, also unchanged ones.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Go on though no folder of the table is under the root; removes their rows.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Scan the folders, register the model, embed every image. Running it again finishes or updates the work."""
    settings = _settings(images, lake)
    raise typer.Exit(_run(_pipeline(settings), as_json, folders=folders, rescan=rescan, prune=prune))


@app.command()
def demo(as_json: JsonOption = False) -> None:
    """Make sample photographs and run the whole pipeline on them with the small embedded model."""
    from curation_assets.demo.sample import write_sample

    home = project_dir() / "demo_workspace"
    settings = load_settings(images_root=home / "images", lake_root=home / "lake", model_source="demo")
    made = write_sample(settings.images_root)
    if made:
        err.print(f"wrote {made} sample files to {settings.images_root}")
    from curation_assets.pipeline import Pipeline

    # Never the user's own registry: untrained weights would become its champion.
    code = _run(Pipeline(settings, own_registry=True), as_json)
    if not as_json:
        _say_what_next(settings)
    # The sample holds broken files on purpose: finding them is success.
    raise typer.Exit(0 if code == 1 else code)


@app.command()
def status(images: ImagesOption = None, lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Per folder: files, ok, bad, embedded, stale (ok images without a vector of the current model)."""
    pipeline = _pipeline(_settings(images, lake))
    rows = pipeline.status()
    totals = rows.drop("folder").sum().row(0, named=True)
    if as_json:
        _print_json({"folders": rows.to_dicts(), "total": totals})
        return
    _print_status(rows.to_dicts(), totals)
    for row in pipeline.bad_files().iter_rows(named=True):
        _print_bad(row["relative_path"], row["status"], row["error"])


@app.command()
def show(
    file: Annotated[str, typer.Argument(help="Path of the image: relative to the images root, or on disk.")],
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything the tables hold about one image."""
    settings = _settings(images, lake)
    pipeline = _pipeline(settings)
    row = next((found for key in _keys(settings, file) if (found := pipeline.row(key))), None)
    if row is None:
        raise CurationError(f"no row for {file!r} in {pipeline.directory.path}; is it under {settings.images_root}?")
    vectors = pipeline.vectors_of(row["relative_path"]).to_dicts()
    for vector in vectors:
        vector["current_content"] = vector.pop("content_sha256") == row["content_sha256"]
    if as_json:
        _print_json({"image": row, "embeddings": vectors})
        return
    for name, value in row.items():
        if value is not None:
            out.print(f"[bold]{name:<15}[/] {escape(_human(name, value))}")
    for vector in vectors:
        stale = "" if vector["current_content"] else ", of an earlier content"
        text = f"{vector['model_name']} version {vector['model_version']}, {vector['dimension']} floats{stale}"
        out.print(f"[bold]{'embedded':<15}[/] {escape(text)}")


def _settings(images: Path | None, lake: Path | None) -> Settings:
    """Settings, with paths given on the command line taken from the working directory, as a shell user means them."""
    given = {"images_root": images, "lake_root": lake}
    return load_settings(**{k: Path(os.path.abspath(os.path.expanduser(v))) for k, v in given.items() if v is not None})


def _pipeline(settings: Settings) -> Pipeline:
    from curation_assets.pipeline import Pipeline

    return Pipeline(settings)


def _run(
    pipeline: Pipeline, as_json: bool, *, folders: list[str] | None = None, rescan: bool = False, prune: bool = False
) -> int:
    from curation_assets.pipeline import run

    chosen = None if folders is None else [text_from_path(f).rstrip("/") or "." for f in folders]
    try:
        with _progress() as progress:
            summary = run(pipeline, progress, folders=chosen, rescan=rescan, prune=prune)
    except KeyboardInterrupt:
        err.print("stopped; what was committed stays, run the command again to go on")
        return 130
    if as_json:
        _print_json(_as_dict(pipeline.settings, summary))
    else:
        _print_summary(pipeline.settings, summary)
    return 1 if len(summary.bad) or summary.failed else 0


class TerminalProgress:
    """Bars on a terminal; one line, of the folder at hand, that goes when the work is done."""

    def __init__(self) -> None:
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=err,
            transient=True,
        )
        self._task: TaskID | None = None
        self._where = ""

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def step(self, phase: str, index: int, total: int) -> None:  # noqa: ARG002, D102
        self._where = f" (folder {index} of {total})"

    def start(self, task: str, total: int) -> None:  # noqa: D102
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(printable(task) + self._where, total=total, rate="")

    def advance(self, images: int) -> None:  # noqa: D102
        if self._task is not None:
            speed = self._bars.tasks[0].speed
            self._bars.update(self._task, advance=images, rate=f"{speed:.0f} images/s" if speed else "")

    def note(self, message: str) -> None:  # noqa: D102
        err.print(message, markup=False)


def _progress() -> Any:
    if err.is_terminal:
        return TerminalProgress()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    for name in ("alembic", "mlflow", "huggingface_hub", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return nullcontext(LogProgress())


def _keys(settings: Settings, file: str) -> list[str]:
    """Keys that an argument may mean: as given, and the path on disk made relative to the root."""
    keys = [text_from_path(file)]
    absolute = os.path.abspath(file)
    root = str(settings.images_root)
    if absolute.startswith(root + os.sep):
        keys.append(text_from_path(os.path.relpath(absolute, root)))
    return keys


def _print_summary(settings: Settings, summary: RunSummary) -> None:
    totals = summary.status.drop("folder").sum().row(0, named=True)
    _print_status(summary.status.to_dicts(), totals)
    for row in summary.bad.iter_rows(named=True):
        _print_bad(row["relative_path"], row["status"], row["error"])
    for path, reason in summary.failed:
        _print_bad(path, "not embedded", reason)
    scan, embed = _totals(summary)
    out.print(
        f"\nscan   {scan['read']:,} files read ({scan['new']:,} new, {scan['changed']:,} changed), "
        f"{scan['vanished']:,} gone, {scan['seconds']:.1f} s"
    )
    model = summary.model
    out.print(
        f"model  {model.name} version {model.version}{' (new)' if summary.model_is_new else ''}, {model.source}, "
        f"{model.dimension} floats, {model.parameters:,} parameters"
    )
    how = f" on {embed['device']} in {embed['precision']}" if embed["device"] else ""
    out.print(
        f"embed  {embed['encoded']:,} images{how}, {embed['copied']:,} copies of the same content, "
        f"{embed['removed']:,} rows removed, {embed['seconds']:.1f} s"
    )
    for table in (settings.directory_table, settings.embeddings_table):
        out.print(f"table  {settings.table_path(table)}", markup=False)
    if summary.tree.passed_over:
        passed = ", ".join(f"{count} {reason}" for reason, count in summary.tree.passed_over.most_common())
        out.print(f"passed over: {passed}")
    if model.untrained:
        out.print("The demo model is UNTRAINED: its vectors carry no meaning; set CURATION_MODEL_SOURCE for real ones.")


def _totals(summary: RunSummary) -> tuple[dict[str, Any], dict[str, Any]]:
    scan_keys = ("new", "changed", "vanished", "read", "bytes_read", "commits", "seconds")
    embed_keys = ("encoded", "copied", "removed", "commits", "seconds")
    scan: dict[str, Any] = {key: sum(getattr(result, key) for result in summary.scans) for key in scan_keys}
    embed: dict[str, Any] = {key: sum(getattr(result, key) for result in summary.embeds) for key in embed_keys}
    used = next((result for result in summary.embeds if result.device), None)
    return scan, embed | {"device": used.device if used else None, "precision": used.precision if used else None}


def _as_dict(settings: Settings, summary: RunSummary) -> dict[str, Any]:
    scan, embed = _totals(summary)
    model = summary.model
    return {
        "images_root": text_from_path(str(settings.images_root)),
        "tables": {
            "directory": str(settings.table_path(settings.directory_table)),
            "embeddings": str(settings.table_path(settings.embeddings_table)),
        },
        "model": {
            "name": model.name,
            "version": model.version,
            "new": summary.model_is_new,
            "source": model.source,
            "fingerprint": model.fingerprint,
            "dimension": model.dimension,
            "parameters": model.parameters,
            "untrained": model.untrained,
        },
        "scan": scan,
        "embed": embed,
        "passed_over": dict(Counter(summary.tree.passed_over)),
        "total": summary.status.drop("folder").sum().row(0, named=True),
        "folders": summary.status.to_dicts(),
        "bad": summary.bad.to_dicts(),
        "not_embedded": [{"relative_path": path, "error": reason} for path, reason in summary.failed],
    }


def _print_status(rows: list[dict[str, Any]], totals: dict[str, int]) -> None:
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


def _print_bad(path: str, status: str, reason: str) -> None:
    out.print(f"bad    {printable(path)}  {status}: {reason}", markup=False)


def _print_json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def _human(name: str, value: Any) -> str:
    if name == "size_bytes":
        return f"{value:,}"
    return printable(str(value))


def _say_what_next(settings: Settings) -> None:
    curation, lake = os.path.relpath(sys.argv[0]), os.path.relpath(settings.lake_root)
    out.print(
        f"""
What next:
  make demo        again: takes seconds, as nothing has changed
  make dev-demo    these photographs and tables in Dagster's UI
  {curation} show maize_rust/IMG_0003.jpg --lake {lake}
  {curation} run --images DIR    your own photographs; CURATION_MODEL_SOURCE chooses the model""",
        markup=False,
    )
