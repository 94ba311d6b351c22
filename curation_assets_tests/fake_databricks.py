"""A small server that speaks what the real clients ask of a Unity Catalog and of a Databricks workspace.

It stands in for what can't be had here, and nowhere else: the open-source Unity Catalog's models (``uc:``), a
workspace's models (``databricks-uc``), the files of volumes that its Files API keeps, and its serving endpoints. State
is in memory and, for files, in a folder. Answers and error codes are those of the services' public descriptions.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Lock, Thread
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

OSS = "/api/2.1/unity-catalog"
UC = "/api/2.0/mlflow/unity-catalog"
ENDPOINTS = "/api/2.0/serving-endpoints"
TOKEN = "a-token"


class RefusedError(Exception):
    """An answer that isn't 200."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Fault:
    """What becomes of requests that it fits.

    Attributes:
        asked: part of their ``METHOD path``.
        status: of the answer that comes instead.
        pause: seconds after which to ask again, of 429 and 503.
        cut: bytes after which the answer's body breaks off.
        content: that the file has been given when it is asked for, a minute after it was last written.
        is_late: the request is done all the same: only its answer is another.
        skip: requests that fit and are answered as they should be, before.
        times: requests that fail then.
    """

    asked: str = ""
    status: int | None = None
    pause: int = 0
    cut: int | None = None
    content: bytes | None = None
    is_late: bool = False
    skip: int = 0
    times: int = sys.maxsize

    def meets(self, asked: str) -> bool:
        """Whether it happens to a request, which is counted."""
        if self.asked not in asked or self.times <= 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True


_CODES = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 429: "REQUEST_LIMIT_EXCEEDED", 500: "INTERNAL_ERROR"}
_SAID = {
    401: "Credential was not sent or was of an unsupported type, or has expired.",
    403: "User does not have READ VOLUME on Volume 'farm.crops.photos'.",
}


@dataclass
class Fake:
    """What the server holds, and how a test makes it misbehave.

    Attributes:
        url: where it listens.
        calls: method and path of every request.
        denied: requests whose ``METHOD path`` contains this are answered 403.
        faults: what else goes wrong; the first that fits a request happens.
        gates: part of ``METHOD path`` → what such requests wait for each other at.
        page_size: entries of a directory in one answer.
        models: name → facts of a registered model; ``aliases`` among them.
        versions: (name, number) → facts of a version.
        endpoints: name → facts of a serving endpoint, as the service describes them.
        polls_until_ready: how often an endpoint is asked for before an update of it is done.
        update_fails: reason for which the next update of an endpoint fails.
    """

    files: Path
    url: str = ""
    calls: list[str] = field(default_factory=list)
    denied: str | None = None
    faults: list[Fault] = field(default_factory=list)
    gates: dict[str, Barrier] = field(default_factory=dict)
    page_size: int = 1000
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    polls_until_ready: int = 2
    update_fails: str | None = None

    # Both catalogs: models and versions

    def model(self, name: str) -> dict[str, Any]:
        if name not in self.models:
            raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"Registered model '{name}' does not exist.")
        return self.models[name]

    def version(self, name: str, number: str) -> dict[str, Any]:
        if (name, number) not in self.versions:
            raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"Model version '{name}' {number} does not exist.")
        return self.versions[name, number]

    def create_model(self, name: str, facts: dict[str, Any]) -> dict[str, Any]:
        if name in self.models:
            raise RefusedError(400, "RESOURCE_ALREADY_EXISTS", f"Registered model '{name}' already exists.")
        self.models[name] = {"aliases": {}, **facts}
        return self.models[name]

    def create_version(self, name: str, facts: dict[str, Any]) -> dict[str, Any]:
        self.model(name)
        number = str(1 + sum(known == name for known, _ in self.versions))
        self.versions[name, number] = {
            **facts,
            "version": number,
            "status": "PENDING_REGISTRATION",
            "created": int(time.time() * 1000),
        }
        return self.versions[name, number]

    def versions_of(self, name: str) -> list[dict[str, Any]]:
        self.model(name)
        return [facts for (known, _), facts in self.versions.items() if known == name]

    # The open-source Unity Catalog

    def oss_models(self, method: str, rest: list[str], body: dict[str, Any]) -> dict[str, Any]:
        match method, rest:
            case "POST", []:
                name = ".".join(body[key] for key in ("catalog_name", "schema_name", "name"))
                self.create_model(name, {"comment": body.get("comment", "")})
                return self._oss_model(name)
            case "GET", []:
                return {"registered_models": [self._oss_model(name) for name in self.models]}
            case "POST", ["versions"]:
                name = ".".join(body[key] for key in ("catalog_name", "schema_name", "model_name"))
                facts = {key: body[key] for key in ("source", "run_id", "comment") if key in body}
                return self._oss_version(name, self.create_version(name, facts))
            case "GET", [name]:
                self.model(name)
                return self._oss_model(name)
            case "GET", [name, "versions"]:
                return {"model_versions": [self._oss_version(name, facts) for facts in self.versions_of(name)]}
            case "GET", [name, "versions", number]:
                return self._oss_version(name, self.version(name, number))
            case "PATCH", [name, "versions", number, "finalize"]:
                self.version(name, number)["status"] = "READY"
                return self._oss_version(name, self.version(name, number))
        raise RefusedError(404, "NOT_FOUND", f"{method} {rest}")

    def _oss_model(self, name: str) -> dict[str, Any]:
        catalog, schema, model = name.split(".")
        return {"name": model, "catalog_name": catalog, "schema_name": schema, "comment": self.model(name)["comment"]}

    def _oss_version(self, name: str, facts: dict[str, Any]) -> dict[str, Any]:
        catalog, schema, model = name.split(".")
        told = {key: facts[key] for key in ("source", "run_id", "comment", "status") if key in facts}
        where = (self.files / name / facts["version"]).as_uri()
        return told | {
            "model_name": model,
            "catalog_name": catalog,
            "schema_name": schema,
            "version": int(facts["version"]),
            "created_at": facts["created"],
            "storage_location": where,
        }

    # A workspace's Unity Catalog

    def workspace_models(self, method: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
        name = body.get("name", "")
        match method, what:
            case "GET", "registered-models:is-databricks-sdk-models-artifact-repository-enabled":
                return {"is_databricks_sdk_models_artifact_repository_enabled": True}
            case "POST", "registered-models/create":
                self.create_model(name, {"description": body.get("description", "")})
                return {"registered_model": {"name": name}}
            case "GET", "registered-models/get":
                self.model(name)
                return {"registered_model": {"name": name}}
            case "GET", "registered-models/search":
                return {"registered_models": [{"name": known} for known in self.models]}
            case "POST", "registered-models/alias":
                self.version(name, body["version"])
                self.model(name)["aliases"][body["alias"]] = body["version"]
                return {}
            case "GET", "registered-models/alias":
                number = self.model(name)["aliases"].get(body["alias"])
                if number is None:
                    raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"Alias '{body['alias']}' does not exist.")
                return {"model_version": self._workspace_version(name, self.version(name, number))}
            case "POST", "model-versions/create":
                facts = {key: body[key] for key in ("source", "run_id", "description", "tags") if key in body}
                return {"model_version": self._workspace_version(name, self.create_version(name, facts))}
            case "POST", "model-versions/finalize":
                self.version(name, body["version"])["status"] = "READY"
                return {"model_version": self._workspace_version(name, self.version(name, body["version"]))}
            case "GET", "model-versions/get":
                return {"model_version": self._workspace_version(name, self.version(name, body["version"]))}
            case "GET", "model-versions/search":
                name = body["filter"].split("'")[1]
                listed = [self._workspace_version(name, facts) for facts in self.versions_of(name)]
                for version in listed:  # as the service does
                    version.pop("tags", None)
                return {"model_versions": listed}
            case "POST", "model-versions/emit-lineage":
                return {}
        raise RefusedError(404, "ENDPOINT_NOT_FOUND", f"{method} {what}")

    def _workspace_version(self, name: str, facts: dict[str, Any]) -> dict[str, Any]:
        told = {
            key: facts[key] for key in ("version", "source", "run_id", "description", "tags", "status") if key in facts
        }
        return told | {"name": name, "creation_timestamp": facts["created"]}

    def file(self, path: str) -> Path:
        return self.files / path.strip("/")

    def directory(self, path: str, token: str = "") -> dict[str, Any]:
        folder = self.file(path)
        if not folder.is_dir():
            raise RefusedError(404, "NOT_FOUND", f"No directory {path}")
        first = int(token.removeprefix("from-") or 0)
        inside = sorted(folder.iterdir())
        entries = [self._entry(path, entry) for entry in inside[first : first + self.page_size]]
        end = first + self.page_size
        return {"contents": entries} | ({"next_page_token": f"from-{end}"} if end < len(inside) else {})

    @staticmethod
    def _entry(path: str, entry: Path) -> dict[str, Any]:
        told = {"path": f"{path.rstrip('/')}/{entry.name}", "name": entry.name, "is_directory": entry.is_dir()}
        status = entry.stat()
        facts = {"file_size": status.st_size, "last_modified": status.st_mtime_ns // 1_000_000}
        return told if entry.is_dir() else told | facts

    def asked(self, method: str, below: str = "/api/2.0/fs/files/") -> Counter[str]:
        """How often each path was asked for with a method, without what they begin with."""
        start = f"{method} {below}"
        return Counter(call.removeprefix(start) for call in self.calls if call.startswith(start))

    # Serving endpoints

    def serving(self, method: str, rest: list[str], body: dict[str, Any]) -> dict[str, Any]:
        match method, rest:
            case "POST", []:
                if body["name"] in self.endpoints:
                    raise RefusedError(400, "RESOURCE_ALREADY_EXISTS", f"Endpoint '{body['name']}' already exists.")
                self.endpoints[body["name"]] = {"name": body["name"], "state": {"ready": "NOT_READY"}}
                return self._begin_update(body["name"], body["config"])
            case "GET", [name]:
                endpoint = self._endpoint(name)
                self._advance(endpoint)
                return {key: value for key, value in endpoint.items() if not key.startswith("_")}
            case "PUT", [name, "config"]:
                if self._endpoint(name)["state"].get("config_update") == "IN_PROGRESS":
                    raise RefusedError(409, "RESOURCE_CONFLICT", f"Endpoint '{name}' is being updated.")
                return self._begin_update(name, body)
        raise RefusedError(404, "ENDPOINT_NOT_FOUND", f"{method} {rest}")

    def _endpoint(self, name: str) -> dict[str, Any]:
        if name not in self.endpoints:
            raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"The given endpoint does not exist: {name}")
        return self.endpoints[name]

    def _begin_update(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        endpoint = self.endpoints[name]
        version = endpoint.get("config", {}).get("config_version", 0) + 1
        endpoint["pending_config"] = {"config_version": version, "served_entities": config["served_entities"]}
        endpoint["state"]["config_update"] = "IN_PROGRESS"
        endpoint["_polls"] = self.polls_until_ready
        return {key: value for key, value in endpoint.items() if not key.startswith("_")}

    def _advance(self, endpoint: dict[str, Any]) -> None:
        if endpoint["state"]["config_update"] != "IN_PROGRESS":
            return
        endpoint["_polls"] -= 1
        if endpoint["_polls"] > 0:
            return
        if self.update_fails is not None:
            state = {"deployment": "DEPLOYMENT_FAILED", "deployment_state_message": self.update_fails}
            for entity in endpoint["pending_config"]["served_entities"]:
                entity["state"] = state
            endpoint["state"]["config_update"] = "UPDATE_FAILED"
            self.update_fails = None
            return
        endpoint["config"] = endpoint.pop("pending_config")
        endpoint["state"] = {"ready": "READY", "config_update": "NOT_UPDATING"}


@dataclass(frozen=True)
class Volume:
    """A volume whose files lie in a folder of the server, as a mount would show them."""

    workspace: Fake
    root: str = "/Volumes/farm/crops/photos"

    @property
    def folder(self) -> Path:
        return self.workspace.file(self.root)

    def put(self, name: str, data: bytes) -> None:
        """Write a file, not counted."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def read(self, method: str = "GET") -> dict[str, int]:
        """How often each file was asked for with a method."""
        start = f"{self.root}/".lstrip("/")
        return {path.removeprefix(start): count for path, count in self.workspace.asked(method).items()}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: Fake
    lock: Lock

    def log_message(self, *args: Any) -> None:
        pass

    def _handle(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b"".join(self._chunks())
        asked = f"{self.command} {unquote(urlsplit(self.path).path)}"
        for gate in [gate for part, gate in self.fake.gates.items() if part in asked]:
            gate.wait()
        with self.lock:
            self.told: dict[str, str] = {"Content-Type": "application/json"}
            self.cut: int | None = None
            try:
                status, answer = 200, self._answer(data)
            except RefusedError as refusal:
                status, answer = (
                    refusal.status,
                    json.dumps({"error_code": refusal.code, "message": str(refusal)}).encode(),
                )
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        for name, value in self.told.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer[: self.cut])
        if self.cut is not None:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_HEAD = do_DELETE = _handle  # noqa: N815

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _answer(self, data: bytes) -> bytes:
        url = urlsplit(self.path)
        path, fake = unquote(url.path), self.fake
        fake.calls.append(f"{self.command} {path}")
        if fake.denied is not None and fake.denied in fake.calls[-1]:
            raise RefusedError(403, "PERMISSION_DENIED", "User does not have CREATE MODEL on Schema 'agriculture'.")
        if path == "/":
            return b"{}"
        fault = next((each for each in fake.faults if each.meets(fake.calls[-1])), None)
        if fault is not None and fault.is_late:
            self._asked(url, path, data)
        if fault is not None:
            self._fail(fault, path)
        return self._asked(url, path, data)

    def _asked(self, url: SplitResult, path: str, data: bytes) -> bytes:
        fake = self.fake
        if path == "/.well-known/databricks-config":
            return json.dumps({"oidc_endpoint": f"{fake.url}/oidc"}).encode()
        if not path.startswith(OSS) and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise RefusedError(401, "UNAUTHENTICATED", "Credential was not sent or was of an unsupported type.")
        if path.startswith("/api/2.0/fs/files/"):
            return self._file(path.removeprefix("/api/2.0/fs/files/"), data, dict(parse_qsl(url.query)))
        if path.startswith("/api/2.0/fs/directories/") and self.command == "PUT":
            fake.file(path.removeprefix("/api/2.0/fs/directories")).mkdir(parents=True, exist_ok=True)
            return b""
        if path.startswith("/api/2.0/fs/directories/"):
            token = dict(parse_qsl(url.query)).get("page_token", "")
            return json.dumps(fake.directory(path.removeprefix("/api/2.0/fs/directories"), token)).encode()
        body = json.loads(data) if data else dict(parse_qsl(url.query))
        routes: list[tuple[str, Callable[[str], dict[str, Any]]]] = [
            (f"{OSS}/models", lambda rest: fake.oss_models(self.command, _parts(rest), body)),
            (UC + "/", lambda rest: fake.workspace_models(self.command, rest, body)),
            (ENDPOINTS, lambda rest: fake.serving(self.command, _parts(rest), body)),
        ]
        for prefix, route in routes:
            if path.startswith(prefix):
                return json.dumps(route(path.removeprefix(prefix))).encode()
        raise RefusedError(404, "ENDPOINT_NOT_FOUND", f"No API found for '{self.command} {path}'")

    def _fail(self, fault: Fault, path: str) -> None:
        self.cut = fault.cut
        if fault.content is not None:
            file = self.fake.file(path.removeprefix("/api/2.0/fs/files/"))
            written = file.stat().st_mtime
            file.write_bytes(fault.content)
            os.utime(file, (written + 60, written + 60))
        if fault.status is not None:
            if fault.status in (429, 503):
                self.told["Retry-After"] = str(fault.pause)
            code = _CODES.get(fault.status, "TEMPORARILY_UNAVAILABLE")
            raise RefusedError(fault.status, code, _SAID.get(fault.status, "The service can't answer now."))

    def _file(self, path: str, data: bytes, asked: dict[str, str]) -> bytes:
        file = self.fake.file(path)
        if self.command == "PUT":
            if asked.get("overwrite") == "false" and file.exists():
                raise RefusedError(409, "ALREADY_EXISTS", f"The file {path} already exists.")
            if path.startswith("Volumes/") and not file.parent.is_dir():  # whether it would be made isn't documented
                raise RefusedError(404, "NOT_FOUND", f"No directory above {path}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            return b""
        if not file.is_file():
            raise RefusedError(404, "NOT_FOUND", f"No file {path}")
        if self.command == "DELETE":
            file.unlink()
            return b""
        self.told = {
            "Content-Type": "application/octet-stream",
            "Last-Modified": formatdate(file.stat().st_mtime_ns // 10**9, usegmt=True),
        }
        return file.read_bytes()


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


@contextmanager
def serving(files: Path) -> Iterator[Fake]:
    """A running server, whose files lie in a folder."""
    fake = Fake(files)
    handler = type("Handler", (_Handler,), {"fake": fake, "lock": Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
