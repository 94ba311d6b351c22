"""Calls from many threads → few forward passes: whoever waits while the device computes goes into the next batch.

One thread computes, so the device never runs two batches at once. Patience is spent only while other admitted
requests of the same kind are still being prepared (their images decoded); a lone caller is computed at once.
Whoever stops waiting takes along what no pass has begun with: nothing is computed for nobody.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation_assets.callers import LeftError, current

Vectors = NDArray[np.float32]

logger = logging.getLogger(__name__)


class BusyError(Exception):
    """More rows are waiting than may wait; ask again later."""


class ClosedError(BusyError):
    """The batcher takes no more requests, as the process is about to end."""


@dataclass(frozen=True)
class Batch:
    """One forward pass, for whoever counts them.

    Attributes:
        kind: ``image`` or ``text``.
        rows: in the pass.
        requests: that the rows came from.
        seconds: the pass took.
        error: it failed, and each request is computed by itself.
    """

    kind: str
    rows: int
    requests: int
    seconds: float
    error: bool = False


@dataclass(eq=False)  # each is only itself: items may be arrays, which == compares number by number
class _Request:
    """Items of one kind from one caller; they may be computed in several batches.

    It waits in its queue as long as some of its items are in no pass and its future is not done.
    """

    kind: str
    items: Sequence[Any]
    number: int
    future: Future[Vectors] = field(default_factory=Future)
    parts: list[Vectors] = field(default_factory=list)
    taken: int = 0

    def take(self, most: int) -> Sequence[Any]:
        items = self.items[self.taken : self.taken + most]
        self.taken += len(items)
        return items

    def add(self, part: Vectors) -> None:
        self.parts.append(part)
        if sum(len(part) for part in self.parts) == len(self.items):
            self.future.set_result(self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts))


class MicroBatcher:
    """Gathers what threads submit into batches of one kind, computed one after the other on a thread of its own.

    Args:
        compute: for each kind, a function of a list of items that returns (n, dimension) float32, a row an item.
        max_batch: for each kind, rows in one pass.
        max_queue: rows that may be prepared, waiting or computed at once; a larger request is admitted alone.
        patience: seconds that a batch waits for admitted requests that are still being prepared.
        observer: called after every pass, on the computing thread; may be replaced at any time. What it raises is
            logged.
    """

    def __init__(
        self,
        compute: Mapping[str, Callable[[list[Any]], Vectors]],
        *,
        max_batch: Mapping[str, int],
        max_queue: int = 1024,
        patience: float = 0.003,
        observer: Callable[[Batch], None] | None = None,
    ) -> None:
        self.observer = observer
        self.max_queue = max_queue
        self._compute = dict(compute)
        self._max_batch = dict(max_batch)
        self._patience = patience
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[_Request]] = {kind: deque() for kind in compute}
        self._preparing: Counter[str] = Counter()
        self._admitted = self._submitted = 0
        self._admissions: set[Admission] = set()
        self._closed = self._given_up = False
        self._thread = LazyPool(1, "clip-batches")

    @property
    def queued(self) -> int:
        """Rows admitted that no pass has begun with: being prepared or waiting."""
        with self._changed:
            return self._preparing.total() + sum(self._rows_waiting(kind) for kind in self._waiting)

    @property
    def in_flight(self) -> int:
        """Rows admitted and not yet answered: those that ``max_queue`` bounds."""
        return self._admitted

    @contextmanager
    def admit(self, rows: Mapping[str, int], timeout: float | None = None) -> Iterator[Admission]:
        """Take a place in the queue before costly preparation.

        At the end of the block it is given back, and what no pass has begun with is not computed any more. So it is
        when whoever this thread works for leaves (``callers``): then nothing in the block waits any longer.

        Args:
            rows: of each kind.
            timeout: seconds from now in which they are wanted; None: however long it takes.

        Raises:
            BusyError: the queue is full.
            ClosedError: :meth:`close` was called.
        """
        number = sum(rows.values())
        admission = Admission(self, Counter(rows), None if timeout is None else time.monotonic() + timeout)
        with self._changed:
            if self._closed:
                raise _closed()
            if self._admitted and self._admitted + number > self.max_queue:
                raise BusyError(f"{self._admitted} rows are in work and {self.max_queue} may be: try again later")
            self._admitted += number
            self._admissions.add(admission)
            self._preparing.update(rows)
        try:
            with current().telling(admission.withdraw):
                yield admission
        finally:
            with self._changed:
                self._admitted -= number
                self._admissions.discard(admission)
                self._preparing.subtract(admission.preparing)
                for request in admission.requests:
                    self._give_up(request, CancelledError())
                self._changed.notify_all()

    def close(self, timeout: float | None = None) -> None:
        """Refuse new requests, finish those admitted, and end the thread.

        Args:
            timeout: seconds after which requests fail with ``ClosedError``, but for the pass in progress, which is
                finished; None: however long they take.
        """
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._admitted, timeout)
            self._given_up = True
            for admission in self._admissions:
                admission.stop.set()
            for requests in self._waiting.values():
                for request in list(requests):
                    self._give_up(request, _closed())
            self._changed.wait_for(lambda: not self._admitted)
        self._thread.close()

    def _submit(self, admission: Admission, kind: str, items: Sequence[Any]) -> _Request:
        with self._changed:
            self._submitted += 1
            request = _Request(kind, items, self._submitted)
            admission.requests.append(request)
            self._preparing[kind] -= len(items)
            self._changed.notify_all()
            if self._given_up or admission._left:
                request.future.set_exception(_closed() if self._given_up else LeftError())
                return request
            self._waiting[kind].append(request)
            for _ in range(-(-len(items) // self._max_batch[kind])):  # one that finds nothing left to do is no matter
                self._thread.get().submit(self._run)
        return request

    def _give_up(self, request: _Request, error: Exception) -> None:
        """Under the lock: compute no more of a request, unless it has its result already."""
        if not request.future.done():
            if request.taken < len(request.items):
                self._waiting[request.kind].remove(request)
            request.future.set_exception(error)

    def _run(self) -> None:
        """Gather one batch and compute it."""
        with self._changed:
            heads = [requests[0] for requests in self._waiting.values() if requests]
            if not heads:
                return
            kind = min(heads, key=lambda request: request.number).kind
            deadline = time.monotonic() + self._patience
            while (
                self._preparing[kind]
                and 0 < self._rows_waiting(kind) < self._max_batch[kind]
                and (left := deadline - time.monotonic()) > 0
            ):
                self._changed.wait(left)
            batch = self._take(kind)
        if not batch:  # whoever asked has left meanwhile
            return
        try:
            self._pass(kind, batch)
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch[0][0], error)
                return
            for request, items in batch:
                if request.future.done():
                    continue
                try:
                    self._pass(kind, [(request, items)])
                except Exception as own_error:
                    self._fail(request, own_error)

    def _rows_waiting(self, kind: str) -> int:
        return sum(len(request.items) - request.taken for request in self._waiting[kind])

    def _take(self, kind: str) -> list[tuple[_Request, Sequence[Any]]]:
        requests, room = self._waiting[kind], self._max_batch[kind]
        batch = []
        while requests and room:
            items = requests[0].take(room)
            batch.append((requests[0], items))
            room -= len(items)
            if requests[0].taken == len(requests[0].items):
                requests.popleft()
        return batch

    def _pass(self, kind: str, batch: list[tuple[_Request, Sequence[Any]]]) -> None:
        rows = [item for _, items in batch for item in items]
        start = time.perf_counter()
        try:
            vectors = self._compute[kind](rows)
            if len(vectors) != len(rows):
                raise RuntimeError(f"{len(vectors)} vectors for {len(rows)} rows")
        except Exception:
            self._tell(Batch(kind, len(rows), len(batch), time.perf_counter() - start, error=True))
            raise
        self._tell(Batch(kind, len(rows), len(batch), time.perf_counter() - start))
        first = 0
        with self._changed:
            for request, items in batch:
                if not request.future.done():
                    request.add(vectors[first : first + len(items)])
                first += len(items)

    def _fail(self, request: _Request, error: Exception) -> None:
        with self._changed:
            self._give_up(request, error)

    def _tell(self, batch: Batch) -> None:
        try:
            if self.observer is not None:
                self.observer(batch)
        except Exception:  # the pass is as good as it was
            logger.exception("the observer of passes failed")


class LazyPool:
    """Threads that start when they are first needed, in each process anew: they don't survive a fork."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads, self._name = threads, name
        self._pool: ThreadPoolExecutor | None = None
        self._process: int | None = None
        self._lock = threading.Lock()

    def get(self) -> ThreadPoolExecutor:
        """The pool of this process."""
        with self._lock:
            if self._pool is None or self._process != os.getpid():
                self._pool = ThreadPoolExecutor(self._threads, self._name)
                self._process = os.getpid()
            return self._pool

    def close(self) -> None:
        """Finish what it has and end its threads."""
        with self._lock:
            if self._pool is not None and self._process == os.getpid():
                self._pool.shutdown()


@dataclass(eq=False)
class Admission:
    """A place in the queue, from :meth:`MicroBatcher.admit`.

    Attributes:
        preparing: rows of each kind not yet submitted.
        deadline: by ``time.monotonic()``, after which nobody waits; None: there is none.
        requests: submitted.
        stop: set when what is being prepared isn't wanted any more; it may be ended.
    """

    _batcher: MicroBatcher
    preparing: Counter[str]
    deadline: float | None
    requests: list[_Request] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    _left: bool = False

    def withdraw(self) -> None:
        """Nobody waits any more: fail what no pass has begun with, and wake up whoever waits for :meth:`result`."""
        with self._batcher._changed:
            self._left = True
            self.stop.set()
            for request in self.requests:
                self._batcher._give_up(request, LeftError())
            self._batcher._changed.notify_all()

    def check(self) -> None:
        """Ask between two steps of a long preparation whether it is still wanted.

        Raises:
            ClosedError: the batcher was closed, and waits no longer.
            LeftError: nobody waits for it.
            TimeoutError: the time is up.
        """
        if self._left:
            raise LeftError
        if self._batcher._given_up:
            raise _closed()
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TimeoutError

    def submit(self, kind: str, items: Sequence[Any]) -> Future[Vectors]:
        """Hand over prepared items of one kind; the future gives (n, dimension) float32, in order.

        The future's result raises what the computation raised for these items; those of others don't matter.
        """
        if not 0 < len(items) <= self.preparing[kind]:
            raise ValueError(f"{len(items)} items where {self.preparing[kind]} are left of those admitted")
        self.preparing[kind] -= len(items)
        return self._batcher._submit(self, kind, items).future

    def result(self, future: Future[Vectors]) -> Vectors:
        """Wait for what :meth:`submit` gave.

        Raises:
            TimeoutError: the time is up.
        """
        return future.result(None if self.deadline is None else max(0.0, self.deadline - time.monotonic()))


def _closed() -> ClosedError:
    return ClosedError("the model is shutting down")
