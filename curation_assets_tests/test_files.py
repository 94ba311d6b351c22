from __future__ import annotations

import stat
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from curation_assets.files import sync, waiting_lock, write_whole
from curation_assets_tests.processes import FORKED


def test_a_file_is_written_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "current.json"
    write_whole(target, b"one")
    write_whole(target, b"two")
    assert target.read_bytes() == b"two"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [target]
    sync(target)


def test_a_file_that_can_not_take_its_place_leaves_the_old_one_and_no_draft(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    (target / "kept").touch()
    with pytest.raises(OSError, match="taken"):
        write_whole(target, b"one")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def _hold(path: Path, held: Event, let_go: Event) -> None:
    with waiting_lock(path):
        held.set()
        let_go.wait(60)


def test_whoever_finds_the_lock_taken_says_so_once_and_waits(tmp_path: Path) -> None:
    held, let_go = FORKED.Event(), FORKED.Event()
    other = FORKED.Process(target=_hold, args=(tmp_path / "lock", held, let_go))
    other.start()
    assert held.wait(60)
    said: list[float] = []
    got: list[float] = []

    def wait() -> None:
        with waiting_lock(tmp_path / "lock", lambda: said.append(time.monotonic())):
            got.append(time.monotonic())

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.5)
    assert (len(said), got) == (1, [])
    let_go.set()
    waiting.join(60)
    other.join(60)
    assert (len(said), len(got)) == (1, 1)
    with waiting_lock(tmp_path / "lock", lambda: said.append(0)):
        assert len(said) == 1
