from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.clip.versions import RegisteredModel
from curation_assets.definitions import build_defs
from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline
from curation_assets.serving.databricks import EndpointConfig, deploy
from curation_assets.settings import Settings
from curation_assets.workspace import workspace_uri
from curation_assets_tests.fake_databricks import TOKEN, Fake, serving

NAME = "autobricks.agriculture.clip_embedding"
CONFIG = EndpointConfig("clip-embedding", "Small", "CPU", scale_to_zero=True, timeout_minutes=1)
CREATE, UPDATE = "POST /api/2.0/serving-endpoints", "PUT /api/2.0/serving-endpoints/clip-embedding/config"


class Notes:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def step(self, phase: str, index: int, total: int) -> None: ...
    def start(self, task: str, total: int) -> None: ...
    def advance(self, images: int) -> None: ...


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """The local stand-in for a workspace, which MLflow's and Databricks' variables name.

    Databricks' client waits for seconds between two questions whether an endpoint is ready: here for a hundredth of it.
    """
    clock = SimpleNamespace(time=time.time, sleep=lambda seconds: time.sleep(seconds / 100))
    monkeypatch.setattr("databricks.sdk.service.serving.time", clock)
    with serving(tmp_path / "workspace_files") as fake:
        monkeypatch.setenv("MLFLOW_REGISTRY_URI", "databricks-uc")
        monkeypatch.setenv("DATABRICKS_HOST", fake.url)
        monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)
        monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "no such file"))
        yield fake


def model(version: str) -> RegisteredModel:
    return RegisteredModel(NAME, version, f"fingerprint {version}", 64, 224, 10**6, "demo", True, "run")


def served(workspace: Fake) -> dict[str, Any]:
    (entity,) = workspace.endpoints["clip-embedding"]["config"]["served_entities"]
    return dict(entity)


def changes(workspace: Fake) -> list[str]:
    return [call for call in workspace.calls if call in (CREATE, UPDATE)]


def test_an_endpoint_is_created_then_left_alone_then_follows_the_version(workspace: Fake) -> None:
    notes = Notes()
    created = deploy(model("1"), CONFIG, notes)
    assert (created.action, created.state, created.config_version) == ("created", "READY", 1)
    assert created.url == f"{workspace.url}/serving-endpoints/clip-embedding/invocations"
    assert created.page == f"{workspace.url}/ml/endpoints/clip-embedding"
    assert notes.notes[0] == f"creating endpoint clip-embedding for models:/{NAME}/1"
    assert served(workspace) == {
        "name": "champion",
        "entity_name": NAME,
        "entity_version": "1",
        "workload_size": "Small",
        "workload_type": "CPU",
        "scale_to_zero_enabled": True,
    }
    assert deploy(model("1"), CONFIG, notes).action == "unchanged"
    assert changes(workspace) == [CREATE]
    updated = deploy(model("2"), CONFIG, notes)
    assert (updated.action, updated.state, updated.config_version) == ("updated", "READY", 2)
    assert served(workspace)["entity_version"] == "2"
    assert changes(workspace) == [CREATE, UPDATE]


@pytest.mark.parametrize(
    ("setting", "value", "key"),
    [
        ("workload_size", "Large", "workload_size"),
        ("workload_type", "GPU_SMALL", "workload_type"),
        ("scale_to_zero", False, "scale_to_zero_enabled"),
    ],
)
def test_another_configuration_of_the_same_version_is_an_update(
    setting: str, value: Any, key: str, workspace: Fake
) -> None:
    deploy(model("1"), CONFIG, Notes())
    changed = EndpointConfig(**{**vars(CONFIG), setting: value})
    assert deploy(model("1"), changed, Notes()).action == "updated"
    assert served(workspace)[key] == value


def test_an_update_that_is_under_way_is_waited_for_first(workspace: Fake) -> None:
    deploy(model("1"), CONFIG, Notes())
    workspace.polls_until_ready = 3
    workspace.serving("PUT", ["clip-embedding", "config"], {"served_entities": [{"name": "champion"}]})
    notes = Notes()
    assert deploy(model("2"), CONFIG, notes).action == "updated"
    assert notes.notes[0] == "endpoint clip-embedding is being updated already; waiting for that"
    assert served(workspace)["entity_version"] == "2"


def test_a_failed_update_says_why_and_the_next_one_tries_again(workspace: Fake) -> None:
    deploy(model("1"), CONFIG, Notes())
    workspace.update_fails = "Container image build failed: no such wheel"
    with pytest.raises(CurationError, match=r"could not be updated to serve .*/2: Container image build failed"):
        deploy(model("2"), CONFIG, Notes())
    assert served(workspace)["entity_version"] == "1"
    assert deploy(model("2"), CONFIG, Notes()).action == "updated"
    assert served(workspace)["entity_version"] == "2"


def test_after_a_failed_update_going_back_to_what_is_served_changes_nothing(workspace: Fake) -> None:
    deploy(model("1"), CONFIG, Notes())
    workspace.update_fails = "Container image build failed"
    with pytest.raises(CurationError, match="what it served before, it still serves"):
        deploy(model("2"), CONFIG, Notes())
    before = changes(workspace)
    back = deploy(model("1"), CONFIG, Notes())
    assert (back.action, back.state, back.config_version) == ("unchanged", "READY", 1)
    assert changes(workspace) == before
    assert served(workspace)["entity_version"] == "1"


def test_a_failed_creation_says_that_nothing_is_served_and_the_next_one_tries_again(workspace: Fake) -> None:
    for action in ("created", "updated"):
        workspace.update_fails = "Container image build failed"
        with pytest.raises(CurationError, match=rf"could not be {action} .* failed; it serves nothing yet$"):
            deploy(model("1"), CONFIG, Notes())
    assert deploy(model("1"), CONFIG, Notes()).action == "updated"
    assert served(workspace)["entity_version"] == "1"


def test_an_endpoint_that_takes_too_long_is_an_error_that_says_how_to_go_on(workspace: Fake) -> None:
    workspace.polls_until_ready = 1000
    hasty = EndpointConfig(**{**vars(CONFIG), "timeout_minutes": 0.02})
    with pytest.raises(CurationError, match=r"was not ready within 0.02 minutes.*CURATION_ENDPOINT_TIMEOUT_MINUTES"):
        deploy(model("1"), hasty, Notes())


def test_a_workspace_that_refuses_is_one_clear_error(workspace: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.denied = CREATE
    with pytest.raises(CurationError, match=r"can't be deployed: User does not have .*; ask for the right") as refused:
        deploy(model("1"), CONFIG, Notes())
    assert "\n" not in str(refused.value)
    monkeypatch.setenv("DATABRICKS_TOKEN", "another token")
    with pytest.raises(CurationError, match=r"Credential was not sent.*check DATABRICKS_HOST and the credentials"):
        deploy(model("1"), CONFIG, Notes())
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.delenv("DATABRICKS_HOST")
    with pytest.raises(CurationError, match=r"workspace of databricks-uc can't be used: .*check DATABRICKS_HOST"):
        deploy(model("1"), CONFIG, Notes())


@pytest.mark.parametrize(
    ("variables", "uri"),
    [
        ({}, None),
        ({"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}, None),
        ({"MLFLOW_REGISTRY_URI": "uc:http://127.0.0.1:8080"}, None),
        ({"MLFLOW_TRACKING_URI": "databricks", "MLFLOW_REGISTRY_URI": "sqlite:///here.db"}, None),
        ({"MLFLOW_TRACKING_URI": "databricks://team"}, "databricks://team"),
        ({"MLFLOW_REGISTRY_URI": "databricks-uc"}, "databricks-uc"),
    ],
)
def test_a_workspace_is_the_one_whose_registry_is_in_use(variables: dict[str, str], uri: str | None) -> None:
    assert workspace_uri(variables) == uri


def test_the_asset_exists_only_with_a_workspace(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    key = dg.AssetKey("clip_endpoint")
    assert key not in {spec.key for spec in build_defs(settings).resolve_all_asset_specs()}
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "databricks-uc")
    defs = build_defs(settings)
    spec = next(spec for spec in defs.resolve_all_asset_specs() if spec.key == key)
    assert [dep.asset_key.to_user_string() for dep in spec.deps] == ["clip_model"]
    assert "endpoint_automation_sensor" in {sensor.name for sensor in defs.get_repository_def().sensor_defs}


@pytest.mark.slow
def test_the_asset_deploys_the_champion_and_follows_a_promotion(
    workspace: Fake,
    pipeline: Pipeline,
) -> None:
    defs = build_defs(pipeline.settings)
    selection = [dg.AssetKey("clip_model"), dg.AssetKey("clip_endpoint")]
    job = defs.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:

        def run(keys: list[dg.AssetKey]) -> Any:
            return job.execute_in_process(instance=instance, asset_selection=keys, raise_on_error=False)

        def requested() -> bool:
            result = dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=cursors[-1])
            cursors.append(result.cursor)
            return result.get_num_requested(selection[1]) > 0

        cursors: list[Any] = [None]
        assert run(selection[:1]).success
        assert not requested()  # an endpoint that nobody asked for isn't made
        assert run(selection[1:]).success
        assert not requested()
        champion = pipeline.registry.champion()
        event = instance.get_latest_materialization_event(selection[1])
        assert event is not None
        assert event.asset_materialization is not None
        facts = {name: value.value for name, value in event.asset_materialization.metadata.items()}
        assert (facts["action"], facts["state"], facts["version"]) == ("created", "READY", champion.version)
        assert facts["url"] == f"{workspace.url}/serving-endpoints/clip-embedding/invocations"
        assert served(workspace)["entity_version"] == "1"

        other = shutil.copytree(DEMO_FOLDER, pipeline.settings.images_root.parent / "other_model")
        weights = bytearray((other / "model.safetensors").read_bytes())
        weights[-4] ^= 1
        (other / "model.safetensors").write_bytes(weights)
        Pipeline(pipeline.settings.model_copy(update={"model_source": str(other)})).selection.choose()
        pipeline.selection.choose()
        pipeline.registry.promote("2")
        assert run(selection[:1]).success
        assert requested()
        workspace.update_fails = "Container image build failed"
        failed = run(selection[1:])
        assert not failed.success
        failure = failed.get_step_failure_events()[0].step_failure_data.user_failure_data
        assert "Container image build failed" in failure.description
