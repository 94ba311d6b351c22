from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from curation_assets.clip.batching import Batch, BusyError, ClosedError, MicroBatcher
from curation_assets_tests.waiting import wait_until


class Machine:
    """Stands for the device: returns each number, and keeps what it was asked for in one pass."""

    def __init__(self) -> None:
        self.passes: list[list[float]] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.busy = threading.Event()

    def __call__(self, items: list[float]) -> Any:
        self.busy.set()
        assert self.may_go.wait(30)
        self.passes.append(list(items))
        if any(item < 0 for item in items):
            raise ValueError(f"can't take {min(items)}")
        return np.array(items, np.float32)[:, None]

    def hold(self) -> None:
        self.may_go.clear()
        self.busy.clear()


def batcher_of(machine: Machine, other: Machine | None = None, **options: Any) -> MicroBatcher:
    compute = {"image": machine, "text": other or machine}
    return MicroBatcher(compute, **({"max_batch": {"image": 8, "text": 8}} | options))


def ask(batcher: MicroBatcher, items: list[float], kind: str = "image") -> list[float]:
    with batcher.admit({kind: len(items)}, 30) as admission:
        return [float(row[0]) for row in admission.result(admission.submit(kind, items))]


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(32) as threads:
        yield threads


def test_whoever_waits_while_a_pass_runs_goes_into_one_pass_together(pool: Any) -> None:
    machine = Machine()
    batcher = batcher_of(machine)
    machine.hold()
    first = pool.submit(ask, batcher, [0])
    assert machine.busy.wait(30)
    others = [pool.submit(ask, batcher, [number]) for number in range(1, 7)]
    wait_until(lambda: batcher.queued == 6)
    assert batcher.in_flight == 7
    machine.may_go.set()
    assert [future.result(30) for future in others] == [[number] for number in range(1, 7)]
    assert first.result(30) == [0]
    assert [len(items) for items in machine.passes] == [1, 6]
    assert sorted(machine.passes[1]) == [1, 2, 3, 4, 5, 6]
    assert batcher.queued == batcher.in_flight == 0


def test_a_pass_is_never_larger_than_allowed_and_every_row_comes_back_in_its_place(pool: Any) -> None:
    machine = Machine()
    batcher = batcher_of(machine)
    requests = [[100.0 * caller + row for row in range(caller % 20 + 1)] for caller in range(60)]
    assert list(pool.map(lambda items: ask(batcher, items), requests)) == requests
    assert max(len(items) for items in machine.passes) <= 8
    assert sum(len(items) for items in machine.passes) == sum(len(items) for items in requests)
    assert len(machine.passes) < 0.8 * sum(-(-len(items) // 8) for items in requests)


def test_images_and_texts_never_share_a_pass(pool: Any) -> None:
    images, texts = Machine(), Machine()
    batcher = batcher_of(images, texts)
    kinds = ["image", "text"] * 30
    said = list(pool.map(lambda pair: ask(batcher, [pair[0]], pair[1]), enumerate(kinds)))
    assert said == [[number] for number in range(60)]
    assert {item % 2 for items in images.passes for item in items} == {0}
    assert {item % 2 for items in texts.passes for item in items} == {1}


def test_one_request_that_fails_does_not_hurt_those_in_the_same_pass(pool: Any) -> None:
    machine = Machine()
    seen: list[Batch] = []
    batcher = batcher_of(machine, observer=seen.append)
    machine.hold()
    pool.submit(ask, batcher, [0])
    assert machine.busy.wait(30)
    good = [pool.submit(ask, batcher, [number]) for number in (1, 2)]
    bad = pool.submit(ask, batcher, [-3])
    wait_until(lambda: batcher.queued == 3)
    machine.may_go.set()
    assert [future.result(30) for future in good] == [[1], [2]]
    with pytest.raises(ValueError, match="can't take -3"):
        bad.result(30)
    assert [(batch.rows, batch.requests, batch.error) for batch in seen[:2]] == [(1, 1, False), (3, 3, True)]
    assert sorted(batch.error for batch in seen[2:]) == [False, False, True]


def test_a_pass_that_fails_on_arrays_tells_its_caller_while_others_wait(pool: Any) -> None:
    def compute(items: list[Any]) -> Any:
        machine([float(item[0]) for item in items])
        return np.stack(items)

    machine = Machine()
    batcher = MicroBatcher({"image": compute}, max_batch={"image": 1})

    def ask_array(number: float) -> Any:
        with batcher.admit({"image": 1}, 10) as admission:
            return admission.result(admission.submit("image", [np.full(3, number, np.float32)]))

    machine.hold()
    bad = pool.submit(ask_array, -1)
    assert machine.busy.wait(30)
    good = [pool.submit(ask_array, number) for number in (1, 2)]
    wait_until(lambda: batcher.queued == 2)
    machine.may_go.set()
    with pytest.raises(ValueError, match="can't take -1"):
        bad.result(30)
    assert [future.result(30).tolist() for future in good] == [[[1, 1, 1]], [[2, 2, 2]]]


def test_whoever_stops_waiting_takes_along_what_no_pass_has_begun_with(pool: Any) -> None:
    machine = Machine()
    batcher = batcher_of(machine, max_queue=100)

    def ask_in_vain(items: list[float]) -> Any:
        with batcher.admit({"image": len(items)}, 0.2) as admission:
            return admission.result(admission.submit("image", items))

    machine.hold()
    first = pool.submit(ask_in_vain, list(range(20)))  # of which a pass has begun with 8
    assert machine.busy.wait(30)
    for _ in range(3):
        given_up = [pool.submit(ask_in_vain, [50, 51]) for _ in range(10)]
        for future in given_up:
            with pytest.raises(TimeoutError):
                future.result(30)
        assert batcher.queued == batcher.in_flight == 0
    with pytest.raises(TimeoutError):
        first.result(30)
    last = pool.submit(ask, batcher, [99])
    wait_until(lambda: batcher.queued == 1)
    machine.may_go.set()
    assert last.result(30) == [99]
    assert machine.passes == [list(range(8)), [99]]


def test_preparation_asks_whether_it_is_still_wanted() -> None:
    batcher = batcher_of(Machine())
    with batcher.admit({"image": 1}, 0.05) as admission:
        admission.check()
        time.sleep(0.1)
        with pytest.raises(TimeoutError):
            admission.check()


def test_a_request_of_several_passes_that_fails_is_not_computed_further() -> None:
    machine = Machine()
    batcher = batcher_of(machine)
    with pytest.raises(ValueError, match="can't take -1"):
        ask(batcher, [-1.0, *map(float, range(99))])
    assert ask(batcher, [5]) == [5]
    assert [len(items) for items in machine.passes] == [8, 1]


def test_a_full_queue_refuses_until_there_is_room_again(pool: Any) -> None:
    machine = Machine()
    batcher = batcher_of(machine, max_queue=4)
    machine.hold()
    waiting = [pool.submit(ask, batcher, [number]) for number in range(4)]
    wait_until(lambda: batcher.in_flight == 4)
    with pytest.raises(BusyError, match="4 rows are in work and 4 may be"):
        ask(batcher, [9])
    machine.may_go.set()
    assert [future.result(30) for future in waiting] == [[number] for number in range(4)]
    wait_until(lambda: batcher.in_flight == 0)
    assert ask(batcher, [9]) == [9]


def test_a_request_larger_than_the_queue_is_taken_alone() -> None:
    batcher = batcher_of(Machine(), max_queue=4)
    assert ask(batcher, list(map(float, range(20)))) == list(map(float, range(20)))


def test_a_lone_caller_never_waits_for_others() -> None:
    batcher = batcher_of(Machine(), patience=5)
    start = time.monotonic()
    for number in range(20):
        assert ask(batcher, [number]) == [number]
    assert time.monotonic() - start < 4


def test_a_pass_waits_for_a_request_that_is_still_being_prepared(pool: Any) -> None:
    machine = Machine()
    batcher = batcher_of(machine, patience=20)
    with batcher.admit({"image": 1}) as admission:
        early = pool.submit(ask, batcher, [1])
        wait_until(lambda: batcher.in_flight == 2)
        time.sleep(0.05)
        assert machine.passes == []
        late = admission.submit("image", [2])
        assert late.result(10)[0, 0] == 2
    assert early.result(10) == [1]
    assert [sorted(items) for items in machine.passes] == [[1, 2]]


def test_texts_do_not_wait_for_images_that_are_being_prepared(pool: Any) -> None:
    batcher = batcher_of(Machine(), patience=20)
    with batcher.admit({"image": 1}):
        assert pool.submit(ask, batcher, [1], "text").result(10) == [1]


def test_patience_ends(pool: Any) -> None:
    machine = Machine()
    batcher = batcher_of(machine, patience=0.02)
    with batcher.admit({"image": 1}):  # whose preparation takes for ever
        assert pool.submit(ask, batcher, [1]).result(10) == [1]
    assert batcher.in_flight == 0


def test_nobody_waits_for_a_request_whose_preparation_failed(pool: Any) -> None:
    batcher = batcher_of(Machine(), patience=20)

    def fail() -> None:
        with batcher.admit({"image": 3}):
            time.sleep(0.05)
            raise KeyError("no image")

    failing = pool.submit(fail)
    wait_until(lambda: batcher.in_flight == 3)
    assert pool.submit(ask, batcher, [1]).result(10) == [1]
    with pytest.raises(KeyError):
        failing.result(10)
    assert batcher.queued == batcher.in_flight == 0


def test_more_items_than_were_admitted_are_refused() -> None:
    batcher = batcher_of(Machine())
    with batcher.admit({"image": 1, "text": 5}) as admission:
        for items in ([1, 2], []):
            with pytest.raises(ValueError, match=f"{len(items)} items where 1 are left"):
                admission.submit("image", items)


def test_closing_finishes_what_was_admitted_and_refuses_what_comes_after(pool: Any) -> None:
    before = set(threading.enumerate())
    machine = Machine()
    batcher = batcher_of(machine)
    machine.hold()
    running = [pool.submit(ask, batcher, [number]) for number in range(3)]
    wait_until(lambda: batcher.in_flight == 3)
    closing = pool.submit(batcher.close)
    time.sleep(0.05)
    assert not closing.done()
    with pytest.raises(ClosedError):
        ask(batcher, [9])
    machine.may_go.set()
    assert [future.result(30) for future in running] == [[0], [1], [2]]
    closing.result(30)
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("clip-batches")]


def test_closing_with_a_limit_fails_what_still_waits_and_finishes_the_pass_in_progress(pool: Any) -> None:
    machine = Machine()
    batcher = batcher_of(machine)
    machine.hold()
    in_progress = pool.submit(ask, batcher, [1])
    assert machine.busy.wait(30)
    waiting = [pool.submit(ask, batcher, [number]) for number in range(2, 30)]
    wait_until(lambda: batcher.queued == 28)
    with batcher.admit({"image": 1}) as preparing:
        closing = pool.submit(batcher.close, 0.05)
        for future in waiting:
            with pytest.raises(ClosedError):
                future.result(30)
        with pytest.raises(ClosedError):
            preparing.check()
        with pytest.raises(ClosedError):
            preparing.result(preparing.submit("image", [99]))
    assert not closing.done()
    machine.may_go.set()
    closing.result(30)
    assert in_progress.result(30) == [1]
    assert machine.passes == [[1]]


def test_an_observer_that_fails_is_told_to_the_log_and_fails_no_pass(caplog: pytest.LogCaptureFixture) -> None:
    def fail(batch: Batch) -> None:
        raise KeyError(f"no counter for {batch.kind}")

    machine = Machine()
    assert ask(batcher_of(machine, observer=fail), [1]) == [1]
    assert machine.passes == [[1]]
    assert "no counter for image" in caplog.text


def test_the_observer_is_told_every_pass(pool: Any) -> None:
    machine = Machine()
    batcher = batcher_of(machine)
    seen: list[Batch] = []
    batcher.observer = seen.append
    list(pool.map(lambda number: ask(batcher, [number, number], "text"), range(20)))
    assert sum(batch.rows for batch in seen) == 40
    assert sum(batch.requests for batch in seen) == 20
    assert {batch.kind for batch in seen} == {"text"}
    assert all(batch.seconds >= 0 and not batch.error for batch in seen)


def _ask_in_child(batcher: MicroBatcher, queue: Any) -> None:
    queue.put(ask(batcher, [7]))


def test_a_forked_process_has_a_thread_of_its_own() -> None:
    batcher = batcher_of(Machine())
    assert ask(batcher, [1]) == [1]  # this process's thread runs
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_ask_in_child, args=(batcher, queue))
    child.start()
    try:
        assert queue.get(timeout=30) == [7]
    finally:
        child.join(10)
        child.kill()
