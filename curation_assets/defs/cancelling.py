"""Cancelling a run for certain: who carries it out is interrupted until it ends.

Dagster interrupts a run's process once. Python raises that wherever the process is at, and drops it in callbacks of its
own (of weak references, in ``__del__``), of which libraries have many while they are imported; the run went on then, as
if nobody had asked. A run that was forced to be cancelled is only marked so by Dagster; its process went on, too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import dagster as dg

AGAIN_SECONDS = 10.0  # that a process is given to end, from one interrupt to the next
_CANCELLED = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


@contextmanager
def interrupted_until_it_ends(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """While a run is carried out in the block by this process: interrupt it again, as long as it is to be cancelled."""
    done = Event()
    watch = Thread(target=_watch, args=(instance, run_id, done), name="cancelling", daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()


def _watch(instance: dg.DagsterInstance, run_id: str, done: Event) -> None:
    was_asked = False  # Dagster's own interrupt comes first
    while not done.wait(AGAIN_SECONDS):
        is_asked = _is_cancelled(instance, run_id)
        if is_asked and was_asked and not done.is_set():
            for process in multiprocessing.active_children():  # of steps that have one each
                _interrupt(process.pid)
            _interrupt(os.getpid())
        was_asked = is_asked


def _is_cancelled(instance: dg.DagsterInstance, run_id: str) -> bool:
    with suppress(Exception):  # of whichever database: it is asked again
        run = instance.get_run_by_id(run_id)
        return run is not None and run.status in _CANCELLED
    return False


def _interrupt(pid: int | None) -> None:
    with suppress(ProcessLookupError):
        if pid is not None:
            os.kill(pid, signal.SIGINT)
