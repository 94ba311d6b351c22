"""Routes that take large bodies: the body is there, within the gallery's bounds, before anything is done for it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message

from curation_assets.gallery.security import MOST_BODY_BYTES

_BODY_SECONDS = 60


class WholeBody(APIRoute):
    """A route whose body is there before anything else is done for it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:  # noqa: D102
        handle = super().get_route_handler()

        async def handle_whole(request: Request) -> Response:
            body = await request.app.state.gallery.bodies.receive(request, MOST_BODY_BYTES, _BODY_SECONDS)
            rest = request.receive
            messages: Iterator[Message] = iter(
                [{"type": "http.request", "body": bytes(body.content), "more_body": False}]
            )

            async def receive() -> Message:
                return next(messages, None) or await rest()

            try:
                return await handle(Request(request.scope, receive))
            finally:
                body.release()

        return handle_whole
