"""Files that can't be examined for a moment: what is known of them stays, and it is said."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from curation_assets import ingest
from curation_assets.images.errors import ImageError
from curation_assets.images.record import ReadLimits
from curation_assets.images.source import LocalTree
from curation_assets.lake.schemas import DIRECTORY
from curation_assets.lake.table import LakeTable
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.scan import plan
from curation_assets.scan.job import scan_folder
from curation_assets.scan.result import ScanResult
from curation_assets_tests.conftest import jpeg

ERRORS = (errno.ESTALE, errno.EACCES, errno.EIO, errno.ETIMEDOUT)


@dataclass(frozen=True)
class FlakyTree(LocalTree):
    """A tree of which some files fail to be read."""

    failing: dict[str, OSError] = field(default_factory=dict)

    def read(self, relative_path: str) -> bytes:
        if (error := self.failing.get(relative_path)) is not None:
            raise error
        return super().read(relative_path)


class Tree:
    def __init__(self, root: Path, lake: Path) -> None:
        self.root = root
        self.table = LakeTable(lake, DIRECTORY)
        self.table.create()
        self.source = FlakyTree(root)
        (root / "a").mkdir()
        for number in range(4):
            self.path(number).write_bytes(jpeg(number))
        self.scan()

    def path(self, number: int) -> Path:
        return self.root / "a" / f"{number}.jpg"

    def fail(self, *numbers: int, code: int = errno.ESTALE) -> None:
        self.source.failing.update({f"a/{n}.jpg": OSError(code, os.strerror(code)) for n in numbers})

    def scan(self, **options: Any) -> ScanResult:
        return scan_folder(self.table, self.source, "a", ReadLimits(), LogProgress(), threads=1, **options)

    def rows(self) -> dict[str, dict[str, Any]]:
        columns = [column.name for column in DIRECTORY.columns]
        rows = self.table.snapshot().read(columns).drop("_file").to_dicts()
        return {row["relative_path"]: row for row in rows}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "images").mkdir()
    return Tree(tmp_path / "images", tmp_path / "table")


def touched(tree: Tree) -> dict[str, Any]:
    for number in range(4):
        os.utime(tree.path(number), ns=(1, 1))
    return {}


def read_otherwise(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(plan, "READER_VERSION", 99)
    return {}


@pytest.mark.parametrize("code", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("why", ["rescan", "touched", "read otherwise"])
def test_a_good_row_stays(tree: Tree, why: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree.rows()
    tree.fail(1, code=code)
    options = {"rescan": True} if why == "rescan" else {}
    if why == "touched":
        touched(tree)
    if why == "read otherwise":
        read_otherwise(tree, monkeypatch)
    result = tree.scan(**options)
    rows = tree.rows()
    assert result.unread == {"a/1.jpg": f"cannot be read: {os.strerror(code)}"}
    assert rows["a/1.jpg"] == before["a/1.jpg"]
    assert [row["status"] for row in rows.values()] == ["ok"] * 4
    assert (rows["a/2.jpg"]["mtime_ns"] == 1) == (why == "touched")


def test_nothing_is_written_where_nothing_could_be_examined(tree: Tree) -> None:
    tree.fail(0, 1, 2, 3)
    version = tree.table.latest().version
    files = sorted(tree.table.path.rglob("*.parquet"))
    for _ in range(2):
        result = tree.scan(rescan=True)
        assert len(result.unread) == 4
        assert result.commits == 0
    assert tree.table.snapshot().version == version
    assert sorted(tree.table.path.rglob("*.parquet")) == files


def test_it_is_tried_again_and_then_in_line(tree: Tree) -> None:
    tree.path(1).write_bytes(jpeg(1)[::-1])  # of the same size, and no image any more
    tree.fail(1)
    assert tree.scan().unread
    assert tree.rows()["a/1.jpg"]["status"] == "ok"
    tree.source.failing.clear()
    assert not tree.scan().unread
    assert tree.rows()["a/1.jpg"]["status"] == "unsupported"


def test_a_file_of_another_size_is_another(tree: Tree) -> None:
    tree.path(1).write_bytes(jpeg(1) + b"more")
    tree.fail(1)
    assert not tree.scan().unread
    assert tree.rows()["a/1.jpg"]["status"] == "unreadable"


def test_what_is_no_file_any_more_is_another(tree: Tree) -> None:
    tree.path(1).unlink()
    tree.path(1).symlink_to("1.jpg")
    tree.path(2).unlink()
    os.mkfifo(tree.path(2))
    assert not tree.scan().unread
    assert {path for path, row in tree.rows().items() if row["status"] != "ok"} == {"a/1.jpg", "a/2.jpg"}


def test_a_file_that_vanishes_is_gone(tree: Tree) -> None:
    tree.fail(1, code=errno.ENOENT)
    assert not tree.scan(rescan=True).unread
    tree.path(1).unlink()
    tree.scan()
    assert set(tree.rows()) == {"a/0.jpg", "a/2.jpg", "a/3.jpg"}


def test_a_new_file_that_cannot_be_examined_is_unreadable(tree: Tree) -> None:
    tree.path(9).write_bytes(jpeg(9))
    tree.fail(9)
    assert not tree.scan().unread
    assert tree.rows()["a/9.jpg"]["status"] == "unreadable"


def test_an_edit_that_keeps_size_and_time_is_seen_once_the_file_can_be_read(tree: Tree) -> None:
    time_ns = tree.path(1).stat().st_mtime_ns
    data = bytearray(jpeg(1))
    data[-3] ^= 0xFF
    for number in (1, 2):  # the other has a changed inode only
        os.utime(tree.path(number), ns=(time_ns, tree.path(number).stat().st_mtime_ns))
    tree.path(1).write_bytes(data)
    os.utime(tree.path(1), ns=(time_ns, time_ns))
    before = tree.rows()["a/1.jpg"]["content_sha256"]
    tree.fail(1)
    assert set(tree.scan().unread) == {"a/1.jpg"}
    assert set(tree.scan().unread) == {"a/1.jpg"}, "said as long as it is so"
    assert tree.rows()["a/1.jpg"]["content_sha256"] == before
    tree.source.failing.clear()
    tree.scan()
    assert tree.rows()["a/1.jpg"]["content_sha256"] != before


@pytest.mark.parametrize("is_edited", [False, True])
def test_a_decoder_out_of_time_says_nothing_of_the_same_file(
    tree: Tree, is_edited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_edited:
        data = bytearray(jpeg(1))
        data[-3] ^= 0xFF
        tree.path(1).write_bytes(data)

    def out_of_time(*_: Any, **__: Any) -> None:
        raise ImageError("unreadable", "takes longer than 60 s to decode")

    monkeypatch.setattr("curation_assets.images.record.with_picture", out_of_time)
    result = tree.scan(rescan=True)
    assert ("a/1.jpg" in result.unread) != is_edited
    assert (tree.rows()["a/1.jpg"]["status"] == "ok") != is_edited
    assert tree.rows()["a/0.jpg"]["status"] == "ok"


def test_users_columns_stay_with_the_rows(tree: Tree) -> None:
    from deltalake import DeltaTable, Field
    from deltalake.schema import PrimitiveType

    DeltaTable(str(tree.table.path)).alter.add_columns([Field("plot", PrimitiveType("string"))])
    DeltaTable(str(tree.table.path)).update({"plot": "file_name"})
    tree.fail(1)
    touched(tree)
    tree.scan()
    plots = tree.table.snapshot().read(["file_name", "plot"]).drop("_file").rows()
    assert sorted(plots) == [(f"{n}.jpg", f"{n}.jpg") for n in range(4)]


def test_a_run_keeps_vectors_and_ends_with_1(images: Path, ready: Pipeline) -> None:
    from curation_assets.commands.ingest import exit_code
    from curation_assets.commands.reports import run_facts

    (images / "a").mkdir()
    for number in range(3):
        (images / "a" / f"{number}.jpg").write_bytes(jpeg(number))
    pipeline = ready
    assert exit_code(ingest.run(pipeline, LogProgress())) == 0
    stale = OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    pipeline.source = FlakyTree(images, failing=dict.fromkeys(("a/0.jpg", "a/2.jpg"), stale))
    summary = ingest.run(pipeline, LogProgress(), rescan=True)
    assert exit_code(summary) == 1
    facts = run_facts(pipeline.settings, summary)
    assert facts["unread"] == [
        {"relative_path": path, "error": "cannot be read: Stale file handle"} for path in ("a/0.jpg", "a/2.jpg")
    ]
    assert facts["total"] == {"files": 3, "ok": 3, "bad": 0, "embedded": 3, "stale": 0}
    assert facts["embed"]["encoded"] == 0
