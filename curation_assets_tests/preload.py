"""Imported once by the server that forks tests' processes: what takes seconds to import, and begins no work of its own.

Forking is safe as long as none of the libraries has been used: what threads there are wait, and hold no lock.
"""

import time
from pathlib import Path

import mlflow.pyfunc
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

import curation_assets.cli
import curation_assets.clip.encoder
import curation_assets.gallery.app
import curation_assets.pipeline
import curation_assets.serving.server  # noqa: F401

_HARMLESS = ("jemalloc_bg_thd", "polars-ooc")  # of allocators, which know forks, and one that waits for files to delete


def _others() -> list[str]:
    """Threads that may be at work. One that has just begun bears the program's name until it has given itself one."""
    names = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()][1:]
    return [name for name in names if not name.startswith(_HARMLESS)]


_until = time.monotonic() + 10
while (threads := _others()) and time.monotonic() < _until:
    time.sleep(0.01)
assert not threads, f"a process of the threads {threads} can't be forked safely"
