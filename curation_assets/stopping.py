"""Ending a process that was asked to end, also where Python's own handlers don't come to run.

A handler written in Python runs between two instructions of the main thread; a loop in a library's C code has none, and
a pool's threads are waited for however long they take. The C part of Python's handler writes a byte in any case: a
thread reads it, and ends the process a few seconds later. Nothing is lost by that which a commit has named: every
writer leaves tables, index and registry as a kill would.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

SECONDS = 4.0  # that a command has to end by itself
_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Watches over a command: Ctrl-C and SIGTERM interrupt it, and the second one, or a few seconds, end it.

    Attributes:
        number: of the signal that asked first; None: nobody did.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._is_on = threading.current_thread() is threading.main_thread()
        if not self._is_on:  # only the main thread may have handlers
            return
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._handlers = {number: signal.getsignal(number) for number in _NUMBERS}
        for number in _NUMBERS:
            signal.signal(number, self._interrupt)
        self._fd_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="stop", daemon=True).start()

    @property
    def code(self) -> int:
        """Exit code of a process that a signal ended, as shells have it."""
        return 128 + (self.number or signal.SIGINT)

    def hand_over(self) -> None:
        """Someone else answers signals from now on, unless one has come already."""
        if self._is_on and self.number is None:
            self._is_on = False
            signal.set_wakeup_fd(self._fd_before)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            os.close(self._writer)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        self.number = self.number or number
        raise KeyboardInterrupt

    def _watch(self) -> None:
        asked = 0
        while self._is_on:
            got = os.read(self._reader, 64)
            if not got:  # handed over
                break
            for number in got:
                if number in _NUMBERS:
                    self.number = self.number or number
                    asked += 1
            if asked == 1:
                end_within(SECONDS, self.code, "stopped; what was committed stays, run the command again to go on")
            elif asked:
                os._exit(self.code)
        os.close(self._reader)


def end_within(seconds: float, code: int, said: str = "") -> None:
    """End this process after some seconds if it is still there, whatever its threads are at."""

    def end() -> None:
        time.sleep(seconds)
        if said:
            os.write(2, f"{said}\n".encode())
        os._exit(code)

    threading.Thread(target=end, name="end", daemon=True).start()


_stop: Stop | None = None


def watch() -> Stop:
    """Watch over the command that this process runs."""
    global _stop
    _stop = Stop()
    return _stop


def hand_over() -> None:
    """A server answers signals itself from now on."""
    if _stop is not None:
        _stop.hand_over()
        sys.stderr.flush()
