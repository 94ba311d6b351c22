"""A run of the pipeline as the commands show it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from curation_assets.commands.console import err, progress

if TYPE_CHECKING:
    from curation_assets.ingest import RunSummary
    from curation_assets.pipeline import Pipeline
    from curation_assets.progress import Progress


@contextmanager
def stoppable() -> Iterator[Progress]:
    """Shows progress on standard error; Ctrl-C ends the command with code 130."""
    try:
        with progress() as shown:
            yield shown
    except KeyboardInterrupt:
        err.print("stopped; what was committed stays, run the command again to go on")
        raise typer.Exit(130) from None


def run_shown(
    pipeline: Pipeline, *, folders: list[str] | None = None, rescan: bool = False, prune: bool = False
) -> RunSummary:
    """Scan, register and embed, with progress."""
    from curation_assets.ingest import run

    with stoppable() as shown:
        return run(pipeline, shown, folders=folders, rescan=rescan, prune=prune)


def exit_code(summary: RunSummary) -> int:
    """1 if some images could not be used, else 0."""
    return 1 if len(summary.bad) or summary.failed else 0
