"""Waiting for work on a thread only as long as somebody waits for its answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from curation_assets.callers import Caller

_T = TypeVar("_T")


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
