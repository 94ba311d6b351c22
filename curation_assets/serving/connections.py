"""Connections of a server, watched: none is kept for a client who has gone, or who sends or takes next to nothing.

uvicorn waits for a client as long as the client likes: for the headers of its first request, and for it to take an
answer, which lies in memory meanwhile. And it doesn't see that one has left whose next request it doesn't read yet.
"""

from __future__ import annotations

import asyncio
import resource
import select
import time
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

MOST_HEADER_BYTES = 65_536
_LOOK_SECONDS = 0.5
_HEADER_SECONDS = 20.0  # that a connection may be open without a request
_TAKING_SECONDS = 30.0  # in which a client has to take some of its answer …
_TAKEN = 30_000  # … namely as many bytes
_MOST_UNTAKEN = 256 * 2**20  # bytes of all answers that wait for their clients
_GRACE_SECONDS = 1.0  # in which nobody is slow yet
_OWN_FILES = 300  # of a process, beside its connections


@dataclass
class _Look:
    """What was seen of a connection.

    Attributes:
        cycle: its last request.
        since: when that was, or some of an answer was still to be taken.
        untaken: bytes of an answer that are to be taken.
        taken: when some last were.
    """

    cycle: Any
    since: float
    untaken: int
    taken: float


class _Watch:
    """Looks at the connections of a server as long as there are some."""

    def __init__(self, state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        self._connections: set[Any] = state.connections
        self._loop = loop
        self._looks: WeakKeyDictionary[Any, _Look] = WeakKeyDictionary()
        self._is_on = False
        self._most = _raised_file_limit() - _OWN_FILES

    def wake(self) -> None:
        """There is a connection."""
        if not self._is_on:
            self._is_on = True
            self._loop.call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._is_on = False
        if not self._connections:
            return
        self.wake()
        now = time.monotonic()
        looks = [(one, self._seen(one, now)) for one in self._connections]
        open_ = [one for one in self._connections if not one.transport.is_closing()]
        self._end_of_gone(open_)
        idle = sorted((look.since, id(one), one) for one, look in looks if _is_idle(one) and not look.untaken)
        too_many = len(looks) - self._most
        for place, (since, _, one) in enumerate(idle):
            if now - since > _HEADER_SECONDS or (place < too_many and now - since > _GRACE_SECONDS):
                one.transport.abort()
        # Also of connections that are being closed, which they aren't before their client has all.
        waiting = sorted((look.taken, id(one), one) for one, look in looks if look.untaken)
        untaken = sum(look.untaken for _, look in looks)
        for taken, _, one in waiting:
            if now - taken > _TAKING_SECONDS or (untaken > _MOST_UNTAKEN and now - taken > _GRACE_SECONDS):
                untaken -= self._looks[one].untaken
                one.transport.abort()

    def _seen(self, one: Any, now: float) -> _Look:
        look = self._looks.get(one)
        if look is None:
            look = self._looks[one] = _Look(one.cycle, now, 0, now)
        size = one.transport.get_write_buffer_size()
        if size or look.cycle is not one.cycle:
            look.cycle, look.since = one.cycle, now
        if not size or not look.untaken or size <= look.untaken - _TAKEN or one.was_taken:
            look.untaken, look.taken = size, now
        look.untaken = max(look.untaken, size)
        one.was_taken = False
        return look

    def _end_of_gone(self, connections: list[Any]) -> None:
        """A client that has left is seen by its socket, also where nothing is read from it just now."""
        of_file = {one.transport.get_extra_info("socket").fileno(): one for one in connections if one.flow.read_paused}
        if not of_file:
            return
        poll = select.poll()
        for file in of_file:
            poll.register(file, select.POLLRDHUP)
        for file, _ in poll.poll(0):
            of_file[file].transport.abort()


_watches: WeakKeyDictionary[ServerState, _Watch] = WeakKeyDictionary()


class _Watched(asyncio.Protocol):
    """What both protocols have more."""

    server_state: ServerState
    loop: asyncio.AbstractEventLoop
    was_taken = False  # some of what waits for the client, since the last look

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        watch = _watches.get(self.server_state)
        if watch is None:
            watch = _watches[self.server_state] = _Watch(self.server_state, self.loop)
        watch.wake()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.was_taken = True


class WatchedH11(_Watched, H11Protocol):
    """h11's, which is slower, and takes headers apart more strictly."""


class WatchedHttpTools(_Watched, HttpToolsProtocol):
    """httptools', with a limit to headers; and every request of a client that left is told so, not the last alone."""

    _begun: Any = None
    _head = 0
    _is_in_head = True

    def data_received(self, data: bytes) -> None:
        """Of the connection."""
        super().data_received(data)
        self._head = self._head + len(data) if self._is_in_head else 0
        if self._head > MOST_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response(f"the headers are larger than {MOST_HEADER_BYTES} bytes, the limit")

    def on_message_begin(self) -> None:
        """Of a request."""
        self._is_in_head, self._head = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Of a request."""
        self._is_in_head = False
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or was sent away."""
        super().connection_lost(exc)
        if self._begun is not None and not self._begun.response_complete:
            self._begun.disconnected = True
            self._begun.message_event.set()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._begun = cycle
        super()._start_asgi_task(cycle, app)


def _is_idle(one: Any) -> bool:
    return one.cycle is None or one.cycle.response_complete


def _raised_file_limit() -> int:
    """How many files, so connections, this process may open, after asking for as many as it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return most if soft == resource.RLIM_INFINITY else soft
