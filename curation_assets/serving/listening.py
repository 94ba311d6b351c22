"""Listening before anything is loaded, and stopping when asked: what every server of this project does alike."""

from __future__ import annotations

import functools
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from curation_assets.errors import CurationError
from curation_assets.stopping import end_within, hand_over

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from uvicorn import Config

BACKLOG = 2048
_END_SECONDS = 3  # for what a server has at work when its patience with requests is at an end
_INTERRUPTED = 130  # exit code, as of every command that Ctrl-C ends


class EndsInTime:
    """Around a worker's application: ends its process where what is at work outlasts the server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        async def watched() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                end_within(_END_SECONDS, 0)
            return message

        await self._app(scope, watched if scope["type"] == "lifespan" else receive, send)


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens already: whoever connects while the model is loaded waits instead of being refused.

    Raises:
        CurationError: the host isn't this machine, or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except socket.gaierror as error:
        raise CurationError(f"--host {host} is no address of this machine: {error.strerror}") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CurationError(f"can't listen on {host} port {port}: {reason}; choose another --port or --host") from None
    with listener:
        yield listener


def is_loopback(host: str) -> bool:
    """Whether only this machine itself can reach that host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def url_of(listener: socket.socket) -> str:
    """``http://address:port`` of a listening socket."""
    address = listener.getsockname()
    shown = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{shown}:{address[1]}"


def config_of(
    app: ASGIApp | functools.partial[ASGIApp], stop_seconds: int, *, is_strict: bool = False, **more: Any
) -> Config:
    """uvicorn's configuration, quiet, without what only a proxy may say, and with connections watched.

    Args:
        app: the application, or with ``factory=True`` what makes it.
        stop_seconds: that requests at work get to be finished in.
        is_strict: whether requests are read by h11, which is slower.
        more: of uvicorn's options.
    """
    from uvicorn import Config

    from curation_assets.serving.connections import MOST_HEADER_BYTES, WatchedH11, WatchedHttpTools

    return Config(
        app,
        http=WatchedH11 if is_strict else WatchedHttpTools,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        lifespan="on",
        interface="asgi3",
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=stop_seconds,
        **more,
    )


def run(config: Config, listener: socket.socket, ready: str) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is at work, and return.

    A second SIGINT ends the process at once, with exit code 130.

    Args:
        ready: said on standard error before the first answer.
    """
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if sig == signal.SIGINT and self.should_exit:
                os._exit(_INTERRUPTED)  # anything milder waits for the threads, so for the model
            if not self.should_exit:
                end_within((config.timeout_graceful_shutdown or 0) + _END_SECONDS, 0)
            super().handle_exit(sig, frame)

    hand_over()
    server = Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again after it has stopped: for this handler, not for one that ends the process.
        signal.signal(number, functools.partial(uvicorn.Server.handle_exit, server))
    print(ready, file=sys.stderr, flush=True)
    server.run([listener])
