"""Where the browser of tests and of the screenshots of the docs is."""

from __future__ import annotations

import shutil

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def installed() -> str | None:
    """Path of a Chromium; the one that has no windows, where it is, needs some half of the others' time."""
    return next(filter(None, map(shutil.which, _NAMES)), None)
