"""Progress as commands show it, and stopping them with Ctrl-C."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from curation_assets.commands.output import err
from curation_assets.images.names import printable
from curation_assets.progress import LogProgress

if TYPE_CHECKING:
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


def progress() -> Any:
    """Context manager of a progress display: bars on a terminal, else log lines on standard error."""
    if err.is_terminal:
        return TerminalProgress()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    quiet_libraries()
    return nullcontext(LogProgress())


def quiet_libraries() -> None:
    """Keep libraries from telling of themselves where only the answer is wanted."""
    for name in ("alembic", "mlflow", "huggingface_hub", "httpx", "faiss", "openTSNE"):
        logging.getLogger(name).setLevel(logging.ERROR)
