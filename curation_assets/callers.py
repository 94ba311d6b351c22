"""Whoever waits for an answer: one that has left takes along what was not begun for it.

A server makes a ``Caller`` for a request and tells it when the client has gone. What works for it, on whatever thread,
asks ``current()``, and needs no argument for that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class LeftError(Exception):
    """Nobody waits for this answer any more."""


class Caller:
    """One who waits for an answer. Threads may share it.

    Attributes:
        left: set when it doesn't wait any more.
    """

    def __init__(self) -> None:
        self.left = threading.Event()
        self._lock = threading.Lock()
        self._told: dict[object, Callable[[], object]] = {}

    def leave(self) -> None:
        """Wait no longer; what :meth:`telling` names is called, here."""
        with self._lock:
            self.left.set()
            told, self._told = self._told, {}
        for function in told.values():
            function()

    def check(self) -> None:
        """Ask between two steps of long work whether it is still wanted.

        Raises:
            LeftError: it is not.
        """
        if self.left.is_set():
            raise LeftError

    @contextmanager
    def telling(self, function: Callable[[], object]) -> Iterator[None]:
        """Have ``function`` called, once, if the caller leaves during the block or has left before it."""
        key = object()
        with self._lock:
            has_left = self.left.is_set()
            if not has_left:
                self._told[key] = function
        if has_left:
            function()
        try:
            yield
        finally:
            with self._lock:
                self._told.pop(key, None)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """What is called in the block works for this caller."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


_current: ContextVar[Caller | None] = ContextVar("caller", default=None)


def current() -> Caller:
    """For whom the code that asks is at work; outside of every server somebody who never leaves."""
    return _current.get() or Caller()
