"""Whatever ends a run, what it was to bring in line is asked for again: after a wait, and never given up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

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


class Clock:
    """What sensors take for the time, so that hours pass in a test."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._time = time.time

    def __call__(self) -> float:
        return self._time() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    chosen = Clock()
    for module in ("new_images", "search"):
        monkeypatch.setattr(f"curation_assets.defs.{module}.time.time", chosen)
    return chosen


def requests(result: dg.SensorResult) -> list[dg.RunRequest]:
    return list(result.run_requests or [])


@pytest.mark.parametrize("status", ["FAILURE", "CANCELED", "SUCCESS"])
def test_a_folder_that_still_differs_is_asked_for_again_after_ever_longer_waits(
    status: str, tick: Tick, fill: Any, clock: Clock, instance: dg.DagsterInstance
) -> None:
    fill("maize")
    run_keys: list[str] = []
    for number, minutes in enumerate((1, 2, 4, 8), 1):
        (request,) = requests(tick(launch=False))
        assert request.tags.get("curation/attempt", "1") == str(number)
        run_keys.append(str(request.run_key))
        run = store_run(instance, request, "STARTED")
        assert keys(tick()) == []
        instance.report_dagster_event(_end_of(run, status), run.run_id)
        waiting = tick()
        assert keys(waiting) == []
        expected = f"1 folder waits to be tried again: maize (run {run.run_id[:8]} {status}, attempt {number}, again in"
        assert expected in reason(waiting)
        run_record = instance.get_run_record_by_id(run.run_id)
        assert run_record is not None
        assert run_record.end_time is not None
        clock.ahead += minutes * MINUTE - 5
        assert keys(tick(launch=False)) == []
        clock.ahead += 6
        assert keys(tick(launch=False)) == ["maize"]
        clock.ahead -= minutes * MINUTE + 1  # runs are stored by the real time
        clock.ahead += minutes * MINUTE + 1 if number == 0 else 0
        clock.ahead = _ahead(clock, minutes)
    assert len(set(run_keys)) == 4


def _ahead(clock: Clock, minutes: float) -> float:
    return minutes * MINUTE + 1


def _end_of(run: dg.DagsterRun, status: str) -> Any:
    from dagster._core.events import DagsterEvent, DagsterEventType

    kind = {
        "FAILURE": DagsterEventType.RUN_FAILURE,
        "CANCELED": DagsterEventType.RUN_CANCELED,
        "SUCCESS": DagsterEventType.RUN_SUCCESS,
    }[status]
    return DagsterEvent(kind.value, run.job_name, message="over")
