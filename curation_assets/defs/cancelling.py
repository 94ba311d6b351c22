"""Cancelling a run for certain: who carries it out is interrupted until it ends.

Dagster interrupts a run's process once. Python raises that wherever the process is at, and drops it in callbacks of its
own (of weak references, in ``__del__``), of which libraries have many while they are imported; the run went on then, as
if nobody had asked. Python tells of what it drops, so this one is repeated at once; what swallows it otherwise, or
drops it in the process of a step, is found out by asking. A run that was forced to be cancelled is only marked so by
Dagster; its process went on, too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread, Timer
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

AGAIN_SECONDS = 10.0  # that a process is given to end, from one interrupt to the next
_REPEATED_SECONDS = 0.05  # after Python dropped it: by then the callback is left
_CANCELLED = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


@contextmanager
def interrupted_until_it_ends(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """While a run is carried out in the block by this process: interrupt it again, as long as it is to be cancelled."""
    done = Event()
    watch = Thread(target=_watch, args=(instance, run_id, done), name="cancelling", daemon=True)
    watch.start()
    before = sys.unraisablehook

    def dropped(what: UnraisableHookArgs) -> None:
        before(what)
        if issubclass(what.exc_type, DagsterExecutionInterruptedError):
            Timer(_REPEATED_SECONDS, _interrupt, (os.getpid(), done)).start()

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        done.set()
        sys.unraisablehook = before
        watch.join()


def _watch(instance: dg.DagsterInstance, run_id: str, done: Event) -> None:
    was_asked = False  # Dagster's own interrupt comes first
    while not done.wait(AGAIN_SECONDS):
        is_asked = _is_cancelled(instance, run_id)
        if is_asked and was_asked and not done.is_set():
            for process in multiprocessing.active_children():  # of steps that have one each
                _interrupt(process.pid, done)
            _interrupt(os.getpid(), done)
        was_asked = is_asked


def _is_cancelled(instance: dg.DagsterInstance, run_id: str) -> bool:
    with suppress(Exception):  # of whichever database: it is asked again
        run = instance.get_run_by_id(run_id)
        return run is not None and run.status in _CANCELLED
    return False


def _interrupt(pid: int | None, done: Event) -> None:
    with suppress(ProcessLookupError):
        if pid is not None and not done.is_set():
            os.kill(pid, signal.SIGINT)
