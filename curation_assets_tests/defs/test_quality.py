"""The quality of images on Dagster's pages: by run, by state, and as the command line left it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from PIL import Image

from curation_assets.curate import measuring
from curation_assets.curate.checks import problems_as_before, scores_are_finite
from curation_assets.defs import following
from curation_assets.defs import quality as quality_defs
from curation_assets.defs.quality import build_quality_sensor, quality_data_version
from curation_assets.defs.resources import CurationResource
from curation_assets.errors import CurationError
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.defs.test_sensors import store_run

QUALITY = dg.AssetKey("image_quality")
ROWS = [dg.AssetKey("crop_images_directory"), QUALITY]
Tick = Callable[..., dg.RunRequest | dg.SkipReason]


@pytest.fixture
def materialize(materialize: Callable[..., Any]) -> Callable[..., Any]:
    """Of a folder's run, only what measures it: tests of batches see the whole one do that too."""

    def run(job: str, partition: str | None = None, **more: Any) -> Any:
        return materialize(job, partition, only=ROWS if job == "ingest_image_folder" else None, **more)

    return run


@pytest.fixture
def tick(instance: dg.DagsterInstance, ready: Pipeline) -> Tick:
    """Evaluate the sensor once."""

    def evaluate() -> dg.RunRequest | dg.SkipReason:
        context = dg.build_sensor_context(instance=instance)
        result = build_quality_sensor(ready.settings)(context, curation=CurationResource.of(ready.settings))
        assert isinstance(result, dg.RunRequest | dg.SkipReason)
        return result

    return evaluate


@pytest.fixture
def scanned(ready: Pipeline) -> Callable[..., Pipeline]:
    """Folders as a lake of an earlier version holds them: scanned, not measured."""

    def scan(*folders: str) -> Pipeline:
        ready.tables.directory.create()
        ready.scan(folders, LogProgress())
        return ready

    return scan


def told(instance: dg.DagsterInstance, folder: str) -> Any:
    """The newest materialization of a folder's measures."""
    chosen = dg.AssetRecordsFilter(QUALITY, asset_partitions=[folder])
    return instance.fetch_materializations(chosen, limit=1).records[0].asset_materialization


def checks(result: Any, folder: str) -> dict[str, Any]:
    """Evaluations of a folder's measures in a run."""
    found = [e for e in result.get_asset_check_evaluations() if e.asset_key == QUALITY and e.partition == folder]
    return {evaluation.check_name: evaluation for evaluation in found}


def darken(folder: Path) -> None:
    """Take the light from every photograph of a folder."""
    for path in folder.iterdir():
        with Image.open(path) as image:
            image.point([value // 8 for value in range(256)] * 3).save(path, "JPEG", quality=90)


@pytest.mark.parametrize("job", ["ingest_image_folder", "bring_everything_in_line"])
def test_a_folders_run_measures_it_and_its_page_tells_what_is_wrong_with_it(
    job: str,
    ready: Pipeline,
    fill: Any,
    images: Path,
    materialize: Callable[..., Any],
    instance: dg.DagsterInstance,
) -> None:
    fill("maize", 3)
    (images / "maize" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    fill("night", 2)
    darken(images / "night")
    for folder in ("maize", "night") if job == "ingest_image_folder" else (None,):
        result = materialize(job, folder)
        assert result.success
    event = told(instance, "night")
    facts = event.metadata
    assert (facts["images"].value, facts["measured"].value) == (2, 2)
    assert (facts["dark"].value, facts["with a problem"].value, facts["bright"].value) == (2, 2, 0)
    assert facts["problems"].value.records[0].data["kind"] in {"dark", "blurry"}
    assert facts["dagster/partition_row_count"].value == 2
    assert facts["table rows"].value == 5
    assert facts["the darkest"].value.startswith("highlights 0.")
    assert "2 of these are dark" in facts["the darkest"].value
    assert "![2 images](data:image/jpeg;base64," in facts["the darkest"].value
    assert facts["the blurriest"].value.startswith("sharpness 0.")
    content = ready.tables.content_version(["night"])
    assert event.tags["dagster/data_version"] == quality_data_version(content, 2)
    if job == "bring_everything_in_line":  # Dagster fills this in of an asset's own run
        assert event.tags["dagster/input_data_version/crop_images_directory"] == content
    assert told(instance, "maize").metadata["images"].value == 3
    assert told(instance, "maize").metadata["dark"].value == 0
    found = checks(result, "night")
    assert found["scores_are_finite"].passed
    assert found["problems_as_before"].passed
    assert found["problems_as_before"].severity is dg.AssetCheckSeverity.WARN


def test_what_did_not_change_is_not_measured_again_and_keeps_its_data_version(
    fill: Any, materialize: Callable[..., Any], instance: dg.DagsterInstance
) -> None:
    fill("maize", 2)
    seen = []
    for more in (0, 0, 1):
        if more:
            fill("maize", 1, first=2)
        assert materialize("ingest_image_folder", "maize").success
        event = told(instance, "maize")
        seen.append((event.tags["dagster/data_version"], event.metadata["measured"].value))
    assert seen[0][0] == seen[1][0] != seen[2][0]
    assert [measured for _, measured in seen] == [2, 0, 1]


def test_a_folders_run_has_all_its_steps_in_one_process(defs: dg.Definitions) -> None:
    job = defs.resolve_job_def("ingest_image_folder")
    assert job.executor_def.name == "in_process"


def test_several_folders_of_one_run_are_judged_by_one_reading_of_the_table(
    fill: Any, materialize: Callable[..., Any], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged, calls = quality_defs.judged, []

    def counted(*args: Any) -> Any:
        calls.append(args)
        return judged(*args)

    monkeypatch.setattr(quality_defs, "judged", counted)
    for folder in ("a", "b", "c"):
        fill(folder, 1)
    instance.add_dynamic_partitions("image_folders", ["a", "b", "c"])
    config = {"ops": {"folders": {"config": {"keys": ["a", "b", "c"]}}}}
    assert materialize("ingest_image_folders", run_config=config).success
    assert instance.get_materialized_partitions(QUALITY) == {"a", "b", "c"}
    assert len(calls) == 1


def test_folders_that_were_never_measured_are_asked_for_in_one_run_and_then_no_more(
    tick: Tick,
    fill: Any,
    scanned: Callable[..., Pipeline],
    materialize: Callable[..., Any],
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "FOLDERS_AT_ONCE", 3)
    folders = [f"field_{number:02}" for number in range(7)]
    for folder in folders:
        fill(folder, 1)
    scanned(*folders)
    request = tick()
    assert isinstance(request, dg.RunRequest)
    assert materialize("measure_image_quality", **{"dagster/run_key": str(request.run_key)}).success
    assert instance.get_materialized_partitions(QUALITY) == set(folders)
    assert set(instance.get_dynamic_partitions("image_folders")) == set(folders)
    skipped = tick()
    assert isinstance(skipped, dg.SkipReason)
    assert skipped.skip_message == "7 folders are in line"
    monkeypatch.setattr("curation_assets.curate.quality.MEASURES_VERSION", measuring.MEASURES_VERSION + 1)
    monkeypatch.setattr(quality_defs, "MEASURES_VERSION", measuring.MEASURES_VERSION + 1)
    monkeypatch.setattr(quality_defs, "_known", quality_defs.Remembered())  # as after a start with a new version
    assert isinstance(tick(), dg.RunRequest)


def test_a_folder_that_a_run_is_at_is_left_to_it_until_the_run_ends(
    tick: Tick, fill: Any, scanned: Callable[..., Pipeline], defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    fill("maize", 1)
    scanned("maize")
    instance.add_dynamic_partitions("image_folders", ["maize"])
    job = defs.resolve_job_def("ingest_image_folder")
    under_way = instance.create_run_for_job(job, tags={"dagster/partition": "maize"})
    skipped = tick()
    assert isinstance(skipped, dg.SkipReason)
    assert "0 folders are in line; runs are at 1 others" in str(skipped.skip_message)
    instance.report_run_failed(under_way)
    assert isinstance(tick(), dg.RunRequest)


def test_what_a_run_did_not_bring_in_line_is_asked_for_again_after_a_wait(
    tick: Tick, fill: Any, scanned: Callable[..., Pipeline], instance: dg.DagsterInstance
) -> None:
    fill("maize", 1)
    scanned("maize")
    request = tick()
    assert isinstance(request, dg.RunRequest)
    named = dg.RunRequest(request.run_key, job_name="measure_image_quality", tags=request.tags)
    store_run(instance, named, "FAILURE")
    skipped = tick()
    assert isinstance(skipped, dg.SkipReason)
    assert "1 folders are behind; image_quality (run" in str(skipped.skip_message)
    assert "FAILURE, attempt 1, again in" in str(skipped.skip_message)
    fill("maize", 1, first=1)
    scanned("maize")  # another state is asked for at once
    assert isinstance(tick(), dg.RunRequest)


def test_a_folder_that_fails_costs_its_neighbours_nothing(
    fill: Any,
    scanned: Callable[..., Pipeline],
    materialize: Callable[..., Any],
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for folder in ("a", "b", "c"):
        fill(folder, 1)
    scanned("a", "b", "c")
    measure = Pipeline.measure

    def measure_or_fail(self: Pipeline, folders: list[str], *args: Any, **kwargs: Any) -> Any:
        if folders == ["b"]:
            raise CurationError("the disk is full")
        return measure(self, folders, *args, **kwargs)

    monkeypatch.setattr(Pipeline, "measure", measure_or_fail)
    result = materialize("measure_image_quality")
    assert not result.success
    failures = " ".join(str(event.event_specific_data) for event in result.all_events if event.is_step_failure)
    assert "b: the disk is full (2 other folders of this run are done and committed)" in failures
    assert instance.get_materialized_partitions(QUALITY) == {"a", "c"}


@pytest.mark.parametrize("damaged", ["directory", "quality"])
def test_a_damaged_file_costs_its_own_folder_only(
    damaged: str,
    tick: Tick,
    fill: Any,
    scanned: Callable[..., Pipeline],
    materialize: Callable[..., Any],
    instance: dg.DagsterInstance,
) -> None:
    for folder in ("a", "b", "c"):
        fill(folder, 1)
    pipeline = scanned("a", "b", "c")
    if damaged == "quality":
        pipeline.measure(["a", "b", "c"], LogProgress())
        for folder in ("a", "b", "c"):
            fill(folder, 1, first=1)
        scanned("a", "b", "c")
    table = getattr(pipeline.tables, damaged)
    (file,) = table.latest().files("b")
    (table.path / file.path).write_bytes((table.path / file.path).read_bytes()[:100])
    assert isinstance(tick(), dg.RunRequest)
    assert not materialize("measure_image_quality").success
    assert instance.get_materialized_partitions(QUALITY) == {"a", "c"}
    assert told(instance, "c").metadata["images"].value == (2 if damaged == "quality" else 1)


def test_what_the_command_line_measured_is_told_once_with_its_checks(
    tick: Tick, fill: Any, ready: Pipeline, instance: dg.DagsterInstance
) -> None:
    fill("maize", 2)
    run(ready, LogProgress(), curate=False)
    ready.measure_all(LogProgress())
    skipped = tick()
    assert isinstance(skipped, dg.SkipReason)
    assert "1 folders are in line; 1 of them were told of" in str(skipped.skip_message)
    event = told(instance, "maize")
    assert event.metadata["images"].value == 2
    assert event.metadata["note"].value == "found up to date in the table; made outside Dagster"
    for name in ("scores_are_finite", "problems_as_before", "reviewed_precision"):
        (info,) = instance.event_log_storage.get_asset_check_partition_info([dg.AssetCheckKey(QUALITY, name)])
        assert (info.partition_key, info.is_current) == ("maize", True)
    tick()
    assert len(instance.fetch_materializations(QUALITY, limit=5).records) == 1


def test_before_anything_is_scanned_nothing_is_asked_for(tick: Tick) -> None:
    skipped = tick()
    assert isinstance(skipped, dg.SkipReason)
    assert skipped.skip_message == "nothing is scanned yet"


def test_a_lake_of_broken_files_alone_is_in_line(
    tick: Tick, images: Path, scanned: Callable[..., Pipeline], instance: dg.DagsterInstance
) -> None:
    (images / "maize").mkdir()
    (images / "maize" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    scanned("maize")
    assert isinstance(tick(), dg.SkipReason)
    facts = told(instance, "maize").metadata
    assert (facts["images"].value, facts["with a problem"].value) == (0, 0)


def test_a_folder_that_is_gone_loses_its_rows(
    fill: Any, images: Path, materialize: Callable[..., Any], instance: dg.DagsterInstance, ready: Pipeline
) -> None:
    fill("maize", 2)
    fill("wheat", 2)
    for folder in ("maize", "wheat"):
        assert materialize("ingest_image_folder", folder).success
    shutil.rmtree(images / "maize")
    assert materialize("ingest_image_folder", "maize").success
    assert ready.tables.quality.latest().folders == ["wheat"]
    assert told(instance, "maize").metadata["removed"].value == 2


def test_a_share_that_jumps_is_a_warning_and_its_folder_is_done_all_the_same(
    fill: Any, images: Path, materialize: Callable[..., Any], instance: dg.DagsterInstance
) -> None:
    fill("maize", 24)
    result = materialize("ingest_image_folder", "maize")
    assert checks(result, "maize")["problems_as_before"].passed
    darken(images / "maize")
    result = materialize("ingest_image_folder", "maize")
    assert result.success
    check = checks(result, "maize")["problems_as_before"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "dark 100.0% of 24, before 0.0% of 24" in check.description
    assert told(instance, "maize").metadata["dark"].value == 24
    again = materialize("ingest_image_folder", "maize")
    assert checks(again, "maize")["problems_as_before"].passed


def test_other_thresholds_are_no_jump(
    fill: Any, ready: Pipeline, instance: dg.DagsterInstance, materialize: Callable[..., Any]
) -> None:
    from curation_assets.definitions import build_defs

    fill("maize", 24)
    assert materialize("ingest_image_folder", "maize").success
    changed = ready.settings.model_copy(update={"problem_thresholds": {"dark": 5.0}})
    job = build_defs(changed).resolve_job_def("ingest_image_folder")
    result = job.execute_in_process(
        instance=instance, partition_key="maize", asset_selection=ROWS, raise_on_error=False
    )
    assert told(instance, "maize").metadata["dark"].value == 24
    assert checks(result, "maize")["problems_as_before"].passed


def test_a_score_outside_its_scale_fails_the_run(
    fill: Any, materialize: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "sharpness_of", lambda _: 7.5)
    monkeypatch.setattr(measuring, "SHARPNESS_VERSION", measuring.SHARPNESS_VERSION + 1)
    fill("maize", 2)
    result = materialize("ingest_image_folder", "maize")
    assert not result.success
    check = checks(result, "maize")["scores_are_finite"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert check.metadata["outside_scale"].value == 2


def test_every_folder_is_told_of_though_the_checks_of_some_fail(
    fill: Any,
    scanned: Callable[..., Pipeline],
    materialize: Callable[..., Any],
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measuring, "sharpness_of", lambda _: 7.5)
    monkeypatch.setattr(measuring, "SHARPNESS_VERSION", measuring.SHARPNESS_VERSION + 1)
    for folder in ("a", "b", "c"):
        fill(folder, 1)
    scanned("a", "b", "c")
    result = materialize("measure_image_quality")
    assert not result.success
    assert instance.get_materialized_partitions(QUALITY) == {"a", "b", "c"}
    assert len(checks(result, "c")) == 3


def test_images_without_rows_are_counted(fill: Any, scanned: Callable[..., Pipeline]) -> None:
    fill("maize", 3)
    pipeline = scanned("maize")
    pipeline.tables.quality.create()
    directory, quality = pipeline.tables.directory, pipeline.tables.quality
    before = scores_are_finite(directory.latest(), quality.latest(), ["maize"])
    assert (before.passed, before.numbers["missing"]) == (False, 3)
    pipeline.measure(["maize"], LogProgress())
    assert scores_are_finite(directory.latest(), quality.latest(), ["maize"]).passed


@pytest.mark.parametrize(
    ("now", "images", "before", "images_before", "passes"),
    [
        ({"dark": 30}, 100, {"dark": 2}, 100, False),
        ({"dark": 2}, 100, {"dark": 30}, 100, True),  # a fall
        ({"dark": 5}, 5, {"dark": 0}, 5, True),  # too few
        ({"dark": 19}, 19, {"dark": 0}, 1000, True),
        ({"dark": 3}, 20, {"dark": 0}, 20, True),  # chance
        ({"dark": 400}, 10_000, {"dark": 100}, 10_000, True),  # sure, but small
        ({"dark": 100}, 1100, {"dark": 0}, 1000, False),  # a tenth came, all of it bad
        ({"dark": 10, "blurry": 30}, 100, {"dark": 30, "blurry": 10}, 100, False),  # of one kind
        ({"dark": 30}, 100, {}, 100, True),  # a kind that wasn't counted before
    ],
)
def test_a_jump_is_large_and_no_chance(
    now: dict[str, int], images: int, before: dict[str, int], images_before: int, passes: bool
) -> None:
    assert problems_as_before(now, images, before, images_before).passed is passes
