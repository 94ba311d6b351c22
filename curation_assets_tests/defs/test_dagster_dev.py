from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from PIL import Image

from curation_assets.pipeline import Pipeline
from curation_assets.search import image_map
from curation_assets.search.index import read_info
from curation_assets.settings import load_settings
from curation_assets_tests.defs.dagster_process import DagsterDev, environment, stop, wait_for
from curation_assets_tests.defs.killed_dagster import slots, under_way, was_ended

pytestmark = pytest.mark.slow
ENDED = {"CANCELED", "SUCCESS", "FAILURE"}
DIRECTORY, EMBEDDINGS = "crop_images_directory", "crop_images_directory_embeddings"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def start(home: Path, images: Path, tmp_path: Path) -> Iterator[Callable[[], DagsterDev]]:
    """Start `dg dev`; batches of one make embedding slow enough to be interrupted."""
    started: list[DagsterDev] = []

    def begun() -> DagsterDev:
        env = environment(home, images, BATCH_SIZE="1", THREADS="1")
        started.append(DagsterDev(env, tmp_path / f"dg_{len(started)}.log"))
        return started[-1]

    yield begun
    for dev in started:
        stop(dev.process)


def test_a_real_dagster_runs_sensor_and_backfill_and_survives_kill_and_cancellation(
    start: Callable[[], DagsterDev], home: Path, images: Path, fill: Any
) -> None:
    pipeline = Pipeline(load_settings(images_root=images, lake_root=home / "lake", model_source="demo"))
    fill("maize", 4)
    fill("wheat", 4)
    dev = start()

    def statuses(partition: str) -> list[str]:
        return [run["status"] for run in dev.runs_of(partition)]

    def succeeded(partition: str) -> bool:
        assert "FAILURE" not in statuses(partition)
        return statuses(partition) == ["SUCCESS"]

    # The sensor, on by default, registers the model and starts one run for the two folders.
    for folder in ("maize", "wheat"):
        wait_for(f"{folder} is ingested", lambda folder=folder: succeeded(folder), 600)
    ours = {"register_clip_model", "ingest_image_folder", "ingest_image_folders", "refresh_search_index"}
    assert {run["jobName"] for run in dev.runs()} <= ours
    assert len(dev.runs_of("maize")) == 1
    assert dev.runs_of("maize") == dev.runs_of("wheat")

    # A folder that is dropped in gets a run. All of Dagster is killed while that waits to write.
    with pipeline.tables.directory.writer("rye"):
        fill("rye", 3)
        lost = wait_for("the sensor sees rye", lambda: dev.runs_of("rye"))[0]["id"]
        wait_for("its scan has begun", lambda: _log_says(dev, lost, "STEP_START", DIRECTORY))
        os.killpg(dev.process.pid, signal.SIGKILL)
        dev.process.wait()
    dev = start()

    # A run cancelled in the middle of embedding frees its slot of the pool and leaves good tables.
    large = BytesIO()
    Image.effect_noise((2400, 1600), 60).convert("RGB").save(large, "JPEG", quality=60)
    (images / "oats").mkdir()
    # An interrupt that a library swallows comes again after ten seconds. Where these few photographs are embedded by
    # then, it is tried again, later in the run; that may bring in rye too.
    known = set[str]()
    for seconds in (1, 3, 5):
        for index in range(30):  # what follows a JPEG's end makes it another content
            (images / "oats" / f"{index:03}.jpg").write_bytes(large.getvalue() + bytes([index, seconds]))
        run = wait_for("the sensor sees oats", lambda: {one["id"] for one in dev.runs_of("oats")} - known).pop()
        known.add(run)
        steps = EMBEDDINGS, "embed[0_oats]", "embed[1_oats]"
        wait_for(
            "embedding has begun", lambda run=run, steps=steps: _log_says(dev, run, "STEP_START", *steps), pause=0.1
        )
        time.sleep(seconds)
        dev.ask("mutation($id: String!) { terminateRun(runId: $id) { __typename } }", id=run)
        ended = wait_for("the run ends", lambda run=run: {dev.status(run)} & ENDED)
        embedded = pipeline.tables.status(pipeline.selection.current()).filter(folder="oats")["embedded"].item()
        if ended == {"CANCELED"} and embedded < 30:
            break
    assert ended == {"CANCELED"}
    assert embedded < 30
    again = dev.launch(EMBEDDINGS, "oats")
    wait_for("embedding is finished", lambda: dev.status(again) in ("SUCCESS", "FAILURE"))
    assert dev.status(again) == "SUCCESS"
    assert pipeline.tables.embeddings.snapshot().rows("oats") == 30

    # The run that was killed is ended as failed, and its folder done by others a minute later.
    wait_for("rye is ingested", lambda: "SUCCESS" in statuses("rye") and set(statuses("rye")) <= ENDED)
    assert dev.status(lost) == "FAILURE"
    assert pipeline.tables.status(pipeline.selection.current()).rows() == [
        ("maize", 4, 4, 0, 4, 0),
        ("oats", 30, 30, 0, 30, 0),
        ("rye", 3, 3, 0, 3, 0),
        ("wheat", 4, 4, 0, 4, 0),
    ]

    # The search index is brought in line; the map follows by itself.
    index = pipeline.searcher.location_of(pipeline.registry.champion())

    def followed() -> bool:
        info, points = read_info(index), image_map.read(image_map.location_of(index))
        return info is not None and points is not None and info.vectors == len(points) == 41

    wait_for("index and map hold all images", followed)

    # A backfill of all partitions of both assets ends well, and finds nothing left to do.
    versions = pipeline.tables.directory.snapshot().version, pipeline.tables.embeddings.snapshot().version
    backfill = dev.backfill([DIRECTORY, EMBEDDINGS], ["maize", "oats", "rye", "wheat"])
    wait_for("the backfill is done", lambda: dev.backfill_status(backfill) == "COMPLETED_SUCCESS", 600)
    assert len(dev.runs(backfill=backfill)) == 1
    assert (pipeline.tables.directory.snapshot().version, pipeline.tables.embeddings.snapshot().version) == versions
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert was_ended(instance, instance.get_run_by_id(lost))
        wait_for("no run is under way, no slot held", lambda: not under_way(instance) and not slots(instance))
    assert not list(pipeline.tables.embeddings.path.glob("_writers/*/*.parquet"))


def _log_says(dev: DagsterDev, run: str, event: str, *steps: str) -> bool:
    query = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
        ... on MessageEvent { eventType stepKey } } } } }"""
    events = dev.ask(query, id=run)["logsForRun"]["events"]
    return any(entry.get("eventType") == event and entry.get("stepKey") in steps for entry in events)
