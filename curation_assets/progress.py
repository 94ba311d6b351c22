"""How long work tells whoever started it how far it is: a terminal, a log, or Dagster's event log."""

from __future__ import annotations

import logging
import time
from typing import Protocol

logger = logging.getLogger("curation_assets")


class Progress(Protocol):
    """Receives the counts of one task after another; called on the thread that started the work.

    A method may raise to stop the work: everything committed so far stays, everything staged is swept.
    """

    def step(self, phase: str, index: int, total: int) -> None:
        """Say that ``phase`` has come to its ``index``-th folder, counted from 1, of ``total``."""

    def start(self, task: str, total: int) -> None:
        """Begin ``task``, which will advance ``total`` images."""

    def advance(self, images: int) -> None:
        """Say that ``images`` more are done."""

    def note(self, message: str) -> None:
        """Say something worth reading once."""


class LogProgress:
    """Progress as plain log lines: each note, and at most one count every ``every`` seconds."""

    def __init__(self, log: logging.Logger | None = None, every: float = 10.0) -> None:
        self._log = log or logger
        self._every = every
        self._task, self._total, self._done = "", 0, 0
        self._started = self._said = self._stepped = time.monotonic()

    def step(self, phase: str, index: int, total: int) -> None:  # noqa: D102
        now = time.monotonic()
        if index == total or now - self._stepped >= self._every:
            self._stepped = now
            self._log.info("%s: folder %d of %d", phase, index, total)

    def start(self, task: str, total: int) -> None:  # noqa: D102
        self._task, self._total, self._done = task, total, 0
        self._started = self._said = time.monotonic()

    def advance(self, images: int) -> None:  # noqa: D102
        self._done += images
        now = time.monotonic()
        if now - self._said >= self._every:
            self._said = now
            rate = self._done / max(now - self._started, 1e-9)
            self._log.info("%s: %d of %d images, %.1f/s", self._task, self._done, self._total, rate)

    def note(self, message: str) -> None:  # noqa: D102
        self._log.info(message)


class Advance:
    """Parts of a job → whole images of its progress."""

    def __init__(self, progress: Progress, images: int) -> None:
        self._progress, self._images = progress, images
        self._part = 0.0
        self._told = 0

    def __call__(self, part: float) -> None:
        """Say that ``part`` of the whole, from 0 to 1, is done since the last call."""
        self._part += part
        images = min(self._images, round(self._part * self._images)) - self._told
        if images > 0:
            self._progress.advance(images)
            self._told += images
