"""Some values of which each is made once for all who ask, and the ones that were used last are held."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from curation_assets.gallery.review import Held

_T = TypeVar("_T")


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
