"""The gallery's web application, put together."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import AsyncIterator, Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import ASGIApp

from curation_assets import __version__
from curation_assets.errors import CurationError
from curation_assets.gallery import api, pages
from curation_assets.gallery.files import NotThereError
from curation_assets.gallery.gallery import Gallery
from curation_assets.gallery.head import HeadAsGet
from curation_assets.gallery.security import Guard
from curation_assets.images.names import printable
from curation_assets.panics import PanicsAsErrors
from curation_assets.serving.bodies import BodyError, CrowdedError, SlowError

_ABOUT = """Looking at the images of a lake, searching them, and taking a choice along.

Where the gallery has a token, send it as `Authorization: Bearer …`. Errors are `{"error": "one sentence"}`."""
# Schemas that the description of the API calls otherwise than the code does.
_SCHEMA_NAMES = {"SearchRequest": "Asked", "ExportRequest": "Export", "UploadReceipt": "Uploaded"}
_MEDIA_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
# Scripts of others, from where their packages are installed: (package, path in it), by the name they are served under.
_VENDOR = {
    "deck.js": ("pydeck", "nbextension/static/index.js"),
    "swagger-ui.js": ("swagger_ui_bundle", "vendor/swagger-ui-*/swagger-ui-bundle.js"),
    "swagger-ui.css": ("swagger_ui_bundle", "vendor/swagger-ui-*/swagger-ui.css"),
}


def create_app(
    gallery: Gallery, *, tokens: Mapping[str, str | None] | None = None, hosts_checked: bool = True
) -> ASGIApp:
    """The application.

    Args:
        gallery: what it shows.
        tokens: visitors have to give one of them; of each the person whose it is, or None where it is everybody's. None
            admit everyone.
        hosts_checked: whether only names of this machine itself are answered to.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=gallery.warm_up, name="warm-up", daemon=True).start()
        yield
        gallery.close()

    app = FastAPI(
        title="curation gallery",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_tags=[{"name": "search"}],  # first in the documentation, whichever route is
    )
    app.add_exception_handler(CurationError, _cant)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(BodyError, _not_taken)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(PanicsAsErrors)
    app.state.gallery = gallery
    app.state.tokens = dict(tokens or {})
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    app.include_router(api.router)
    app.include_router(pages.router)
    app.add_api_route("/vendor/{name}", _vendor, include_in_schema=False)
    app.add_api_route("/static/{name}", _static, include_in_schema=False)
    return HeadAsGet(Guard(app, app.state.tokens, hosts_checked))


async def _static(name: str, request: Request) -> Response:
    held = _held_static().get(name)
    if held is None:
        raise HTTPException(404)
    content, kind, tag = held
    headers = {"ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


@cache
def _held_static() -> dict[str, tuple[bytes, str, str]]:
    """Content, media type and tag of scripts and styles: a page asks for a dozen at once, so they stay in memory."""
    found = {}
    for file in files("curation_assets.gallery").joinpath("static").iterdir():
        if kind := _MEDIA_TYPES.get(file.name.rpartition(".")[2]):
            content = file.read_bytes()
            found[file.name] = content, kind, f'"{sha256(content).hexdigest()[:16]}"'
    return found


def _vendor(name: str) -> Response:
    package, pattern = _VENDOR.get(name, ("", ""))
    found = find_spec(package) if package else None
    places = (found.submodule_search_locations if found else None) or []
    for place in places:
        for path in Path(place).glob(pattern):
            # The packages are what they are until they are installed anew: asking again costs a header.
            return FileResponse(path, headers={"Cache-Control": "private, max-age=86400"})
    raise HTTPException(404, f"{name} is not installed here: `pip install {package or '…'}`")


def _described(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.0, which the installed Swagger UI reads; with our errors in the place of FastAPI's."""
    if app.openapi_schema is None:
        described = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            openapi_version="3.0.3",
        )
        for path in described["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            described["components"]["schemas"].pop(unused, None)
        app.openapi_schema = _as_3_0(_under_public_names(described))
    return app.openapi_schema


def _under_public_names(described: dict[str, Any]) -> dict[str, Any]:
    """A description whose schemas have the names that they have had from the beginning."""
    place = "#/components/schemas/"
    text = json.dumps(described)
    for name, public in _SCHEMA_NAMES.items():
        text = text.replace(f'"{place}{name}"', f'"{place}{public}"')
    described = json.loads(text)
    schemas = described["components"]["schemas"]
    for name, public in _SCHEMA_NAMES.items():
        schemas[public] = schemas.pop(name) | {"title": public}
    return described


def _as_3_0(value: Any) -> Any:
    """A schema of OpenAPI 3.1 in the terms of 3.0: ``nullable`` for ``anyOf … null``."""
    if isinstance(value, list):
        return [_as_3_0(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {name: _as_3_0(one) for name, one in value.items()}
    options = found.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        rest = [option for option in options if option != {"type": "null"}]
        del found["anyOf"]
        found |= {"nullable": True} | (rest[0] if len(rest) == 1 else {"anyOf": rest})
    return found


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")


def _problem(request: Request, status: int, message: str, headers: Any = None) -> Response:
    message = printable(message)
    if _wants_page(request):
        return pages.render("problem.html", request, status, message=message, number=status)
    return JSONResponse({"error": message}, status, headers)


def _cant(request: Request, error: Exception) -> Response:
    return _problem(request, 404 if isinstance(error, NotThereError) else 400, str(error))


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 404 and message == "Not Found":
        message = f"there is no {request.url.path} here; /docs lists what there is"
    return _problem(request, error.status_code, message, error.headers)


def _not_taken(request: Request, error: Exception) -> Response:
    headers = {"Connection": "close"}
    if isinstance(error, CrowdedError):
        return _problem(request, 429, "too much is being sent at once: try again in a moment", {"Retry-After": "1"})
    if isinstance(error, SlowError):
        return _problem(request, 408, "the body came slowly, and others needed its place", headers)
    return _problem(request, 413, "the body is larger than the limit", headers)


def _failed(request: Request, _error: Exception) -> Response:
    return _problem(request, 500, "something went wrong in the gallery; its log says what")  # Starlette raises it on


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    said = []
    for problem in error.errors()[:3]:
        where = ".".join(str(part) for part in problem["loc"] if part not in ("query", "body")) or "body"
        value = problem.get("input")
        given = f"={value!r:.100}" if isinstance(value, str | int | float) else ""
        said.append(f"{where}{given}: {problem['msg'].removeprefix('Value error, ')}")
    return _problem(request, 400, "; ".join(said))
