"""Where commands print: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from curation_assets.errors import CurationError
from curation_assets.images.names import path_from_text

# In a pipe or a file, tables need not fit a screen.
out = Console(highlight=False, soft_wrap=True, emoji=False, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False, emoji=False)


def refuse_folder(option: str, file: Path | None) -> None:
    """Before any work: a file that is to be written is no folder.

    Raises:
        CurationError: it is one.
    """
    if file is not None and file.is_dir():
        raise CurationError(f"{option} {file} is a folder; name the file to write")


def print_json(value: dict[str, Any]) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def print_paths(paths: Iterable[str], *, null: bool) -> None:
    """Relative paths as the disk has them, each ended by a line or a NUL, for one's own script."""
    end = b"\0" if null else b"\n"
    for path in paths:
        sys.stdout.buffer.write(bytes(path_from_text(path), "utf-8", "surrogateescape") + end)
    sys.stdout.buffer.flush()
