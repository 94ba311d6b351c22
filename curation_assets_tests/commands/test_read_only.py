"""A lake that can't be written, on a read-only mount or of somebody else, is searched, shown and browsed."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.conftest import downloaded

_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE = 24, 1
COMMANDS = """
import sys
from curation_assets.cli import main

for command in sys.argv[1:]:
    sys.argv = ["curation", *command.split()]
    try:
        main()
    except SystemExit as end:
        print("ended", end.code or 0)
        print("ended", file=sys.stderr)
"""
BROWSE = """
print("browsed")
from starlette.testclient import TestClient
from curation_assets.gallery.app import create_app
from curation_assets.gallery.gallery import Gallery
from curation_assets.pipeline import Pipeline
from curation_assets.settings import load_settings

with TestClient(create_app(Gallery(Pipeline(load_settings()))), base_url="http://127.0.0.1") as client:
    for path in ("/", "/folders", "/api/search?text=leaf", "/api/labels?label=a&label=b", "/api/folders"):
        print(path, client.get(path).status_code)
    for page in ("image", "thumbnail", "picture", "original", "api/exif"):
        print(page, client.get(f"/{page}", params={"key": "a/photo_0000.jpg"}).status_code)
"""


@pytest.fixture
def model_files(ready: Pipeline) -> Path:
    """Those of the version that is used, which lie where all tests share them."""
    return downloaded(ready.registry, ready.registry.champion())


@pytest.fixture
def read_only(ready: Pipeline, model_files: Path, fill: Callable[..., list[Path]]) -> Iterator[Pipeline]:
    """A lake with its registry and without an index, in which nothing can be written and nothing is noted yet."""
    pipeline = ready
    fill("a", 3)
    run(pipeline, LogProgress(), curate=False)
    settings = pipeline.settings
    shutil.rmtree(settings.mlflow_dir / "notes")
    shutil.rmtree(settings.index_dir, ignore_errors=True)
    home = settings.mlflow_dir.parent
    places = [home, *(place for place in home.rglob("*") if not place.is_symlink())]
    modes = {place: place.stat().st_mode for place in places}
    for place, mode in modes.items():
        place.chmod(mode & ~0o222)
    yield pipeline
    for place, mode in modes.items():
        place.chmod(mode)


def files_of(lake: Pipeline, model_files: Path) -> set[Path]:
    """Those beside the lake, and the model's."""
    return {*lake.settings.mlflow_dir.parent.rglob("*"), *model_files.rglob("*")}


def obeying_modes(lake: Pipeline, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a command as one for whom modes hold, which they don't for root with all its capabilities."""
    libc = ctypes.CDLL(None)
    settings = lake.settings
    places = {"CURATION_LAKE_ROOT": settings.lake_root, "CURATION_IMAGES_ROOT": settings.images_root}
    return subprocess.run(
        [str(part) for part in command],
        env=os.environ | {k: str(v) for k, v in places.items()} | {"CURATION_MODEL_SOURCE": "demo"},
        preexec_fn=lambda: libc.prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_a_read_only_lake_is_searched_shown_and_browsed(read_only: Pipeline, model_files: Path) -> None:
    before = files_of(read_only, model_files)
    assert any(model_files.rglob("*.safetensors"))
    wrote = obeying_modes(read_only, "touch", read_only.settings.lake_root / "file")
    assert wrote.returncode != 0  # or the rest would show nothing
    commands = "search leaf -k 2", "status", "show a/photo_0000.jpg", "label leaf soil", "model list", "decisions list"
    refused = "decisions add keep a/photo_0000.jpg", "index"
    done = obeying_modes(read_only, sys.executable, "-c", COMMANDS + BROWSE, *commands, *refused)
    assert done.returncode == 0, done.stderr
    told, _, browsed = done.stdout.partition("browsed\n")
    ended = [line.split()[1] for line in told.splitlines() if line.startswith("ended ")]
    assert ended == ["0"] * len(commands) + ["2"] * len(refused), done.stderr
    found, *_, decided, indexed, _ = done.stderr.split("ended\n")
    assert "2 of 3 images" in done.stdout + found
    assert found.count("there is no search index in") == 1
    assert "CURATION_INDEX_ROOT" in found
    assert decided.count("\n") == 1
    assert "Permission denied" in decided
    assert "can't be written: Permission denied" in indexed
    assert "Traceback" not in done.stderr
    assert [line.rpartition(" ")[2] for line in browsed.splitlines()] == ["200"] * 10
    assert files_of(read_only, model_files) == before


def test_an_index_in_memory_is_held_until_the_tables_change(
    ready: Pipeline, fill: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation_assets.search.indexes.can_write", lambda _: False)
    fill("a", 3)
    run(ready, LogProgress(), curate=False)
    shutil.rmtree(ready.settings.index_dir, ignore_errors=True)
    first = ready.searcher.open()
    assert first.path is None
    assert ready.searcher.open() is first
    fill("b", 2)
    run(ready, LogProgress(), curate=False)
    shutil.rmtree(ready.settings.index_dir, ignore_errors=True)
    second = ready.searcher.open()
    assert (second.path, second.info.images) == (None, 5)
