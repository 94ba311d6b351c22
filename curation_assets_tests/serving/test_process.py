"""The real command in a process of its own, asked over real sockets."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import curation_assets.serving.server as serving
from curation_assets.clip.predictor import ClipPredictor
from curation_assets.clip.rows import Row
from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline
from curation_assets.serving.server import serve as serve_model
from curation_assets.settings import load_settings
from curation_assets_tests.processes import Begun
from curation_assets_tests.serving.conftest import encoded
from curation_assets_tests.waiting import wait_until

pytestmark = pytest.mark.slow
CURATION = Path(sys.executable).with_name("curation")
ROWS = 6  # of an upload: five of them are done within a server's patience, however busy the machine
SLOW = """
import sys, time
from curation_assets.cli import main
from curation_assets.clip.encoder import Encoder

real, long = Encoder.embed_texts, sys.argv.pop(1)
if long:
    Encoder.embed_texts = lambda self, texts: time.sleep(120 * (long in texts)) or real(self, texts)
main()
"""  # the command; given a text, with a model that takes two minutes for it


@dataclass
class Server:
    """A running ``curation serve``."""

    process: subprocess.Popen[str] | Begun
    log: Path
    port: int

    def ask(self, path: str, body: Any = None, timeout: float = 60, **headers: str) -> tuple[int, str]:
        """(status, body) over a new connection."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"} | headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.ask("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0


Serve = Callable[..., Server]


def environment(registry: Path, **env: str) -> dict[str, str]:
    """Settings under which the registry in ``registry``, a folder named mlflow, is the project's."""
    lake = {"CURATION_LAKE_ROOT": str(registry.parent / "lake"), "CURATION_DEVICE": "cpu"}
    return os.environ | lake | {"CURATION_PRECISION": "float32"} | env


@contextmanager
def servers(logs: Path, registry: Path) -> Iterator[Serve]:
    """Start servers of the registered model, each on a free port.

    The installed command takes seconds to import what a fork has, which can't start workers.
    """
    with ExitStack() as stack:

        def start(*arguments: str, slow: str = "", installed: bool = False, **env: str) -> Server:
            log = logs / f"{len(list(logs.glob('*.log')))}.log"
            log.touch()
            call, given = ["serve", "--port", "0", *arguments], environment(registry, **env)
            process: subprocess.Popen[str] | Begun
            if installed:
                with log.open("w") as err:
                    process = subprocess.Popen(
                        [CURATION, *call], env=given, stderr=err, text=True, start_new_session=True
                    )
            else:
                process = Begun(SLOW, slow, *call, env=given, stderr=log)
            stack.callback(stop, process)
            deadline = time.monotonic() + 120
            while (told := re.search(r"at http://\S+:(\d+)/invocations", log.read_text())) is None:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            server = Server(process, log, int(told[1]))
            assert server.ask("/ping", timeout=120) == (200, "\n")
            return server

        yield start


@pytest.fixture
def serve(tmp_path: Path, registered_model: Path) -> Iterator[Serve]:
    """Start servers of the registered demo model."""
    with servers(tmp_path, registered_model) as start:
        yield start


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Iterator[Server]:
    """A server as it is without options, for tests after which it is as before."""
    with servers(tmp_path_factory.mktemp("server"), registered_model) as start:
        yield start(installed=True)


def stop(process: subprocess.Popen[str] | Begun) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def refusal(registry: Path, *arguments: str, **env: str) -> tuple[int, str]:
    """(exit code, standard error) of a server that does not start."""
    done = subprocess.run(
        [CURATION, "serve", *arguments], env=environment(registry, **env), capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stderr


def test_the_champion_is_served_on_this_machine_only(server: Server, predictor: ClipPredictor) -> None:
    status, body = server.ask("/invocations", {"dataframe_records": [{"text": "maize"}, {"image": encoded(1)}]})
    expected = predictor.embed_rows([Row("text", "maize"), Row("image", encoded(1))])
    assert status == 200
    np.testing.assert_allclose(json.loads(body)["predictions"], expected, atol=1e-5)
    listening = {c.laddr.ip for c in psutil.Process(server.process.pid).net_connections() if c.status == "LISTEN"}
    assert listening == {"127.0.0.1"}
    assert 'version="1"' in server.ask("/metrics")[1]
    assert "clip_embedding version 1 on cpu in float32" in server.log.read_text()


@dataclass
class Upload:
    """A request that the server works at for as long as its client likes: half of its body is still to come."""

    connection: HTTPConnection
    rest: bytes

    def finish(self) -> tuple[int, Any]:
        """(status, body) of the answer."""
        self.connection.send(self.rest)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())


@contextmanager
def uploads(server: Server, number: int) -> Iterator[list[Upload]]:
    body = json.dumps({"dataframe_records": [{"image": encoded(i)} for i in range(ROWS)]}).encode()
    half = len(body) // 2
    with ExitStack() as stack:
        begun = []
        for _ in range(number):
            connection = stack.enter_context(closing(HTTPConnection("127.0.0.1", server.port, timeout=60)))
            connection.putrequest("POST", "/invocations")
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body[:half])
            begun.append(Upload(connection, body[half:]))
        wait_until(lambda: server.metric("curation_requests_in_flight") == number)
        yield begun


def listens(server: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
    except ConnectionError:
        return False
    return True


def test_a_stopped_server_finishes_what_it_has_and_ends_with_0(serve: Serve) -> None:
    finishes_what_it_has(serve(), signal.SIGTERM, workers=1)


def finishes_what_it_has(server: Server, number: int, workers: int) -> None:
    with uploads(server, 5) as begun:
        server.process.send_signal(number)
        if workers == 1:  # the main process of several keeps the socket until they have ended
            wait_until(lambda: not listens(server))
        time.sleep(1)
        assert server.process.poll() is None
        answers = [upload.finish() for upload in begun]
    assert server.process.wait(60) == 0
    assert [status for status, _ in answers] == [200] * 5
    assert all(len(answer["predictions"]) == ROWS for _, answer in answers)
    assert "Traceback" not in server.log.read_text()
    assert not listens(server)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_ctrl_c_ends_a_server_that_has_work_for_long(serve: Serve, workers: str) -> None:
    slow = "" if workers == "2" else "pause"  # of a worker the unfinished upload is enough
    server = serve("--workers", workers, slow=slow, installed=not slow)
    children = psutil.Process(server.process.pid).children(recursive=True)
    with uploads(server, 1), ThreadPoolExecutor(1) as threads:
        if slow:
            threads.submit(server.ask, "/invocations", {"inputs": [slow]})
            wait_until(lambda: server.metric("curation_requests_in_flight") == 2)
        server.process.send_signal(signal.SIGINT)
        time.sleep(2)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 130
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert "Traceback" not in server.log.read_text()


def test_numbers_of_all_workers_are_added_up_and_outlive_a_worker_and_all_finish_what_they_have(serve: Serve) -> None:
    server = serve("--workers", "2", installed=True)
    workers = [child for child in psutil.Process(server.process.pid).children() if "spawn_main" in str(child.cmdline())]
    assert len(workers) == 2
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda i: server.ask("/invocations", {"inputs": [f"{i}"]}), range(40)))
    assert {status for status, _ in answers} == {200}
    done = 'curation_requests_total{path="/invocations",status="200"}'
    assert {server.metric(done) for _ in range(8)} == {40.0}
    assert server.metric('curation_batch_rows_sum{kind="text"}') == 40
    workers[0].kill()
    deadline = time.monotonic() + 60
    while workers[0].is_running() or len(psutil.Process(server.process.pid).children()) < len(workers) + 1:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert {server.metric(done) for _ in range(4)} == {40.0}
    assert server.metric("curation_requests_in_flight") == 0
    assert server.ask("/invocations", {"inputs": ["a"]})[0] == 200
    finishes_what_it_has(server, signal.SIGINT, workers=2)


def test_a_token_opens_other_addresses_and_whoever_sends_too_much_reads_why(serve: Serve) -> None:
    limit = {"CURATION_SERVE_MAX_BODY_BYTES": "1000000"}
    server = serve("--host", "0.0.0.0", CURATION_SERVE_TOKEN="a-secret-token", **limit)
    known = {"Authorization": "Bearer a-secret-token"}
    assert server.ask("/invocations", {"inputs": ["a"]})[0] == 401
    assert server.ask("/invocations", {"inputs": ["a" * 3_000_000]}, **known)[0] == 413
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a-secret-token\r\n"
            b"Expect: 100-continue\r\nContent-Length: 999999999999\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")
    assert server.ask("/invocations", {"inputs": ["a"]}, **known)[0] == 200
    assert "a-secret-token" not in server.log.read_text()


def test_a_client_that_goes_away_leaves_the_server_well(server: Server) -> None:
    body = json.dumps({"inputs": ["a"]}).encode()
    for sent in (body[:5], body):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            head = f"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + sent)
    assert server.ask("/invocations", {"inputs": ["a"]})[0] == 200
    deadline = time.monotonic() + 20
    while server.metric("curation_requests_in_flight"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "Traceback" not in server.log.read_text()


def test_a_port_that_is_taken_is_named_in_one_line(registered_model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code, said = refusal(registered_model, "--port", port)
    assert code == 2
    assert (
        said
        == f"error: can't listen on 127.0.0.1 port {port}: Address already in use; choose another --port or --host\n"
    )


@pytest.mark.parametrize(
    ("host", "version", "overrides", "said"),
    [
        ("0.0.0.0", None, {}, "set CURATION_SERVE_TOKEN"),
        ("::", None, {}, "set CURATION_SERVE_TOKEN"),
        ("no.such.host.invalid", None, {"serve_token": "a"}, "is no address of this machine"),
        ("192.0.2.1", None, {"serve_token": "a"}, "Cannot assign requested address"),
        ("127.0.0.1", "7", {}, "has no version '7'; it has 1"),
        ("127.0.0.1", None, {"device": "cuda:9"}, "CUDA devices"),
        ("127.0.0.1", None, {"device": "cpu", "precision": "float16"}, "float16 needs a CUDA device"),
    ],
)
def test_a_wrong_call_starts_nothing_and_says_what_to_change(
    ready: Pipeline, host: str, version: str | None, overrides: dict[str, str], said: str
) -> None:
    settings = load_settings(**(ready.settings.model_dump() | overrides))
    with pytest.raises(CurationError, match=re.escape(said)):
        serve_model(ready.registry, settings, host=host, port=0, version=version)


@pytest.mark.parametrize(("parameters", "workers", "threads"), [(10**6, 1, 1), (10**8, 2, 4), (10**8, 16, 1)])
def test_small_models_compute_on_one_thread_and_workers_divide_the_cores(
    ready: Pipeline, monkeypatch: pytest.MonkeyPatch, parameters: int, workers: int, threads: int
) -> None:
    plans: list[serving.Plan] = []
    for name in ("_serve_here", "_serve_in_workers"):
        monkeypatch.setattr(serving, name, lambda plan, *_: plans.append(plan))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    model = dataclasses.replace(ready.registry.champion(), parameters=parameters)
    monkeypatch.setattr(type(ready.registry), "champion", lambda _: model)
    serve_model(ready.registry, ready.settings, host="127.0.0.1", port=0, workers=workers)
    assert [plan.config.threads for plan in plans] == [threads]


def test_without_a_registered_model_one_line_says_how_to_get_one(tmp_path: Path) -> None:
    code, said = refusal(tmp_path / "mlflow", "--port", "0")
    assert code == 2
    assert "no CLIP model is registered" in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "mlflow").exists()


def test_nothing_of_hundreds_of_requests_stays_in_memory(serve: Serve) -> None:
    server = serve("--no-access-log")
    process = psutil.Process(server.process.pid)
    filler = "leaf " * 80_000  # 400 kB a request, 80 MB in all: far beyond an allocator's whims
    bodies: list[Any] = [{"inputs": [f"a {filler}"]}] + [
        {"dataframe_records": [{"image": encoded(i), "text": None}], "filler": filler} for i in (1, 2, 3)
    ]
    failed = threading.Event()

    def ask(index: int) -> None:
        if server.ask("/invocations", bodies[index % len(bodies)])[0] != 200:
            failed.set()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(60)))  # threads, pools and allocators have what they need
        sizes = [process.memory_info().rss]
        for _ in range(2):
            list(threads.map(ask, range(100)))
            sizes.append(process.memory_info().rss)
    assert not failed.is_set()
    # What settles does so in one half; what leaks does so in both, 40 MB each if every request leaves its body.
    assert min(np.diff(sizes)) < 20e6, sizes
