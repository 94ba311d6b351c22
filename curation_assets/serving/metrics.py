"""What ``/metrics`` shows, in Prometheus' text format; right for several worker processes too.

With more than one worker ``PROMETHEUS_MULTIPROC_DIR`` names a folder in which each worker keeps its numbers, and
whichever worker is asked adds them up. It has to be set before ``prometheus_client``, so this module, is imported.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    multiprocess,
)

from curation_assets.clip.batching import Batch

_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The numbers of one worker process.

    Attributes:
        requests: answered, by path and status.
        rejected: not computed, by reason.
        seconds: from the first byte of a request to ``/invocations`` to its answer, by status.
        in_flight: requests to ``/invocations`` at work.
        rows_in_flight: rows being decoded, waiting or computed.
        queue: rows that no forward pass has begun with.
        batch_rows, batch_seconds: of each forward pass, by kind of row.
        failed_batches: forward passes that raised, by kind.
    """

    def __init__(self) -> None:
        self._is_one_of_many = _DIRECTORY in os.environ
        registry = self._registry = CollectorRegistry()
        self.requests = Counter("curation_requests", "Requests answered.", ["path", "status"], registry=registry)
        self.rejected = Counter("curation_rejected", "Requests not computed.", ["reason"], registry=registry)
        self.seconds = Histogram(
            "curation_request_seconds",
            "From a request to /invocations to its answer.",
            ["status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "curation_batch_rows", "Rows in a forward pass.", ["kind"], buckets=_ROWS, registry=registry
        )
        self.batch_seconds = Histogram(
            "curation_batch_seconds", "Time of a forward pass.", ["kind"], buckets=_SECONDS, registry=registry
        )
        self.failed_batches = Counter(
            "curation_failed_batches", "Forward passes that raised.", ["kind"], registry=registry
        )
        self.in_flight = Gauge(
            "curation_requests_in_flight",
            "Requests to /invocations at work.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.rows_in_flight = Gauge(
            "curation_rows_in_flight",
            "Rows being decoded, waiting or computed; CURATION_SERVE_MAX_QUEUE bounds them.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.queue = Gauge(
            "curation_queue_rows",
            "Rows that no forward pass has begun with.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._model = Gauge(
            "curation_model_info",
            "The model that is served.",
            ["name", "version", "fingerprint", "device", "precision"],
            multiprocess_mode="max",
            registry=registry,
        )
        if not self._is_one_of_many:
            ProcessCollector(registry=registry)  # CPU, memory and open files; can't be added up over processes
        for kind in ("image", "text"):  # shown from the start, not from the first of each
            self.batch_rows.labels(kind)
            self.batch_seconds.labels(kind)
            self.failed_batches.labels(kind)

    def describe_model(self, name: str, version: str, fingerprint: str, device: str, precision: str) -> None:
        """Say what is served."""
        self._model.labels(name, version, fingerprint, device, precision).set(1)

    def observe(self, batch: Batch) -> None:
        """Count a forward pass."""
        if batch.error:
            self.failed_batches.labels(batch.kind).inc()
            return
        self.batch_rows.labels(batch.kind).observe(batch.rows)
        self.batch_seconds.labels(batch.kind).observe(batch.seconds)

    def text(self) -> bytes:
        """All workers' numbers as Prometheus reads them."""
        if not self._is_one_of_many:
            return generate_latest(self._registry)
        _forget_the_dead(Path(os.environ[_DIRECTORY]))
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _forget_the_dead(folder: Path) -> None:
    """Leave out the gauges of workers that have ended; what they counted stays."""
    for file in folder.glob("gauge_live*.db"):
        if found := re.search(r"_(\d+)\.db$", file.name):
            try:
                os.kill(int(found[1]), 0)  # signal 0: only asks whether the process is there
            except ProcessLookupError:
                multiprocess.mark_process_dead(int(found[1]))  # type: ignore[no-untyped-call]
