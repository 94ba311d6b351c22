from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import DagsterEvent, DagsterEventType

from curation_assets.defs import state
from curation_assets.defs.new_images import build_new_images_sensor
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.search import build_search_index_sensor
from curation_assets.defs.settling import Cursor, Look
from curation_assets.defs.state import Asked, LatestRun, batches, rotate, run_key_for
from curation_assets.images.listing import TreeListing
from curation_assets.images.source import LocalTree
from curation_assets.ingest import run
from curation_assets.partition_keys import key_of
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.scan.changes import FolderChange
from curation_assets.search import image_map
from curation_assets.settings import Settings
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.defs.conftest import folders_of, report_model
from curation_assets_tests.images.test_listing import refuse

Tick = Callable[..., dg.SensorResult]


@pytest.fixture
def tick(instance: dg.DagsterInstance, ready: Pipeline) -> Tick:
    """Evaluate the sensor as the daemon does, and store the partitions and runs that it asks for, as the daemon does.

    ``run_all`` carries the runs out at once. Keyword arguments replace settings.
    """
    report_model(instance, ready)

    def evaluate(cursor: str | None = None, launch: bool = True, **settings: Any) -> dg.SensorResult:
        chosen: Settings = ready.settings.model_copy(update=settings)
        context = dg.build_sensor_context(instance=instance, cursor=cursor)
        result = build_new_images_sensor(chosen)(context, curation=CurationResource.of(chosen))
        if isinstance(result, dg.SkipReason):
            return dg.SensorResult(skip_reason=result)
        for request in result.dynamic_partitions_requests or []:
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                instance.add_dynamic_partitions("image_folders", request.partition_keys)
            else:
                for key in request.partition_keys:
                    instance.delete_dynamic_partition("image_folders", key)
        for request in result.run_requests or [] if launch else []:
            store_run(instance, request)
        return result

    return evaluate


def store_run(instance: dg.DagsterInstance, request: dg.RunRequest, status: str = "SUCCESS") -> dg.DagsterRun:
    """Record a run for a request, carried out or not."""
    tags = {**request.tags, "dagster/run_key": str(request.run_key)}
    if request.partition_key is not None:
        tags["dagster/partition"] = request.partition_key
    return instance.add_run(
        dg.DagsterRun(
            job_name=str(request.job_name),
            tags=tags,
            run_config=request.run_config,
            status=dg.DagsterRunStatus[status],
        )
    )


def keys(result: dg.SensorResult) -> list[str]:
    return [key for request in result.run_requests or [] for key in folders_of(request)]


def reason(result: dg.SensorResult) -> str:
    return str(result.skip_reason.skip_message) if result.skip_reason else ""


def scan(ready: Pipeline, folder: str) -> None:
    ready.scan([folder], LogProgress())


def test_a_new_folder_asks_for_one_run_and_its_partition(tick: Tick, fill: Any, instance: dg.DagsterInstance) -> None:
    fill("maize")
    assert keys(tick()) == ["maize"]
    assert instance.get_dynamic_partitions("image_folders") == ["maize"]
    assert keys(tick()) == []


def test_a_folder_that_matches_its_rows_asks_for_nothing(tick: Tick, fill: Any, ready: Pipeline) -> None:
    fill("maize")
    scan(ready, "maize")
    result = tick()
    assert keys(result) == []
    assert "1 image folders on disk, all match the table" in reason(result)


def test_a_changed_file_asks_for_one_run(tick: Tick, fill: Any, ready: Pipeline) -> None:
    path = fill("maize")[0]
    tick()
    scan(ready, "maize")
    os.utime(path, ns=(1, 1))
    assert keys(tick()) == ["maize"]
    assert keys(tick()) == []


def test_a_folder_still_being_written_waits(tick: Tick, fill: Any) -> None:
    path = fill("maize")[0]
    with path.open("ab") as file:
        file.write(b"half of a photograph")
    result = tick(settle_seconds=0.5)
    assert keys(result) == []
    assert "1 still being written" in reason(result)
    time.sleep(0.6)
    assert keys(tick(settle_seconds=0.5)) == ["maize"]


def test_a_folder_of_times_ahead_of_the_clock_is_asked_for_as_soon_as_its_inodes_are_old(tick: Tick, fill: Any) -> None:
    for path in fill("card"):
        os.utime(path, (time.time() + 7200, time.time() + 7200))
    os.utime(path.parent, (time.time() + 7200, time.time() + 7200))
    time.sleep(0.6)
    assert keys(tick(settle_seconds=0.5)) == ["card"]


def test_a_disk_whose_clock_is_ahead_is_asked_for_when_two_looks_saw_the_same(
    tick: Tick, fill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("maize")
    ahead = time.time_ns() + 3600 * 10**9
    listed = LocalTree.list_folders

    def shifted(tree: LocalTree, *arguments: Any, **options: Any) -> TreeListing:
        found = listed(tree, *arguments, **options)
        for listing in found.folders.values():
            listing.changed_ns = ahead
        return found

    monkeypatch.setattr(LocalTree, "list_folders", shifted)
    first = tick(settle_seconds=0.5)
    assert keys(first) == []
    assert "1 still being written" in reason(first)
    assert keys(tick(first.cursor, settle_seconds=0.5)) == []
    time.sleep(0.6)
    assert keys(tick(first.cursor, settle_seconds=0.5)) == ["maize"]


def test_a_folder_that_is_written_to_all_the_time_is_asked_for_after_a_while(tick: Tick, fill: Any) -> None:
    path = fill("maize")[0]
    cursor, asked = None, []
    for number in range(8):
        path.write_bytes(jpeg(number))
        result = tick(cursor, settle_seconds=60, settle_limit_seconds=0.5)
        cursor = result.cursor
        asked.append(keys(result))
        time.sleep(0.2)
    assert asked[:2] == [[], []]
    assert 1 <= asked.count(["maize"]) <= 3


def test_a_cursor_of_an_earlier_version_is_read_and_the_new_one_stays_small(tick: Tick, fill: Any) -> None:
    for folder in "abc":
        fill(folder, 1)
    assert keys(tick("a", launch=False)) == ["b", "c", "a"]
    for folder in ("b", "12", "null", '{"a', "[]"):
        assert Cursor.of(folder) == Cursor(folder)
    looks = {f"{number:012}": Look("0" * 12, 1.7e9 + number, 1.7e9) for number in range(5000)}
    text = Cursor().text("x" * 248, looks, [])
    assert len(text) < 32_000
    assert Cursor.of(text).after == "x" * 248
    assert len(Cursor.of(text).looks) == 500


def test_a_folder_that_cannot_be_listed_is_told_and_the_others_are_asked_for(
    tick: Tick, fill: Any, ready: Pipeline, images: Path, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    for folder in ("maize", "rye"):
        fill(folder)
    tick()
    for folder in ("maize", "rye"):
        scan(ready, folder)
    refuse(monkeypatch, images / "rye")
    result = tick()
    assert keys(result) == []
    assert "cannot be listed, and keep their rows: 'rye' (Permission denied)" in reason(result)
    assert set(instance.get_dynamic_partitions("image_folders")) == {"maize", "rye"}
    fill("wheat")
    assert keys(tick()) == ["wheat"]
    scan(ready, "rye")  # a run that was asked for before
    assert ready.tables.directory.snapshot().folders == ["maize", "rye"]


def test_a_disk_that_went_is_not_asked_for_until_that_is_confirmed(
    tick: Tick, fill: Any, ready: Pipeline, images: Path
) -> None:
    for folder in ("a", "b", "disk/north"):
        fill(folder, 4)
        scan(ready, folder)
    aside = (images / "disk" / "north").rename(images.with_name("aside"))
    result = tick()
    assert keys(result) == []
    assert "4 of the table's 12 images are gone from 'disk'" in reason(result)
    assert "curation run --prune" in reason(result)
    fill("new", 1)
    assert keys(tick()) == ["new"]
    (images / "disk").rmdir()
    assert keys(tick()) == ["disk/north"]  # gone with its place
    (images / "disk").mkdir()
    aside.rename(images / "disk" / "north")
    assert keys(tick()) == []


def test_most_rows_are_not_let_go_without_a_question(tick: Tick, fill: Any, ready: Pipeline, images: Path) -> None:
    for folder in ("a", "b", "c"):
        fill(folder, 3)
        scan(ready, folder)
    for folder in ("b", "c"):
        shutil.rmtree(images / folder)
    result = tick()
    assert keys(result) == []
    assert "6 of the table's 9 images, more than half, are gone from 'b', 'c'" in reason(result)


def test_a_folder_whose_inodes_alone_changed_is_asked_for_once(tick: Tick, fill: Any, ready: Pipeline) -> None:
    paths = fill("maize")
    scan(ready, "maize")
    paths[0].chmod(0o600)
    result = tick()
    assert keys(result) == ["maize"]
    assert (result.run_requests or [])[0].tags["curation/change"] == "times changed"
    assert keys(tick()) == []
    scan(ready, "maize")
    assert "all match the table" in reason(tick())


def test_a_listing_error_requests_nothing_and_says_so(tick: Tick, fill: Any, ready: Pipeline, images: Path) -> None:
    fill("maize")
    scan(ready, "maize")
    images.rename(images.with_name("unmounted"))
    result = tick()
    assert keys(result) == []
    assert "cannot be listed" in reason(result)


def test_an_empty_root_does_not_empty_the_table(tick: Tick, fill: Any, ready: Pipeline, images: Path) -> None:
    fill("maize")
    scan(ready, "maize")
    images.rename(images.with_name("unmounted"))
    images.mkdir()
    result = tick()
    assert keys(result) == []
    assert "holds no images, while the table holds 1 folders" in reason(result)


def test_many_new_folders_drain_over_several_ticks(tick: Tick, fill: Any, instance: dg.DagsterInstance) -> None:
    folders = [f"field_{index:03}" for index in range(50)]
    for folder in folders:
        fill(folder, 1)
    seen: list[list[str]] = []
    cursor = None
    while len(seen) < 10:
        result = tick(cursor, sensor_max_runs=2)
        cursor = result.cursor
        seen.append(keys(result))
        if not seen[-1]:
            break
    assert [len(asked) for asked in seen] == [20, 20, 10, 0]
    assert sorted(key for asked in seen for key in asked) == folders
    assert sorted(instance.get_dynamic_partitions("image_folders")) == folders


def test_a_lost_cursor_doubles_nothing(tick: Tick, fill: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "FOLDERS_A_RUN", 1)
    for folder in "abcd":
        fill(folder, 1)
    assert keys(tick(None, sensor_max_runs=2)) == ["a", "b"]
    assert keys(tick(None, sensor_max_runs=2)) == ["c", "d"]


def test_partitions_stored_by_a_tick_that_died_do_not_hide_their_folders(
    tick: Tick, fill: Any, instance: dg.DagsterInstance
) -> None:
    fill("maize")
    assert keys(tick(launch=False)) == ["maize"]
    assert instance.get_dynamic_partitions("image_folders") == ["maize"]
    assert keys(tick()) == ["maize"]


def test_a_run_that_failed_is_not_asked_for_again_at_once(tick: Tick, fill: Any, instance: dg.DagsterInstance) -> None:
    fill("maize")
    result = tick(launch=False)
    store_run(instance, (result.run_requests or [])[0], "FAILURE")
    again = tick()
    assert keys(again) == []
    assert "1 asked for already" in reason(again)


def test_a_change_during_a_run_waits_for_its_end(tick: Tick, fill: Any, instance: dg.DagsterInstance) -> None:
    fill("maize")
    run = store_run(instance, (tick(launch=False).run_requests or [])[0], "STARTED")
    fill("maize", 1, first=9)
    assert keys(tick()) == []
    instance.report_run_canceled(run)
    assert keys(tick()) == ["maize"]


def test_a_folder_that_was_removed_and_restored_as_it_was_is_scanned_again(
    tick: Tick, fill: Any, ready: Pipeline, images: Path
) -> None:
    fill("maize")
    fill("wheat")
    first = tick()
    assert keys(first) == ["maize", "wheat"]
    scan(ready, "maize")
    scan(ready, "wheat")
    (images / "maize").rename(images.with_name("aside"))
    gone = tick()
    assert keys(gone) == ["maize"]
    assert (gone.run_requests or [])[0].tags["curation/change"] == "gone"
    scan(ready, "maize")
    images.with_name("aside").rename(images / "maize")
    back = tick()
    assert keys(back) == ["maize"]
    assert (back.run_requests or [])[0].run_key != (first.run_requests or [])[0].run_key
    assert keys(tick()) == []


def test_a_moved_root_is_followed_although_no_file_changed(
    tick: Tick, fill: Any, ready: Pipeline, images: Path
) -> None:
    fill("maize")
    tick()
    scan(ready, "maize")
    moved = images.rename(images.with_name("elsewhere"))
    result = tick(images_root=moved)
    assert [request.tags["curation/change"] for request in result.run_requests or []] == ["moved"]
    assert keys(tick(images_root=moved)) == []


def test_the_partition_of_a_folder_without_files_or_rows_goes(
    tick: Tick, fill: Any, ready: Pipeline, images: Path, instance: dg.DagsterInstance
) -> None:
    fill("maize")
    fill("wheat")
    tick()
    scan(ready, "maize")
    scan(ready, "wheat")
    shutil.rmtree(images / "maize")
    tick()
    assert "maize" in instance.get_dynamic_partitions("image_folders")  # its rows are still there
    scan(ready, "maize")
    tick()
    assert instance.get_dynamic_partitions("image_folders") == ["wheat"]


def test_folders_made_by_the_command_line_get_their_partition_and_their_page(
    tick: Tick, fill: Any, ready: Pipeline, instance: dg.DagsterInstance
) -> None:
    fill("maize, wet", 2)
    fill("rye", 1)
    scan(ready, "maize, wet")
    ready.embed("maize, wet", ready.registry.champion(), LogProgress())
    scan(ready, "rye")
    key = key_of("maize, wet")
    result = tick()
    assert keys(result) == []
    assert sorted(instance.get_dynamic_partitions("image_folders")) == [key, "rye"]
    found = {(event.asset_key.to_user_string(), event.partition): event for event in result.asset_events}
    assert set(found) == {
        ("crop_images_directory", key),
        ("crop_images_directory", "rye"),
        ("crop_images_directory_embeddings", key),
    }
    directory = found["crop_images_directory", key]
    assert isinstance(directory, dg.AssetMaterialization)
    assert directory.metadata["images"].value == 2
    assert directory.tags is not None
    assert directory.tags["dagster/data_version"] == ready.tables.content_version(["maize, wet"])
    vectors = found["crop_images_directory_embeddings", key]
    assert isinstance(vectors, dg.AssetMaterialization)
    assert vectors.metadata["vectors"].value == 2
    for event in result.asset_events:
        instance.report_runless_asset_event(event)
    assert tick().asset_events == []


def test_the_first_tick_registers_the_model_and_folders_wait_for_it(
    fill: Any, ready: Pipeline, instance: dg.DagsterInstance
) -> None:
    fill("maize")
    sensor = build_new_images_sensor(ready.settings)

    def evaluate() -> Any:
        return sensor(dg.build_sensor_context(instance=instance), curation=CurationResource.of(ready.settings))

    (request,) = evaluate().run_requests
    assert (request.job_name, request.partition_key) == ("register_clip_model", None)
    store_run(instance, request, "FAILURE")
    waiting = evaluate()
    assert "waiting for clip_model" in waiting.skip_message
    assert "failure; see its log, then materialize clip_model" in waiting.skip_message
    report_model(instance, ready)
    assert keys(evaluate()) == ["maize"]


def test_a_lake_that_was_deleted_is_filled_again(tick: Tick, fill: Any, ready: Pipeline) -> None:
    fill("maize")
    tick()
    scan(ready, "maize")
    shutil.rmtree(ready.settings.lake_root)
    assert keys(tick()) == ["maize"]
    assert keys(tick()) == []


def test_a_registry_that_was_deleted_gets_its_model_again(
    tick: Tick, fill: Any, ready: Pipeline, instance: dg.DagsterInstance
) -> None:
    fill("maize")
    (ready.settings.mlflow_dir / "mlflow.db").unlink()
    for _ in range(2):
        (request,) = tick().run_requests or []
        assert request.job_name == "register_clip_model"
    first, second = (run.tags["dagster/run_key"] for run in instance.get_runs())
    assert first != second


def test_a_registry_deleted_after_another_registration_gets_its_model_again_and_folders_go_on(
    tick: Tick, fill: Any, ready: Pipeline, instance: dg.DagsterInstance
) -> None:
    fill("maize")
    database = ready.settings.mlflow_dir / "mlflow.db"
    aside = database.rename(database.with_suffix(".aside"))
    (first,) = tick().run_requests or []
    by_hand = dg.RunRequest(None, job_name="register_clip_model")
    store_run(instance, by_hand)
    (again,) = tick().run_requests or []
    assert again.job_name == first.job_name == "register_clip_model"
    assert again.run_key != first.run_key
    aside.rename(database)
    assert keys(tick()) == ["maize"]


def test_rotation_begins_behind_the_cursor_and_comes_round() -> None:
    changes = [FolderChange(name, "f", "new") for name in "abcd"]
    assert [change.folder for change in rotate(changes, "b")] == ["c", "d", "a", "b"]
    assert [change.folder for change in rotate(changes, None)] == list("abcd")
    assert [change.folder for change in rotate(changes, "zz")] == list("abcd")


@pytest.mark.parametrize(
    ("latest", "used", "expected"),
    [
        (None, [], "k:new"),
        (LatestRun("12345678-9", "k:new", True), ["k:new"], None),
        (LatestRun("12345678-9", "k:old", False), ["k:old"], None),
        (LatestRun("12345678-9", "k:old", True), ["k:old"], "k:new"),
        (LatestRun("12345678-9", "k:old", True), ["k:old", "k:new"], "k:new:12345678"),
        (LatestRun("12345678-9", None, True), ["k:new"], "k:new:12345678"),
        (LatestRun("12345678-9", "k:new:abc", True), ["k:new", "k:new:abc"], None),
    ],
)
def test_a_run_key_is_new_only_for_a_state_that_is_not_being_or_been_tried(
    latest: LatestRun | None, used: list[str], expected: str | None
) -> None:
    assert run_key_for("k", "new", latest, lambda key: key in used) == expected


def test_a_handful_of_small_folders_is_one_run_and_a_large_one_waits_for_none() -> None:
    def asked(key: str, files: int) -> Asked:
        return Asked(key, f"{key}:state", "new", files)

    small = [asked(f"field_{index:02}", 30) for index in range(12)]
    assert [len(batch) for batch in batches(small)] == [10, 2]
    large = asked("survey", 5000)
    assert [[of.key for of in batch] for batch in batches([*small[:2], large, *small[2:4]])] == [
        ["field_00", "field_01"],
        ["survey"],
        ["field_02", "field_03"],
    ]


def test_folders_of_one_run_are_found_again_each_by_its_state(
    tick: Tick, fill: Any, ready: Pipeline, instance: dg.DagsterInstance
) -> None:
    for folder in ("maize", "rye", "wheat, wet"):
        fill(folder)
    first = tick(launch=False)
    (request,) = first.run_requests or []
    assert (request.job_name, keys(first)) == ("ingest_image_folders", ["maize", "rye", key_of("wheat, wet")])
    assert set(instance.get_dynamic_partitions("image_folders")) == set(keys(first))
    # The daemon died before it reserved the run: the same folders in the same states are the same run.
    (again,) = tick(launch=False).run_requests or []
    assert again.run_key == request.run_key
    run = store_run(instance, request, "STARTED")
    assert keys(tick()) == []
    fill("rye", 1, first=9)
    assert keys(tick()) == []  # while the run is under way
    instance.report_run_failed(run)
    scan(ready, "maize")
    changed = tick()
    assert keys(changed) == ["rye"]  # the third failed in the state that it is in
    assert keys(tick()) == []


def test_a_folder_is_not_asked_for_again_although_its_last_run_was_of_another_job(
    tick: Tick, fill: Any, ready: Pipeline
) -> None:
    paths = fill("maize")
    assert keys(tick()) == ["maize"]
    scan(ready, "maize")
    kept = [(path, path.read_bytes(), path.stat().st_mtime_ns) for path in paths]
    for path in paths:
        path.write_bytes(path.read_bytes() + b"more")
    fill("rye")
    both = tick()
    assert keys(both) == ["maize", "rye"]
    for folder in ("maize", "rye"):
        scan(ready, folder)
    for path, content, mtime in kept:
        path.write_bytes(content)
        os.utime(path, ns=(mtime, mtime))
    back = tick()
    assert keys(back) == ["maize"]
    assert keys(tick()) == []


def test_what_the_command_made_stands_on_every_page_after_the_first_tick(
    fill: Any, ready: Pipeline, instance: dg.DagsterInstance
) -> None:
    fill("maize", 3)
    run(ready, LogProgress(), curate=False)
    image_map.refresh(ready.searcher.open(), LogProgress())
    resource = CurationResource.of(ready.settings)
    for build in (build_new_images_sensor, build_search_index_sensor):
        result = build(ready.settings)(dg.build_sensor_context(instance=instance), curation=resource)
        assert isinstance(result, dg.SensorResult)
        assert not result.run_requests
        for event in result.asset_events:
            instance.report_runless_asset_event(event)
    assets = (
        "clip_model",
        "crop_images_directory",
        "crop_images_directory_embeddings",
        "image_search_index",
        "image_map",
    )
    for asset in assets:
        assert instance.get_latest_materialization_event(dg.AssetKey(asset)) is not None, asset
    again = build_search_index_sensor(ready.settings)(dg.build_sensor_context(instance=instance), curation=resource)
    assert "the index covers" in reason(dg.SensorResult(skip_reason=again))


def test_folders_made_by_the_command_line_get_checks_too(
    fill: Any, ready: Pipeline, images: Path, on_disk: dg.DagsterInstance
) -> None:
    instance = on_disk
    report_model(instance, ready)
    fill("maize", 10)
    (images / "maize" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    fill("rye", 3)
    run(ready, LogProgress(), curate=False)
    sensor = build_new_images_sensor(ready.settings)
    for _ in range(2):
        context = dg.build_sensor_context(instance=instance)
        result = sensor(context, curation=CurationResource.of(ready.settings))
        for event in result.asset_events:
            instance.report_runless_asset_event(event)
    infos = instance.event_log_storage.get_asset_check_partition_info(
        [
            dg.AssetCheckKey(dg.AssetKey(asset), check)
            for asset, check in (
                ("crop_images_directory", "few_bad_files"),
                ("crop_images_directory", "every_file_is_usable"),
                ("crop_images_directory", "few_bad_files_anywhere"),
                ("crop_images_directory_embeddings", "every_image_embedded_once"),
            )
        ]
    )
    seen = {(info.check_key.name, info.partition_key): info.latest_execution_status.value for info in infos}
    assert seen == {
        ("few_bad_files", "maize"): "FAILED",
        ("few_bad_files", "rye"): "SUCCEEDED",
        ("every_file_is_usable", None): "FAILED",
        ("few_bad_files_anywhere", None): "FAILED",
        ("every_image_embedded_once", "maize"): "SUCCEEDED",
        ("every_image_embedded_once", "rye"): "SUCCEEDED",
    }
    assert all(info.is_current for info in infos if info.partition_key)
    sensor(dg.build_sensor_context(instance=instance), curation=CurationResource.of(ready.settings))
    history = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("crop_images_directory"), "every_file_is_usable"), 10
    )
    assert len(history) == 1  # the table is as it was


def test_a_check_that_a_killed_run_was_to_evaluate_is_evaluated_by_the_sensor(
    fill: Any, ready: Pipeline, caplog: pytest.LogCaptureFixture, on_disk: dg.DagsterInstance
) -> None:
    instance = on_disk
    fill("maize", 3)
    run(ready, LogProgress(), curate=False)
    images, check = dg.AssetKey("crop_images_directory"), "every_file_is_usable"
    report_model(instance, ready)
    killed = instance.add_run(dg.DagsterRun("ingest_image_folder", status=dg.DagsterRunStatus.STARTED))
    event = DagsterEvent(
        DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value,
        killed.job_name,
        event_specific_data=AssetCheckEvaluationPlanned(asset_key=images, check_name=check),
    )
    instance.report_dagster_event(event, killed.run_id)
    instance.report_run_failed(killed)
    sensor = build_new_images_sensor(ready.settings)
    sensor(dg.build_sensor_context(instance=instance), curation=CurationResource.of(ready.settings))
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key([dg.AssetCheckKey(images, check)])
    assert [record.status.value for record in latest.values()] == ["SUCCEEDED"]
    assert "could not be reported" not in caplog.text


def test_partitions_of_a_new_project_can_be_chosen_while_the_model_is_registered(
    fill: Any, ready: Pipeline, instance: dg.DagsterInstance
) -> None:
    fill("maize")
    context = dg.build_sensor_context(instance=instance)
    result = build_new_images_sensor(ready.settings)(context, curation=CurationResource.of(ready.settings))
    assert [request.partition_keys for request in result.dynamic_partitions_requests] == [["maize"]]
