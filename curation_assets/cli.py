"""The ``curation`` command.

Exit codes: 0 done; 1 finished, but some images could not be used (each is named); 2 the call or the configuration is
wrong (one line says how); 130 stopped with Ctrl-C, to be run again. Results go to standard output, progress to
standard error.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from rich.markup import escape

from curation_assets import __version__
from curation_assets.commands import demo, gallery, model, search, serve
from curation_assets.commands.console import (
    ImagesOption,
    JsonOption,
    LakeOption,
    err,
    keys_of,
    out,
    pipeline_of,
    print_json,
    settings_of,
)
from curation_assets.commands.running import exit_code, run_shown
from curation_assets.commands.summary import as_dict, print_bad, print_status, print_summary
from curation_assets.errors import CurationError
from curation_assets.images.names import printable, text_from_path

app = typer.Typer(
    help="Turn folders of photographs into searchable, curated Delta tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(model.app, name="model")
app.command("search")(search.search)
app.command("label")(search.label)
app.command("index")(search.index)
app.command("map")(search.image_map)
app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.command("gallery")(gallery.gallery)


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
    settings = settings_of(images, lake)
    chosen = None if folders is None else [text_from_path(folder).rstrip("/") or "." for folder in folders]
    summary = run_shown(pipeline_of(settings), folders=chosen, rescan=rescan, prune=prune)
    if as_json:
        print_json(as_dict(settings, summary))
    else:
        print_summary(settings, summary)
    raise typer.Exit(exit_code(summary))


@app.command()
def status(images: ImagesOption = None, lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Per folder: files, ok, bad, embedded, stale (ok images without a vector of the current model)."""
    pipeline = pipeline_of(settings_of(images, lake))
    # A registry that can't be reached is no matter where nothing is embedded.
    model = pipeline.selection.current() if pipeline.tables.embeddings.exists() else None
    rows = pipeline.tables.status(model)
    totals = rows.drop("folder").sum().row(0, named=True)
    if as_json:
        print_json({"folders": rows.to_dicts(), "total": totals})
        return
    print_status(rows.to_dicts(), totals)
    for row in pipeline.tables.bad_files().iter_rows(named=True):
        print_bad(row["relative_path"], row["status"], row["error"])


@app.command()
def show(
    file: Annotated[str, typer.Argument(help="Path of the image: relative to the images root, or on disk.")],
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything the tables hold about one image."""
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
    if as_json:
        print_json({"image": row, "embeddings": vectors})
        return
    for name, value in row.items():
        if value is not None:
            out.print(f"[bold]{name:<15}[/] {escape(_human(name, value))}")
    for vector in vectors:
        stale = "" if vector["current_content"] else ", of an earlier content"
        text = f"{vector['model_name']} version {vector['model_version']}, {vector['dimension']} floats{stale}"
        out.print(f"[bold]{'embedded':<15}[/] {escape(text)}")


def _human(name: str, value: Any) -> str:
    if name == "size_bytes":
        return f"{value:,}"
    return printable(str(value))
