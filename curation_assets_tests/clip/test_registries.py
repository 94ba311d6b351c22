"""The same story told to every kind of registry: register, promote, roll back, list, load."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import mlflow
import numpy as np
import pytest

from curation_assets.clip.registry import NotRegisteredError
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline
from curation_assets_tests.conftest import register
from curation_assets_tests.fake_databricks import TOKEN, Fake, serving
from curation_assets_tests.processes import Begun


@pytest.fixture
def other_weights(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(DEMO_FOLDER, tmp_path / "other_model"))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-4] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    with serving(tmp_path / "catalog_files") as running:
        yield running


@pytest.fixture
def open_catalog(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"uc:{fake.url}")
    return fake


@pytest.fixture
def workspace(fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "databricks-uc")
    monkeypatch.setenv("DATABRICKS_HOST", fake.url)
    monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "no such file"))
    return fake


@pytest.fixture(scope="module")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server, which keeps the artifacts too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    home = tmp_path_factory.mktemp("server")
    command = ["server", "--host", "127.0.0.1", "--port", url.rpartition(":")[2], "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{home / 'server.db'}", "--serve-artifacts"]
    command += ["--artifacts-destination", str(home / "artifacts")]
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # six processes that nothing asks for
    process = Begun("from mlflow.cli import cli; cli()", *command, env=env, stderr=home / "log", cwd=home)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urlopen(f"{url}/health", timeout=2):
                    break
            except (URLError, OSError):
                assert process.poll() is None, (home / "log").read_text()
                assert time.monotonic() < deadline, (home / "log").read_text()
                time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.fixture
def server(running_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server, which MLflow's variable names."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", running_server)
    return running_server


def load_twice(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    """A remote version is downloaded once, beside the lake; a copy that was edited or cut off is replaced."""
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    model = pipeline.selection.choose().model
    fetched: list[str] = []
    download = mlflow.artifacts.download_artifacts

    def counted(*args: Any, **kwargs: Any) -> str:
        fetched.append(str(kwargs.get("artifact_uri")))
        return str(download(*args, **kwargs))

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", counted)
    downloads = pipeline.settings.mlflow_dir / "downloads"
    (downloads / f"{model.fingerprint}.part").mkdir(parents=True)
    (downloads / f"{model.fingerprint}.part" / "half").touch()  # of a process that was killed
    first, again = (pipeline.registry.load_encoder(model, "cpu", "float32") for _ in range(2))
    assert first.folder == again.folder == downloads / model.fingerprint / "artifacts" / "clip"
    assert fetched == [model.uri]
    with (first.folder / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"abcd")
    repaired = pipeline.registry.load_encoder(model, "cpu", "float32")
    assert fetched == [model.uri] * 2
    source = (DEMO_FOLDER / "model.safetensors").read_bytes()
    assert (repaired.folder / "model.safetensors").read_bytes() == source
    assert {path.name for path in downloads.iterdir()} == {model.fingerprint, f"{model.fingerprint}.lock"}
    assert list(temporary.iterdir()) == []


def tell_the_story(pipeline: Pipeline, other_weights: Path) -> None:
    registry = pipeline.registry
    with pytest.raises(NotRegisteredError):
        registry.champion()
    with pytest.raises(NotRegisteredError):
        registry.versions()
    first, is_new = register(pipeline)
    assert is_new
    assert register(pipeline) == (first, False)
    assert registry.champion() == first

    other = Pipeline(pipeline.settings.model_copy(update={"model_source": str(other_weights)}))
    second, is_new = register(other)
    assert (is_new, first.version, second.version) == (True, "1", "2")
    assert registry.champion() == second
    assert registry.promote("1") == first == registry.champion()
    assert register(other) == (first, False), "a promotion by hand holds while MODEL_SOURCE is the same"
    assert registry.overruled() == second
    assert [(v.model, v.is_champion, v.is_source) for v in registry.versions()] == [
        (first, True, False),
        (second, False, True),
    ]
    assert all(abs(v.registered_at.timestamp() - time.time()) < 600 for v in registry.versions())
    assert registry.rollback() == second == registry.champion()
    assert registry.rollback() == first == registry.champion()
    with pytest.raises(CurationError, match="no earlier champion"):
        registry.rollback()
    with pytest.raises(CurationError, match="has no version '7'; it has 1, 2"):
        registry.promote("7")
    encoders = {v.model.version: registry.load_encoder(v.model, "cpu", "float32") for v in registry.versions()}
    again = {version: encoder.embed_texts(["a leaf"]) for version, encoder in encoders.items()}
    assert again["1"].shape == (1, first.dimension)
    assert np.isfinite(again["2"]).all()
    logged = mlflow.MlflowClient().get_run(first.run_id).data.tags
    assert logged["curation.fingerprint"] == first.fingerprint


def assert_runs_have_their_files(pipeline: Pipeline) -> None:
    """Registering two versions in a catalog, which has copies, left the runs theirs."""
    assert len(list((pipeline.settings.mlflow_dir / "artifacts").rglob("model.safetensors"))) == 2


def test_a_database(pipeline: Pipeline, other_weights: Path) -> None:
    tell_the_story(pipeline, other_weights)
    assert pipeline.registry.run_url(pipeline.registry.champion()) is None


@pytest.mark.slow
def test_a_real_mlflow_server(pipeline: Pipeline, other_weights: Path, server: str) -> None:
    tell_the_story(pipeline, other_weights)
    model = pipeline.registry.champion()
    experiment = mlflow.MlflowClient(server).get_experiment_by_name(model.name)
    assert experiment is not None
    assert pipeline.registry.run_url(model) == f"{server}/#/experiments/{experiment.experiment_id}/runs/{model.run_id}"
    assert mlflow.MlflowClient(server).get_model_version_by_alias(model.name, "champion").version == model.version
    assert not (pipeline.settings.mlflow_dir / "mlflow.db").exists()


def test_an_open_source_unity_catalog_without_aliases_and_tags(
    pipeline: Pipeline, other_weights: Path, open_catalog: Fake
) -> None:
    tell_the_story(pipeline, other_weights)
    assert len(open_catalog.versions) == 2
    assert all("run_id" in facts for facts in open_catalog.versions.values())
    experiment = mlflow.MlflowClient().get_experiment_by_name(pipeline.registry.name)
    assert experiment is not None
    assert experiment.tags["curation.champions"] == '["1"]'
    assert_runs_have_their_files(pipeline)


def test_a_databricks_unity_catalog(pipeline: Pipeline, other_weights: Path, workspace: Fake) -> None:
    tell_the_story(pipeline, other_weights)
    assert workspace.models[pipeline.registry.name]["aliases"] == {"champion": "1"}
    assert_runs_have_their_files(pipeline)
    assert f"GET {'/api/2.0/mlflow/unity-catalog'}/registered-models/alias" in workspace.calls


def test_a_version_in_a_databricks_unity_catalog_is_downloaded_once(
    pipeline: Pipeline, workspace: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    load_twice(pipeline, monkeypatch, tmp_path / "temporary")


@pytest.mark.slow
def test_a_version_on_a_real_mlflow_server_is_downloaded_once(
    pipeline: Pipeline, server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    under_its_own_name = Pipeline(pipeline.settings.model_copy(update={"model_name": "clip_downloaded"}))
    load_twice(under_its_own_name, monkeypatch, tmp_path / "temporary")


def test_files_of_a_registry_on_this_machine_are_used_where_they_lie(
    ready: Pipeline, registered_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))
    encoder = ready.registry.load_encoder(ready.registry.champion(), "cpu", "float32")
    assert encoder.folder.is_relative_to((registered_model / "artifacts").resolve())
    assert not (ready.settings.mlflow_dir / "downloads").exists()


@pytest.mark.parametrize("kind", ["open_catalog", "workspace"])
def test_a_version_whose_upload_was_cut_off_is_registered_anew(
    kind: str, pipeline: Pipeline, request: pytest.FixtureRequest
) -> None:
    fake: Fake = request.getfixturevalue(kind)
    pipeline.selection.choose()
    fake.versions[pipeline.registry.name, "1"]["status"] = "PENDING_REGISTRATION"
    fake.models[pipeline.registry.name]["aliases"].clear()
    assert pipeline.selection.choose().is_new
    assert [listed.model.version for listed in pipeline.registry.versions()] == ["2"]


@pytest.mark.parametrize("kind", ["open_catalog", "workspace"])
def test_a_catalog_that_denies_says_so_in_one_line(
    kind: str, pipeline: Pipeline, request: pytest.FixtureRequest
) -> None:
    fake: Fake = request.getfixturevalue(kind)
    fake.denied = "POST"
    with pytest.raises(CurationError) as refused:
        pipeline.selection.choose()
    message = str(refused.value)
    assert "User does not have CREATE MODEL" in message
    assert "MLFLOW_REGISTRY_URI=" in message
    assert "\n" not in message


@pytest.mark.parametrize("uri", ["uc:http://127.0.0.1:9", "databricks-uc"])
def test_a_catalog_that_is_not_there_is_one_clear_error(
    uri: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", uri)
    monkeypatch.setenv("DATABRICKS_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "no such file"))
    with pytest.raises(CurationError, match=r"can't be used: .*check (MLFLOW_REGISTRY_URI|DATABRICKS_HOST)") as refused:
        pipeline.registry.champion()
    assert "\n" not in str(refused.value)


def test_a_workspace_without_credentials_is_one_clear_error(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "databricks-uc")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "no such file"))
    for variable in ("DATABRICKS_HOST", "DATABRICKS_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(CurationError, match=r"workspace of databricks-uc can't be used: .*check DATABRICKS_HOST"):
        pipeline.registry.champion()
