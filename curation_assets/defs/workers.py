"""The process that carries out a run: recorded by itself on the run, and found again, so that a dead run is known.

Dagster's default launcher can't tell: its runs are children of the code server, and whatever ends both (a power cut,
``kill -9`` of ``dg dev``) leaves a run that counts as started for ever.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import deserialize_value

WORKER = "curation/worker"  # tag of a run

_PROC = Path("/proc")
_ASKING_SECONDS = 5
_CLOCK_SECONDS = 10  # that the kernel's and an event's times may differ by


@dataclass(frozen=True)
class Worker:
    """A process, so named that no other one is ever taken for it.

    Attributes:
        boot: of the machine; another means that every process from before is gone.
        started: clock ticks from the boot to the start of the process.
    """

    host: str
    boot: str
    pid: int
    started: int

    @classmethod
    def this(cls) -> Worker | None:
        """The calling process; None where the system has no ``/proc``."""
        started = started_at(os.getpid())
        return None if started is None else cls(socket.gethostname(), _boot(), os.getpid(), started)

    @classmethod
    def of(cls, run: dg.DagsterRun) -> Worker | None:
        """As the run's tag tells of it; not if the tag is another run's, as one that is executed again takes over."""
        try:
            run_id, host, boot, pid, started = run.tags.get(WORKER, "").split(" ")
            return cls(host, boot, int(pid), int(started)) if run_id == run.run_id else None
        except ValueError:
            return None

    def tag(self, run_id: str) -> str:
        """The same as a tag's value."""
        return f"{run_id} {self.host} {self.boot} {self.pid} {self.started}"

    def is_here(self) -> bool:
        """Whether it ran on this machine, so that one can tell whether it still does."""
        return self.host == socket.gethostname() and _PROC.joinpath("self").exists()

    def runs(self) -> bool:
        """Whether it is running, on this machine."""
        return self.boot == _boot() and started_at(self.pid) == self.started


def record_worker(instance: dg.DagsterInstance, run_id: str) -> None:
    """Note on a run that this process carries it out."""
    if worker := Worker.this():
        instance.add_run_tags(run_id, {WORKER: worker.tag(run_id)})


def started_at(pid: int) -> int | None:
    """Clock ticks from the boot to the start of a process; None if there is none, or only what is left of one."""
    try:
        # The name in brackets may hold anything; state is the first field after it, the start the twentieth.
        fields = _PROC.joinpath(str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def _boot() -> str:
    try:
        return _PROC.joinpath("sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


class ServerAnswer(Enum):
    """What the code server that a run was given to says of it."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    SILENT = "silent"  # nobody answers, at an address of this machine
    ELSEWHERE = "elsewhere"  # nobody answers at an address of another machine, or no server was named


def ask_server(run: dg.DagsterRun) -> ServerAnswer:
    """Ask the code server of a run, which may be another one that got the same address since, whether it has it."""
    try:
        told = json.loads(run.tags[GRPC_INFO_TAG])
        host, port, path = told.get("host") or "localhost", told.get("port"), told.get("socket")
        client = DagsterGrpcClient(port=port, socket=path, host=host, use_ssl=bool(told.get("use_ssl")))
    except (KeyError, ValueError, AttributeError, dg.DagsterError):
        return ServerAnswer.ELSEWHERE
    is_local = bool(path) or host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", socket.gethostname())
    try:
        answer = _current_runs(client)
    except Exception:  # whatever it is: there is no server, or none that could have the run
        return ServerAnswer.SILENT if is_local else ServerAnswer.ELSEWHERE
    return ServerAnswer.KNOWN if run.run_id in answer.current_runs else ServerAnswer.UNKNOWN


def _current_runs(client: DagsterGrpcClient) -> GetCurrentRunsResult:
    from dagster._grpc.__generated__ import dagster_api_pb2

    # Not `client.get_current_runs`, which waits a minute: the sensor has no more than that for all runs.
    reply = client._get_response("GetCurrentRuns", dagster_api_pb2.Empty(), timeout=_ASKING_SECONDS)
    return deserialize_value(reply.serialized_current_runs, GetCurrentRunsResult)


def told_process_runs(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a process of which Dagster's own events tell (by its number alone) may still be at work on a run.

    What is known of a run before its process has recorded itself, or if an earlier version started it.
    """
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        data = entry.dagster_event.event_specific_data if entry.dagster_event else None
        pid = getattr(data.metadata.get("pid"), "value", None) if isinstance(data, EngineEventData) else None
        if pid is None or not str(pid).isdecimal():
            continue
        started = started_at(int(str(pid)))
        if started is not None and _time_of(started) <= entry.timestamp + _CLOCK_SECONDS:
            return True
    return False


def _time_of(ticks: int) -> float:
    """Clock ticks since the boot → seconds since 1970."""
    booted = next(line for line in _PROC.joinpath("stat").read_text().splitlines() if line.startswith("btime "))
    return int(booted.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
