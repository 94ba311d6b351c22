"""Bodies of requests on their way: bounded in bytes, number and time, without slow ones shutting out the others.

A body takes no place at the work that it is for before it is there. Where there is no room for another, the one that
fills it unduly gives way: of too many the slowest, of too many bytes the one that holds the most for the longest.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass

from starlette.requests import Request

_GRACE_SECONDS = 1.0  # in which nobody is slow yet
_DRAINED = 4  # times the limit of a body that is read to its end, so that its sender gets to read the answer


class BodyError(Exception):
    """A body isn't taken."""


class TooLargeError(BodyError):
    """It is larger than the limit."""


class CrowdedError(BodyError):
    """There is no room for it now."""


class SlowError(BodyError):
    """It took long, and others needed the room."""


@dataclass(eq=False)
class _Arrival:
    """A body of which ``received`` bytes have come since ``began``, and ``held`` of them are kept."""

    began: float
    timeout: asyncio.Timeout
    received: int = 0
    held: int = 0
    has_to_go: bool = False

    def age(self) -> float:
        return time.monotonic() - self.began


class Body:
    """A whole body, whose bytes count until it is released; which any thread may do, and again.

    Attributes:
        content: what was sent.
    """

    def __init__(self, content: bytearray, bodies: Bodies) -> None:
        self.content = content
        self._bodies, self._size = bodies, len(content)

    def release(self) -> None:
        """It isn't used any more."""
        size, self._size = self._size, 0
        self._bodies._hold(-size)


class Bodies:
    """The bodies that one process receives and works at. Receiving is for one event loop.

    Args:
        most_bytes: of all that are held.
        most: being received at once.
    """

    def __init__(self, most_bytes: int, most: int = 1024) -> None:
        self._most_bytes, self._most = most_bytes, most
        self._arrivals: set[_Arrival] = set()
        self._bytes = 0
        self._lock = threading.Lock()  # of the bytes

    async def receive(self, request: Request, most: int, seconds: float) -> Body:
        """The body of a request, once it is there.

        Args:
            most: bytes of it.
            seconds: in which it has to be there.

        Raises:
            TooLargeError: it has more bytes.
            CrowdedError: there is no room, and nobody who is slow.
            SlowError: it had to give way.
            TimeoutError: it wasn't there in time.
            ClientDisconnect: its sender has left.
        """
        announced = request.headers.get("content-length", "0")
        expected = int(announced) if announced.isdecimal() else 0
        if expected > most and "expect" in request.headers:
            raise TooLargeError  # before anything of it is sent
        self._make_place()
        content = bytearray()
        arrival = _Arrival(time.monotonic(), asyncio.timeout(seconds))
        self._arrivals.add(arrival)
        try:
            async with arrival.timeout:
                async for chunk in request.stream():
                    arrival.received += len(chunk)
                    if arrival.received > _DRAINED * most:
                        raise TooLargeError
                    if max(expected, arrival.received) <= most:
                        self._make_room(arrival, len(chunk))
                        content += chunk
                if max(expected, arrival.received) > most:
                    raise TooLargeError
        except BaseException as error:
            self._hold(-arrival.held)
            if isinstance(error, TimeoutError) and arrival.has_to_go:
                raise SlowError from None
            raise
        finally:
            self._arrivals.discard(arrival)
        return Body(content, self)

    def _make_place(self) -> None:
        """For another arrival, in the place of the slowest if it has to be."""
        if len(self._arrivals) >= self._most:
            self._send_away(min(self._slow(), key=lambda one: one.received / one.age(), default=None))

    def _make_room(self, arrival: _Arrival, size: int) -> None:
        """For some bytes more, in the place of those that are kept for long without getting whole if it has to be."""
        while self._bytes + size > self._most_bytes:
            others = (one for one in self._slow() if one is not arrival and one.held)
            self._send_away(max(others, key=lambda one: one.held * one.age(), default=None))
        arrival.held += size
        self._hold(size)

    def _slow(self) -> list[_Arrival]:
        return [one for one in self._arrivals if one.age() > _GRACE_SECONDS]

    def _send_away(self, arrival: _Arrival | None) -> None:
        if arrival is None:
            raise CrowdedError
        arrival.has_to_go = True
        arrival.timeout.reschedule(asyncio.get_running_loop().time())
        self._arrivals.discard(arrival)
        self._hold(-arrival.held)
        arrival.held = 0

    def _hold(self, size: int) -> None:
        with self._lock:
            self._bytes += size
