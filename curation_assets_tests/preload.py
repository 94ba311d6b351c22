"""Imported once by the server that forks tests' processes: what takes seconds to import, and begins no work of its own.

Forking is safe as long as none of the libraries has been used: what threads there are wait, and hold no lock.
"""

import os
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import mlflow.pyfunc
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

import curation_assets.clip.encoder
import curation_assets.pipeline  # noqa: F401

_HARMLESS = ("jemalloc_bg_thd", "polars-ooc")  # of allocators, which know forks, and one that waits for files to delete
threads = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()][1:]
assert all(name.startswith(_HARMLESS) for name in threads), f"a process of the threads {threads} can't be forked safely"
