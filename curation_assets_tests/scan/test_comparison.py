"""Edits that keep size and time; files are numbered, and each has a last byte of its own that decodes to nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from curation_assets.images.listing import list_folders
from curation_assets.images.record import ReadLimits
from curation_assets.images.source import LocalTree
from curation_assets.lake.schemas import DIRECTORY
from curation_assets.lake.table import LakeTable
from curation_assets.progress import LogProgress
from curation_assets.scan import comparison, job
from curation_assets.scan.changes import folder_changes
from curation_assets.scan.comparison import Allowance, Compared, ComparedNotes
from curation_assets.scan.job import scan_folders
from curation_assets.scan.result import ScanResult
from curation_assets_tests.conftest import jpeg

LIMITS = ReadLimits()


class Tree:
    """A folder, its table, and the files that were hashed or decoded since last asked."""

    def __init__(self, root: Path, table: LakeTable) -> None:
        self.root, self.table = root, table
        self.read: list[str] = []

    def fill(self, count: int, folder: str = "a") -> None:
        (self.root / folder).mkdir(exist_ok=True)
        for number in range(count):
            self.path(number, folder).write_bytes(jpeg(number % 3) + b"\0" + number.to_bytes(2, "big"))

    def path(self, number: int, folder: str = "a") -> Path:
        return self.root / folder / f"{number:03}.jpg"

    def edit(self, *numbers: int, folder: str = "a") -> None:
        for number in numbers:
            path = self.path(number, folder)
            times = path.stat().st_mtime_ns
            data = bytearray(path.read_bytes())
            data[-3] ^= 0xFF
            path.write_bytes(data)
            os.utime(path, ns=(times, times))

    def touch_inodes(self, folder: str = "a") -> None:
        for path in sorted((self.root / folder).iterdir()):
            path.chmod(path.stat().st_mode ^ 0o040)

    def scan(self, *folders: str, rescan: bool = False) -> ScanResult:
        """What was done to all folders together."""
        names = folders or ("a",)
        self.read.clear()
        found = scan_folders(self.table, LocalTree(self.root), names, LIMITS, LogProgress(), threads=1, rescan=rescan)
        total = found[0]
        for other in found[1:]:
            for name in ("compared", "assumed", "uncompared", "changed", "commits"):
                setattr(total, name, getattr(total, name) + getattr(other, name))
        return total

    def numbers(self) -> list[int]:
        return sorted(int(Path(path).stem) for path in self.read)

    def changes(self) -> list[tuple[str, str, str]]:
        tree = list_folders(self.root)
        found = folder_changes(tree, self.table.snapshot(), LocalTree(self.root), LIMITS)
        return [(change.folder, change.what, change.fingerprint) for change in found]

    def is_as_on_disk(self) -> bool:
        table = self.table.snapshot().read(["relative_path", "content_sha256"]).drop("_file")
        return dict(table.iter_rows()) == {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.root.rglob("*.jpg")
        }


@pytest.fixture
def tree(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    table = LakeTable(tmp_path / "lake" / "table", DIRECTORY)
    table.create()
    made = Tree(images, table)
    really_read = LocalTree.read

    def counted(source: LocalTree, path: str) -> bytes:
        made.read.append(path)
        return really_read(source, path)

    monkeypatch.setattr(LocalTree, "read", counted)
    return made


def test_an_edit_that_keeps_size_and_time_is_noticed_and_read(tree: Tree) -> None:
    tree.fill(5)
    tree.scan()
    tree.edit(3)
    assert [change[:2] for change in tree.changes()] == [("a", "times changed")]
    done = tree.scan()
    assert (done.compared, done.changed, done.commits, tree.numbers()) == (1, 1, 1, [3, 3])
    assert tree.is_as_on_disk()
    assert tree.changes() == []
    again = tree.scan()
    assert (again.compared, again.commits, tree.read) == (0, 0, [])


def test_what_changed_its_inode_alone_is_compared_once_and_no_row_is_written(tree: Tree) -> None:
    tree.fill(5)
    tree.scan()
    tree.path(2).chmod(0o600)
    done = tree.scan()
    assert (done.compared, done.assumed, done.changed, done.commits, tree.numbers()) == (1, 0, 0, 0, [2])
    assert tree.changes() == []
    assert tree.scan().compared == 0
    tree.edit(2)
    assert [change[1] for change in tree.changes()] == ["times changed"]
    tree.scan()
    assert tree.is_as_on_disk()


def test_a_lost_or_broken_note_costs_reading_and_no_more(tree: Tree) -> None:
    tree.fill(5)
    tree.scan()
    tree.touch_inodes()
    assert tree.scan().compared == 5
    (note,) = (tree.table.path / "_compared").iterdir()
    for damage in (lambda: note.write_bytes(b"{"), lambda: note.write_bytes(b"[1]"), note.unlink):
        damage()
        assert tree.scan().compared == 5
    assert tree.scan().compared == 0


def test_of_many_that_changed_at_once_a_sample_is_compared(tree: Tree) -> None:
    tree.fill(60)
    tree.scan()
    tree.touch_inodes()
    done = tree.scan()
    assert (done.compared, done.assumed, done.commits, len(tree.read)) == (20, 40, 0, 20)
    assert {tree.numbers()[0], tree.numbers()[-1]} == {0, 59}
    assert tree.changes() == []
    assert tree.scan().compared == 0


def test_of_many_all_are_compared_where_one_of_the_sample_differs(tree: Tree) -> None:
    tree.fill(60)
    tree.scan()
    tree.touch_inodes()
    tree.edit(0, 7, 33, 59)
    done = tree.scan()
    assert (done.compared, done.assumed, done.changed) == (60, 0, 4)
    assert tree.is_as_on_disk()
    assert tree.scan().compared == 0


def test_a_rescan_finds_what_a_sample_missed(tree: Tree) -> None:
    tree.fill(60)
    tree.scan()
    tree.touch_inodes()
    tree.edit(1)
    tree.touch_inodes()  # in the order of names again, in which 1 is not of the sample
    assert tree.scan().changed == 0
    assert not tree.is_as_on_disk()
    tree.scan(rescan=True)
    assert tree.is_as_on_disk()


@pytest.mark.parametrize("count", [20, 30])
def test_a_few_are_all_compared(count: int, tree: Tree) -> None:
    tree.fill(60 if count == 30 else 20)
    tree.scan()
    for number in range(count):
        tree.path(number).chmod(0o600)
    assert (tree.scan().compared, len(tree.read)) == (count, count)


def test_no_more_is_read_in_one_scan_than_is_allowed_and_the_rest_the_next_times(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a", "b"):
        tree.fill(10, folder)
    tree.scan("a", "b")
    size = tree.path(0).stat().st_size
    monkeypatch.setattr(comparison.Allowance, "__init__", _limited(8 * size + size // 2))
    for folder in ("a", "b"):
        tree.touch_inodes(folder)
    tree.edit(9, folder="b")
    told = []
    for _ in range(4):
        done = tree.scan("a", "b")
        told.append((done.compared, done.uncompared))
    assert sum(compared for compared, _ in told) == 20
    assert all(compared <= 9 for compared, _ in told)
    assert told[-1] == (0, 0)
    assert tree.changes() == []
    assert tree.is_as_on_disk()


def test_what_is_left_to_be_compared_is_another_state_that_the_sensor_asks_for(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.fill(10)
    tree.scan()
    monkeypatch.setattr(comparison.Allowance, "__init__", _limited(tree.path(0).stat().st_size * 4))
    tree.touch_inodes()
    states = []
    while found := tree.changes():
        states.append(found[0][2])
        tree.scan()
    assert len(set(states)) == len(states) >= 3


def _limited(limit: int) -> Callable[[Allowance], None]:
    def made(self: Allowance) -> None:
        self.limit, self.spent = limit, 0

    return made


def test_a_file_larger_than_what_is_allowed_is_compared_alone(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.fill(3)
    tree.scan()
    monkeypatch.setattr(comparison.Allowance, "__init__", _limited(1))
    tree.touch_inodes()
    assert [tree.scan().compared for _ in range(4)] == [1, 1, 1, 0]


def test_a_difference_found_in_a_sample_is_remembered_while_the_rest_waits(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.fill(60)
    tree.scan()
    size = tree.path(0).stat().st_size
    monkeypatch.setattr(comparison.Allowance, "__init__", _limited(25 * size + size // 2))
    tree.touch_inodes()
    tree.edit(3, 40, 59)
    tree.touch_inodes()
    for _ in range(6):
        tree.scan()
    assert tree.is_as_on_disk()
    assert tree.changes() == []


def test_a_scan_that_is_stopped_before_its_commit_notes_nothing(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.fill(5)
    tree.scan()
    tree.edit(3)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job, "write_unit", stopped)
        with pytest.raises(KeyboardInterrupt):
            tree.scan()
    assert [change[1] for change in tree.changes()] == ["times changed"]
    tree.scan()
    assert tree.is_as_on_disk()


def test_a_time_ahead_of_the_clock_hides_no_edit(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.fill(5)
    tree.scan()
    tree.path(1).chmod(0o600)
    monkeypatch.setattr(comparison.time, "time_ns", lambda: tree.path(2).stat().st_ctime_ns)
    tree.scan()
    until = ComparedNotes(tree.table.storage).read("a")
    assert until.ctime_ns < tree.path(1).stat().st_ctime_ns


def test_a_file_that_cannot_be_read_at_the_moment_keeps_its_row(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.fill(3)
    tree.scan()
    tree.path(1).chmod(0o600)

    def refused(*_: object) -> bytes:
        raise PermissionError

    monkeypatch.setattr(LocalTree, "read", refused)
    done = tree.scan()
    assert (done.compared, done.commits, done.ok) == (1, 0, 3)


def test_a_copied_tree_is_compared_by_a_sample_and_nothing_is_decoded(tree: Tree, tmp_path: Path) -> None:
    tree.fill(30)
    tree.scan()
    tree.root = Path(shutil.copytree(tree.root, tmp_path / "copy"))
    done = tree.scan()
    assert (done.compared, done.assumed, done.changed, done.read) == (20, 10, 0, 0)
    assert tree.scan().compared == 0


def test_a_note_holds_for_files_of_one_time_in_the_order_of_their_names(tmp_path: Path) -> None:
    schema = {"relative_path": pl.String, "size_bytes": pl.Int64, "mtime_ns": pl.Int64, "ctime_ns": pl.Int64}
    listed = pl.DataFrame([(f"a/{name}.jpg", 1, 1, 9_000) for name in "abcd"], schema=schema, orient="row")
    known = listed.select(
        "relative_path",
        "size_bytes",
        "mtime_ns",
        created_at=pl.lit(1).cast(pl.Datetime("us", "UTC")),
        status=pl.lit("ok"),
    )
    left = comparison.to_compare(listed, known, Compared(9_000, "a/b.jpg"))
    assert left["relative_path"].to_list() == ["a/c.jpg", "a/d.jpg"]
