"""The ``curation`` command.

Exit codes: 0 done; 1 finished, but some images could not be used (each is named); 2 the call or the configuration is
wrong (one line says how); 130 stopped with Ctrl-C and 143 with SIGTERM, to be run again. Results go to standard output,
progress to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from io import TextIOWrapper
from typing import Annotated

import typer

from curation_assets import __version__, stopping
from curation_assets.commands import (
    annotate,
    classify,
    clusters,
    curate,
    datasets,
    decisions,
    demo,
    duplicates,
    forget,
    gallery,
    index,
    ingest,
    leakage,
    mining,
    model,
    search,
    serve,
    upkeep,
)
from curation_assets.commands.output import err, out
from curation_assets.errors import CurationError, first_line, is_panic
from curation_assets.images.names import printable

app = typer.Typer(
    help="Turn folders of photographs into searchable, curated Delta tables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(ingest.run)
app.command("status")(ingest.status)
app.command("show")(ingest.show)
app.command("curate")(curate.curate)
app.command("annotate")(annotate.annotate)
app.command("problems")(curate.problems)
app.command("duplicates")(duplicates.duplicates)
app.command("leakage")(leakage.leakage)
app.command("clusters")(clusters.clusters)
app.command("classify")(classify.classify)
app.command("mine")(mining.mine)
app.command("search")(search.search)
app.command("label")(search.label)
app.command("index")(index.index)
app.command("map")(index.image_map)
app.command("gallery")(gallery.gallery)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("repair")(upkeep.repair)
app.command("maintain")(upkeep.maintain)
app.command("forget")(forget.forget)
app.add_typer(model.app, name="model")
app.add_typer(decisions.app, name="decisions")
app.add_typer(datasets.app, name="dataset")


def main() -> None:
    """Run the command; errors a user can put right become one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that isn't UTF-8 still gets every name
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    stop = stopping.watch()
    try:
        _command()()
    except SystemExit as end:
        if stop.number is not None and end.code == 130:
            sys.exit(stop.code)
        raise
    except KeyboardInterrupt:
        sys.exit(stop.code)
    except CurationError as error:
        _fail(printable(str(error)))
    except OSError as error:
        _fail(printable(f"{error.filename or 'operating system'}: {error.strerror or error}"))
    except BaseException as error:
        if not is_panic(error):
            raise
        _fail(printable(f"a library gave up, which is a fault of its own: {first_line(error)}"))
    finally:
        stop.hand_over()


@cache
def _command() -> Callable[[], object]:
    """All commands put together, once for a process: their signatures are read for it."""
    return typer.main.get_command(app)


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
