"""Waiting for work on a thread only as long as somebody waits for its answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from curation_assets.callers import Caller

_T = TypeVar("_T")
_P = ParamSpec("_P")


async def while_waited_for(request: Request, work: Future[_T], caller: Caller) -> _T:
    """The result of work that a thread does for a request whose body was read.

    Whatever else ends the waiting, its client's leaving or the time, the caller leaves too: what was not begun for it
    isn't done, and the thread is done soon.

    Raises:
        ClientDisconnect: the client has left.
    """
    result = asyncio.wrap_future(work)
    leaving = asyncio.ensure_future(_has_left(request))
    try:
        await asyncio.wait((result, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise ClientDisconnect
        return result.result()
    finally:
        leaving.cancel()
        if not result.done():
            caller.leave()
            result.cancel()  # and with it the work, unless its thread has begun


async def _has_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Threads:
    """Some threads for one kind of work, and those who wait for them.

    Args:
        name: of the threads.
        number: of them.
        waiting: how many may wait; more are refused with 429.
        refusal: what they are told.
        again_seconds: after which it makes sense to ask again.
    """

    def __init__(
        self,
        name: str,
        number: int,
        waiting: int,
        refusal: str = "too much is asked for at once: try again in a moment",
        again_seconds: int = 1,
    ) -> None:
        self._pool = ThreadPoolExecutor(number, name)
        self._most = number + waiting
        self._refusal, self._again = refusal, {"Retry-After": str(again_seconds)}
        self._open = 0
        self._lock = threading.Lock()

    async def run(self, request: Request, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call a function on one of the threads for a request whose body was read, as long as it is waited for.

        Raises:
            ClientDisconnect: the client has left.
            HTTPException: too many wait already (429).
        """
        caller = Caller()

        def work() -> _T:
            with caller.asking():
                return function(*args, **kwargs)

        self._take_place()
        try:
            return await while_waited_for(request, self._pool.submit(work), caller)
        finally:
            self._leave_place()

    def begin(self, function: Callable[[], _T]) -> Future[_T]:
        """Call a function on one of the threads, whoever asks for its result.

        Raises:
            HTTPException: too many wait already (429).
        """
        self._take_place()
        try:
            work = self._pool.submit(function)
        except BaseException:
            self._leave_place()
            raise
        work.add_done_callback(lambda _: self._leave_place())
        return work

    def check(self) -> None:
        """Whether one more would be taken.

        Raises:
            HTTPException: too many wait already (429).
        """
        if self._open >= self._most:
            raise HTTPException(429, self._refusal, self._again)

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _take_place(self) -> None:
        with self._lock:
            self.check()
            self._open += 1

    def _leave_place(self) -> None:
        with self._lock:
            self._open -= 1
