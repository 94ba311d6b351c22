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
from curation_assets.lake.object_storage import ObjectStorage
from curation_assets.lake.storage import LocalStorage, SharedFiles
from curation_assets.spark.session import slots
from curation_assets.spark.units import Handover, Task, run_units
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.options import StorageOptions

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


class LosesUnits(SharedFiles):
    """A folder of the driver's own."""

    def put(self, name: str, data: bytes) -> None:
        if not name.endswith(".unit"):
            super().put(name, data)


def shared(folder: Path) -> SharedFiles:
    return SharedFiles(LocalStorage(folder), ".")


def test_results_come_in_the_order_of_the_units_from_other_processes(spark: Any, tmp_path: Path) -> None:
    parts: list[float] = []
    results = run_units(spark, shared(tmp_path), [Echo(f"a b%é {n}", 0.2) for n in range(10)], parts.append)
    assert [value for value, *_ in results] == [f"a b%é {n}" for n in range(10)]
    assert {(cores, gpus) for _, cores, gpus, _ in results} == {(1, ())}
    assert os.getpid() not in {pid for *_, pid in results}
    assert sum(parts) == pytest.approx(1)
    assert list(tmp_path.iterdir()) == []
    assert slots(spark) == 2


def test_credentials_are_not_in_the_file_of_a_unit(tmp_path: Path) -> None:
    options = StorageOptions.parse({"aws_secret_access_key": "hush-hush", "aws_region": "eu-central-1"})
    storage = ObjectStorage(StoreAddress.parse("s3://bucket/lake"), options)
    handover = Handover(shared(tmp_path))
    names = [handover.put((each, storage, options)) for each in range(2)]
    for name in names:
        assert b"hush-hush" not in (tmp_path / name).read_bytes()
    assert [handover.get(name) for name in names] == [(each, storage, options) for each in range(2)]
    assert "hush-hush" not in repr(handover)
    handover.delete(names)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_do_begins_nothing(tmp_path: Path) -> None:
    assert run_units(None, shared(tmp_path), [], lambda _: pytest.fail("no part")) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["killed", "raises"])
def test_a_task_that_is_lost_is_tried_again(how: str, spark: Any, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    tries.mkdir()
    assert run_units(spark, shared(tmp_path), [FailsUntil(tries, 3, how)], lambda _: None) == [3]


def test_a_task_that_fails_too_often_ends_the_job_with_its_reason(spark: Any, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    tries.mkdir()
    with pytest.raises(CurationError, match="nothing was committed: ValueError: not yet"):
        run_units(spark, shared(tmp_path), [Echo(1), FailsUntil(tries, 9, "raises")], lambda _: None)
    assert len(list(tries.iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["tries"]


def test_an_error_that_trying_again_does_not_mend_is_not_tried_again(spark: Any, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    tries.mkdir()
    with pytest.raises(CurationError, match=r"^the model is another one"):
        run_units(spark, shared(tmp_path), [Refuses(tries)], lambda _: None)
    assert len(list(tries.iterdir())) == 1


class Stop(BaseException):
    """Like Dagster's cancellation."""


def test_a_job_is_stopped_by_its_progress(spark: Any, tmp_path: Path) -> None:
    def stop(_: float) -> None:
        raise Stop

    started = time.monotonic()
    with pytest.raises(Stop):
        run_units(spark, shared(tmp_path), [Echo(n, 1.0) for n in range(60)], stop)
    assert time.monotonic() - started < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("spark")]
    assert run_units(spark, shared(tmp_path), [Echo(1)], lambda _: None)[0][0] == 1


@dataclass(frozen=True)
class Slow:
    ran: Path

    def carry_out(self, task: Task) -> None:
        (self.ran / str(time.time_ns())).touch()
        time.sleep(0.5)


def test_after_an_error_that_does_not_mend_no_other_unit_is_begun(spark: Any, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    ran.mkdir()
    with pytest.raises(CurationError, match=r"^the model is another one"):
        run_units(spark, shared(tmp_path), [Refuses(ran), *[Slow(ran)] * 30], lambda _: None)
    assert len(list(ran.iterdir())) < 10


def test_an_executor_that_does_not_see_the_lake_says_so(spark: Any, tmp_path: Path) -> None:
    lost = LosesUnits(LocalStorage(tmp_path), ".")
    with pytest.raises(CurationError, match="does not see"):
        run_units(spark, lost, [Echo(1), Echo(2)], lambda _: None)


def test_what_java_says_is_told() -> None:
    from curation_assets.errors import first_line

    error = Exception("An error occurred while calling None.org.JavaSparkContext.\n: java.lang.X: Bad master\n\tat org")
    assert first_line(error) == "java.lang.X: Bad master"
