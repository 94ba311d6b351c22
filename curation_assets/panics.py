"""Libraries written in Rust that give up, behind the web applications."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from curation_assets.errors import first_line, is_panic


class PanicsAsErrors:
    """Makes an error of a panic, which passes by every handler of errors as it is no ``Exception``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        try:
            await self._app(scope, receive, send)
        except BaseException as error:
            if not is_panic(error):
                raise
            raise RuntimeError(f"a library gave up: {first_line(error)}") from error
