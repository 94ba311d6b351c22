"""The command, run in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from curation_assets import cli
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings
from curation_assets_tests.conftest import copy_registry
from curation_assets_tests.curate.duplicates.drawn import EDITS, jpeg, photograph

Curation = Callable[..., tuple[int, str, str]]


def called(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *first: str) -> Curation:
    """Calls the command in this process, with some arguments before those it is given."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["curation", *first, *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capfd.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return call


@pytest.fixture
def curation(ready: Pipeline, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Curation:
    """Run the command in this process on the test's lake; gives exit code, standard output and standard error."""
    for name in ("images_root", "lake_root", "model_source"):
        monkeypatch.setenv(f"CURATION_{name.upper()}", str(getattr(ready.settings, name)))

    return called(monkeypatch, capfd)


def pipeline_of(home: Path, registered_model: Path) -> Pipeline:
    """A pipeline of a folder of images, whose lake many tests take a copy of: a scan and its vectors take a second."""
    settings = load_settings(images_root=home / "images", lake_root=home / "lake", model_source="demo")
    copy_registry(registered_model, settings.mlflow_dir)
    return Pipeline(settings)


def copied(ready: Pipeline, home: Path) -> Pipeline:
    """The test's own copy of such a lake, with its images."""
    shutil.copytree(home, ready.settings.lake_root.parent, dirs_exist_ok=True)
    return ready


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Path:
    """Ten photographs of two classes, one of them once more mirrored, one copied; and a lake of them."""
    home = tmp_path_factory.mktemp("filled")
    for number in range(10):
        path = home / "images" / ("rust" if number % 2 else "miner") / f"{chr(97 + number)}.jpg"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(jpeg(photograph(number)))
    (home / "images/rust/mirrored.jpg").write_bytes(jpeg(EDITS["mirrored"](photograph(1))))
    shutil.copy(home / "images/miner/a.jpg", home / "images/miner/copy.jpg")
    run(pipeline_of(home, registered_model), LogProgress())
    return home


@pytest.fixture
def lake(ready: Pipeline, filled: Path) -> Pipeline:
    """That lake, of the test's own."""
    return copied(ready, filled)
