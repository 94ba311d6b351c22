"""Notes of what took long to find out, kept between processes beside the registry.

A note holds what it was found on too, and is worth nothing once that has changed: whoever reads one compares. Notes
may be deleted at any time, and a folder that can't be written only makes the next process find out again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

States = list[list[int] | None]
_SETTLED_NS = 100_000_000  # file systems count time in steps of some milliseconds


def read_note(path: Path) -> dict[str, Any] | None:
    """A note's content; None where there is none, or no whole one."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_note(path: Path, content: dict[str, Any]) -> None:
    """Keep a note, where the folder can be written."""
    from curation_assets.files import write_whole  # which a model that runs without this package does not have

    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(content).encode())


def states(files: Iterable[Path]) -> States:
    """What of some files changes whenever their content does; None for a file that isn't there.

    Raises:
        OSError: one is there, and can't be looked at.
    """
    found: States = []
    for file in files:
        try:
            of = file.stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append([of.st_ino, of.st_size, of.st_mtime_ns, of.st_ctime_ns])
    return found


def are_settled(of: States) -> bool:
    """Whether files were changed long enough ago that one more change would show in their times."""
    return all(state is None or time.time_ns() - max(state[2:]) > _SETTLED_NS for state in of)
