"""Throughput, latency and memory of ``curation serve`` beside ``mlflow models serve`` of the same registered version.

    python -m benchmarks.serving [--seconds S] [--requests N] [--source demo|FOLDER] [--workers N] [--save]

Servers run side by side, one process tree each, and are asked in turns, so that whatever else the machine does falls on
all of them. The client is a process of its own: one connection a client, each sending its next request when it has its
answer, bodies made beforehand. Every answer must be a 200 with a whole vector, and all servers must agree on vectors.
Memory is the resident memory of a server's process tree. ``--save`` writes ``benchmarks/results/serving.md``.

The rivals are MLflow's server with the registered model as it is, which gathers requests into batches itself; the same
with ``OMP_NUM_THREADS=1``, which suits a small model better and is what ``curation serve`` does for one by itself; and
the same with batching off (``model_config`` ``max_batch`` 1), as an ordinary model would be.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import cpu_name

CLIENTS = (1, 4, 16, 64)
KINDS = ("text", "image")
ROUNDS = 3
BODIES = 64
PHOTO = (512, 384)
OURS, STOCK = "curation serve", "mlflow models serve"
ONE_THREAD, UNBATCHED = f"{STOCK}, one thread", f"{STOCK}, one thread, batching off"
GOAL_CLIENTS, GOAL = 16, 3.0
SAME_VECTOR = 1e-2  # of unit vectors in bfloat16, computed in batches of other sizes
START_SECONDS = 120


@dataclass
class Load:
    """What a client process measured.

    Attributes:
        requests, seconds: how many were answered, in what time.
        latencies: of each, in seconds.
        client_cpu: seconds of the client process.
    """

    requests: int
    seconds: float
    latencies: list[float]
    client_cpu: float


@dataclass
class Measured:
    """Rounds of one server at one number of clients, put together.

    Attributes:
        rate: requests a second.
        p50, p99: latency in milliseconds.
        cpu_ms: processor time of the server a request.
        client_share: of one core that the client took.
    """

    rate: float
    p50: float
    p99: float
    cpu_ms: float
    client_share: float


class Server:
    """A running server.

    Args:
        name: in the report.
        command: that starts it.
        port: that it listens on.
        environment: beside the caller's own.
        log: file of what it says.
    """

    def __init__(self, name: str, command: list[str], port: int, environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.port = port
        self._log = log
        with log.open("w") as out:
            self._process = subprocess.Popen(
                command, env=os.environ | environment, stdout=out, stderr=out, start_new_session=True
            )
        self._tree: list[psutil.Process] = []

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5):
                    break
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{self.name} did not start:\n{self._log.read_text()}") from None
                time.sleep(0.3)
        parent = psutil.Process(self._process.pid)
        self._tree = [parent, *parent.children(recursive=True)]

    def stop(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(60)

    def memory_mb(self) -> float:
        return sum(process.memory_info().rss for process in self._tree) / 1e6

    def cpu_seconds(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._tree)

    def ask(self, body: bytes) -> list[list[float]]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/invocations", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            predictions: list[list[float]] = json.load(response)["predictions"]
        return predictions

    def load(self, bodies: Path, clients: int, *, seconds: float = 0.0, requests: int = 0) -> Load:
        """Run a client process for so many seconds, or until so many requests are answered."""
        order = {"port": self.port, "bodies": str(bodies), "clients": clients, "seconds": seconds, "requests": requests}
        command = [sys.executable, "-m", "benchmarks.serving", "--client", json.dumps(order)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the client of {self.name} failed; the server says:\n{self._log.read_text()[-2000:]}")
        return Load(**json.loads(done.stdout))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn, of which there are 3 (default 2)")
    parser.add_argument("--requests", type=int, default=10_000, help="of the memory measurement (default 10,000)")
    parser.add_argument("--source", default="demo", help="`demo`, or a folder in Hugging Face layout (default demo)")
    parser.add_argument("--workers", type=int, default=1, help="processes of each server (default 1)")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/serving.md")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        _client(json.loads(arguments.client))
        return
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        home = Path(scratch)
        bodies = {kind: _write_bodies(kind, home / f"{kind}.json") for kind in KINDS}
        name, parameters = _register(arguments.source, home)
        servers = [stack.enter_context(started) for started in _servers(home, name, arguments.workers)]
        for server in servers:
            server.wait()
            server.load(bodies["text"], 4, requests=100)
            server.load(bodies["image"], 4, requests=100)
        _compare_vectors(servers, bodies)
        measured = {
            (kind, clients): _measure(servers, bodies[kind], clients, arguments.seconds)
            for kind in KINDS
            for clients in CLIENTS
        }
        memory = {server.name: _memory(server, bodies, arguments.requests) for server in servers[:2]}
    report = _report(arguments, parameters, measured, memory)
    print(report)
    if arguments.save:
        target = Path(__file__).parent / "results" / "serving.md"
        target.parent.mkdir(exist_ok=True)
        target.write_text(report)


def _register(source: str, home: Path) -> tuple[str, int]:
    from curation_assets.pipeline import Pipeline
    from curation_assets.settings import load_settings

    settings = load_settings(images_root=home, lake_root=home / "lake", model_source=source)
    model = Pipeline(settings, own_registry=True).selection.choose().model
    return model.uri, model.parameters


def _servers(home: Path, uri: str, workers: int) -> Iterator[Any]:
    binaries = Path(sys.executable).parent
    path = {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    registry = {"MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow' / 'mlflow.db'}", "MLFLOW_REGISTRY_URI": ""}
    ours = path | {"CURATION_LAKE_ROOT": str(home / "lake")}
    one_thread = path | {"OMP_NUM_THREADS": "1"}
    unbatched = one_thread | {"SERVING_MODEL_CONFIG": json.dumps({"max_batch": 1, "patience_ms": 0})}
    serve = [str(binaries / "curation"), "serve", "--no-access-log", "--workers", str(workers)]
    stock = [str(binaries / "mlflow"), "models", "serve", "-m", uri, "--env-manager", "local"]
    stock += ["--workers", str(workers)]
    for index, (name, command, environment) in enumerate(
        [(OURS, serve, ours), (STOCK, stock, path), (ONE_THREAD, stock, one_thread), (UNBATCHED, stock, unbatched)]
    ):
        port = _free_port()
        log = home / f"server_{index}.log"
        yield _running(Server(name, [*command, "--port", str(port)], port, registry | environment, log))


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _write_bodies(kind: str, path: Path) -> Path:
    """Bodies of one row, of distinct texts or rendered photographs."""
    if kind == "text":
        from training.captions import CLASSES, captions

        texts = [text for name in CLASSES for text in captions(name)]
        rows = [{"text": text} for text in random.Random(0).sample(texts, BODIES)]
    else:
        from curation_assets.demo.render import render
        from curation_assets.demo.scenes import SCENES

        rows = []
        for index in range(BODIES):
            scene = list(SCENES)[index % len(SCENES)]
            out = BytesIO()
            render(scene, random.Random(index), PHOTO).save(out, "JPEG", quality=90)
            rows.append({"image": base64.b64encode(out.getvalue()).decode()})
    path.write_text(json.dumps([json.dumps({"dataframe_records": [row]}) for row in rows]))
    return path


def _compare_vectors(servers: list[Server], bodies: dict[str, Path]) -> None:
    for path in bodies.values():
        for body in json.loads(path.read_text())[:8]:
            answers = [server.ask(body.encode())[0] for server in servers]
            for server, answer in zip(servers, answers, strict=True):
                apart = max(abs(a - b) for a, b in zip(answer, answers[0], strict=True))
                if apart > SAME_VECTOR:
                    raise SystemExit(f"{server.name} and {servers[0].name} differ by {apart}")


def _measure(servers: list[Server], bodies: Path, clients: int, seconds: float) -> dict[str, Measured]:
    loads: dict[str, list[Load]] = {server.name: [] for server in servers}
    cpu: dict[str, float] = dict.fromkeys(loads, 0.0)
    for _ in range(ROUNDS):
        for server in servers:
            before = server.cpu_seconds()
            loads[server.name].append(server.load(bodies, clients, seconds=seconds))
            cpu[server.name] += server.cpu_seconds() - before
    measured = {}
    for name, rounds in loads.items():
        requests = sum(load.requests for load in rounds)
        latencies = statistics.quantiles((value for load in rounds for value in load.latencies), n=100)
        took = sum(load.seconds for load in rounds)
        measured[name] = Measured(
            requests / took,
            latencies[49] * 1000,
            latencies[98] * 1000,
            cpu[name] * 1000 / requests,
            sum(load.client_cpu for load in rounds) / took,
        )
        print(f"{bodies.stem}, {clients} clients: {name} {measured[name]}", file=sys.stderr)
    return measured


def _memory(server: Server, bodies: dict[str, Path], requests: int) -> list[float]:
    """Resident MB before, and after each fifth of the requests, half of them texts and half images, by 16 clients."""
    found = [server.memory_mb()]
    for _ in range(5):
        for kind in KINDS:
            server.load(bodies[kind], GOAL_CLIENTS, requests=max(1, requests // (5 * len(KINDS))))
        found.append(server.memory_mb())
    print(f"memory of {server.name}: {found}", file=sys.stderr)
    return found


def _client(order: dict[str, Any]) -> None:
    import uvloop

    print(json.dumps(asdict(uvloop.run(_drive(**order)))))


async def _drive(port: int, bodies: str, clients: int, seconds: float, requests: int) -> Load:
    sent = [
        b"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        for body in (text.encode() for text in json.loads(Path(bodies).read_text()))
    ]
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(clients)]
    latencies: list[float] = []
    left = requests
    cpu, start = time.process_time(), time.perf_counter()

    async def one(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        while left > 0 if requests else time.perf_counter() - start < seconds:
            left -= 1
            asked = time.perf_counter()
            writer.write(sent[number % len(sent)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            body = await reader.readexactly(int(length))
            latencies.append(time.perf_counter() - asked)
            if not head.startswith(b"HTTP/1.1 200 ") or not body.startswith(b'{"predictions"'):
                raise SystemExit(f"not an answer: {head[:40]!r} {body[:300]!r}")
            number += clients
        writer.close()

    await asyncio.gather(*(one(number, *streams) for number, streams in enumerate(connections)))
    return Load(len(latencies), time.perf_counter() - start, latencies, time.process_time() - cpu)


def _report(
    arguments: argparse.Namespace,
    parameters: int,
    measured: dict[tuple[str, int], dict[str, Measured]],
    memory: dict[str, list[float]],
) -> str:
    lines = [
        f"# Serving: `{OURS}` beside `{STOCK}` of the same version",
        "",
        f"One row a request; images are JPEG of {PHOTO[0]} x {PHOTO[1]}. Model: {Path(arguments.source).name}, "
        f"{parameters:,} parameters; {arguments.workers} worker process{'es' if arguments.workers > 1 else ''} each.",
    ]
    for kind in KINDS:
        lines += [
            "",
            f"## {kind.capitalize()}",
            "",
            "| clients | server | requests/s | p50 ms | p99 ms | server CPU ms/request | client, of a core |",
            "|---|---|---|---|---|---|---|",
        ]
        for clients in CLIENTS:
            lines += [
                f"| {clients} | {name} | {one.rate:,.0f} | {one.p50:.1f} | {one.p99:.1f} | "
                f"{one.cpu_ms:.2f} | {one.client_share:.0%} |"
                for name, one in measured[kind, clients].items()
            ]
        lines += [
            "",
            f"| clients | requests/s, ours ÷ stock | ÷ {ONE_THREAD} | ÷ {UNBATCHED} | CPU, {ONE_THREAD} ÷ ours |",
            "|---|---|---|---|---|",
        ]
        for clients in CLIENTS:
            found = measured[kind, clients]
            ratios = [found[OURS].rate / found[name].rate for name in (STOCK, ONE_THREAD, UNBATCHED)]
            ratios.append(found[ONE_THREAD].cpu_ms / found[OURS].cpu_ms)
            lines.append(f"| {clients} | " + " | ".join(f"{ratio:.1f}" for ratio in ratios) + " |")
        at_goal = measured[kind, GOAL_CLIENTS]
        rivals = [(name, at_goal[OURS].rate / at_goal[name].rate) for name in (STOCK, ONE_THREAD)]
        verdicts = [
            f"{'reached' if ratio >= GOAL else 'not reached'} against {name} ({ratio:.1f})" for name, ratio in rivals
        ]
        lines += ["", f"Goal of {GOAL:.0f} times at {GOAL_CLIENTS} clients: {', '.join(verdicts)}."]
    lines += [
        "",
        f"## Memory over {arguments.requests:,} requests, half texts and half images, {GOAL_CLIENTS} clients",
        "",
        "Resident MB of the process tree, after the measurements above: before, and after each fifth.",
        "",
        "| server | before | 1/5 | 2/5 | 3/5 | 4/5 | 5/5 | last ÷ first |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {name} | " + " | ".join(f"{value:,.0f}" for value in found) + f" | {found[-1] / found[0]:.2f} |"
            for name, found in memory.items()
        ),
        "",
        f"- Command: `python -m benchmarks.serving --seconds {arguments.seconds:g} --requests {arguments.requests} "
        f"--source {Path(arguments.source).name} --workers {arguments.workers}`",
        f"- Machine: {platform.machine()}, {os.cpu_count()} cores, {cpu_name()}, Python {platform.python_version()}; "
        f"load average at the end {os.getloadavg()[0]:.1f}. Client and servers share the cores.",
        "- Versions: "
        + ", ".join(
            f"{name} {version(name)}"
            for name in ("mlflow", "starlette", "uvicorn", "uvloop", "orjson", "torch", "pillow")
        ),
        f"- Servers are asked in turns, {ROUNDS} times {arguments.seconds:g} s each; times are of a shared machine: "
        "trust ratios, and processor time a request.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
