"""Units of work on Spark's executors: each is a task, what it returns comes back, and nothing else does.

A unit travels through a file that the driver and the executors share, so that the driver holds some of them at a time
and a task reads its own; credentials aren't in it, but in what Spark sends. A task that is lost is begun again by
Spark, on the same unit; the result of whichever attempt came first counts.
"""

from __future__ import annotations

import io
import pickle
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from curation_assets.errors import CurationError, first_line
from curation_assets.lake.storage import SharedFiles
from curation_assets.stores.options import StorageOptions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_LOOK_SECONDS = 0.5
_AT_ONCE = 16  # units that are written: in a store each takes the time of an answer
RESULT = "result binary"  # schema of what a task gives back


class Unit(Protocol):
    """A piece of work; pickled, so it names what it needs and holds little."""

    def carry_out(self, task: Task) -> Any:
        """Do it, on an executor.

        Returns:
            What the driver is to know; pickled.

        Raises:
            CurationError: trying again would not help. Units that haven't begun aren't, and the job ends with this.
        """


@dataclass(frozen=True)
class Task:
    """What Spark gives a task to work with.

    Attributes:
        cores: that are its own (``spark.task.cpus``).
        gpus: addresses of its GPUs, as ``spark.task.resource.gpu.amount`` asks for; none where none are asked for.
    """

    cores: int
    gpus: tuple[str, ...]

    @classmethod
    def current(cls) -> Task:
        """Of the task that this code runs in."""
        from pyspark import TaskContext

        context = TaskContext.get()
        if context is None:
            raise RuntimeError("not inside a Spark task")
        gpus = context.resources().get("gpu")
        return cls(context.cpus(), tuple(gpus.addresses) if gpus else ())


@dataclass(frozen=True)
class Handover:
    """Units in shared files. It is sent to the executors, and what is secret with it.

    Attributes:
        options: of the stores that the units know.
        given_up: file that says that a unit can't be carried out, and why.
    """

    files: SharedFiles
    options: list[StorageOptions] = field(default_factory=list, repr=False)
    given_up: str = field(default_factory=lambda: f"{uuid.uuid4().hex}.error")

    def put(self, unit: Any) -> str:
        """Write a unit; gives its name."""
        name, file = f"{uuid.uuid4().hex}.unit", io.BytesIO()
        _Pickler(file, self.options).dump(unit)
        self.files.put(name, file.getvalue())
        return name

    def get(self, name: str) -> Any:
        """Read a unit.

        Raises:
            OSError: it isn't there, or can't be read.
        """
        return _Unpickler(io.BytesIO(self.files.get(name)), self.options).load()

    def delete(self, names: Sequence[str]) -> None:
        """Remove units, and what was given up."""
        with ThreadPoolExecutor(_AT_ONCE, "handover") as pool:
            list(pool.map(self.files.delete, [*names, self.given_up]))


class _Pickler(pickle.Pickler):
    """Leaves options out: in their place stands their number."""

    def __init__(self, file: io.BytesIO, options: list[StorageOptions]) -> None:
        super().__init__(file)
        self._options = options

    def persistent_id(self, part: Any) -> int | None:
        if not isinstance(part, StorageOptions):
            return None
        if part not in self._options:
            self._options.append(part)
        return self._options.index(part)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, options: list[StorageOptions]) -> None:
        super().__init__(file)
        self._options = options

    def persistent_load(self, number: int) -> StorageOptions:
        return self._options[number]


def run_units(
    spark: SparkSession, files: SharedFiles, units: Iterable[Unit], on_part: Callable[[float], object]
) -> list[Any]:
    """Carry out units on the executors, and wait for all of them.

    Args:
        files: that the executors see as well.
        on_part: called on this thread with the part of the units that have been carried out since the last call; may
            raise to stop the job.

    Returns:
        What the units returned, in their order.

    Raises:
        CurationError: a unit raised it, or the job failed for good.
    """
    handover = Handover(files)
    names: list[str] = []
    try:
        with ThreadPoolExecutor(_AT_ONCE, "handover") as pool:
            waiting = iter(units)
            while some := list(islice(waiting, _AT_ONCE)):
                names += pool.map(handover.put, some)
        if not names:
            return []

        def carry_out(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                for index in batch.column(0).to_pylist():
                    yield carried_out(handover, names[index], lambda unit: unit.carry_out(Task.current()))

        return collect(spark, spark.range(0, len(names), 1, len(names)).mapInArrow(carry_out, RESULT), on_part)
    finally:
        if names:
            handover.delete(names)


def collect(spark: SparkSession, frame: Any, on_part: Callable[[float], object]) -> list[Any]:
    """Run a job whose rows are results of :func:`carried_out`; see :func:`run_units`."""
    group = f"curation-{uuid.uuid4().hex}"
    context = spark.sparkContext

    def job() -> Sequence[Any]:
        context.setJobGroup(group, "curation_assets", interruptOnCancel=True)
        rows: Sequence[Any] = frame.collect()
        return rows

    with ThreadPoolExecutor(1, "spark") as pool:
        waiting = pool.submit(job)
        told = part = 0.0
        try:
            while not wait([waiting], timeout=_LOOK_SECONDS).done:
                with suppress(Exception):  # a JVM that is gone; then the job says so
                    part = _part_done(context, group) - told
                if part > 0:
                    told += part
                    on_part(part)
                part = 0.0
        except BaseException:
            with suppress(Exception):
                context._jsc.sc().cancelJobGroupAndFutureJobs(group)  # the job may not have come to Spark yet
            raise
    if (error := waiting.exception()) is not None:
        raise CurationError(f"the Spark job failed, and nothing was committed: {_reason(error)}") from error
    if told < 1:
        on_part(1 - told)
    results = [pickle.loads(bytes(row[0])) for row in waiting.result()]
    for result in results:
        if isinstance(result, CurationError):
            raise result
    return results


def carried_out(handover: Handover, name: str, work: Callable[[Any], Any]) -> pa.RecordBatch:
    """What ``work`` makes of a unit, as the one row that a task gives back.

    A CurationError is a result too, since trying again would not mend it; tasks that begin after one only repeat it.
    """
    files = handover.files
    try:
        if files.exists(handover.given_up):
            raise CurationError(files.get(handover.given_up).decode())
        try:
            unit = handover.get(name)
        except FileNotFoundError:
            raise CurationError(
                f"executor {socket.gethostname()} does not see {files.where(name)}: lake, images and registry have to "
                "be there under the same paths"
            ) from None
        value = work(unit)
    except CurationError as error:
        with suppress(OSError, CurationError):
            files.put(handover.given_up, str(error).encode())
        value = error
    return pa.record_batch([pa.array([pickle.dumps(value)], pa.binary())], names=["result"])


def _part_done(context: Any, group: str) -> float:
    tracker = context.statusTracker()
    done = tasks = 0
    for job in tracker.getJobIdsForGroup(group):
        info = tracker.getJobInfo(job)
        for stage in info.stageIds if info else ():
            if of_stage := tracker.getStageInfo(stage):
                done += of_stage.numCompletedTasks
                tasks += of_stage.numTasks
    return done / tasks if tasks else 0.0


def _reason(error: BaseException) -> str:
    """What the task that failed raised, of the traceback that Spark passes on; else what Spark said first."""
    lines = [line.strip() for line in str(error).splitlines()]
    traceback = next((at for at, line in enumerate(lines) if line.startswith("Traceback")), len(lines))
    for line in lines[traceback + 1 :]:
        if line.split(":")[0].rpartition(".")[2].endswith(("Error", "Exception")) and not line.startswith("File "):
            return line
    return first_line(error) if isinstance(error, Exception) else repr(error)
