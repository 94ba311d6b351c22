from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from curation_assets.embed.lanes import in_lanes, read_ahead


def squares(lanes: int, items: Iterator[int], ahead: int = 8) -> list[int]:
    with in_lanes(items, [lambda item: item * item] * lanes, ahead) as results:
        return list(results)


@pytest.mark.parametrize("lanes", [1, 2, 7])
def test_results_come_in_the_order_of_the_items(lanes: int) -> None:
    assert squares(lanes, iter(range(500))) == [n * n for n in range(500)]
    assert squares(lanes, iter([])) == []


def test_lanes_work_side_by_side() -> None:
    together = threading.Barrier(3, timeout=10)
    with in_lanes(iter(range(3)), [lambda _: together.wait()] * 3, 3) as results:
        assert sorted(results) == [0, 1, 2]


def test_no_more_is_begun_than_asked_for_before_the_caller_takes_results() -> None:
    begun: list[int] = []
    with in_lanes(iter(range(100)), [begun.append] * 2, 5) as results:
        time.sleep(0.3)
        assert len(begun) == 5
        next(results)
        time.sleep(0.3)
        assert len(begun) == 6


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_comes_in_its_place_whatever_it_is(error: type[BaseException]) -> None:
    def work(item: int) -> int:
        if item == 3:
            raise error("third")
        return item

    with in_lanes(iter(range(100)), [work] * 2, 8) as results:
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(error, match="third"):
            next(results)


def failing() -> Iterator[int]:
    yield 0
    yield 1
    raise OSError("the disk")


def test_what_the_items_raise_comes_after_the_results_before_it() -> None:
    with in_lanes(failing(), [lambda item: item] * 2, 8) as results:
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(OSError, match="the disk"):
            next(results)
    with read_ahead(failing(), 1) as items:
        assert [next(items), next(items)] == [0, 1]
        with pytest.raises(OSError, match="the disk"):
            next(items)


def test_threads_end_when_the_caller_stops_taking() -> None:
    before = set(threading.enumerate())
    with read_ahead(iter(range(10**9)), 2) as items, in_lanes(items, [lambda item: item] * 3, 4) as results:
        next(results)
    assert not set(threading.enumerate()) - before


def test_reading_ahead_keeps_the_order_and_the_bound() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            drawn.append(item)
            yield item

    with read_ahead(items(), 3) as ahead:
        time.sleep(0.3)
        assert len(drawn) == 4  # three wait, one is in hand
        assert list(ahead) == list(range(20))
