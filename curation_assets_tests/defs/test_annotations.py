"""``image_annotations``: what its page tells, what checks find, when the sensor asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from curation_assets.annotations.record import read_rows
from curation_assets.annotations.sources import make_source
from curation_assets.definitions import build_defs
from curation_assets.defs.annotations import build_annotations_sensor, follow_annotations, image_annotations
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.defs.conftest import Following, on_disk


@pytest.fixture
def lake(ready: Pipeline, fill: Callable[..., list[Path]], tmp_path: Path) -> Pipeline:
    """Two folders, whose names and a file are followed."""
    fill("rust", 30)
    fill("miner", 30)
    (tmp_path / "a.csv").write_text("path,grade\nrust/photo_0000.jpg,3\n")
    sources = [{"from": "folders", "pattern": "{class}/*"}, {"from": "csv", "path": str(tmp_path / "a.csv")}]
    pipeline = Pipeline(type(ready.settings)(**ready.settings.model_dump() | {"annotations": sources}))
    scan(pipeline)
    return pipeline


def scan(pipeline: Pipeline) -> None:
    pipeline.tables.directory.create()
    folders = {*pipeline.source.list_folders().folders, *pipeline.tables.directory.latest().folders}
    pipeline.scan(sorted(folders), LogProgress())


instance = on_disk
_following = Following(follow_annotations.name, build_annotations_sensor)
materialize, tick = _following.materialize, _following.tick


def asked_and_done(lake: Pipeline, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    asked = tick(lake, instance)
    assert isinstance(asked, dg.RunRequest), asked
    return materialize(lake, instance, asked.run_key)


def facts(done: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (told,) = done.asset_materializations_for_node(image_annotations.op.name)
    return {name: fact.value for name, fact in told.metadata.items()}


def checks(done: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in done.get_asset_check_evaluations()}


def test_the_sensor_asks_when_a_file_or_the_images_changed(
    lake: Pipeline, instance: dg.DagsterInstance, images: Path, tmp_path: Path, fill: Any
) -> None:
    done = asked_and_done(lake, instance)
    assert done.success
    told = facts(done)
    assert (told["annotated images"], told["sources read"], told["rows added"]) == (60, 2, 61)
    assert told["labels"] == {"class miner (folders)": 30, "class rust (folders)": 30, "grade 3 (a.csv)": 1}
    assert checks(done) == {"annotations_have_images": True, "labels_as_before": True}
    assert "in line" in str(tick(lake, instance))
    (tmp_path / "a.csv").write_text("path,grade\nrust/photo_0000.jpg,4\n")
    assert facts(asked_and_done(lake, instance))["rows changed"] == 1
    fill("rust", 200)
    (images / "miner" / "photo_0000.jpg").rename(images / "rust" / "moved.jpg")
    scan(lake)
    again = asked_and_done(lake, instance)
    assert facts(again)["rows that went with their image"] == 1
    assert facts(again)["rows added"] == 170
    assert checks(again)["labels_as_before"] is False, "far more rust than before"
    assert "in line" in str(tick(lake, instance))


def test_a_source_that_can_not_be_read_fails_the_run_with_its_reason(
    lake: Pipeline, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("path,grade\ngone.jpg,4\n")
    done = asked_and_done(lake, instance)
    assert not done.success
    told = " ".join(str(event.event_specific_data) for event in done.all_events if event.is_step_failure)
    assert "a.csv: 1 fault, nothing was imported: line 2: there is no image 'gone.jpg'" in told
    assert len(read_rows(lake.tables.annotations)) == 60, "the other source was read"
    materialized = tick(lake, instance)  # the table changed meanwhile: once more
    if isinstance(materialized, dg.RunRequest):
        assert not materialize(lake, instance, materialized.run_key).success
    assert isinstance(tick(lake, instance), dg.SkipReason)
    (tmp_path / "a.csv").write_text("path,grade\nrust/photo_0000.jpg,4\n")
    assert asked_and_done(lake, instance).success


def test_what_the_command_read_is_told_of_without_a_run(
    ready: Pipeline, instance: dg.DagsterInstance, fill: Callable[..., list[Path]], images: Path
) -> None:
    assert "nothing is scanned" in str(tick(ready, instance))
    fill("rust", 2)
    scan(ready)
    assert "there are no annotations" in str(tick(ready, instance))
    ready.annotate(make_source(format="folders", pattern="{class}/*"), LogProgress())
    assert "no run of Dagster made" in str(tick(ready, instance))
    assert str(tick(ready, instance)).count("no run of Dagster made") == 0
    (images / "rust" / "photo_0001.jpg").unlink()
    scan(ready)
    assert "in line" in str(tick(ready, instance)), "an image that is gone asks for no run"
    done = materialize(ready, instance)
    assert checks(done)["annotations_have_images"] is False


def test_bringing_everything_in_line_follows_annotations(lake: Pipeline, instance: dg.DagsterInstance) -> None:
    job = build_defs(lake.settings).resolve_job_def("bring_everything_in_line")
    assert job.execute_in_process(instance=instance).success
    assert len(read_rows(lake.tables.annotations)) == 61
    assert instance.get_latest_materialization_event(image_annotations.key) is not None
    assert "in line" in str(tick(lake, instance))
