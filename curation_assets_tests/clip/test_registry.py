from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from curation_assets.clip.encoder import Encoder
from curation_assets.clip.registry import NotRegisteredError, Registry
from curation_assets.clip.source import DEMO_FOLDER, resolve
from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline
from curation_assets.settings import Settings
from curation_assets_tests.conftest import downloaded, register
from curation_assets_tests.processes import FORKED, run_script

NAME = "autobricks.agriculture.clip_embedding"
CHECKOUT = Path(__file__).resolve().parents[2]


def flip_last_weight(folder: Path) -> None:
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-4] ^= 1
    (folder / "model.safetensors").write_bytes(weights)


@pytest.fixture
def other_weights(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(DEMO_FOLDER, tmp_path / "other_model"))
    flip_last_weight(folder)
    return folder


def with_source(pipeline: Pipeline, source: Path) -> Pipeline:
    return Pipeline(pipeline.settings.model_copy(update={"model_source": str(source)}))


def versions(pipeline: Pipeline) -> list[int]:
    client = mlflow.MlflowClient(pipeline.registry.tracking_uri, pipeline.registry.tracking_uri)
    return sorted(int(v.version) for v in client.search_model_versions(f"name='{NAME}'"))


def artifacts_of(pipeline: Pipeline, model: RegisteredModel) -> Path:
    assert pipeline.registry.champion() == model
    return downloaded(pipeline.registry, model) / "artifacts" / "clip"


def test_the_same_model_is_registered_once(ready: Pipeline) -> None:
    first, is_new = register(ready)
    assert not is_new
    assert (first.name, first.version, first.uri) == (NAME, "1", f"models:/{NAME}/1")
    assert register(ready) == (first, False)
    assert versions(ready) == [1]
    assert ready.registry.champion() == first


def test_other_weights_become_a_second_version_and_the_champion(ready: Pipeline, other_weights: Path) -> None:
    first = ready.registry.champion()
    second, is_new = register(with_source(ready, other_weights))
    assert is_new
    assert second.version == "2"
    assert second.fingerprint != first.fingerprint
    assert second.source == str(other_weights)
    assert ready.registry.champion() == second


def test_going_back_to_the_first_weights_makes_the_first_version_the_champion_again(
    ready: Pipeline, other_weights: Path
) -> None:
    first = ready.registry.champion()
    with_source(ready, other_weights).selection.choose()
    again, is_new = register(ready)
    assert not is_new
    assert again == first == ready.registry.champion()
    assert versions(ready) == [1, 2]


def test_a_version_describes_its_model(ready: Pipeline) -> None:
    model = ready.registry.champion()
    assert model.dimension == 128
    assert model.image_size == 128
    assert model.parameters > 100_000
    assert model.demonstration
    assert model.source == "demo"
    stored = mlflow.MlflowClient(ready.registry.tracking_uri).get_model_version(NAME, "1")
    assert "not for decisions" in stored.description
    assert stored.run_id == model.run_id


def test_without_a_registered_model_there_is_no_champion_but_a_clear_error(pipeline: Pipeline) -> None:
    with pytest.raises(CurationError, match=rf"no CLIP model is registered as {NAME}.*`curation run`"):
        pipeline.registry.champion()


def test_a_model_whose_alias_was_taken_away_is_no_champion(ready: Pipeline) -> None:
    mlflow.MlflowClient(ready.registry.tracking_uri).delete_registered_model_alias(NAME, "champion")
    with pytest.raises(CurationError, match="no CLIP model is registered"):
        ready.registry.champion()
    model, is_new = register(ready)
    assert not is_new
    assert ready.registry.champion() == model


def test_a_version_keeps_its_weights_when_the_source_is_edited_in_place(ready: Pipeline, other_weights: Path) -> None:
    model = with_source(ready, other_weights).selection.choose().model
    stored = artifacts_of(ready, model) / "model.safetensors"
    before = stored.read_bytes()
    with (other_weights / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\0")
    assert stored.read_bytes() == before


def test_a_model_of_symbolic_links_as_in_the_hubs_cache_is_registered_whole(
    ready: Pipeline, other_weights: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for file in other_weights.iterdir():
        (snapshot / file.name).symlink_to(os.path.relpath(file, snapshot))
    model, is_new = register(with_source(ready, snapshot))
    assert is_new
    stored = artifacts_of(ready, model)
    assert {p.name for p in stored.iterdir()} == {p.name for p in other_weights.iterdir()} - {"README.md"}
    for file in stored.iterdir():
        assert not file.is_symlink()
        assert file.read_bytes() == (other_weights / file.name).read_bytes()


def test_a_registered_encoder_computes_what_its_source_computes(ready: Pipeline) -> None:
    encoder = ready.registry.load_encoder(ready.registry.champion(), "cpu", "float32")
    source = Encoder(DEMO_FOLDER, "cpu", "float32")
    assert np.array_equal(encoder.embed_texts(["maize"]), source.embed_texts(["maize"]))


class BrokenOffError(Exception):
    """Stands for a process that is killed."""


@pytest.mark.parametrize("write", ["set_registered_model_alias", "set_experiment_tag"])
def test_a_rollback_that_was_cut_off_can_be_repeated(
    write: str, ready: Pipeline, other_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = with_source(ready, other_weights).selection.choose().model
    ready.registry.promote("1")
    ready.registry.promote("2")

    def break_off(*_: Any, **__: Any) -> None:
        raise BrokenOffError

    with monkeypatch.context() as broken:
        broken.setattr(mlflow.MlflowClient, write, break_off)
        with pytest.raises(BrokenOffError):
            ready.registry.rollback()
    assert ready.registry.champion() == second
    assert [ready.registry.rollback().version for _ in range(3)] == ["1", "2", "1"]
    with pytest.raises(CurationError, match="no earlier champion"):
        ready.registry.rollback()


def test_a_promotion_that_was_cut_off_is_rolled_back_to_the_champion_before_it(
    ready: Pipeline, other_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = with_source(ready, other_weights).selection.choose().model

    def break_off(*_: Any, **__: Any) -> None:
        raise BrokenOffError

    with monkeypatch.context() as broken:
        broken.setattr(mlflow.MlflowClient, "set_experiment_tag", break_off)
        with pytest.raises(BrokenOffError):
            ready.registry.promote("1")
    assert ready.registry.champion().version == "1"
    assert ready.registry.rollback() == second


def _champions(settings: Settings, kinds: Sequence[str]) -> list[str]:
    """What processes that begin at once say of the champion: a writer registers the model, a reader waits for it."""
    together, said = FORKED.Barrier(len(kinds)), FORKED.SimpleQueue()
    processes = [FORKED.Process(target=_say_champion, args=(settings, kind, together, said)) for kind in kinds]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
    assert [process.exitcode for process in processes] == [0] * len(kinds)
    return [said.get() for _ in processes]


def _say_champion(settings: Settings, kind: str, together: Barrier, said: SimpleQueue[str]) -> None:
    pipeline = Pipeline(settings)
    together.wait(120)
    if kind == "writer":
        pipeline.selection.choose()
    while True:  # a reader sees the database from its first byte on
        try:
            said.put(pipeline.registry.champion().version)
            return
        except NotRegisteredError:
            time.sleep(0.005)


@pytest.mark.slow
def test_processes_that_register_the_same_model_at_once_make_one_version(ready: Pipeline, other_weights: Path) -> None:
    settings = ready.settings.model_copy(update={"model_source": str(other_weights)})
    assert _champions(settings, ["writer", "writer"]) == ["2", "2"]
    assert versions(ready) == [1, 2]


@pytest.mark.slow
def test_processes_that_start_at_once_on_a_fresh_registry_all_use_it(pipeline: Pipeline) -> None:
    assert _champions(pipeline.settings, ["writer", "reader", "writer"]) == ["1"] * 3
    assert versions(pipeline) == [1]


def test_asking_for_a_champion_where_nothing_is_registered_creates_nothing(pipeline: Pipeline) -> None:
    with pytest.raises(NotRegisteredError):
        pipeline.registry.champion()
    assert not pipeline.settings.mlflow_dir.exists()


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_towers(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        config[part] |= values
    (folder / "config.json").write_text(json.dumps(config))


def rename_weights(folder: Path, part: str) -> None:
    weights = load_file(folder / "model.safetensors")
    renamed = {key.replace(part, "another") if part in key else key: value for key, value in weights.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})


UNFIT: dict[str, tuple[Callable[[Path], object], str]] = {
    "image weights by other names": (lambda f: rename_weights(f, "vision_model.enc"), r"vision_model\.encoder"),
    "text weights by other names": (lambda f: rename_weights(f, "text_projection"), r"text_projection\.weight"),
    "another number of heads": (lambda f: change_towers(f, num_attention_heads=5), "multiple of .*heads"),
    "another dimension": (lambda f: change_json(f / "config.json", projection_dim=32), r"visual_projection\.weight"),
    "another width": (lambda f: change_towers(f, intermediate_size=96), "another size"),
    "another image size": (
        lambda f: change_json(f / "preprocessor_config.json", crop_size={"height": 96, "width": 96}),
        "96",
    ),
}


@pytest.mark.parametrize(("breakage", "reason"), UNFIT.values(), ids=UNFIT)
def test_a_model_whose_files_do_not_fit_each_other_is_refused_and_not_registered(
    breakage: Callable[[Path], object], reason: str, ready: Pipeline, other_weights: Path
) -> None:
    champion = ready.registry.champion()
    breakage(other_weights)
    with pytest.raises(CurationError, match=reason) as caught:
        with_source(ready, other_weights).selection.choose()
    message = str(caught.value)
    assert message.startswith(f"CURATION_MODEL_SOURCE={other_weights}: {other_weights} holds no working CLIP model: ")
    assert "\n" not in message
    assert versions(ready) == [1]
    assert ready.registry.champion() == champion


def test_a_model_saved_by_transformers_5_is_registered_and_computes_what_its_source_computes(
    ready: Pipeline, other_weights: Path
) -> None:
    config = json.loads((other_weights / "preprocessor_config.json").read_text())
    (other_weights / "processor_config.json").write_text(json.dumps({"image_processor": config}))
    source = Encoder(other_weights, "cpu", "float32")
    (other_weights / "preprocessor_config.json").unlink()
    model, is_new = register(with_source(ready, other_weights))
    assert is_new
    encoder = ready.registry.load_encoder(model, "cpu", "float32")
    assert encoder.preprocessing == source.preprocessing
    assert np.array_equal(encoder.embed_texts(["maize"]), source.embed_texts(["maize"]))


def test_a_champion_that_this_project_did_not_register_is_one_clear_error(ready: Pipeline) -> None:
    client = mlflow.MlflowClient(ready.registry.tracking_uri, ready.registry.tracking_uri)
    theirs = client.create_model_version(NAME, source=client.get_model_version(NAME, "1").source)
    client.set_registered_model_alias(NAME, "champion", theirs.version)
    with pytest.raises(CurationError, match=r"version 2 of .* was not registered by this project.*CURATION_MODEL_NAME"):
        ready.registry.champion()
    assert ready.selection.choose().model.version == "1"
    assert ready.registry.champion().version == "1"


def test_mlflows_own_tracking_uri_is_honoured(
    ready: Pipeline, other_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert versions(ready) == [1]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    shutil.copy(ready.settings.mlflow_dir / "mlflow.db", elsewhere / "team.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere / 'team.db'}")
    team = with_source(ready, other_weights)
    assert team.selection.choose().model.version == "2"
    assert versions(team) == [1, 2]
    assert versions(ready) == [1]


def test_two_pipelines_of_one_process_keep_their_own_registries(ready: Pipeline, tmp_path: Path) -> None:
    ready.registry.champion()
    other = Pipeline(ready.settings.model_copy(update={"lake_root": tmp_path / "other" / "lake"}))
    with pytest.raises(CurationError, match="no CLIP model is registered"):
        other.registry.champion()
    assert ready.registry.champion().version == "1"


def test_a_second_registry_of_one_process_stores_its_artifacts_in_the_same_place(
    ready: Pipeline, other_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for lake in ("one", "two"):
        settings = ready.settings.model_copy(update={"lake_root": tmp_path / lake / "lake"})
        model = Pipeline(settings).selection.choose().model
        stored = artifacts_of(Pipeline(settings), model)
        assert stored.is_relative_to(tmp_path / lake / "mlflow" / "artifacts")
    assert not (tmp_path / "mlruns").exists()


def test_a_registry_whose_database_is_broken_is_one_clear_error(pipeline: Pipeline) -> None:
    pipeline.settings.mlflow_dir.mkdir()
    (pipeline.settings.mlflow_dir / "mlflow.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(CurationError, match=r"mlflow\.db can't be used.*CURATION_LAKE_ROOT") as caught:
        pipeline.registry.champion()
    assert "\n" not in str(caught.value)


def test_an_error_of_the_registry_does_not_show_a_password(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://farmer:se%20cret@127.0.0.1:9/mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(CurationError) as caught:
        pipeline.registry.champion()
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["sqlite:////dev/null/mlflow.db", "http://127.0.0.1:9"])
def test_a_registry_that_cannot_be_reached_is_one_clear_error(
    uri: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for attempt in (pipeline.registry.champion, pipeline.selection.choose):
        with pytest.raises(CurationError) as caught:
            attempt()
        assert uri in str(caught.value)
        assert "MLFLOW_TRACKING_URI" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_registry_whose_database_driver_is_not_installed_is_one_clear_error(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://nobody@127.0.0.1:9/mlflow")
    with pytest.raises(CurationError, match=r"No module named .*check MLFLOW_TRACKING_URI") as caught:
        pipeline.registry.champion()
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_given_up_within_seconds(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(CurationError):
        pipeline.registry.champion()
    assert time.monotonic() - start < 30


def test_a_registry_uri_that_cannot_be_used_is_named_in_the_error(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "nonsense://somewhere")
    with pytest.raises(CurationError, match=r"MLFLOW_REGISTRY_URI=nonsense://somewhere"):
        pipeline.registry.champion()


@pytest.mark.parametrize("folder", ["what?", "per%41cent"])
def test_a_folder_whose_path_a_database_cannot_have_is_refused_by_the_setting(folder: str, tmp_path: Path) -> None:
    with pytest.raises(CurationError, match="choose another CURATION_LAKE_ROOT"):
        Registry(NAME, tmp_path / folder / "mlflow")
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_special_characters_in_its_path_holds_the_whole_registry(tmp_path: Path) -> None:
    registry = Registry(NAME, tmp_path / "a #b; c=d@e 100% ü" / "mlflow")
    model, _ = registry.register(resolve("demo"))
    assert registry.champion() == model
    assert registry.load_encoder(model, "cpu", "float32").folder.is_relative_to(registry.folder)
    assert (registry.folder / "mlflow.db").is_file()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_registry_of_its_own_leaves_the_users_mlflow_and_the_working_directory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    theirs = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'theirs' / 'tracking.db'}",
        "MLFLOW_REGISTRY_URI": f"sqlite:///{tmp_path / 'theirs' / 'registry.db'}",
    }
    for variable, uri in theirs.items():
        monkeypatch.setenv(variable, uri)
    registry = Registry(NAME, tmp_path / "ours", own=True)
    with pytest.raises(NotRegisteredError):
        registry.champion()
    model, is_new = registry.register(resolve("demo"))
    assert is_new
    assert registry.champion() == model
    assert registry.load_encoder(model, "cpu", "float32").folder.is_relative_to(tmp_path / "ours" / "artifacts")
    assert {variable: os.environ[variable] for variable in theirs} == theirs
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "ours"]
    assert not list((tmp_path / "here").iterdir())
    with pytest.raises(NotRegisteredError):
        Registry(NAME, tmp_path / "ours").champion()  # the user's, which is empty
    assert (tmp_path / "theirs" / "registry.db").exists()


@pytest.mark.parametrize("place", ["log_model", "create_model_version"])
def test_what_a_killed_registration_left_goes_with_the_next(
    place: str, ready: Pipeline, other_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = with_source(ready, other_weights)
    folder = pipeline.settings.mlflow_dir
    pipeline.registry.versions()  # MLflow is at this registry from now on
    client = mlflow.MlflowClient()
    experiment = mlflow.get_experiment_by_name(pipeline.registry.name)
    models = Path(experiment.artifact_location.removeprefix("file://")) / "models"
    with mlflow.start_run(experiment_id=experiment.experiment_id) as run:
        users = client.create_logged_model(experiment.experiment_id, name="theirs", source_run_id=run.info.run_id)
    (models / users.model_id).mkdir()
    before = {path.name for path in models.iterdir()}
    script = f"""
import os, signal, mlflow.pyfunc, mlflow
from curation_assets.pipeline import Pipeline
from curation_assets.settings import Settings
from curation_assets.settings import load_settings
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
if {place!r} == "log_model":
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    real = LocalArtifactRepository.log_artifacts
    LocalArtifactRepository.log_artifacts = lambda *a, **k: (real(*a, **k), die())
else:
    mlflow.MlflowClient.create_model_version = die
Pipeline(load_settings()).selection.choose()
"""
    env = os.environ | {
        "CURATION_IMAGES_ROOT": str(pipeline.settings.images_root),
        "CURATION_LAKE_ROOT": str(pipeline.settings.lake_root),
        "CURATION_MODEL_SOURCE": str(other_weights),
    }
    done = run_script(script, env=env)
    assert done.returncode == -9, done.stderr
    left = {path.name for path in models.iterdir()} - before
    assert len(left) == 1
    assert len(list(folder.glob("registering-*"))) == (place == "log_model")
    assert pipeline.selection.choose().model.version == "2"
    now = {path.name for path in models.iterdir()}
    assert not left & now
    assert before < now
    assert len(now) == len(before) + 1
    assert not list(folder.glob("registering-*"))
    status = [run.info.status for run in client.search_runs([experiment.experiment_id])]
    assert status.count("KILLED") == (place == "log_model"), "the other run had come to its end"
    assert set(status) <= {"FINISHED", "KILLED"}
