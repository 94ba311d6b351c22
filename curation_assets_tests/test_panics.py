"""A library written in Rust that gives up raises what is no ``Exception``; it is one line or answer all the same."""

from __future__ import annotations

import subprocess
import sys

import polars as pl
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from curation_assets.errors import CurationError, explained, is_panic
from curation_assets.panics import PanicsAsErrors


def panic() -> None:
    """A real one, of the polars that is installed."""
    pl.sql_expr("least()")


def test_a_panic_is_told_from_other_errors() -> None:
    with pytest.raises(BaseException, match="unwrap") as raised:
        panic()
    assert not isinstance(raised.value, Exception)
    assert is_panic(raised.value)
    assert not is_panic(KeyboardInterrupt())
    assert not is_panic(ValueError())


def test_where_a_librarys_errors_are_explained_its_panics_are() -> None:
    with (
        pytest.raises(CurationError, match="the table: called `Result::unwrap"),
        explained(ValueError, "the table: {}".format),
    ):
        panic()
    with pytest.raises(KeyboardInterrupt), explained(ValueError, str):
        raise KeyboardInterrupt


def test_a_web_application_answers() -> None:
    def endpoint(_: Request) -> Response:
        panic()
        return PlainTextResponse("never")

    def failed(_: Request, error: Exception) -> Response:
        return PlainTextResponse(f"failed: {error}", 500)

    app = Starlette(
        routes=[Route("/", endpoint)], middleware=[Middleware(PanicsAsErrors)], exception_handlers={Exception: failed}
    )
    answer = TestClient(app, raise_server_exceptions=False).get("/")
    assert answer.status_code == 500
    assert answer.text.startswith("failed: a library gave up: called `Result::unwrap()`")


def test_a_command_ends_with_one_line() -> None:
    script = """
import polars, sys
from curation_assets import cli
cli._command = lambda: lambda: polars.sql_expr("least()")
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: a library gave up")
