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

    def __init__(self, pipe: AsyncGenerator[bytes], headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(pipe, headers=headers, media_type=media_type)
        self._pipe = pipe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        async with aclosing(self._pipe):
            await super().__call__(scope, receive, send)


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
    return _PipeResponse(_rest(source, first, done), headers, media_type)


async def _rest(source: Any, chunk: bytes, done: Future[None]) -> AsyncGenerator[bytes]:
    try:
        while chunk:
            yield chunk
            chunk = await run_in_threadpool(source.read, _CHUNK)
        try:
            await asyncio.wrap_future(done)
        except CurationError as error:
            logger.warning("what was being sent is broken off: %s", error)
            raise ClientDisconnect from error  # its status is sent already: all that can be told is that it ends
    finally:
        source.close()
