"""Who may ask, and what a browser may do with an answer: token, host, origin, and the headers of every response."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Collection, Mapping
from urllib.parse import parse_qs, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request, cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
MOST_BODY_BYTES = 64_000_000  # of anything but an image, which has a limit of its own: a million keys or so
COOKIE = "curation_gallery"
REVIEWER = "curation.reviewer"  # in a request's scope: whose the visitor's token is
_COOKIE_DAYS = 30
_MOST_LOGIN_BYTES = 10_000
_LOGIN_SECONDS = 20
_PAUSE_SECONDS = 0.5  # after a wrong token, so that guessing takes long
_guessing = asyncio.Lock()
_FORMS = ("/login", "/logout")
_OPEN = ("/login", "/static/")  # the form that asks for the token, and how it looks


class Guard:
    """Surrounds the application: refuses who may not ask, and puts the headers on every answer.

    Args:
        app: that answers.
        tokens: visitors have to give one of them, and whose each is; without any everyone is admitted. The person of a
            visitor's is in the request's scope as ``REVIEWER``.
        hosts_checked: only names of this machine itself are answered to, since another name that leads here was made
            by a stranger to get at this gallery through a visitor's browser.
    """

    def __init__(self, app: ASGIApp, tokens: Mapping[str, str | None], hosts_checked: bool) -> None:
        self._app = app
        self._tokens = tokens
        self._hosts_checked = hosts_checked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        try:
            refusal = self._refusal(scope)
            await (refusal or self._app)(scope, receive, with_headers)
        except ClientDisconnect:
            pass  # nobody is there to be told
        except asyncio.CancelledError:  # the gallery was stopped, and its patience is at an end
            if not started:
                await _problem(503, "the gallery is stopping", {"Connection": "close"})(scope, receive, with_headers)
        except Exception:  # what the application itself didn't expect
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if not started:
                await _problem(500, "something went wrong in the gallery; its log says what")(
                    scope, receive, with_headers
                )

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts_checked and not _is_this_machine(host):
            return _problem(400, "this gallery answers only to names of this machine, such as 127.0.0.1 or localhost")
        path = scope["path"]
        reads = scope["method"] in ("GET", "HEAD")
        if _is_embedded_elsewhere(headers, path) if reads else _is_of_another_site(headers, path):
            return _problem(403, "this request comes from another site's page")
        size = headers.get("content-length", "0")
        if path != "/api/images" and size.isdecimal() and int(size) > MOST_BODY_BYTES:
            return _problem(
                413, f"the body is larger than {MOST_BODY_BYTES:,} bytes, the limit", {"Connection": "close"}
            )
        token = self._token_of(headers)
        if token is not None:
            scope[REVIEWER] = self._tokens[token]
        if not self._tokens or path.startswith(_OPEN) or token is not None:
            return None
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            asked = path + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
            return RedirectResponse(f"/login?next={quote(asked, safe='')}", 303)
        return _problem(401, "this gallery wants its token: `Authorization: Bearer …`", {"WWW-Authenticate": "Bearer"})

    def _token_of(self, headers: Headers) -> str | None:
        """Which token a visitor has; None without."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return _same(given.strip().encode("latin-1"), {token: token for token in self._tokens})
        # Of any other scheme it is a proxy's business. Other programs of this host set cookies of any form.
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        return _same(cookie.encode("utf-8", "replace"), {_proof(token): token for token in self._tokens})


async def log_in(request: Request, tokens: Collection[str]) -> Response | tuple[str, str]:
    """Answer the login form: with a cookie and the way back, or with the way back and what was wrong."""
    body = bytearray()
    try:
        async with asyncio.timeout(_LOGIN_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MOST_LOGIN_BYTES:
                    return "/", "that is no token"
    except TimeoutError:
        return "/", "the token took too long to arrive"
    form = parse_qs(body.decode("utf-8", "replace"))
    given, back = form.get("token", [""])[0], way_back(form.get("next", ["/"])[0])
    token = _same(given.encode(), {token: token for token in tokens})
    if tokens and token is None:
        async with _guessing:  # one wrong guess at a time, however many connections guess
            await asyncio.sleep(_PAUSE_SECONDS)
        return back, "that is not this gallery's token"
    answer = RedirectResponse(back, 303)
    if token is not None:
        answer.set_cookie(
            COOKIE,
            _proof(token),
            max_age=_COOKIE_DAYS * 86_400,
            httponly=True,
            samesite="lax",  # a link that somebody sent finds its reader signed in
            secure=request.url.scheme == "https",
        )
    return answer


def _same(given: bytes, known: Mapping[str, str]) -> str | None:
    """What a given secret stands for; however much of one it is, that takes as long."""
    found = [of for secret, of in known.items() if hmac.compare_digest(given, secret.encode())]
    return found[0] if found else None


def way_back(path: str) -> str:
    """A page of this gallery that a login goes on to, whatever an address asked for."""
    ours = path.startswith("/") and not path.startswith("//") and path.isprintable() and "\\" not in path
    return quote(path, safe="/?=&;,%~:@!$'()*+.-_") if ours else "/"


def _proof(token: str) -> str:
    """What the cookie holds: it shows that its owner knew the token, and doesn't tell it."""
    return hmac.new(token.encode(), b"curation gallery", hashlib.sha256).hexdigest()


def _is_embedded_elsewhere(headers: Headers, path: str) -> bool:
    """Whether another site's page has it in itself, as an image say; a link that leads here is a visit."""
    if headers.get("sec-fetch-site") not in ("cross-site", "same-site"):
        return False
    return path.startswith(("/api/", "/archive")) or headers.get("sec-fetch-mode") != "navigate"


def _is_of_another_site(headers: Headers, path: str) -> bool:
    """Whether a page that isn't ours made the visitor's browser send this."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    # Under our referrer policy a browser hides where a form stands, the form for the token too; that one needs no
    # protection, since whoever sends it has to know the token.
    origin = headers.get("origin")
    try:
        return origin is not None and path not in _FORMS and urlsplit(origin).netloc != headers.get("host")
    except ValueError:
        return True


def _is_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _problem(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)
