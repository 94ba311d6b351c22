"""From settings to a running server: which version, on which address, in how many processes, and how it stops."""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from curation_assets.clip.predictor import ClipPredictor, PredictorConfig
from curation_assets.clip.registry import Registry
from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError
from curation_assets.serving.limits import Limits
from curation_assets.serving.listening import EndsInTime, config_of, is_loopback, listening, run, url_of
from curation_assets.settings import Settings
from curation_assets.stopping import hand_over

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn import Config

logger = logging.getLogger(__name__)

_SMALL = 20_000_000  # parameters; a forward pass of fewer is over before a second thread has woken up
_STOP_SECONDS = 8  # that requests at work get to be finished in
_STARTUP_FAILURE = 3  # uvicorn's exit code of a worker that need not be tried again


@dataclass(frozen=True)
class Plan:
    """All that a worker process needs to know; it goes to it by pickling, so the token shows in no process list.

    Attributes:
        folder: of the model's files.
        model: as the registry has it.
        config: device, precision, threads and limits of the predictor.
        limits: of requests.
        workers: how many processes share the machine.
        token: clients have to send; None admits everyone.
        access_log: whether each request is told on standard error.
    """

    folder: Path
    model: RegisteredModel
    config: PredictorConfig
    limits: Limits
    workers: int
    token: str | None
    access_log: bool


def serve(
    registry: Registry,
    settings: Settings,
    *,
    host: str,
    port: int,
    workers: int = 1,
    version: str | None = None,
    access_log: bool = True,
) -> None:
    """Serve a registered version until SIGTERM or SIGINT; then finish what is at work, and return.

    A second SIGINT ends the process at once, with exit code 130.

    Args:
        registry: that has the model.
        settings: device, precision, limits and token.
        host: name or address of this machine to listen on.
        port: 0 takes a free one; which is told on standard error.
        workers: processes, each with weights of its own.
        version: its number; None is the champion of this moment, also when another is promoted later.
        access_log: one JSON object a request on standard error.

    Raises:
        CurationError: no such model, its files or the device can't be used, the address is taken, or it is open to
            other machines without a token.
    """
    token = settings.serve_token.get_secret_value() if settings.serve_token else None
    if token is None and not is_loopback(host):
        raise CurationError(
            f"--host {host} lets other machines in, and there is no token: set CURATION_SERVE_TOKEN, which clients "
            "then send as `Authorization: Bearer …`, or leave --host at 127.0.0.1"
        )
    model = registry.version(version) if version else registry.champion()
    with listening(host, port) as listener:
        encoder = registry.load_encoder(model, settings.device, settings.precision)  # and check its files
        plan = Plan(
            folder=encoder.folder,
            model=model,
            config=PredictorConfig(
                device=str(encoder.device),
                precision=encoder.precision,
                max_rows=settings.serve_max_rows,
                max_pixels=settings.serve_max_pixels,
                max_image_bytes=settings.serve_max_body_bytes,
                max_queue=settings.serve_max_queue,
                threads=1 if model.parameters < _SMALL else max(1, (os.cpu_count() or 1) // workers),
            ),
            limits=Limits(
                max_body_bytes=settings.serve_max_body_bytes,
                max_rows=settings.serve_max_rows,
                max_requests=settings.serve_max_requests,
                timeout_seconds=settings.serve_timeout_seconds,
            ),
            workers=workers,
            token=token,
            access_log=access_log,
        )
        del encoder
        where = f"{url_of(listener)}/invocations"
        what = f"{model.name} version {model.version} on {plan.config.device} in {plan.config.precision}"
        ready = f"serving {what} at {where}" + (f" with {workers} workers" if workers > 1 else "")
        if workers == 1:
            _serve_here(plan, listener, ready)
        else:
            _serve_in_workers(plan, listener, ready)


def create_worker(plan: Plan) -> ASGIApp:
    """Load the model into this process, and make its application.

    Raises:
        CurationError: it can't be loaded.
    """
    from curation_assets.serving.app import create_app
    from curation_assets.serving.metrics import Metrics

    predictor = ClipPredictor(plan.folder, plan.config, plan.model.fingerprint)
    predictor.warm_up()
    metrics = Metrics()
    model = plan.model
    metrics.describe_model(model.name, model.version, model.fingerprint, plan.config.device, plan.config.precision)
    return create_app(predictor, plan.limits, metrics, plan.token, plan.access_log)


def _serve_here(plan: Plan, listener: socket.socket, ready: str) -> None:
    run(_config(create_worker(plan), plan), listener, ready)


def _serve_in_workers(plan: Plan, listener: socket.socket, ready: str) -> None:
    from uvicorn.supervisors import Multiprocess

    config = _config(functools.partial(_create_worker_or_exit, plan), plan, factory=True)
    with tempfile.TemporaryDirectory(prefix="curation-metrics-") as folder, _environment(folder):
        print(ready, file=sys.stderr, flush=True)
        hand_over()
        supervisor = Multiprocess(config, [listener])

        def interrupt(number: int, _frame: FrameType | None) -> None:
            if number in supervisor.signal_queue or supervisor.should_exit.is_set():
                for worker in supervisor.processes:
                    worker.process.kill()
                raise KeyboardInterrupt  # it waits for its workers, and looks at no signals
            supervisor.signal_queue.append(number)

        signal.signal(signal.SIGINT, interrupt)
        supervisor.run()
    if any(process.exitcode == _STARTUP_FAILURE for process in supervisor.processes):
        raise CurationError("a worker process could not start; what it says stands above")


def _create_worker_or_exit(plan: Plan) -> ASGIApp:
    """In a worker process: an error that the next try would meet again ends the whole server."""
    try:
        return EndsInTime(create_worker(plan))
    except Exception as error:
        if isinstance(error, CurationError):
            print(f"error: {error}", file=sys.stderr, flush=True)
        else:
            logger.exception("the worker could not start")
        sys.exit(_STARTUP_FAILURE)


def _config(app: ASGIApp | functools.partial[ASGIApp], plan: Plan, factory: bool = False) -> Config:
    stop_seconds = min(round(plan.limits.timeout_seconds) + 5, _STOP_SECONDS)
    return config_of(app, stop_seconds, factory=factory, workers=plan.workers, timeout_worker_healthcheck=30)


@contextmanager
def _environment(metrics_folder: str) -> Iterator[None]:
    """Environment of worker processes."""
    name = "PROMETHEUS_MULTIPROC_DIR"
    before = os.environ.get(name)
    os.environ[name] = metrics_folder
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
