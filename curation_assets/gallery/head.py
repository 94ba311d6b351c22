"""``HEAD``, for every address that answers ``GET``: who asks sees the headers and gets no body."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

IS_HEAD = "curation.head"  # in a request's scope: nobody takes the body


class HeadAsGet:
    """Answers ``HEAD`` with status and headers of what the application answers to ``GET``.

    FastAPI's routes, unlike Starlette's, know only the methods that they are given.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET", IS_HEAD: True}, receive, without_body)
