from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.definitions import build_defs
from curation_assets.pipeline import Pipeline

EMBEDDINGS = dg.AssetKey("crop_images_directory_embeddings")


@pytest.fixture
def requested(
    defs: dg.Definitions, instance: dg.DagsterInstance, materialize_rows: Callable[..., Any], fill: Any
) -> Callable[[], set[str]]:
    """Two embedded folders; each call evaluates the automation once and gives the partitions it would embed."""
    materialize_rows("register_clip_model")
    for folder in ("maize", "wheat"):
        fill(folder, 2)
        assert materialize_rows("ingest_image_folder", folder).success
    cursors: list[Any] = [None]

    def evaluate() -> set[str]:
        result = dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=cursors[0])
        cursors[0] = result.cursor
        return {str(key) for key in result.get_requested_partitions(EMBEDDINGS)}

    assert evaluate() == set()
    return evaluate


def changed_model(ready: Pipeline, tmp_path: Path) -> Path:
    """The demo model with other weights."""
    other = tmp_path / "other_model"
    shutil.copytree(DEMO_FOLDER, other)
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1000:] = bytes(1000)
    (other / "model.safetensors").write_bytes(weights)
    return other


def test_the_same_version_registered_again_and_a_rescan_that_found_nothing_new_embed_nothing(
    requested: Callable[[], set[str]], materialize_rows: Callable[..., Any]
) -> None:
    materialize_rows("register_clip_model")
    assert requested() == set()
    materialize_rows("ingest_image_folder", "maize")
    assert requested() == set()


def test_a_changed_model_embeds_every_folder_once(
    requested: Callable[[], set[str]], ready: Pipeline, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    other = changed_model(ready, tmp_path)
    changed = build_defs(ready.settings.model_copy(update={"model_source": str(other)}))
    assert changed.resolve_job_def("register_clip_model").execute_in_process(instance=instance).success
    assert requested() == {"maize", "wheat"}
    assert requested() == set()


def test_a_folder_with_new_content_is_embedded_and_its_neighbour_is_not(
    requested: Callable[[], set[str]], defs: dg.Definitions, instance: dg.DagsterInstance, fill: Any
) -> None:
    fill("maize", 1, first=7)
    directory = defs.resolve_implicit_global_asset_job_def()
    result = directory.execute_in_process(
        instance=instance, partition_key="maize", asset_selection=[dg.AssetKey("crop_images_directory")]
    )
    assert result.success
    assert requested() == {"maize"}


def test_a_model_promoted_while_a_folder_is_embedded_is_what_the_folder_ends_with(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    ready: Pipeline,
    materialize_rows: Callable[..., Any],
    fill: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill("maize", 2)
    other = changed_model(ready, tmp_path)
    embed = Pipeline.embed
    promoted = []

    def slow_embed(self: Pipeline, *args: Any, **kwargs: Any) -> Any:
        result = embed(self, *args, **kwargs)
        if not promoted:
            promoted.append(Pipeline(ready.settings.model_copy(update={"model_source": str(other)})).selection.choose())
        return result

    monkeypatch.setattr(Pipeline, "embed", slow_embed)
    assert materialize_rows("ingest_image_folder", "maize").success
    assert promoted[0].model.version == "2"
    versions = ready.tables.vectors_of("maize/photo_0000.jpg")["model_version"].sort().to_list()
    assert versions == ["1", "2"]
    event = instance.get_latest_materialization_event(EMBEDDINGS)
    assert event is not None
    assert event.asset_materialization is not None
    assert str(event.asset_materialization.metadata["model"].value).endswith("/2")
