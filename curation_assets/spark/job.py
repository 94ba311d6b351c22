"""What jobs on Spark begin with: a session that starts late, and the amount of work from which on it pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class SparkJob:
    """A step whose work the executors of a Spark session do.

    Args:
        session: gives the session; called only for work that it takes.
        least: items, from which on it pays.
    """

    def __init__(self, session: Callable[[], SparkSession], least: int) -> None:
        self._session = session
        self._least = least

    def takes(self, items: int) -> bool:
        """Whether they are enough."""
        return items >= max(1, self._least)
