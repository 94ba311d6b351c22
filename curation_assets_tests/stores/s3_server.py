"""An S3 server in a process of its own, whose requests are counted and can be made to fail; Google's is behind it too.

It has to be another process: deltalake asks a store while it holds Python's lock, so a thread could never answer it.
"""

from __future__ import annotations

import base64
import json
import random
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

SECRET = "not-to-be-seen"
_SOMEBODY = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
_CONTROL, _GOOGLE = "/_control", "/_google"


@dataclass(frozen=True)
class Fault:
    """What becomes of requests that it fits.

    Attributes:
        method: of HTTP; pages of keys are ``LIST``; "" fits all.
        key: regular expression, found anywhere in the key (of ``LIST``: the bucket's name and no key).
        status: of the answer that comes instead.
        landed: the request is carried out all the same, and only its answer is lost.
        cut: bytes after which the answer breaks off.
        put: content that the object is given before it is asked for, in base64.
        skip: requests that fit and are answered as they should be, before.
        times: requests that fail then.
    """

    method: str = ""
    key: str = ""
    status: int | None = None
    landed: bool = False
    cut: int | None = None
    put: str | None = None
    skip: int = 0
    times: int = sys.maxsize


@dataclass(frozen=True)
class Chaos:
    """Faults by chance: the same for the same seed and requests.

    Attributes:
        rate: share of requests that something happens to; of commits to tables, half of them.
        most_seconds: that an answer is late.
    """

    seed: int
    rate: float
    most_seconds: float = 0.2


KINDS = ("late", "reset", "503", "torn", "stale", "lost", "lost reset")


@dataclass
class S3:
    """A bucket on the server."""

    url: str
    client: Any
    bucket: str = ""

    @property
    def options(self) -> dict[str, str]:
        """Of ``CURATION_STORAGE_OPTIONS``."""
        return {
            "aws_endpoint_url": self.url,
            "aws_region": "us-east-1",
            "aws_access_key_id": "somebody",
            "aws_secret_access_key": SECRET,
            "aws_allow_http": "true",
        }

    @property
    def google_options(self) -> dict[str, str]:
        """The same for ``gs://``."""
        known = {"gcs_base_url": self.url + _GOOGLE, "disable_oauth": True}
        known |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        return {"google_service_account_key": json.dumps(known), "allow_http": "true"}

    def put(self, key: str, data: bytes) -> None:
        """Write an object, not counted."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def fail(self, *faults: Fault) -> None:
        """From now on these, and no others."""
        self._tell({"bucket": self.bucket, "faults": [asdict(fault) for fault in faults]})

    def go_wrong(self, chaos: Chaos | None) -> None:
        """From now on faults by chance, or none."""
        self._tell({"bucket": self.bucket, "chaos": None if chaos is None else asdict(chaos)})

    def went_wrong(self) -> Counter[str]:
        """How often each of ``KINDS`` happened in the bucket."""
        return Counter(dict(self._tell({"bucket": self.bucket, "which": "went_wrong"})))

    def replace_at(self, key: str, data: bytes) -> None:
        """Give an object other content at the moment it is asked for."""
        self.fail(Fault("GET", f"^{re.escape(key)}$", put=base64.b64encode(data).decode(), times=1))

    def forget(self) -> None:
        """Count anew."""
        self._tell({"bucket": self.bucket, "forget": True})

    def asked(self) -> Counter[tuple[str, str]]:
        """Requests by method and key; those for pages of keys under ``LIST``."""
        return Counter({(method, key): count for method, key, count in self._tell({"bucket": self.bucket})})

    def of(self, method: str) -> dict[str, int]:
        """How often each key was asked for with a method."""
        return {key: count for (made, key), count in self.asked().items() if made == method}

    def _tell(self, told: dict[str, Any]) -> Any:
        with urllib.request.urlopen(self.url + _CONTROL, json.dumps(told).encode(), timeout=30) as answer:
            return json.load(answer)


@contextmanager
def s3_server() -> Iterator[S3]:
    """Start a server on a port of its own."""
    import boto3

    command = [sys.executable, "-m", "curation_assets_tests.stores.s3_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        known = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
        try:
            yield S3(url, boto3.client("s3", endpoint_url=url, **known))
        finally:
            process.stdin.close()


class _Failing:
    """The server's application behind faults."""

    def __init__(self, app: Callable[..., Iterable[bytes]], client: Any) -> None:
        self.app = app
        self.client = client
        self.lock = threading.Lock()
        self.bucket = ""
        self.asked: Counter[tuple[str, str]] = Counter()
        self.faults: list[Fault] = []
        self.seen: Counter[int] = Counter()  # requests that fitted a fault, by its place
        self.chaos: tuple[Chaos, random.Random] | None = None
        self.went_wrong: Counter[str] = Counter()
        self.listed: dict[str, list[tuple[Any, ...]]] = {}  # answers of listings by their query, the last ones
        self.generations: dict[str, str] = {}  # of Google's objects → tag

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == _CONTROL:
            return self._told(environ, start)
        if environ["PATH_INFO"].startswith(_GOOGLE):
            return self._as_google(environ, start)
        _, bucket, key = (environ["PATH_INFO"].encode("latin-1").decode() + "/").split("/", 2)
        key, query = key.removesuffix("/"), environ.get("QUERY_STRING", "")
        method = "LIST" if environ["REQUEST_METHOD"] == "GET" and "list-type" in query else environ["REQUEST_METHOD"]
        if "Boto" in environ.get("HTTP_USER_AGENT", "") or bucket != self.bucket:
            return self.app(environ, start)
        self.asked[method, key] += 1
        if self.chaos is not None:
            return self._by_chance(method, key, environ, start)
        fault = self._fitting(method, key)
        if fault is None:
            return self.app(environ, start)
        if fault.put is not None:
            self.client.put_object(Bucket=bucket, Key=key, Body=base64.b64decode(fault.put))
        if fault.landed:
            for _ in self.app(environ, lambda *_: None):
                pass
        if fault.status is not None:
            start(f"{fault.status} refused", [("Content-Length", "0")])
            return [b""]
        answer = self.app(environ, start)
        return answer if fault.cut is None else _broken_off(answer, fault.cut)

    def _as_google(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Google's XML API, as clients use it: what it does otherwise than S3 is to say what a put depends on."""
        path = environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(_GOOGLE)
        uri = quote(path.encode("latin-1")) + (f"?{query}" if (query := environ.get("QUERY_STRING")) else "")
        environ |= {"RAW_URI": uri, "REQUEST_URI": uri}
        environ["HTTP_AUTHORIZATION"] = _SOMEBODY
        wanted = environ.get("HTTP_X_GOOG_IF_GENERATION_MATCH")
        if wanted == "0":
            environ["HTTP_IF_NONE_MATCH"] = "*"
        elif wanted is not None:
            environ["HTTP_IF_MATCH"] = self.generations[wanted]

        def told(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            tag = next((value for name, value in headers if name.lower() == "etag"), None)
            if tag is None:
                return start(status, headers, *more)
            generation = str(int.from_bytes(tag.encode()[1:7]))
            self.generations[generation] = tag
            return start(status, [*headers, ("x-goog-generation", generation)], *more)

        return self.app(environ, told)

    def _by_chance(self, method: str, key: str, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        assert self.chaos is not None
        chaos, chance = self.chaos
        is_commit = method == "PUT" and "/_delta_log/" in key
        with self.lock:
            happens = chance.random() < (0.5 if is_commit else chaos.rate)
            late = chance.random() * chaos.most_seconds
            allowed = [kind for kind in KINDS if _can(kind, method)]
            kind = chance.choice(allowed[-2:] if is_commit and chance.random() < 0.7 else allowed)
            after = chance.randrange(1, 2000)
        if not happens:
            return self._listing(method, environ, start)
        if kind == "stale" and environ["QUERY_STRING"] not in self.listed:
            kind = "503"
        self.went_wrong[kind] += 1
        if kind == "late":
            time.sleep(late)
            return self._listing(method, environ, start)
        if kind == "stale":
            status, headers, body = self.listed[environ["QUERY_STRING"]][0]
            start(status, headers)
            return [body]
        if kind == "torn":
            return _broken_off(self.app(environ, start), after)
        if kind.startswith("lost"):
            for _ in self.app(environ, lambda *_: None):
                pass
        if kind.endswith("reset"):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        start("503 Slow Down", [("Content-Length", "0")])
        return [b""]

    def _listing(self, method: str, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Answer, and remember a listing: it may be given again when it isn't true any more."""
        if method != "LIST":
            return self.app(environ, start)
        head: list[Any] = []
        body = b"".join(self.app(environ, lambda *said: head.extend(said)))
        kept = self.listed.setdefault(environ["QUERY_STRING"], [])
        kept.append((head[0], head[1], body))
        del kept[:-2]
        start(head[0], head[1])
        return [body]

    def _fitting(self, method: str, key: str) -> Fault | None:
        for place, fault in enumerate(self.faults):
            if fault.method in ("", method) and re.search(fault.key, key):
                self.seen[place] += 1
                if fault.skip < self.seen[place] <= fault.skip + fault.times:
                    return fault
        return None

    def _told(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        told = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        if told["bucket"] != self.bucket or told.get("forget"):
            if told["bucket"] != self.bucket:
                self.went_wrong.clear()
                self.listed.clear()
            self.bucket = told["bucket"]
            self.asked.clear()
        if "faults" in told:
            self.faults = [Fault(**fault) for fault in told["faults"]]
            self.seen.clear()
        if "chaos" in told:
            chaos = None if told["chaos"] is None else Chaos(**told["chaos"])
            self.chaos = None if chaos is None else (chaos, random.Random(chaos.seed))
        start("200 OK", [("Content-Type", "application/json")])
        if told.get("which") == "went_wrong":
            return [json.dumps([*self.went_wrong.items()]).encode()]
        return [json.dumps([[*key, count] for key, count in self.asked.items()]).encode()]


def _can(kind: str, method: str) -> bool:
    """Whether a fault is one of such a request."""
    if kind == "torn":
        return method == "GET"
    if kind == "stale":
        return method == "LIST"
    if kind.startswith("lost"):
        return method in ("PUT", "POST", "DELETE")
    return True


def _broken_off(body: Iterable[bytes], after: int) -> Iterator[bytes]:
    for part in body:
        yield part[:after]
        if len(part) > after:
            raise ConnectionResetError
        after -= len(part)


def _serve() -> None:
    import logging

    import boto3
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    failing = _Failing(DomainDispatcherApplication(create_backend_app), None)
    server = make_server("127.0.0.1", 0, failing, threaded=True)
    url = f"http://127.0.0.1:{server.server_port}"
    known = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    failing.client = boto3.client("s3", endpoint_url=url, **known)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()  # until whoever started it is gone


if __name__ == "__main__":
    _serve()
