from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curation_assets.errors import CurationError
from curation_assets.spark.session import slots
from curation_assets.spark.units import Task, run_units

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Echo:
    value: Any
    seconds: float = 0.0

    def carry_out(self, task: Task) -> Any:
        time.sleep(self.seconds)
        return self.value, task.cores, task.gpus, os.getpid()


@dataclass(frozen=True)
class FailsUntil:
    """Kills its process, or raises, until it has been tried often enough."""

    tries: Path
    enough: int
    how: str

    def carry_out(self, task: Task) -> int:
        number = len(list(self.tries.iterdir()))
        (self.tries / str(number)).touch()
        if number + 1 < self.enough:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("not yet")
        return number + 1


@dataclass(frozen=True)
class Refuses:
    tries: Path

    def carry_out(self, task: Task) -> None:
        (self.tries / str(time.time_ns())).touch()
        raise CurationError("the model is another one than was registered")


def test_results_come_in_the_order_of_the_units_from_other_processes(spark: Any, tmp_path: Path) -> None:
    parts: list[float] = []
    results = run_units(spark, tmp_path, [Echo(f"a b%é {n}", 0.2) for n in range(10)], parts.append)
    assert [value for value, *_ in results] == [f"a b%é {n}" for n in range(10)]
    assert {(cores, gpus) for _, cores, gpus, _ in results} == {(1, ())}
    assert os.getpid() not in {pid for *_, pid in results}
    assert sum(parts) == pytest.approx(1)
    assert list(tmp_path.iterdir()) == []
    assert slots(spark) == 2


def test_nothing_to_do_begins_nothing(tmp_path: Path) -> None:
    assert run_units(None, tmp_path, [], lambda _: pytest.fail("no part")) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["killed", "raises"])
def test_a_task_that_is_lost_is_tried_again(how: str, spark: Any, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    tries.mkdir()
    assert run_units(spark, tmp_path, [FailsUntil(tries, 3, how)], lambda _: None) == [3]


def test_a_task_that_fails_too_often_ends_the_job_with_its_reason(spark: Any, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    tries.mkdir()
    with pytest.raises(CurationError, match="nothing was committed: ValueError: not yet"):
        run_units(spark, tmp_path, [Echo(1), FailsUntil(tries, 9, "raises")], lambda _: None)
    assert len(list(tries.iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["tries"]


def test_an_error_that_trying_again_does_not_mend_is_not_tried_again(spark: Any, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    tries.mkdir()
    with pytest.raises(CurationError, match=r"^the model is another one"):
        run_units(spark, tmp_path, [Refuses(tries)], lambda _: None)
    assert len(list(tries.iterdir())) == 1


class Stop(BaseException):
    """Like Dagster's cancellation."""


def test_a_job_is_stopped_by_its_progress(spark: Any, tmp_path: Path) -> None:
    def stop(_: float) -> None:
        raise Stop

    started = time.monotonic()
    with pytest.raises(Stop):
        run_units(spark, tmp_path, [Echo(n, 1.0) for n in range(60)], stop)
    assert time.monotonic() - started < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("spark")]
    assert run_units(spark, tmp_path, [Echo(1)], lambda _: None)[0][0] == 1
