from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.clip.versions import RegisteredModel
from curation_assets.definitions import build_defs
from curation_assets.defs.new_images import build_new_images_sensor
from curation_assets.defs.resources import CurationResource
from curation_assets.pipeline import Pipeline
from curation_assets_tests.defs.conftest import folders_of

MODEL = dg.AssetKey("clip_model")
EMBEDDINGS = dg.AssetKey("crop_images_directory_embeddings")


@pytest.fixture
def second(ready: Pipeline, tmp_path: Path) -> RegisteredModel:
    """Other weights as version 2, registered but not promoted: version 1 is the champion again."""
    other = Path(shutil.copytree(DEMO_FOLDER, tmp_path / "other_model"))
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1000:] = bytes(1000)
    (other / "model.safetensors").write_bytes(weights)
    model = Pipeline(ready.settings.model_copy(update={"model_source": str(other)})).selection.choose().model
    ready.selection.choose()
    assert ready.registry.champion().version == "1"
    return model


@pytest.fixture
def requests(
    ready: Pipeline, instance: dg.DagsterInstance, materialize_rows: Callable[..., Any]
) -> Callable[..., list[str]]:
    """One tick of the sensor, its runs carried out and its events stored; gives the jobs and assets of them."""

    def tick(model_source: str = "demo") -> list[str]:
        settings = ready.settings.model_copy(update={"model_source": model_source})
        context = dg.build_sensor_context(instance=instance)
        result = build_new_images_sensor(settings)(context, curation=CurationResource.of(settings))
        asked = getattr(result, "run_requests", None) or []
        events = getattr(result, "asset_events", None) or []
        for event in events:
            instance.report_runless_asset_event(event)
        used = {run.tags.get("dagster/run_key") for run in instance.get_runs()}
        assert used.isdisjoint(request.run_key for request in asked)
        for request in asked:
            tags = {**request.tags, "dagster/run_key": str(request.run_key)}
            instance.add_dynamic_partitions("image_folders", folders_of(request))
            assert materialize_rows(str(request.job_name), request.partition_key, request.run_config, **tags).success
        return [str(request.job_name) for request in asked] + [event.asset_key.to_user_string() for event in events]

    return tick


def latest(instance: dg.DagsterInstance, key: dg.AssetKey) -> dg.AssetMaterialization:
    event = instance.get_latest_materialization_event(key)
    assert event is not None
    assert event.asset_materialization is not None
    return event.asset_materialization


def test_each_promotion_is_noticed_once_also_back_and_forth(
    ready: Pipeline, second: RegisteredModel, requests: Callable[[], list[str]], instance: dg.DagsterInstance, fill: Any
) -> None:
    fill("maize", 1)
    assert requests() == ["register_clip_model"]
    assert requests() == ["ingest_image_folder"]
    assert requests() == []
    first = ready.registry.champion()
    for model in (second, first, second, first):
        ready.selection.promote(model.version)
        assert requests() == ["clip_model"]
        assert requests() == []
        assert (latest(instance, MODEL).tags or {})["dagster/data_version"] == model.fingerprint


def test_a_promoted_version_is_what_clip_model_returns_and_it_says_so(
    ready: Pipeline, second: RegisteredModel, materialize_rows: Callable[..., Any], instance: dg.DagsterInstance
) -> None:
    materialize_rows("register_clip_model")
    assert "promoted" not in latest(instance, MODEL).metadata
    ready.registry.promote("2")
    materialize_rows("register_clip_model")
    metadata = latest(instance, MODEL).metadata
    assert metadata["version"].value == "2"
    assert str(metadata["promoted"].value).startswith("version 2 was promoted and stays; CURATION_MODEL_SOURCE is ")
    assert ready.registry.champion() == second


def test_a_promotion_embeds_every_folder_and_a_rollback_computes_nothing(
    defs: dg.Definitions,
    ready: Pipeline,
    second: RegisteredModel,
    requests: Callable[[], list[str]],
    materialize_rows: Callable[..., Any],
    instance: dg.DagsterInstance,
    fill: Any,
) -> None:
    for folder in ("maize", "wheat"):
        fill(folder, 2)
    requests()
    assert requests() == ["ingest_image_folders"]
    cursor: Any = None

    def embed_what_is_stale() -> dict[str, int]:
        nonlocal cursor
        result = dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=cursor)
        cursor = result.cursor
        folders = sorted(str(key) for key in result.get_requested_partitions(EMBEDDINGS))
        encoded = {}
        for folder in folders:
            run = defs.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=instance, partition_key=folder, asset_selection=[EMBEDDINGS]
            )
            assert run.success
            encoded[folder] = int(latest(instance, EMBEDDINGS).metadata["encoded"].value)  # type: ignore[arg-type]
        return encoded

    assert embed_what_is_stale() == {}
    ready.selection.promote(second.version)
    assert requests() == ["clip_model"]
    assert embed_what_is_stale() == {"maize": 2, "wheat": 2}
    assert embed_what_is_stale() == {}
    ready.selection.rollback()
    assert requests() == ["clip_model"]
    assert embed_what_is_stale() == {"maize": 0, "wheat": 0}
    assert latest(instance, EMBEDDINGS).metadata["model"].value == ready.registry.version("1").uri
    assert embed_what_is_stale() == {}


def test_two_deployments_of_one_registry_do_not_crown_in_turns(
    ready: Pipeline, second: RegisteredModel, materialize_rows: Callable[..., Any], requests: Callable[..., list[str]]
) -> None:
    settings = ready.settings.model_copy(update={"model_source": second.source})
    theirs = build_new_images_sensor(settings)
    materialize_rows("register_clip_model")
    with dg.DagsterInstance.ephemeral() as their_instance:
        job = build_defs(settings).resolve_job_def("register_clip_model")
        assert job.execute_in_process(instance=their_instance).success
        assert ready.registry.champion() == second
        for expected in (["clip_model"], [], []):
            assert requests() == expected
            context = dg.build_sensor_context(instance=their_instance)
            result = theirs(context, curation=CurationResource.of(settings))
            assert isinstance(result, dg.SensorResult)
            assert (result.run_requests, result.asset_events) == ([], [])
            assert ready.registry.champion() == second


def test_a_promotion_holds_over_a_model_source_that_was_not_registered_yet(
    ready: Pipeline, second: RegisteredModel, requests: Callable[..., list[str]], materialize_rows: Callable[..., Any]
) -> None:
    ready.selection.promote("2")
    materialize_rows("register_clip_model")
    third = Path(shutil.copytree(second.source, ready.settings.images_root.parent / "third"))
    (third / "model.safetensors").write_bytes((third / "model.safetensors").read_bytes()[:-4] + b"abcd")
    later = Pipeline(ready.settings.model_copy(update={"model_source": str(third)}))
    assert later.selection.promote("1").version == "1"
    assert requests(str(third)) == ["clip_model"]
    assert requests(str(third)) == []
    chosen = later.selection.choose()
    assert (chosen.model.version, chosen.is_new) == ("1", True)
    assert chosen.overruled is not None
    assert (chosen.overruled.version, chosen.overruled.source) == ("3", str(third))


def test_a_promotion_is_followed_although_model_source_is_gone(
    ready: Pipeline,
    second: RegisteredModel,
    requests: Callable[..., list[str]],
    materialize_rows: Callable[..., Any],
    instance: dg.DagsterInstance,
) -> None:
    other = Pipeline(ready.settings.model_copy(update={"model_source": second.source}))
    materialize_rows("register_clip_model")
    other.selection.choose()
    assert requests(second.source) == ["clip_model"]
    shutil.rmtree(second.source)
    other.selection.rollback()
    assert ready.registry.champion().version == "1"
    assert requests(second.source) == ["clip_model"]
    assert (latest(instance, MODEL).tags or {})["dagster/data_version"] == ready.registry.champion().fingerprint
    assert requests(second.source) == []
    job = build_defs(other.settings).resolve_job_def("register_clip_model")
    assert job.execute_in_process(instance=instance).success
    facts = latest(instance, MODEL).metadata
    assert facts["version"].value == "1"
    assert str(facts["source unavailable"].value).startswith(f"CURATION_MODEL_SOURCE={second.source}: ")


def test_the_assets_name_the_mlflow_run(
    ready: Pipeline, materialize_rows: Callable[..., Any], instance: dg.DagsterInstance, fill: Any
) -> None:
    fill("maize", 1)
    assert materialize_rows("register_clip_model").success
    assert materialize_rows("ingest_image_folder", "maize").success
    run_id = ready.registry.champion().run_id
    for key in (MODEL, EMBEDDINGS):
        assert latest(instance, key).metadata["mlflow run"] == dg.TextMetadataValue(run_id)
