"""Threads side by side: each takes the next item when it is free, and results come out in the items' order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def in_lanes(
    items: Iterator[Item], lanes: Sequence[Callable[[Item], Result]], ahead: int
) -> Iterator[Iterator[Result]]:
    """Work at items on one thread a lane, while the caller takes the results.

    Args:
        items: asked for the next one by whichever lane is free, one lane at a time.
        lanes: what each thread does to an item.
        ahead: how many items may be in work or done before the caller takes them.

    Yields:
        Iterator over the results, in the order of ``items``. What an item or the iterator raised is raised in its
        place, whatever kind of exception it is; nothing later is begun then.
    """
    free = threading.Semaphore(ahead)
    taking = threading.Lock()
    changed = threading.Condition()
    results: dict[int, tuple[Result | None, BaseException | None]] = {}
    taken, working, stop = 0, len(lanes), threading.Event()

    def put(index: int, result: Result | None, error: BaseException | None = None) -> None:
        with changed:
            results[index] = (result, error)
            changed.notify_all()

    def end() -> None:
        stop.set()
        for _ in lanes:  # those that wait for room are to see it
            free.release()

    def do_one(lane: Callable[[Item], Result]) -> None:
        nonlocal taken
        free.acquire()
        with taking:
            if stop.is_set():
                return
            index, taken = taken, taken + 1
            try:
                item = next(items)
            except StopIteration:
                end()
                return
            except BaseException as error:  # carried to the caller's thread
                put(index, None, error)
                end()
                return
        try:
            put(index, lane(item))
        except BaseException as error:  # carried to the caller's thread
            put(index, None, error)
            end()

    def work(lane: Callable[[Item], Result]) -> None:
        nonlocal working
        while not stop.is_set():
            do_one(lane)
        with changed:
            working -= 1
            changed.notify_all()

    def arrived(index: int) -> bool:
        return index in results or not working

    def take() -> Iterator[Result]:
        index = 0
        while True:
            with changed:
                changed.wait_for(partial(arrived, index))
                if index not in results:
                    return
                result, error = results.pop(index)
            if error is not None:
                raise error
            free.release()
            index += 1
            yield result  # type: ignore[misc]

    threads = [threading.Thread(target=work, args=(lane,), name="embed", daemon=True) for lane in lanes]
    for thread in threads:
        thread.start()
    try:
        yield take()
    finally:
        end()
        for thread in threads:
            thread.join()


@contextmanager
def read_ahead(items: Iterator[Item], ahead: int) -> Iterator[Iterator[Item]]:
    """Draw an iterator on a thread of its own, at most ``ahead`` items before the caller.

    Yields:
        Iterator over the same items; what the first one raised is raised in its place.
    """
    ready: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def put(item: Item | None, error: BaseException | None = None) -> bool:
        while not stop.is_set():
            try:
                ready.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def draw() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(None, StopIteration())
        except BaseException as error:  # carried to the caller's thread
            put(None, error)

    def take() -> Iterator[Item]:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]

    thread = threading.Thread(target=draw, name="read", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stop.set()
        thread.join()
