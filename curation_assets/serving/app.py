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

from curation_assets.callers import Caller
from curation_assets.clip.batching import Batch, BusyError
from curation_assets.clip.predictor import ClipPredictor
from curation_assets.clip.rows import RowError
from curation_assets.panics import PanicsAsErrors
from curation_assets.serving import protocol
from curation_assets.serving.bodies import Bodies, Body, CrowdedError, SlowError, TooLargeError
from curation_assets.serving.leaving import while_waited_for
from curation_assets.serving.limits import Limits
from curation_assets.serving.metrics import Metrics
from curation_assets.serving.protocol import RefusedError

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 1
OPEN_PATHS = frozenset({"/ping", "/health"})  # asked by load balancers, which have no token
PATHS = OPEN_PATHS | {"/version", "/metrics", "/invocations"}
_HELD_BODIES = 4  # bodies of the largest size that may be in memory at once
_BUSY_HEADERS = {"Retry-After": str(RETRY_AFTER_SECONDS)}
_CLOSE = {"Connection": "close"}  # the rest of the body isn't read
_NO_TOKEN = RefusedError(
    401,
    "UNAUTHENTICATED",
    "this server wants its token: `Authorization: Bearer …`",
    "token",
    {"WWW-Authenticate": "Bearer"},
)
_STOPPING = RefusedError(503, "TEMPORARILY_UNAVAILABLE", "this server is stopping; try another", "stopping", _CLOSE)


class Scorer:
    """``/invocations``: reads a request, admits it, and has its rows embedded on a thread.

    A request counts, with its bytes, until its thread is done with it, even if its client has had a 504 long ago: so
    what is in memory and at work stays within the limits. Rows that no pass has begun with go with their time, or with
    their client.

    Args:
        predictor: that embeds; calls from many threads go into one forward pass.
        limits: of requests.
        metrics: counts.
    """

    def __init__(self, predictor: ClipPredictor, limits: Limits, metrics: Metrics) -> None:
        self._predictor = predictor
        self._limits = limits
        self._metrics = metrics
        self._bodies = Bodies(_HELD_BODIES * limits.max_body_bytes)
        self._requests = self._open = 0  # at work; and with those being received
        self._lock = threading.Lock()  # of these two
        # Threads mostly wait for their batch: fewer than there are requests would keep batches small.
        self._threads = ThreadPoolExecutor(limits.max_requests, "invocations")

    async def invocations(self, request: Request) -> Response:
        """Answer a request; raises ``RefusedError`` for every answer but 200."""
        self._refuse_many()
        deadline = time.monotonic() + self._limits.timeout_seconds
        self._count(open_=1)
        work: Future[tuple[bytes, int]] | None = None
        try:
            async with asyncio.timeout(self._limits.timeout_seconds):
                body, caller = await self._received(request), Caller()
                work = self._begun(body, caller, request.headers.get("content-type"), deadline)
                answer, rows = await while_waited_for(request, work, caller)
        except TimeoutError:
            raise RefusedError(
                504, "DEADLINE_EXCEEDED", "request processing time exceeded the limit", "timeout"
            ) from None
        finally:
            if work is None:
                self._count(open_=-1)
        request.state.rows = rows
        return Response(answer, media_type=protocol.JSON)

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

    def _refuse_many(self) -> None:
        if self._requests >= self._limits.max_requests:
            raise _busy(f"{self._requests} requests are at work, which is the limit")

    def _count(self, open_: int = 0, requests: int = 0) -> None:
        with self._lock:
            self._open += open_
            self._requests += requests
            self._metrics.in_flight.set(self._open)

    async def _received(self, request: Request) -> Body:
        most = self._limits.max_body_bytes
        try:
            return await self._bodies.receive(request, most, self._limits.timeout_seconds)
        except TooLargeError:
            raise RefusedError(
                413, "REQUEST_LIMIT_EXCEEDED", f"the body is larger than {most:,} bytes, the limit", "body", _CLOSE
            ) from None
        except CrowdedError:
            raise _busy("too many bytes are being received") from None
        except SlowError:
            raise RefusedError(
                408, "DEADLINE_EXCEEDED", "the body came slowly, and others needed its place", "timeout", _CLOSE
            ) from None

    def _begun(
        self, body: Body, caller: Caller, content_type: str | None, deadline: float
    ) -> Future[tuple[bytes, int]]:
        """A request's work, on a thread; it counts until it is done."""
        try:
            self._refuse_many()  # again, as others were admitted while it was read
            work = self._threads.submit(self._score, caller, body.content, content_type, deadline)
        except BaseException:
            body.release()
            raise
        self._count(requests=1)

        def end(_: Future[tuple[bytes, int]]) -> None:
            body.release()
            self._count(open_=-1, requests=-1)

        work.add_done_callback(end)
        return work

    def _score(
        self, caller: Caller, content: bytearray, content_type: str | None, deadline: float
    ) -> tuple[bytes, int]:
        """Runs on a thread: body → body of the answer, and its rows; TimeoutError when the time is up."""
        caller.check()
        rows = protocol.parse(content, content_type, self._limits.max_rows)
        try:
            with caller.asking():
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
        start, status, sent, started = time.perf_counter(), 500, 0, False
        scope.setdefault("state", {})

        async def counted_send(message: Message) -> None:
            nonlocal status, sent, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            app = self._app if self._may_pass(scope) else _refusal(Request(scope), _NO_TOKEN)
            await app(scope, receive, counted_send)
        except asyncio.CancelledError:  # the server was stopped, and its patience is at an end
            if not started:
                await _refusal(Request(scope), _STOPPING)(scope, receive, counted_send)
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
