"""An S3 server in this process, whose requests are counted and can be made to fail."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

SECRET = "not-to-be-seen"


@dataclass
class S3:
    """A bucket on the server.

    Attributes:
        asked: requests by method and key; those for pages of keys under ``LIST`` and the prefix.
        before: called with method and key before a request is answered; gives the status of a refusal, or None.
        after: the same once it was carried out: its answer is lost then, and that status comes instead.
        torn: called with method and key; gives after how many bytes the answer breaks off, or None.
    """

    url: str
    client: Any
    bucket: str = ""
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    before: Callable[[str, str], int | None] | None = None
    after: Callable[[str, str], int | None] | None = None
    torn: Callable[[str, str], int | None] | None = None

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

    def put(self, key: str, data: bytes) -> None:
        """Write an object, not counted."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def of(self, method: str) -> dict[str, int]:
        """How often each key was asked for with a method."""
        return {key: count for (made, key), count in self.asked.items() if made == method}


def _broken_off(body: Iterable[bytes], after: int) -> Iterator[bytes]:
    for part in body:
        yield part[:after]
        if len(part) > after:
            raise ConnectionResetError
        after -= len(part)


@contextmanager
def s3_server() -> Iterator[S3]:
    """Start a server on a port of its own."""
    app = DomainDispatcherApplication(create_backend_app)
    told: list[S3] = []

    def counted(environ: dict[str, Any], start: Any) -> Any:
        of = told[0]
        _, bucket, key = (environ["PATH_INFO"].encode("latin-1").decode() + "/").split("/", 2)
        key, query = key.removesuffix("/"), environ.get("QUERY_STRING", "")
        method = "LIST" if environ["REQUEST_METHOD"] == "GET" and "list-type" in query else environ["REQUEST_METHOD"]
        is_ours = "Boto" not in environ.get("HTTP_USER_AGENT", "")
        if is_ours and bucket == of.bucket:
            of.asked[method, key] += 1
            if of.before is not None and (status := of.before(method, key)) is not None:
                start(f"{status} refused", [("Content-Length", "0")])
                return [b""]
            if of.after is not None and (status := of.after(method, key)) is not None:
                for _ in app(environ, lambda *_: None):
                    pass
                start(f"{status} lost", [("Content-Length", "0")])
                return [b""]
            if of.torn is not None and (after := of.torn(method, key)) is not None:
                return _broken_off(app(environ, start), after)
        return app(environ, start)

    server = make_server("127.0.0.1", 0, counted, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    told.append(S3(url, client))
    try:
        yield told[0]
    finally:
        server.shutdown()
        thread.join()
