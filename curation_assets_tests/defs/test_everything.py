"""One job that brings everything in line, without a partition to choose."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from curation_assets.curate.duplicates.overview import waiting
from curation_assets.definitions import build_defs
from curation_assets.defs import everything
from curation_assets.errors import CurationError
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress

ASSETS = (
    "clip_model",
    "crop_images_directory",
    "crop_images_directory_embeddings",
    "image_quality",
    "image_search_index",
    "image_map",
    "image_pairs",
    "image_groups",
    "image_scores",
    "image_predictions",
)


def bring_in_line(pipeline: Pipeline, instance: dg.DagsterInstance) -> Any:
    job = build_defs(pipeline.settings).resolve_job_def("bring_everything_in_line")
    return job.execute_in_process(instance=instance, raise_on_error=False)


def test_one_click_brings_a_new_project_in_line_and_tells_of_each_folder(
    pipeline: Pipeline, fill: Any, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(everything, "_FOLDERS_A_STEP", 3)
    folders = {f"field_{number}" for number in range(5)}  # more than one step takes
    for folder in folders:
        fill(folder, 1)
    result = bring_in_line(pipeline, instance)
    assert result.success
    assert set(instance.get_dynamic_partitions("image_folders")) == folders
    for asset in ASSETS[1:4]:
        assert instance.get_materialized_partitions(dg.AssetKey(asset)) == folders
    assert all(instance.get_latest_materialization_event(dg.AssetKey(asset)) for asset in ASSETS)
    checked = {(of.check_name, of.partition) for of in result.get_asset_check_evaluations()}
    assert len(checked) == 8 * 5 + 2 + 3 + 3 + 2
    assert pipeline.tables.status(pipeline.selection.current())["embedded"].sum() == 5
    assert waiting(pipeline.tables.directory, pipeline.tables.compared, pipeline.agreements) == 0
    versions = pipeline.tables.directory.newest_version(), pipeline.tables.embeddings.newest_version()
    again = bring_in_line(pipeline, instance)
    assert again.success
    assert [event.step_key for event in again.all_events if event.is_step_start] == [
        "find_what_is_due",
        "refresh_index_and_map",
        "compare_what_is_new",
    ]
    assert (pipeline.tables.directory.newest_version(), pipeline.tables.embeddings.newest_version()) == versions


def test_a_project_without_photographs_is_in_line(ready: Pipeline, instance: dg.DagsterInstance) -> None:
    assert bring_in_line(ready, instance).success


def test_rows_are_not_let_go_without_a_question_and_all_else_is_done(
    ready: Pipeline, fill: Any, images: Path, instance: dg.DagsterInstance
) -> None:
    for folder in ("a", "b", "c"):
        fill(folder, 3)
    run(ready, LogProgress(), curate=False)
    for folder in ("b", "c"):
        shutil.rmtree(images / folder)
    fill("d", 1)
    result = bring_in_line(ready, instance)
    assert not result.success
    told = " ".join(str(event.event_specific_data) for event in result.all_events if event.is_step_failure)
    assert "their rows were kept, all else is done" in told
    assert ready.tables.embeddings.snapshot().folders == ["a", "b", "c", "d"]


def test_a_folder_that_fails_costs_its_neighbours_nothing(
    ready: Pipeline, fill: Any, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a", "b", "c"):
        fill(folder, 1)
    scan = Pipeline.scan

    def scan_or_fail(self: Pipeline, folders: list[str], *args: Any, **kwargs: Any) -> Any:
        if folders == ["b"]:
            raise CurationError("the disk is full")
        return scan(self, folders, *args, **kwargs)

    monkeypatch.setattr(Pipeline, "scan", scan_or_fail)
    result = bring_in_line(ready, instance)
    assert not result.success
    assert instance.get_materialized_partitions(dg.AssetKey("crop_images_directory")) == {"a", "c"}
