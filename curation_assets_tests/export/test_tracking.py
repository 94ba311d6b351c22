"""Versions in MLflow: logged once, found again from a run that trained on an export."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import polars as pl
import pytest

from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline
from curation_assets.tracking import VersionSource, dataset_of, versions_of
from curation_assets_tests.conftest import mlflow_at
from curation_assets_tests.export.conftest import Export, pipeline_at


@pytest.fixture
def tracked(home: Path, registered_model: Path) -> Pipeline:
    pipeline = pipeline_at(home)
    shutil.copytree(registered_model, pipeline.settings.mlflow_dir)
    return pipeline


def test_a_version_is_logged_once_and_what_was_half_logged_anew(tracked: Pipeline) -> None:
    key = tracked.log_version("leaves", 1)
    assert tracked.log_version("leaves", 1) == key
    client = mlflow_at(tracked.registry).MlflowClient()
    run = client.get_run(key)
    (logged,) = run.inputs.dataset_inputs
    assert (logged.dataset.name, versions_of(run)) == ("leaves@1", ["leaves@1"])
    assert run.data.metrics == {"images": 6, "left_out": 1, "images_train": 3, "images_test": 3}
    assert sorted(file.path for file in client.list_artifacts(key)) == ["card.html", "card.md", "manifest.json"]
    # As another process finds it, by MLflow's own way: the plugin that this package names.
    source = mlflow.data.get_source(logged)
    assert isinstance(source, VersionSource)
    rows = source.load()
    assert isinstance(rows, pl.DataFrame)
    assert rows.filter("kept").height == 6
    client.set_terminated(key, "RUNNING")
    again = tracked.log_version("leaves", 1)
    assert again != key
    assert [each.info.run_id for each in client.search_runs([run.info.experiment_id])] == [again]


def test_a_training_run_leads_back_to_the_version(tracked: Pipeline, export: Export, home: Path) -> None:
    export("hf-imagefolder")
    mlflow_at(tracked.registry)
    with mlflow.start_run(experiment_id="0") as run:
        mlflow.log_input(dataset_of(home / "out"), context="training")
        mlflow.log_input(dataset_of(home / "out"), context="testing")
    found = mlflow.get_run(run.info.run_id)
    assert versions_of(found) == ["leaves@1"]
    assert mlflow.data.get_source(found.inputs.dataset_inputs[0]).load() == str(home / "out")
    digest = json.loads((home / "out/export.json").read_text())["content_id"][:32]
    assert found.inputs.dataset_inputs[0].dataset.digest == digest


@pytest.mark.parametrize("content", [None, "[]", '{"dataset": "leaves"}'])
def test_another_folder_is_no_export(tmp_path: Path, content: Any) -> None:
    if content is not None:
        (tmp_path / "export.json").write_text(content)
    with pytest.raises(CurationError, match="is no export of a version"):
        dataset_of(tmp_path)


def test_mlflow_finds_where_versions_lie_also_if_this_package_is_imported_first() -> None:
    code = """
import curation_assets.tracking
from mlflow.data.dataset_source_registry import _dataset_source_registry as known
assert curation_assets.tracking.VersionSource in known.sources
"""
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
