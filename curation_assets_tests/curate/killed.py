"""A process that is killed at some place of its work on a lake."""

from __future__ import annotations

import signal

from curation_assets.settings import Settings
from curation_assets_tests.processes import run_script

Place = tuple[str, str, str]  # module, class or "", and what is called there when the process is killed

BEFORE_THE_COMMIT: Place = ("curation_assets.lake.staging", "StagedFile", "validate")
AFTER_THE_COMMIT: Place = ("curation_assets.lake.staging", "StagedFile", "committed")

_SCRIPT = """
import importlib, os, signal, sys
from pathlib import Path
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings

images, lake, work, module, owner, name, calls = sys.argv[1:]
target = importlib.import_module(module)
target = getattr(target, owner) if owner else target
really, left = getattr(target, name), [int(calls)]
def die(*args, **kwargs):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return really(*args, **kwargs)
setattr(target, name, die)
pipeline = Pipeline(load_settings(images_root=Path(images), lake_root=Path(lake), model_source="demo"))
getattr(pipeline, work)(LogProgress())
"""


def kill(settings: Settings, work: str, place: Place, calls: int = 0) -> None:
    """Let another process do some work of a pipeline, and die at a place.

    Args:
        work: method of ``Pipeline``.
        calls: that go well before.
    """
    arguments = (str(settings.images_root), str(settings.lake_root), work, *place, str(calls))
    killed = run_script(_SCRIPT, *arguments)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
