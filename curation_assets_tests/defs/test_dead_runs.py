"""Runs whose process is gone are found and ended; those that are alive, or that one can't see, are left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.storage.tags import GRPC_INFO_TAG

from curation_assets.defs.dead_runs import build_dead_runs_sensor, end_dead_runs, give_back_slots
from curation_assets.defs.state import Signs, Verdict, verdict
from curation_assets.defs.workers import WORKER, ServerAnswer, Worker, ask_server, started_at
from curation_assets.settings import load_settings

SILENT = json.dumps({"host": "localhost", "socket": "/nowhere/at/all"})


@pytest.fixture
def instance(on_disk: dg.DagsterInstance) -> dg.DagsterInstance:
    """One with Dagster's default launcher, as `dg dev` has."""
    return on_disk


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield started
    started.kill()
    started.wait()


def worker_of(pid: int) -> Worker:
    this, started = Worker.this(), started_at(pid)
    assert this is not None
    assert started is not None
    return replace(this, pid=pid, started=started)


def run_of(
    instance: dg.DagsterInstance, worker: Worker | None, status: str = "STARTED", server: str | None = SILENT
) -> dg.DagsterRun:
    run = instance.add_run(dg.DagsterRun("ingest_image_folder", status=dg.DagsterRunStatus[status]))
    tags = ({WORKER: worker.tag(run.run_id)} if worker else {}) | ({GRPC_INFO_TAG: server} if server else {})
    if tags:
        instance.add_run_tags(run.run_id, tags)
    return run


def status_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status.value


def test_a_run_is_left_alone_while_its_process_lives_and_ended_when_it_is_gone(
    instance: dg.DagsterInstance, process: subprocess.Popen[bytes]
) -> None:
    run = run_of(instance, worker_of(process.pid))
    assert end_dead_runs(instance) == []
    process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while started_at(process.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.02)  # until it is a zombie: nobody has waited for it
    (told,) = end_dead_runs(instance)
    assert told == f"run {run.run_id[:8]} of ingest_image_folder was STARTED, but its process is gone"
    assert status_of(instance, run) == "FAILURE"
    assert end_dead_runs(instance) == []


def test_a_process_of_another_start_or_boot_is_not_taken_for_the_runs(
    instance: dg.DagsterInstance, process: subprocess.Popen[bytes]
) -> None:
    worker = worker_of(process.pid)
    later, before = replace(worker, started=worker.started - 1), replace(worker, boot="another")
    runs = [run_of(instance, other) for other in (later, before)]
    assert len(end_dead_runs(instance)) == 2
    assert {status_of(instance, run) for run in runs} == {"FAILURE"}


def test_a_run_that_was_being_cancelled_ends_as_cancelled(instance: dg.DagsterInstance) -> None:
    this = Worker.this()
    assert this is not None
    run = run_of(instance, replace(this, started=this.started - 1), "CANCELING")
    end_dead_runs(instance)
    assert status_of(instance, run) == "CANCELED"


def test_runs_of_other_machines_other_launchers_and_other_locations_are_left(instance: dg.DagsterInstance) -> None:
    this = Worker.this()
    assert this is not None
    runs = [run_of(instance, replace(this, host="another")), run_of(instance, replace(this, started=0))]
    assert end_dead_runs(instance, location="curation_assets") == []
    assert len(end_dead_runs(instance)) == 1
    assert [status_of(instance, run) for run in runs] == ["STARTED", "FAILURE"]


def test_a_run_that_has_only_just_been_launched_is_left(instance: dg.DagsterInstance) -> None:
    for status in ("STARTING", "STARTED", "NOT_STARTED"):
        run_of(instance, None, status)
    assert end_dead_runs(instance) == []


def test_a_tag_that_was_taken_over_from_another_run_says_nothing(instance: dg.DagsterInstance) -> None:
    this = Worker.this()
    assert this is not None
    dead = replace(this, started=0)
    run = run_of(instance, None)
    instance.add_run_tags(run.run_id, {WORKER: dead.tag("a-run-that-this-one-repeats")})
    assert end_dead_runs(instance) == []


def test_slots_of_a_dead_run_are_given_back(instance: dg.DagsterInstance) -> None:
    this = Worker.this()
    assert this is not None
    storage = instance.event_log_storage
    storage.set_concurrency_slots("gpu", 1)
    run = run_of(instance, replace(this, started=0))
    assert storage.claim_concurrency_slot("gpu", run.run_id, "embed").is_claimed
    context = dg.build_sensor_context(instance=instance)
    assert "was STARTED, but its process is gone" in build_dead_runs_sensor(load_settings())(context).skip_message
    other = run_of(instance, this)
    assert storage.claim_concurrency_slot("gpu", other.run_id, "embed").is_claimed


def test_slots_of_a_run_that_was_killed_and_ended_by_its_server_are_given_back(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = instance.event_log_storage
    storage.set_concurrency_slots("gpu", 1)
    run = run_of(instance, Worker.this())
    assert storage.claim_concurrency_slot("gpu", run.run_id, "embed").is_claimed
    instance.report_run_failed(run)
    give_back_slots(instance)
    assert storage.get_concurrency_info("gpu").claimed_slots  # its process may be about to
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 61)
    give_back_slots(instance)
    assert not storage.get_concurrency_info("gpu").claimed_slots


def test_a_process_that_only_dagster_tells_of_keeps_its_run_alive(
    instance: dg.DagsterInstance, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(instance, None)
    event = DagsterEvent(
        DagsterEventType.ENGINE_EVENT.value,
        run.job_name,
        message=f"Started process for run (pid: {process.pid}).",
        event_specific_data=EngineEventData.in_process(process.pid),
    )
    instance.report_dagster_event(event, run.run_id)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    assert end_dead_runs(instance) == []
    process.kill()
    process.wait()
    assert len(end_dead_runs(instance)) == 1


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        (Signs("STARTED", 0, worker_runs=True), Verdict.LEAVE),
        (Signs("STARTED", 0, worker_runs=False), Verdict.FAIL),
        (Signs("STARTED", 0, worker_runs=False, server=ServerAnswer.KNOWN), Verdict.LEAVE),
        (Signs("CANCELING", 0, worker_runs=False), Verdict.CANCEL),
        (Signs("STARTED", 1e9, elsewhere=True), Verdict.LEAVE),
        (Signs("STARTED", 1e9, server=ServerAnswer.ELSEWHERE), Verdict.LEAVE),
        (Signs("STARTED", 1e9, server=ServerAnswer.UNKNOWN), Verdict.FAIL),
        (Signs("STARTED", 1e9, server=ServerAnswer.KNOWN), Verdict.LEAVE),
        (Signs("STARTED", 1e9, told_process_runs=True), Verdict.LEAVE),
        (Signs("STARTING", 30), Verdict.LEAVE),
        (Signs("STARTING", 90), Verdict.FAIL),
        (Signs("STARTING", 90, launched=False, server=ServerAnswer.ELSEWHERE), Verdict.FAIL),
        (Signs("NOT_STARTED", 90), Verdict.LEAVE),
        (Signs("NOT_STARTED", 700), Verdict.FAIL),
    ],
)
def test_what_becomes_of_a_run(signs: Signs, expected: Verdict) -> None:
    assert verdict(signs) is expected


def test_a_server_is_asked_where_it_is(instance: dg.DagsterInstance) -> None:
    def answer(server: Any) -> ServerAnswer:
        return ask_server(dg.DagsterRun("job", tags={} if server is None else {GRPC_INFO_TAG: server}))

    started = time.monotonic()
    assert answer(SILENT) is ServerAnswer.SILENT
    assert answer(json.dumps({"host": "localhost", "port": 1})) is ServerAnswer.SILENT
    assert answer(json.dumps({"host": "nowhere.invalid", "port": 4000})) is ServerAnswer.ELSEWHERE
    assert answer(None) is ServerAnswer.ELSEWHERE
    assert answer("nonsense") is ServerAnswer.ELSEWHERE
    assert time.monotonic() - started < 20
    assert os.getpid() == worker_of(os.getpid()).pid
