"""What a command imports, on which its start depends: `benchmarks/startup.py` measures the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings
from curation_assets_tests.conftest import copy_registry, jpeg

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


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Pipeline:
    """A lake that was searched before."""
    home = tmp_path_factory.mktemp("searched")
    (home / "images" / "a").mkdir(parents=True)
    for index in range(3):
        (home / "images" / "a" / f"photo_{index:04}.jpg").write_bytes(jpeg(index))
    copy_registry(registered_model, home / "mlflow")
    pipeline = Pipeline(load_settings(images_root=home / "images", lake_root=home / "lake", model_source="demo"))
    run(pipeline, LogProgress(), curate=False)
    time.sleep(0.2)  # until the registry counts as settled
    of(pipeline, "search", "rust")
    return pipeline


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
