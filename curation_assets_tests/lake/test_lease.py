"""Leases in a bucket: one works, the others wait; none depends on it."""

from __future__ import annotations

import json
import os
import socket
import threading
import time

import pytest

from curation_assets.lake import lease
from curation_assets.lake.lease import leased
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.options import StorageOptions
from curation_assets_tests.processes import FORKED
from curation_assets_tests.stores.s3_server import S3, Fault

KEY = "lake/table/_writers/abc/lock"


@pytest.fixture
def place(s3: S3, monkeypatch: pytest.MonkeyPatch) -> tuple[StoreAddress, StorageOptions]:
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.05)
    return StoreAddress.parse(f"s3://{s3.bucket}/{KEY}"), StorageOptions.parse(s3.options)


def is_there(s3: S3) -> bool:
    return bool(s3.client.list_objects_v2(Bucket=s3.bucket).get("Contents"))


def held_by(s3: S3, host: str, process: int) -> None:
    s3.put(KEY, json.dumps({"host": host, "process": process, "token": "t"}).encode())


def test_who_comes_later_waits_and_is_told(place: tuple[StoreAddress, StorageOptions], s3: S3) -> None:
    order: list[str] = []
    waits = threading.Event()

    def second() -> None:
        with leased(*place, on_wait=lambda: (order.append("waits"), waits.set())):
            order.append("second")

    with leased(*place):
        other = threading.Thread(target=second)
        other.start()
        assert waits.wait(30)
        order.append("first")
        assert is_there(s3)
    other.join()
    assert order == ["waits", "first", "second"]
    assert not is_there(s3)


def test_a_lease_is_renewed_while_one_works_and_expires_when_nobody_does(
    place: tuple[StoreAddress, StorageOptions], s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SECONDS", 0.6)
    monkeypatch.setattr(lease, "_RENEWED_SECONDS", 0.1)
    s3.forget()
    with leased(*place):
        time.sleep(0.5)
    assert s3.of("PUT")[KEY] >= 3
    held_by(s3, "elsewhere", 1)
    told: list[bool] = []
    began = time.monotonic()
    with leased(*place, on_wait=lambda: told.append(True)):
        assert time.monotonic() - began > 0.6
    assert told == [True]
    assert not is_there(s3)


def test_a_dead_process_of_this_machine_is_not_waited_for(place: tuple[StoreAddress, StorageOptions], s3: S3) -> None:
    process = FORKED.Process(target=os.getpid)
    process.start()
    process.join()
    assert process.pid is not None
    held_by(s3, socket.gethostname(), process.pid)
    with leased(*place, on_wait=lambda: pytest.fail("it was waited for")):
        assert is_there(s3)
    assert not is_there(s3)


def test_one_that_another_took_is_not_given_back(place: tuple[StoreAddress, StorageOptions], s3: S3) -> None:
    with leased(*place):
        held_by(s3, "elsewhere", 1)
    assert is_there(s3)


def test_a_lost_answer_is_ones_own_and_a_store_that_refuses_keeps_nobody_from_work(
    place: tuple[StoreAddress, StorageOptions], s3: S3
) -> None:
    s3.fail(Fault("PUT", KEY, status=503, landed=True, times=1))
    with leased(*place, on_wait=lambda: pytest.fail("it waits for itself")):
        assert is_there(s3)
    assert not is_there(s3)
    s3.fail(Fault("PUT", KEY, status=403))
    with leased(*place):
        assert not is_there(s3)
