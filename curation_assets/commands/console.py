"""What every command shares: where it prints, its options, its settings, its progress."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from curation_assets.images.names import printable, text_from_path
from curation_assets.progress import LogProgress
from curation_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from curation_assets.pipeline import Pipeline

# In a pipe or a file, tables need not fit a screen.
out = Console(highlight=False, soft_wrap=True, emoji=False, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False, emoji=False)

ImagesOption = Annotated[Path | None, typer.Option("--images", help="Tree of image folders [CURATION_IMAGES_ROOT].")]
LakeOption = Annotated[Path | None, typer.Option("--lake", help="Folder of the tables [CURATION_LAKE_ROOT].")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print a machine-readable summary.")]


def settings_of(images: Path | None, lake: Path | None, **given: Any) -> Settings:
    """Settings, with what is given on the command line before them; None is not given.

    Paths are taken from the working directory, as a shell user means them.
    """
    paths = {"images_root": images, "lake_root": lake}
    absolute = {k: Path(os.path.abspath(os.path.expanduser(v))) for k, v in paths.items() if v is not None}
    return load_settings(**absolute, **{k: v for k, v in given.items() if v is not None})


def pipeline_of(settings: Settings) -> Pipeline:
    """The pipeline, whose modules are imported only now: ``--help`` needs none of them."""
    from curation_assets.pipeline import Pipeline

    return Pipeline(settings)


def print_json(value: dict[str, Any]) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


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


def keys_of(settings: Settings, file: str) -> list[str]:
    """Keys that an argument may mean: as given, and the path on disk made relative to the root."""
    keys = [text_from_path(file)]
    absolute = os.path.abspath(file)
    root = str(settings.images_root)
    if absolute.startswith(root + os.sep):
        keys.append(text_from_path(os.path.relpath(absolute, root)))
    return keys


def quiet_libraries() -> None:
    """Keep libraries from telling of themselves where only the answer is wanted."""
    for name in ("alembic", "mlflow", "huggingface_hub", "httpx", "faiss", "openTSNE"):
        logging.getLogger(name).setLevel(logging.ERROR)


def progress() -> Any:
    """Context manager of a progress display: bars on a terminal, else log lines on standard error."""
    if err.is_terminal:
        return TerminalProgress()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    quiet_libraries()
    return nullcontext(LogProgress())
