"""Clients that leave, and clients that are slow, against the real command: nobody else is to notice them."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from PIL import Image

from curation_assets.serving import connections
from curation_assets_tests.serving.test_process import Serve, Server, serve, servers, wait_until

__all__ = ["serve"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Iterator[Server]:
    """A server as it is without options, for tests after which it is as before."""
    with servers(tmp_path_factory.mktemp("server"), registered_model) as start:
        yield start()


@cache
def large() -> str:
    """A picture of few bytes that takes a while to decode: 30 megapixels."""
    out = BytesIO()
    Image.linear_gradient("L").resize((6000, 5000)).convert("RGB").save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def request(body: bytes, head: bytes = b"", announced: int | None = None) -> bytes:
    size = len(body) if announced is None else announced
    return b"POST /invocations HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n%s" % (head, size, body)


def answered(server: Server, number: int) -> list[int]:
    """Statuses of honest calls, eight at a time."""
    with ThreadPoolExecutor(8) as threads:
        asked = (threads.submit(server.ask, "/invocations", {"inputs": [f"leaf {i % 7}"]}) for i in range(number))
        return [one.result()[0] for one in list(asked)]


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def body_of(kind: str) -> bytes:
    asked = {
        "text": lambda: {"inputs": [f"a long text {i}" * 20 for i in range(200)]},
        "pictures": lambda: {"dataframe_records": [{"image": large()}] * 2},
    }
    return json.dumps(asked[kind]()).encode()


@pytest.mark.parametrize("kind", ["text", "pictures"])
@pytest.mark.parametrize("part", [1.0, 0.5])
def test_clients_that_leave_hold_no_places(server: Server, kind: str, part: float) -> None:
    body = body_of(kind)
    with ThreadPoolExecutor(32) as threads:

        def cancel(_: int) -> None:
            with connected(server) as connection:
                connection.sendall(request(body[: int(part * len(body))], announced=len(body)))
                time.sleep(0.02)

        for one in [threads.submit(cancel, i) for i in range(200 if kind == "text" else 20)]:
            one.result()
    begin = time.monotonic()
    assert answered(server, 40) == [200] * 40
    assert time.monotonic() - begin < 30
    wait_until(lambda: server.metric("curation_requests_in_flight") == 0)
    assert server.metric("curation_rows_in_flight") == 0


def test_a_client_that_asks_twice_at_once_and_leaves_is_seen_to_leave(server: Server) -> None:
    body = body_of("text")
    for _ in range(140):
        with connected(server) as connection:
            connection.sendall(request(body) + request(body) + request(body))
    assert answered(server, 40) == [200] * 40
    wait_until(lambda: server.metric("curation_requests_in_flight") == 0)


def test_a_client_that_leaves_while_its_picture_is_decoded_frees_its_place(serve: Serve) -> None:
    server = serve(CURATION_SERVE_MAX_REQUESTS="2")
    body = json.dumps({"dataframe_records": [{"image": large()}] * 60}).encode()
    for _ in range(3):
        with connected(server) as connection:
            connection.sendall(request(body))
            wait_until(lambda: server.metric("curation_rows_in_flight") > 0)
        begin = time.monotonic()
        wait_until(lambda: server.metric("curation_requests_in_flight") == 0)
        assert time.monotonic() - begin < 10  # sixty are half a minute, and more where cores are busy
    assert server.ask("/invocations", {"inputs": ["a"]})[0] == 200


def test_slow_bodies_shut_nobody_out(server: Server) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(server)) for _ in range(300)]
        for one in slow:
            one.sendall(request(b'{"inp', announced=1000))
        for _ in range(3):
            for one in slow:
                one.sendall(b"u")
            assert answered(server, 40) == [200] * 40


def test_bodies_that_stop_before_their_end_give_way(serve: Serve) -> None:
    server = serve(CURATION_SERVE_MAX_BODY_BYTES="4000000")
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(server)) for _ in range(4)]
        for one in slow:
            one.sendall(request(b" " * 3_990_000, announced=4_000_000))
        time.sleep(2)
        assert server.ask("/invocations", {"inputs": ["a" * 900_000]})[0] == 200
        gone = [one for one in slow if _was_told(one, b"408")]
        assert 1 <= len(gone) < 4


def _was_told(connection: socket.socket, said: bytes) -> bool:
    connection.settimeout(0.5)
    try:
        return said in connection.recv(1000)
    except TimeoutError:
        return False


def test_clients_that_send_no_request_are_let_go_of_and_long_headers_refused(server: Server) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(server)) for _ in range(300)]
        for one in slow:
            one.sendall(b"GET /ping HTTP/1.1\r\nX-A: ")
        assert answered(server, 40) == [200] * 40
        with connected(server) as long:
            long.sendall(b"GET /ping HTTP/1.1\r\nX-A: " + b"a" * 400_000)
            assert b"400" in long.recv(1000)
        slow[0].settimeout(40)
        with suppress(ConnectionResetError):
            assert slow[0].recv(10) == b""


def test_clients_that_take_nothing_of_their_answers_fill_no_memory(server: Server) -> None:
    body = json.dumps({"inputs": ["a"] * 1000}).encode()
    before = server.metric("process_resident_memory_bytes")
    with ExitStack() as stack:
        for _ in range(120):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(request(body))
        wait_until(lambda: server.metric("curation_requests_in_flight") == 0)
        assert answered(server, 40) == [200] * 40
        assert server.metric("process_resident_memory_bytes") - before < 700e6


@pytest.mark.parametrize("protocol", [connections.WatchedHttpTools, connections.WatchedH11])
def test_a_client_that_stops_taking_its_answer_is_let_go_of_and_a_slow_one_served(
    protocol: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_TAKING_SECONDS", 1.5)
    monkeypatch.setattr(connections, "_HEADER_SECONDS", 1.0)
    answer = bytes(20_000_000)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        size = str(len(answer)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", size)]})
        await send({"type": "http.response.body", "body": answer})

    config = uvicorn.Config(app, http=protocol, lifespan="off", log_config=None, timeout_keep_alive=1)
    running = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads, ExitStack() as stack:
        ending = threads.submit(running.run, [listener])
        stack.callback(ending.result, 20)
        stack.callback(setattr, running, "should_exit", True)
        slow, stuck = (stack.enter_context(socket.create_connection(listener.getsockname())) for _ in range(2))
        for one in (slow, stuck):
            one.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        taken = 0
        while part := slow.recv(500_000):  # ten seconds, beyond both limits
            taken += len(part)
            if taken >= len(answer):
                break
            time.sleep(0.1)
        assert taken >= len(answer)
        wait_until(lambda: len(running.server_state.connections) <= 1)
        had = 0
        with suppress(ConnectionError):
            while part := stuck.recv(1_000_000):
                had += len(part)
        assert had < len(answer)
