"""The real command in a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from curation_assets.decisions.record import read_rows
from curation_assets.errors import CurationError
from curation_assets.gallery.server import serve
from curation_assets.pipeline import Pipeline
from curation_assets_tests.processes import Begun

pytestmark = pytest.mark.slow
CURATION = Path(sys.executable).with_name("curation")


def environment(lake: Pipeline, **env: str) -> dict[str, str]:
    places = {"CURATION_LAKE_ROOT": lake.settings.lake_root, "CURATION_IMAGES_ROOT": lake.settings.images_root}
    return os.environ | {name: str(path) for name, path in places.items()} | {"CURATION_MODEL_SOURCE": "demo"} | env


Process = subprocess.Popen[bytes] | Begun
Start = Callable[..., tuple[Process, str]]


@pytest.fixture
def start(lake: Pipeline, tmp_path: Path) -> Iterator[Start]:
    """Start galleries, each on a free port; the process and its address.

    The installed command takes seconds to import what a fork has.
    """
    started: list[Process] = []

    def begun(*arguments: str, installed: bool = False, **env: str) -> tuple[Process, str]:
        log = tmp_path / f"{len(started)}.log"
        log.touch()
        call, given = ["gallery", "--port", "0", *arguments], environment(lake, **env)
        process: Process
        if installed:
            with log.open("w") as err:
                process = subprocess.Popen([CURATION, *call], env=given, stderr=err, start_new_session=True)
        else:
            process = Begun("from curation_assets.cli import main; main()", *call, env=given, stderr=log)
        started.append(process)
        deadline = time.monotonic() + 60
        while (told := re.search(r"at (http://\S+:\d+/)", log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return process, told[1]

    yield begun
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def refusal(lake: Pipeline, *arguments: str, **env: str) -> tuple[int, str]:
    """(exit code, standard error) of a gallery that does not start."""
    done = subprocess.run(
        [CURATION, "gallery", *arguments], env=environment(lake, **env), capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(("number", "installed"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_the_gallery_answers_this_machine_only_and_stops_when_asked(start: Start, number: int, installed: bool) -> None:
    process, address = start(installed=installed)
    with urllib.request.urlopen(f"{address}api/search?text=rust&k=3", timeout=60) as answer:
        assert len(json.load(answer)["images"]) == 3
    listening = {c.laddr.ip for c in psutil.Process(process.pid).net_connections() if c.status == "LISTEN"}
    assert listening == {"127.0.0.1"}
    process.send_signal(number)
    assert process.wait(30) == 0


def test_a_gallery_that_is_killed_in_mid_decision_loses_nothing_that_it_acknowledged(
    own: Pipeline, start: Start
) -> None:
    rng, people = random.Random(5), 4
    address, gone, acknowledged = "", threading.Event(), dict[str, int]()
    waiting = {by: deque(f"{by}{number:015x}" for number in range(1000)) for by in range(people)}
    sent = [set[str]() for _ in range(people)]

    def decide(by: int) -> None:
        """One after the other, until the gallery is gone: the one that it didn't answer is sent again later."""
        while not gone.is_set():
            token = waiting[by][0]
            key = f"rice/photo_{int(token, 16) % 30:03}.jpg"
            decision = {"token": token, "kind": "tag", "value": token, "key": key}
            body = json.dumps({"by": f"person {by}", "decisions": [decision]}).encode()
            request = urllib.request.Request(f"{address}api/decisions", body, {"Content-Type": "application/json"})
            sent[by].add(token)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    (told,) = json.load(answer)["decisions"]
            except (OSError, http.client.HTTPException):
                return
            assert told["status"] in ("recorded", "already")
            acknowledged[token] = acknowledged.get(token, 0) + 1
            waiting[by].popleft()

    for is_last in (False, False, True):
        process, address = start(CURATION_LAKE_ROOT=str(own.settings.lake_root))
        gone.clear()
        with ThreadPoolExecutor(people) as pool:
            done = [pool.submit(decide, by) for by in range(people)]
            least = len(acknowledged) + people * 2
            while len(acknowledged) < least:
                time.sleep(0.01)
                assert not any(one.done() for one in done)
            if is_last:
                gone.set()
            else:
                time.sleep(rng.uniform(0, 0.5))  # in the midst of a commit, say
                process.kill()
            for one in done:
                one.result()
    assert process.poll() is None
    there = read_rows(own.tables.decisions)["decision_id"].str.tail(16).to_list()
    assert len(there) == len(set(there)), "each is there once, however often it was sent"
    assert set(there) >= set(acknowledged)
    assert set(there) <= set().union(*sent)
    assert set(acknowledged) == set().union(*sent), "what was not answered was sent again"


def test_a_second_ctrl_c_ends_it_at_once(start: Start) -> None:
    process, address = start()
    with urllib.request.urlopen(f"{address}static/icon.svg", timeout=60):
        pass
    port = int(address.rsplit(":", 1)[1].rstrip("/"))
    with socket.create_connection(("127.0.0.1", port)) as upload:
        upload.sendall(
            b"POST /api/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        )
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None  # the upload may still end
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130


def test_other_machines_are_let_in_only_with_a_token(lake: Pipeline, start: Start) -> None:
    with pytest.raises(CurationError, match="set CURATION_GALLERY_TOKEN") as refused:
        serve(lake, host="0.0.0.0", port=0)
    assert "\n" not in str(refused.value)
    secret = SecretStr("a secret")
    both = lake.settings.model_copy(update={"gallery_token": secret, "gallery_tokens": {"Ana": secret}})
    with pytest.raises(CurationError, match=r"the token of 'Ana' .* is CURATION_GALLERY_TOKEN too") as refused:
        serve(Pipeline(both), host="0.0.0.0", port=0)
    assert "secret" not in str(refused.value)
    _, address = start("--host", "0.0.0.0", CURATION_GALLERY_TOKENS='{"Ana": "secret"}')
    request = urllib.request.Request(
        f"http://127.0.0.1:{address.rsplit(':', 1)[1]}api/search?k=1",
        headers={"Authorization": "Bearer secret", "Host": "crops.example"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def test_a_port_that_is_taken_is_said_in_a_line(lake: Pipeline) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = refusal(lake, "--port", str(taken.getsockname()[1]))
    assert code == 2
    assert "choose another --port" in said
    assert len(said.splitlines()) == 1


def test_the_help_needs_none_of_the_libraries_of_the_gallery() -> None:
    script = (
        "import sys; sys.argv = ['curation', 'gallery', '--help']\n"
        "from curation_assets.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'fastapi', 'starlette', 'jinja2', 'polars', 'torch', 'mlflow', 'pydeck', 'playwright'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "--host" in done.stdout
    assert "loaded []" in done.stdout
