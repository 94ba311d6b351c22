"""``dataset_<name>``: a recipe as an asset, behind the checks of its gate."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from curation_assets.datasets.versions import versions
from curation_assets.definitions import build_defs
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings
from curation_assets_tests.conftest import copy_registry
from curation_assets_tests.curate.duplicates.drawn import jpeg, photograph
from curation_assets_tests.defs.conftest import on_disk

instance = on_disk
RECIPE = """
description = "leaves of coffee"
automatic = {automatic}
[labels]
path = "{{class}}/*"
[split]
train = 0.5
test = 0.5
[gate]
images = {least}
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Pipeline:
    home = tmp_path_factory.mktemp("datasets")
    for number in range(8):
        path = home / "images" / ("rust" if number % 2 else "miner") / f"{chr(97 + number)}.jpg"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(jpeg(photograph(number)))
    settings = load_settings(
        images_root=home / "images", lake_root=home / "lake", model_source="demo", recipes=home / "recipes"
    )
    copy_registry(registered_model, settings.mlflow_dir)
    pipeline = Pipeline(settings)
    run(pipeline, LogProgress())
    return pipeline


def write(lake: Pipeline, name: str, least: int = 1, automatic: bool = False) -> None:
    lake.settings.recipes.mkdir(exist_ok=True)
    text = RECIPE.format(least=least, automatic=str(automatic).lower())
    (lake.settings.recipes / f"{name}.toml").write_text(text)


def materialize(lake: Pipeline, instance: dg.DagsterInstance, name: str) -> dg.ExecuteInProcessResult:
    defs = build_defs(lake.settings)
    job = dg.define_asset_job("build", selection=[f"dataset_{name}"])
    made = dg.Definitions(assets=defs.assets, jobs=[job], resources=defs.resources, executor=defs.executor)
    return made.resolve_job_def("build").execute_in_process(instance=instance, raise_on_error=False)


def test_a_version_is_told_of_with_its_classes_and_checks(filled: Pipeline, instance: dg.DagsterInstance) -> None:
    write(filled, "leaves")
    done = materialize(filled, instance, "leaves")
    assert done.success
    (made,) = done.asset_materializations_for_node("dataset_leaves")
    told = {name: fact.value for name, fact in made.metadata.items()}
    assert (told["version"], told["new"], told["images"]) == (1, True, 8)
    (version,) = [one for one in versions(filled.tables.datasets) if one.dataset == "leaves"]
    assert told["content id"] == version.content_id == made.tags["dagster/data_version"]
    rows = [record.data for record in told["classes"].records]  # type: ignore[attr-defined]
    assert sum(row["train"] for row in rows) == sum(row["test"] for row in rows) == 4
    checks = {e.check_name: e.passed for e in done.get_asset_check_evaluations()}
    assert checks == {"images": True, "leaks": True, "copies": True}
    assert "miner: 4" in told["a few of each class"]  # type: ignore[operator]
    assert "data:image/jpeg" in told["a few of each class"]  # type: ignore[operator]
    again = materialize(filled, instance, "leaves")
    (made,) = again.asset_materializations_for_node("dataset_leaves")
    assert (made.metadata["version"].value, made.metadata["new"].value) == (1, False)
    (filled.settings.recipes / "turns.toml").write_text('[split]\ngroups = "{kind}/*"\n')
    (made,) = materialize(filled, instance, "turns").asset_materializations_for_node("dataset_turns")
    rows = [record.data for record in made.metadata["images by group"].value.records]  # type: ignore[union-attr]
    assert rows == [{"group": "miner", "images": 4}, {"group": "rust", "images": 4}]
    assert "sizes off by (points)" not in made.metadata


def test_a_gate_that_fails_is_a_failed_check_and_no_materialization(
    filled: Pipeline, instance: dg.DagsterInstance
) -> None:
    write(filled, "large", least=100)
    done = materialize(filled, instance, "large")
    assert not done.success
    assert done.asset_materializations_for_node("dataset_large") == []
    checks = {e.check_name: e for e in done.get_asset_check_evaluations()}
    assert (checks["images"].passed, checks["leaks"].passed) == (False, True)
    assert checks["images"].description == "8 images, at least 100"
    assert instance.get_latest_materialization_event(dg.AssetKey("dataset_large")) is None
    assert not [one for one in versions(filled.tables.datasets) if one.dataset == "large"]


def test_a_recipe_with_a_fault_is_an_asset_that_says_so(filled: Pipeline, instance: dg.DagsterInstance) -> None:
    filled.settings.recipes.mkdir(exist_ok=True)
    (filled.settings.recipes / "faulty.toml").write_text("[gaet]\n")
    (filled.settings.recipes / "no name.toml").write_text("")
    done = materialize(filled, instance, "faulty")
    assert not done.success
    (failure,) = [event for event in done.all_events if event.is_step_failure]
    assert "did you mean gate?" in str(failure.step_failure_data.error_display_string)
    keys = {key.to_user_string() for key in build_defs(filled.settings).resolve_all_asset_keys()}
    assert "dataset_faulty" in keys
    assert not any("name" in key for key in keys)


def test_a_gate_that_changed_since_asks_for_a_reload(filled: Pipeline, instance: dg.DagsterInstance) -> None:
    write(filled, "changing")
    defs = build_defs(filled.settings)
    (filled.settings.recipes / "changing.toml").write_text(
        '[labels]\npath = "{class}/*"\n[gate]\nimages_per_class = 3\n'
    )
    job = dg.define_asset_job("build", selection=["dataset_changing"])
    made = dg.Definitions(assets=defs.assets, jobs=[job], resources=defs.resources, executor=defs.executor)
    done = made.resolve_job_def("build").execute_in_process(instance=instance, raise_on_error=False)
    (failure,) = [event for event in done.all_events if event.is_step_failure]
    assert "reload the code location" in str(failure.step_failure_data.error_display_string)


def test_only_what_says_automatic_is_built_by_itself(filled: Pipeline) -> None:
    write(filled, "leaves")
    write(filled, "watching", automatic=True)
    defs = build_defs(filled.settings)
    conditions = {
        spec.key.to_user_string(): spec.automation_condition
        for spec in defs.resolve_all_asset_specs()
        if spec.key.to_user_string().startswith("dataset_")
    }
    assert conditions["dataset_leaves"] is None
    assert conditions["dataset_watching"] is not None
    assert "datasets_automation_sensor" in {sensor.name for sensor in defs.sensors or ()}


def test_a_dataset_depends_on_what_its_recipe_reads(filled: Pipeline) -> None:
    write(filled, "leaves")
    text = '[labels]\nfield = "class"\npredictions = 0.9\n[leave_out]\noutlier = true\n'
    (filled.settings.recipes / "all_of_it.toml").write_text(text)
    graph = build_defs(filled.settings).resolve_asset_graph()
    rests_on = {
        name: {key.to_user_string() for key in graph.get(dg.AssetKey(f"dataset_{name}")).parent_keys}
        for name in ("leaves", "all_of_it")
    }
    always = {"image_search_index", "image_quality", "image_groups"}
    assert rests_on["leaves"] == always
    of_labels = {"image_annotations", "label_issues", "image_predictions", "image_scores"}
    assert rests_on["all_of_it"] == always | of_labels
