"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], pause: float = 0.01) -> None:
    """Wait until something is so, a minute at most.

    Args:
        pause: seconds between two looks.
    """
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(pause)
