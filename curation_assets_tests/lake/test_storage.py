"""The latest snapshot of a process, and a sweep where there are no locks."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import pytest

from curation_assets import files
from curation_assets.lake import storage as storage_module
from curation_assets.lake.schemas import DIRECTORY
from curation_assets.lake.staging import SWEPT_AGE_SECONDS
from curation_assets.lake.storage import LocalStorage
from curation_assets.lake.table import LakeTable
from curation_assets_tests.lake.test_table import add, batch, rows


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    table = LakeTable(tmp_path / "lake" / "table", DIRECTORY)
    table.create()
    return table


def test_the_latest_snapshot_is_the_same_object_until_the_table_changes(table: LakeTable) -> None:
    add(table, "a", ["1"])
    first = table.latest()
    assert table.latest() is first
    add(LakeTable(table.path, DIRECTORY), "b", ["2"])  # as another process
    second = table.latest()
    assert (first.version, second.version) == (1, 2)
    assert second.partitions == ["a", "b"]


def test_a_snapshot_after_a_commit_is_what_the_log_says(table: LakeTable) -> None:
    for folder, name in (("a", "1"), ("b", "2"), ("a", "3")):
        made = add(table, folder, [name], remove=lambda base, folder=folder: base.files(folder))
        read = table.snapshot()
        assert (made.version, made.partitions) == (read.version, read.partitions)
        assert sorted(made.files(), key=str) == sorted(read.files(), key=str)
    made = table.replace("b", made, add=[], remove=made.files("b"))
    assert made.partitions == table.snapshot().partitions == ["a"]
    assert table.latest() is made


def test_a_table_that_was_made_anew_is_not_taken_for_the_one_that_was_read(table: LakeTable) -> None:
    add(table, "a", ["1"])
    add(table, "a", ["2"])
    old = table.latest()
    shutil.rmtree(table.path)
    other = LakeTable(table.path, DIRECTORY)
    other.create()
    add(other, "b", ["1"])
    add(other, "b", ["2"])
    assert table.latest().table_id != old.table_id
    assert rows(table) == [("b", "b/1"), ("b", "b/2")]


def _without_locks(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class NoLock:
        def __init__(self, path: Path) -> None:
            self.path = path

        def acquire(self, **_: float) -> None:
            raise error

    monkeypatch.setattr(files, "FileLock", NoLock)


@pytest.mark.parametrize("error", [NotImplementedError("no flock here"), OSError(errno.ENOLCK, "no locks")], ids=str)
def test_where_there_are_no_locks_only_what_is_old_is_swept(
    table: LakeTable, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    add(table, "a", ["committed"])
    _without_locks(monkeypatch, error)
    with table.writer("a") as mine:
        with mine.file() as of_mine:
            of_mine.write(batch(DIRECTORY, "a", ["mine"]))
        with mine.file() as left:
            left.write(batch(DIRECTORY, "a", ["left by the dead"]))
        assert left.staged is not None
        long_ago = time.time() - SWEPT_AGE_SECONDS - 60
        os.utime(table.path / left.staged.marker, (long_ago, long_ago))
        with table.writer("a") as other:  # at the same time, as nothing keeps it from it
            with other.file() as of_other:
                of_other.write(batch(DIRECTORY, "a", ["theirs"]))
            assert not (table.path / left.staged.path).exists()
            table.replace("a", table.snapshot(), add=of_other.files, remove=[])
        assert of_mine.staged is not None
        assert (table.path / of_mine.staged.path).exists(), "another's work is not swept"
        table.replace("a", table.snapshot(), add=of_mine.files, remove=[])
    assert rows(table) == [("a", "a/committed"), ("a", "a/mine"), ("a", "a/theirs")]


def test_another_error_of_a_lock_is_not_taken_for_a_system_without_locks(
    table: LakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_locks(monkeypatch, OSError(errno.EIO, "disk"))
    with pytest.raises(OSError, match="disk"), table.writer("a"):
        pass


def test_a_listing_of_a_directory_that_is_not_there_is_empty(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    assert list(storage.list("nothing")) == []
    storage.put("some/marker")
    (found,) = storage.list("some")
    assert (found.path, found.size_bytes) == ("some/marker", 0)
    assert 0 <= found.age_seconds < 60
    storage.delete("some/marker")
    storage.delete("some/marker")
    assert not storage.exists("some/marker")
    assert storage_module.LocalStorage(tmp_path) == storage
