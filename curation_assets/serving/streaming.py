"""Answers that are sent while a thread still writes them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Future
from contextlib import aclosing
from typing import IO, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from curation_assets.errors import CurationError
from curation_assets.serving.leaving import Threads

logger = logging.getLogger(__name__)

_CHUNK = 1 << 18


class _PipeResponse(StreamingResponse):
    """Sends what comes out of a pipe, and closes that at once when nobody takes it any more."""

    def __init__(self, source: Any, first: bytes, done: Future[None], headers: Mapping[str, str], kind: str) -> None:
        self._parts = _parts(source, first, done)
        self._source = source
        self._done = done
        super().__init__(self._parts, headers=headers, media_type=kind)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        try:
            async with aclosing(self._parts):
                await super().__call__(scope, receive, send)
        finally:
            self._source.close()
            if not self._done.done():  # who would have been told has left
                self._done.add_done_callback(_tell_log)


async def streamed(
    threads: Threads, write: Callable[[IO[bytes]], object], headers: Mapping[str, str], media_type: str
) -> Response:
    """The answer that a function writes, once its first byte is there; no more of it waits than a pipe holds.

    Where the client leaves, the function's next write raises ``BrokenPipeError``. Where the function fails in the
    middle, the connection is cut, so that nobody takes what came for all.

    Raises:
        HTTPException: too many write already (429).
        Exception: what the function raises before its first byte.
    """
    reading, writing = os.pipe()
    source, sink = open(reading, "rb", buffering=0), open(writing, "wb")  # noqa: SIM115 closed by who uses each

    def work() -> None:
        with sink:
            write(sink)

    try:
        try:
            done = threads.begin(work)
        except BaseException:
            sink.close()
            raise
        first = await run_in_threadpool(source.read, _CHUNK)
        if not first:
            await asyncio.wrap_future(done)
    except BaseException:
        source.close()
        raise
    return _PipeResponse(source, first, done, headers, media_type)


async def _parts(source: Any, part: bytes, done: Future[None]) -> AsyncGenerator[bytes]:
    while part:
        yield part
        part = await run_in_threadpool(source.read, _CHUNK)
    try:
        await asyncio.wrap_future(done)
    except CurationError as error:
        logger.warning("what was being sent is broken off: %s", error)
        raise ClientDisconnect from error  # its status is sent already: all that can be told is that it ends


def _tell_log(done: Future[None]) -> None:
    error = None if done.cancelled() else done.exception()
    if error is not None and not isinstance(error, CurationError | BrokenPipeError):
        logger.error("what was being sent failed", exc_info=error)
