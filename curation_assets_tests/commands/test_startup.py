"""What a command imports, on which its start depends: `benchmarks/startup.py` measures the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.test_pipeline import Fill

pytestmark = pytest.mark.slow

# Each takes from a tenth of a second to seconds.
HEAVY = {"alembic", "dagster", "mlflow", "pandas", "pydantic_settings", "pyspark", "scipy", "sklearn", "sqlalchemy"}
HEAVY |= {"deltalake", "polars", "torch", "transformers"}
SCRIPT = """
import json, sys
from curation_assets.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture
def searched(ready: Pipeline, fill: Fill) -> Pipeline:
    """A lake that was searched before."""
    fill("a", 3)
    run(ready, LogProgress())
    time.sleep(0.2)  # until the registry counts as settled
    of(ready, "search", "rust")
    return ready


def of(pipeline: Pipeline, *arguments: str) -> set[str]:
    """The heavy ones of the libraries that a command imports in a process of its own."""
    settings = {name: str(getattr(pipeline.settings, name)) for name in ("images_root", "lake_root", "model_source")}
    env = os.environ | {f"CURATION_{name.upper()}": value for name, value in settings.items()}
    asked = [sys.executable, "-c", SCRIPT, *arguments]
    done = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


def test_a_search_imports_what_it_needs(searched: Pipeline) -> None:
    assert of(searched, "search", "powdery mildew") == {"deltalake", "polars", "pydantic_settings", "torch"}


@pytest.mark.parametrize(
    "arguments", [("status",), ("show", "a/photo_0000.jpg"), ("search", "--like", "a/photo_0000.jpg")], ids=str
)
def test_what_embeds_nothing_imports_no_torch(arguments: tuple[str, ...], searched: Pipeline) -> None:
    assert of(searched, *arguments) <= {"deltalake", "polars", "pydantic_settings"}


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("model", "--help")], ids=str)
def test_help_imports_none_of_them(arguments: tuple[str, ...], pipeline: Pipeline) -> None:
    assert of(pipeline, *arguments) == set()
