"""Values that are made once for all who ask, and held until what they are made of is another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Held(Generic[_T]):
    """A value that is made anew when what it is made of is another; whoever asks meanwhile waits for the one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: tuple[Hashable, _T] | None = None

    def of(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """The value of a key; what ``make`` raises is raised."""
        with self._lock:
            if self._held is None or self._held[0] != key:
                self._held = (key, make())
            return self._held[1]

    @property
    def last(self) -> _T | None:
        """The value that was made last, for who can't wait; None where none was."""
        held = self._held
        return None if held is None else held[1]


class HeldSome(Generic[_T]):
    """Values by name, each made anew when what it is made of is another. Threads may share it.

    Args:
        most: how many are held.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._held: dict[Hashable, Held[_T]] = {}

    def of(self, name: Hashable, key: Hashable, make: Callable[[], _T]) -> _T:
        """The value of a name and a key; what ``make`` raises is raised."""
        with self._lock:
            held = self._held.pop(name, None) or Held[_T]()
            self._held[name] = held
            while len(self._held) > self._most:
                del self._held[next(iter(self._held))]
        return held.of(key, make)
