"""Whatever ends a run, what it was to bring in line is asked for again: after a wait, and never given up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent, DagsterEventType

from curation_assets.definitions import build_defs
from curation_assets.defs.new_images import build_new_images_sensor
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.search import build_search_index_sensor
from curation_assets.defs.state import (
    LONGEST_WAIT_SECONDS,
    Attempt,
    LatestRun,
    Wait,
    next_attempt,
    next_embedding,
    next_registration,
    wait_after,
    waits_told,
)
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.defs.conftest import report_model
from curation_assets_tests.defs.test_sensors import Tick, keys, reason, store_run, tick

__all__ = ["tick"]
MINUTE = 60.0
EMBEDDINGS = dg.AssetKey("crop_images_directory_embeddings")


class Clock:
    """What sensors and Dagster take for the time, so that hours pass in a test."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._time = time.time

    def __call__(self) -> float:
        return self._time() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    chosen = Clock()
    monkeypatch.setattr(time, "time", chosen)
    return chosen


def requests(result: dg.SensorResult) -> list[dg.RunRequest]:
    return list(result.run_requests or [])


def end(instance: dg.DagsterInstance, request: dg.RunRequest, status: str) -> dg.DagsterRun:
    """Store a run for a request, as one that has just ended."""
    run = store_run(instance, request, "STARTED")
    kind = {"FAILURE": "RUN_FAILURE", "CANCELED": "RUN_CANCELED", "SUCCESS": "RUN_SUCCESS"}[status]
    event = DagsterEvent(DagsterEventType[kind].value, run.job_name, message="over")
    instance.report_dagster_event(event, run.run_id)
    return run


@pytest.mark.parametrize("status", ["FAILURE", "CANCELED", "SUCCESS"])
def test_a_folder_that_still_differs_is_asked_for_again_after_ever_longer_waits(
    status: str, tick: Tick, fill: Any, clock: Clock, instance: dg.DagsterInstance
) -> None:
    fill("maize")
    result, run_keys = tick(launch=False), set()
    for number, minutes in enumerate((1, 2, 4, 8), 1):
        (request,) = requests(result)
        assert request.tags.get("curation/attempt", "1") == str(number)
        run_keys.add(request.run_key)
        run = end(instance, request, status)
        clock.ahead += minutes * MINUTE - 5  # without a cursor: what was tried is known from the runs
        waiting = tick(launch=False)
        assert keys(waiting) == []
        told = f"1 folder waits to be tried again: maize (run {run.run_id[:8]} {status}, attempt {number}, again in "
        assert told in reason(waiting)
        clock.ahead += 6
        result = tick(launch=False)
    assert keys(result) == ["maize"]
    assert len(run_keys) == 4


def test_a_run_under_way_is_waited_for_and_a_changed_folder_is_asked_for_at_once(
    tick: Tick, fill: Any, clock: Clock, instance: dg.DagsterInstance
) -> None:
    fill("maize")
    end(instance, requests(tick(launch=False))[0], "FAILURE")
    clock.ahead += MINUTE + 1
    second = requests(tick(launch=False))[0]
    run = store_run(instance, second, "STARTED")
    clock.ahead += 10 * LONGEST_WAIT_SECONDS
    assert keys(tick(launch=False)) == []
    instance.report_run_failed(run)
    fill("maize", 1, first=9)
    (changed,) = requests(tick(launch=False))
    assert "curation/attempt" not in changed.tags
    assert changed.run_key != second.run_key


def test_the_one_folder_of_ten_that_failed_is_asked_for_again_alone(
    tick: Tick, fill: Any, ready: Pipeline, clock: Clock, instance: dg.DagsterInstance
) -> None:
    folders = [f"field_{number}" for number in range(10)]
    for folder in folders:
        fill(folder, 1)
    (request,) = requests(tick(launch=False))
    assert request.job_name == "ingest_image_folders"
    done = [folder for folder in folders if folder != "field_3"]
    ready.scan(done, LogProgress())
    ready.embed_all(done, ready.registry.champion(), LogProgress())
    end(instance, request, "FAILURE")
    assert keys(tick(launch=False)) == []
    clock.ahead += MINUTE + 1
    (again,) = requests(tick(launch=False))
    assert (again.job_name, again.partition_key) == ("ingest_image_folder", "field_3")
    assert again.tags["curation/attempt"] == "2"


def test_several_folders_that_failed_together_are_tried_again_together_each_with_its_count(
    tick: Tick, fill: Any, clock: Clock, instance: dg.DagsterInstance
) -> None:
    for folder in ("maize", "rye"):
        fill(folder, 1)
    for minutes in (1, 2):
        (request,) = requests(tick(launch=False))
        end(instance, request, "FAILURE")
        clock.ahead += minutes * MINUTE + 1
    (third,) = requests(tick(launch=False))
    attempts = [value for tag, value in third.tags.items() if tag.startswith("curation/attempt/")]
    assert attempts == ["3", "3"]


def test_unreadable_files_are_tried_again_and_cost_no_commit(
    tick: Tick, fill: Any, ready: Pipeline, clock: Clock, instance: dg.DagsterInstance
) -> None:
    path = fill("maize", 2)[0].with_name("pipe.jpg")
    os.mkfifo(path)
    mtime = path.stat().st_mtime_ns
    versions = set()
    for number, minutes in enumerate((1, 2, 4), 1):
        (request,) = requests(tick(launch=False))
        assert request.tags["curation/change"] == ("new" if number == 1 else "unreadable files")
        ready.scan(["maize"], LogProgress())
        versions.add(ready.tables.directory.snapshot().version)
        end(instance, request, "SUCCESS")
        clock.ahead += minutes * MINUTE - 5
        assert keys(tick(launch=False)) == []
        clock.ahead += 6
    assert len(versions) == 1
    path.unlink()
    path.write_bytes(jpeg(7))
    os.utime(path, ns=(mtime, mtime))
    assert keys(tick(launch=False)) == ["maize"]
    ready.scan(["maize"], LogProgress())
    assert ready.tables.bad_files().is_empty()


def test_a_folder_whose_embedding_was_killed_is_asked_for_again(
    tick: Tick, fill: Any, ready: Pipeline, clock: Clock, instance: dg.DagsterInstance
) -> None:
    fill("maize")
    (request,) = requests(tick(launch=False))
    ready.scan(["maize"], LogProgress())
    end(instance, request, "FAILURE")
    first = tick(launch=False)
    assert "1 match it but lack vectors" in reason(first)
    clock.ahead += MINUTE + 1
    (again,) = requests(tick(first.cursor, launch=False))
    assert (again.partition_key, again.tags["curation/change"]) == ("maize", "not embedded")
    end(instance, again, "FAILURE")
    clock.ahead += 2 * MINUTE - 5
    assert keys(tick(first.cursor, launch=False)) == []
    ready.embed("maize", ready.registry.champion(), LogProgress())
    clock.ahead += LONGEST_WAIT_SECONDS
    assert keys(tick(launch=False)) == []


def test_a_folder_that_the_command_left_without_vectors_is_embedded(
    tick: Tick, fill: Any, ready: Pipeline, clock: Clock
) -> None:
    fill("maize")
    ready.scan(["maize"], LogProgress())
    first = tick(launch=False)
    assert keys(first) == []
    clock.ahead += MINUTE + 1  # the automation has had its time
    assert keys(tick(first.cursor, launch=False)) == ["maize"]


def test_an_embedding_that_the_automation_asked_for_and_that_was_killed_is_asked_for_again(
    tick: Tick, fill: Any, ready: Pipeline, clock: Clock, instance: dg.DagsterInstance, defs: dg.Definitions
) -> None:
    fill("maize")
    ready.scan(["maize"], LogProgress())
    instance.add_dynamic_partitions("image_folders", ["maize"])
    job = defs.resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(job, asset_selection=frozenset({EMBEDDINGS}), tags={"dagster/partition": "maize"})
    planned = AssetMaterializationPlannedData(EMBEDDINGS, partition="maize")
    event = DagsterEvent.build_asset_materialization_planned_event(run.job_name, "embed", planned)
    instance.report_dagster_event(event, run.run_id)
    cursor = tick(launch=False).cursor
    clock.ahead += 3600
    assert keys(tick(cursor, launch=False)) == []  # under way
    instance.report_run_failed(run)
    clock.ahead += MINUTE + 1
    assert keys(tick(cursor, launch=False)) == ["maize"]


def test_a_promotion_is_left_to_the_automation_first(
    tick: Tick, fill: Any, ready: Pipeline, clock: Clock, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("maize")
    end(instance, requests(tick(launch=False))[0], "SUCCESS")
    ready.scan(["maize"], LogProgress())
    ready.embed("maize", ready.registry.champion(), LogProgress())
    clock.ahead += LONGEST_WAIT_SECONDS
    assert keys(tick(launch=False)) == []
    monkeypatch.setattr("curation_assets.defs.new_images.not_embedded", lambda *_: frozenset({"maize"}))
    first = tick(launch=False)
    assert keys(first) == []
    clock.ahead += MINUTE + 1  # it was switched off, say
    assert keys(tick(first.cursor, launch=False)) == ["maize"]


def test_the_model_is_asked_for_again_when_its_registration_failed(
    fill: Any, ready: Pipeline, instance: dg.DagsterInstance, clock: Clock
) -> None:
    fill("maize")
    sensor = build_new_images_sensor(ready.settings)

    def evaluate() -> Any:
        return sensor(dg.build_sensor_context(instance=instance), curation=CurationResource.of(ready.settings))

    for number, minutes in enumerate((1, 2), 1):
        (request,) = evaluate().run_requests
        assert (request.job_name, request.tags.get("curation/attempt", "1")) == ("register_clip_model", str(number))
        end(instance, request, "FAILURE")
        assert "again in" in evaluate().skip_message
        clock.ahead += minutes * MINUTE - 5
        assert isinstance(evaluate(), dg.SkipReason)
        clock.ahead += 6
    report_model(instance, ready)
    assert keys(evaluate()) == ["maize"]


def test_the_index_is_asked_for_again_when_its_refresh_failed(
    fill: Any, ready: Pipeline, instance: dg.DagsterInstance, clock: Clock
) -> None:
    fill("maize")
    ready.scan(["maize"], LogProgress())
    ready.embed("maize", ready.registry.champion(), LogProgress())
    sensor = build_search_index_sensor(ready.settings)

    def evaluate() -> Any:
        return sensor(dg.build_sensor_context(instance=instance), curation=CurationResource.of(ready.settings))

    for minutes in (1, 2, 4):
        request = evaluate()
        assert isinstance(request, dg.RunRequest)
        end(instance, dg.RunRequest(request.run_key, tags=request.tags, job_name="refresh_search_index"), "FAILURE")
        clock.ahead += minutes * MINUTE - 5
        assert "again in" in evaluate().skip_message
        clock.ahead += 6


def test_waits_double_from_a_minute_to_a_day() -> None:
    waits = [wait_after(attempt) for attempt in range(1, 40)]
    assert waits[:4] == [60, 120, 240, 480]
    assert waits == sorted(waits)
    assert max(waits) == LONGEST_WAIT_SECONDS == 86_400


def test_what_waits_is_told_in_a_line_of_bounded_length() -> None:
    def wait(name: str, attempt: int, ended: float) -> Wait:
        return Wait(name, LatestRun("1a2b3c4d-5", "k", True, status="failure", ended=ended, attempt=attempt))

    told = waits_told([wait("field/b", 4, 0), wait("field/a", 2, 60)], 0.0)
    assert told == (
        "2 folders wait to be tried again: field/a (run 1a2b3c4d FAILURE, attempt 2, again in 3 min), "
        "field/b (run 1a2b3c4d FAILURE, attempt 4, again in 8 min)"
    )
    many = waits_told([wait(f"field/{number}" + "x" * 400, 1, 0) for number in range(10_000)], 0.0)
    assert many.endswith(" and 9995 more")
    assert len(many) < 1500


def test_decisions_over_values() -> None:
    unused: Callable[[str], bool] = lambda _: False  # noqa: E731
    ended = LatestRun("12345678-9", "k:s", True, status="failure", ended=1000, attempt=3)
    assert next_attempt("k", "s", ended, unused, 1239) == ended
    assert next_attempt("k", "s", ended, unused, 1241) == Attempt("k:s:12345678", 4)
    assert next_attempt("k", "other", ended, unused, 1001) == Attempt("k:other")
    assert next_embedding("k", "s", None, 5000, 5060) is None
    assert next_embedding("k", "s", None, 5000, 5061) == Attempt("k:s:behind")
    by_automation = LatestRun("12345678-9", None, True, status="failure", ended=1000)
    assert next_embedding("k", "s", by_automation, 900, 1059) == by_automation
    assert next_embedding("k", "s", by_automation, 900, 1061) == Attempt("k:s:12345678", 2)
    assert next_embedding("k", "s", by_automation, 1061, 1062) is None
    assert next_registration("k", "s2", ended, unused, 1001) == Attempt("k:s2")
    done = LatestRun("12345678-9", "k:s", True, True, ended=1000)
    assert next_registration("k", "s", done, unused, 1001) == Attempt("k:s:12345678", 2)
    again = LatestRun("87654321-9", "k:s:12345678", True, True, ended=1000, attempt=2)
    assert next_registration("k", "s", again, unused, 1001) == again


def test_labels_that_a_killed_run_did_not_make_are_asked_for_again(
    ready: Pipeline, instance: dg.DagsterInstance, clock: Clock
) -> None:
    defs = build_defs(ready.settings.model_copy(update={"labels": ["a leaf", "an orange"]}))
    instance.add_dynamic_partitions("image_folders", ["maize", "rye"])
    labels = dg.AssetKey("image_labels")
    sensor = defs.get_repository_def().get_sensor_def("retry_sensor")

    def planned(partition: str, **tags: str) -> dg.DagsterRun:
        run = instance.add_run(dg.DagsterRun("__ASSET_JOB", status=dg.DagsterRunStatus.STARTED, tags=tags))
        event = DagsterEvent.build_asset_materialization_planned_event(
            run.job_name, "image_labels", AssetMaterializationPlannedData(labels, partition=partition)
        )
        instance.report_dagster_event(event, run.run_id)
        return run

    def evaluate() -> Any:
        return sensor(dg.build_sensor_context(instance=instance, definitions=defs))

    run = planned("maize")
    assert "nothing waits" in evaluate().skip_message
    for number, minutes in enumerate((1, 2, 4), 1):
        instance.report_run_failed(run)
        clock.ahead += minutes * MINUTE - 5
        assert f"image_labels of maize (run {run.run_id[:8]} FAILURE, attempt {number}" in evaluate().skip_message
        clock.ahead += 6
        (request,) = evaluate().run_requests
        assert (request.partition_key, list(request.asset_selection or [])) == ("maize", [labels])
        run = planned("maize", **request.tags)
    instance.report_runless_asset_event(dg.AssetMaterialization(labels, partition="maize"))
    instance.report_run_failed(run)
    clock.ahead += LONGEST_WAIT_SECONDS
    assert "nothing waits" in evaluate().skip_message
