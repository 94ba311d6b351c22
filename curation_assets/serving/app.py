"""The web application of one worker: routes, limits, the token, the access log."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from typing import Any

import orjson
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from curation_assets.clip.batching import Batch, BusyError
from curation_assets.clip.predictor import ClipPredictor
from curation_assets.clip.rows import RowError
from curation_assets.panics import PanicsAsErrors
from curation_assets.serving import protocol
from curation_assets.serving.limits import Limits
from curation_assets.serving.metrics import Metrics
from curation_assets.serving.protocol import RefusedError

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 1
OPEN_PATHS = frozenset({"/ping", "/health"})  # asked by load balancers, which have no token
PATHS = OPEN_PATHS | {"/version", "/metrics", "/invocations"}
_HELD_BODIES = 4  # bodies of the largest size that may be in memory at once
_DRAINED_BODIES = 4  # of one that is too large, so that its sender gets to read the answer
_BUSY_HEADERS = {"Retry-After": str(RETRY_AFTER_SECONDS)}
_CLOSE = {"Connection": "close"}  # the rest of the body isn't read
_NO_TOKEN = RefusedError(
    401,
    "UNAUTHENTICATED",
    "this server wants its token: `Authorization: Bearer …`",
    "token",
    {"WWW-Authenticate": "Bearer"},
)


class Scorer:
    """``/invocations``: admits a request, reads it, and has its rows embedded on a thread.

    A request counts, with its bytes, until its thread is done with it, even if its client has had a 504 long ago: so
    what is in memory and at work stays within the limits. Rows that no pass has begun with go with their time.

    Args:
        predictor: that embeds; calls from many threads go into one forward pass.
        limits: of requests.
        metrics: counts.
    """

    def __init__(self, predictor: ClipPredictor, limits: Limits, metrics: Metrics) -> None:
        self._predictor = predictor
        self._limits = limits
        self._metrics = metrics
        self._requests = self._bytes = 0
        self._lock = threading.Lock()  # of these two
        # Threads mostly wait for their batch: fewer than there are requests would keep batches small.
        self._threads = ThreadPoolExecutor(limits.max_requests, "invocations")

    async def invocations(self, request: Request) -> Response:
        """Answer a request; raises ``RefusedError`` for every answer but 200."""
        if self._requests >= self._limits.max_requests:
            raise _busy(f"{self._requests} requests are at work, which is the limit")
        self._count(requests=1)
        deadline = time.monotonic() + self._limits.timeout_seconds
        content = bytearray()
        work: Future[tuple[bytes, int]] | None = None
        try:
            async with asyncio.timeout(self._limits.timeout_seconds):
                async for chunk in self._body(request):
                    self._count(bytes_=len(chunk))
                    content += chunk
                content_type = request.headers.get("content-type")
                work = self._threads.submit(self._score, content, content_type, deadline)
                body, rows = await asyncio.wrap_future(work)  # cancelled with it, unless its thread has begun
        except TimeoutError:
            raise RefusedError(
                504, "DEADLINE_EXCEEDED", "request processing time exceeded the limit", "timeout"
            ) from None
        finally:
            held = len(content)
            if work is None:
                self._count(requests=-1, bytes_=-held)
            else:
                work.add_done_callback(lambda _: self._count(requests=-1, bytes_=-held))
        request.state.rows = rows
        return Response(body, media_type=protocol.JSON)

    def observe(self, batch: Batch) -> None:
        """Count a forward pass."""
        self._metrics.observe(batch)
        self.count_queue()

    def count_queue(self) -> None:
        """Bring the numbers of rows up to date."""
        self._metrics.queue.set(self._predictor.batcher.queued)
        self._metrics.rows_in_flight.set(self._predictor.batcher.in_flight)

    def close(self) -> None:
        """End the threads, of the predictor too; nobody waits for an answer any more."""
        self._predictor.close(timeout=0)
        self._threads.shutdown()

    def _count(self, requests: int = 0, bytes_: int = 0) -> None:
        with self._lock:
            self._requests += requests
            self._bytes += bytes_
            self._metrics.in_flight.set(self._requests)

    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """The chunks of a body.

        Raises:
            RefusedError: it is too large (413), or there are too many already (429).
        """
        most = self._limits.max_body_bytes
        announced = int(request.headers.get("content-length", 0))
        if announced > most and "expect" in request.headers:
            raise _too_large(most)  # before anything of it is sent
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > _DRAINED_BODIES * most:
                raise _too_large(most)
            if max(announced, size) > most:
                continue
            if self._bytes + len(chunk) > _HELD_BODIES * most:
                raise _busy("too many bytes are being received")
            yield chunk
        if size > most:
            raise _too_large(most)

    def _score(self, content: bytearray, content_type: str | None, deadline: float) -> tuple[bytes, int]:
        """Runs on a thread: body → body of the answer, and its rows; TimeoutError when the time is up."""
        rows = protocol.parse(content, content_type, self._limits.max_rows)
        try:
            vectors = self._predictor.embed_rows(rows, deadline - time.monotonic())
        except RowError as error:
            raise protocol.bad_request(str(error), "INVALID_PARAMETER_VALUE") from None
        except BusyError as error:
            raise _busy(str(error)) from None
        finally:
            self.count_queue()
        return protocol.answer(vectors), len(rows)


class Front:
    """What surrounds every request: the token, counting, the access log, and errors as MLflow words them.

    Args:
        app: that answers.
        token: clients have to send; None admits everyone.
        metrics: counts.
        access_log: one JSON object a line on standard error.
    """

    def __init__(self, app: ASGIApp, token: str | None, metrics: Metrics, access_log: bool) -> None:
        self._app = app
        self._expected = None if token is None else b"Bearer " + token.encode()
        self._metrics = metrics
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, sent = time.perf_counter(), 500, 0
        scope.setdefault("state", {})

        async def counted_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            app = self._app if self._may_pass(scope) else _refusal(Request(scope), _NO_TOKEN)
            await app(scope, receive, counted_send)
        except Exception:  # Starlette raises it again when the client has its answer, which says nothing of it
            logger.exception("%s %s failed", scope["method"], scope["path"])
        finally:
            self._count(scope, status, sent, time.perf_counter() - start)

    def _may_pass(self, scope: Scope) -> bool:
        if self._expected is None or scope["path"] in OPEN_PATHS:
            return True
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return hmac.compare_digest(given, self._expected)

    def _count(self, scope: Scope, status: int, sent: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in PATHS else "other"
        self._metrics.requests.labels(path, str(status)).inc()
        if path == "/invocations":
            self._metrics.seconds.labels(str(status)).observe(seconds)
        reason = scope["state"].get("refused")
        if reason is not None:
            self._metrics.rejected.labels(reason).inc()
        if self._access_log:
            client = scope.get("client")
            line = {
                "time": datetime.now(UTC),
                "client": client[0] if client else None,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "rows": scope["state"].get("rows"),
                "refused": reason,
                "bytes": sent,
                "ms": round(seconds * 1000, 2),
            }
            sys.stderr.write(orjson.dumps({k: v for k, v in line.items() if v is not None}).decode() + "\n")


def create_app(
    predictor: ClipPredictor, limits: Limits, metrics: Metrics, token: str | None = None, access_log: bool = True
) -> ASGIApp:
    """The application of one worker, which closes the predictor when it ends.

    Args:
        predictor: that embeds.
        limits: of requests.
        metrics: that ``/metrics`` shows.
        token: that clients have to send.
        access_log: whether each request is told on standard error.
    """
    scorer = Scorer(predictor, limits, metrics)
    predictor.batcher.observer = scorer.observe

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        scorer.close()  # once every request has its answer, which takes the timeout at most

    async def ping(_request: Request) -> Response:
        return Response("\n", media_type=protocol.JSON)

    async def version(_request: Request) -> Response:
        return Response(installed_version("mlflow"), media_type=protocol.JSON)

    async def show_metrics(_request: Request) -> Response:
        scorer.count_queue()
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    routes = [
        Route("/ping", ping),
        Route("/health", ping),
        Route("/version", version),
        Route("/metrics", show_metrics),
        Route("/invocations", scorer.invocations, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {
        RefusedError: _refusal,
        HTTPException: _no_such_route,
        ClientDisconnect: _nobody_there,
        Exception: _failed,
    }
    app = Starlette(
        routes=routes, lifespan=lifespan, exception_handlers=handlers, middleware=[Middleware(PanicsAsErrors)]
    )
    return Front(app, token, metrics, access_log)


def _refusal(request: Request, problem: RefusedError) -> Response:
    request.state.refused = problem.reason
    return Response(problem.body(), problem.status, problem.headers, protocol.JSON)


def _no_such_route(request: Request, error: HTTPException) -> Response:
    what = "path" if error.status_code == 404 else f"method {request.method} of"
    code = "ENDPOINT_NOT_FOUND" if error.status_code == 404 else "BAD_REQUEST"
    message = f"no {what} {request.url.path}; there are {', '.join(sorted(PATHS))}"
    return _refusal(request, RefusedError(error.status_code, code, message, "route", error.headers))


def _nobody_there(_request: Request, _error: ClientDisconnect) -> Response:
    return Response(status_code=499)  # sent to nobody; nginx's number, for the log


def _failed(request: Request, _error: Exception) -> Response:
    return _refusal(
        request, RefusedError(500, "INTERNAL_ERROR", "the model failed; the server's log says why", "error")
    )


def _busy(message: str) -> RefusedError:
    return RefusedError(429, "REQUEST_LIMIT_EXCEEDED", f"{message}; try again later", "busy", _BUSY_HEADERS)


def _too_large(most: int) -> RefusedError:
    return RefusedError(
        413, "REQUEST_LIMIT_EXCEEDED", f"the body is larger than {most:,} bytes, the limit", "body", _CLOSE
    )
