"""``HEAD``, for every address that answers ``GET``: who asks sees the headers and gets no body."""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """Answers ``HEAD`` with status and headers of what the application answers to ``GET``.

    FastAPI's routes, unlike Starlette's, know only the methods that they are given. What comes in many parts is ended
    by ``ClientDisconnect`` after the first, which the application has to take for that.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            is_first_of_many = message.get("more_body", False)
            if message["type"] == "http.response.body":
                message = {"type": "http.response.body", "body": b""}
            await send(message)
            if is_first_of_many:
                raise ClientDisconnect  # nobody wants the rest

        await self._app({**scope, "method": "GET"}, receive, without_body)
