"""Versions come to be in one commit, or not at all."""

from __future__ import annotations

import errno
import signal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation_assets.datasets.catalogue import catalogue
from curation_assets.datasets.versions import (
    content_id,
    kept_so_far,
    last_version,
    publish,
    read_manifest,
    read_version,
    rows_of,
    versions,
    withdraw,
)
from curation_assets.errors import CurationError
from curation_assets.lake.at import TableAt
from curation_assets.lake.rewrite import Rewrite
from curation_assets.lake.schemas import DATASETS
from curation_assets.lake.storage import LocalStorage
from curation_assets.lake.table import LakeTable
from curation_assets.progress import LogProgress
from curation_assets_tests.curate.killed import AFTER_THE_COMMIT, BEFORE_THE_COMMIT, Place
from curation_assets_tests.processes import run_script


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    return LakeTable(tmp_path / "datasets", DATASETS)


def rows(**splits: str | None) -> pl.DataFrame:
    """An image for each name, on a side; None: left out."""
    return pl.DataFrame(
        [
            {
                "relative_path": f"{name}.jpg", "content_sha256": name * 64, "kept": side is not None,
                "reason": None if side else "blurry", "witness": None, "similarity": None, "label": "rust",
                "split": side, "file": "part-0",
            }
            for name, side in splits.items()
        ],
        {
            "relative_path": pl.String, "content_sha256": pl.String, "kept": pl.Boolean, "reason": pl.String,
            "witness": pl.String, "similarity": pl.Float32, "label": pl.String, "split": pl.String, "file": pl.String,
        },
    )  # fmt: skip


def put(table: LakeTable, found: pl.DataFrame, parent: int, name: str = "leaves", **options: Any) -> tuple[int, bool]:
    published = publish(table, name, found, {"recipe": {}}, parent, LogProgress(), **options)
    return published.version, published.is_new


def test_versions_are_added_and_unchanged_ones_are_not(table: LakeTable) -> None:
    assert last_version(table, "leaves") == 0
    assert put(table, rows(a="train", b="test"), 0) == (1, True)
    assert put(table, rows(b="test", a="train"), 1) == (1, False)
    assert put(table, rows(a="train", b="test", c=None), 1) == (2, True)
    assert put(table, rows(a="val"), 0, "others") == (1, True)
    assert [(one.dataset, one.version, one.images, one.left_out) for one in versions(table)] == [
        ("leaves", 2, 2, 1), ("leaves", 1, 2, 0), ("others", 1, 1, 0),
    ]  # fmt: skip
    assert read_version(table, "leaves", 1)["relative_path"].to_list() == ["a.jpg", "b.jpg"]
    assert read_manifest(table, "leaves", 2) == {
        "content_id": content_id(rows(a="train", b="test", c=None)), "dataset": "leaves", "line": 1, "recipe": {},
        "version": 2,
    }  # fmt: skip
    with pytest.raises(CurationError, match="leaves has no version 3; it has 1, 2"):
        read_version(table, "leaves", 3)
    with pytest.raises(CurationError, match="no dataset 'leafs'; there are leaves, others"):
        read_version(table, "leafs")


def test_a_catalogue_tells_also_what_was_taken_back_and_which_files_hold_a_version(table: LakeTable) -> None:
    assert catalogue(table) == {}
    put(table, rows(a="train", b=None), 0)
    put(table, rows(a=None, b="test", c="val"), 1)
    put(table, rows(a="val"), 0, "others")
    first = catalogue(table)["leaves"][1]
    withdraw(table, "leaves", 2, "wrong labels", LogProgress())
    found = catalogue(table)
    assert [(one.version, one.images, one.withdrawn) for one in found["leaves"]] == [
        (2, 0, "wrong labels"), (1, 1, None),
    ]  # fmt: skip
    assert (first.images, first.left_out, first.has_sides, first.manifest["version"]) == (1, 1, True, 1)
    assert [one.version for one in found["others"]] == [1]
    for files in (first.files, ["a file that is not there any more"], ()):
        assert rows_of(table, "leaves", 1, files)["relative_path"].to_list() == ["a.jpg", "b.jpg"]


def test_who_was_kept_in_a_line_is_remembered_where_it_was_last(table: LakeTable) -> None:
    put(table, rows(a="train", b="test"), 0)
    put(table, rows(a=None, b="test", c="val"), 1)
    found = kept_so_far(table, "leaves")
    assert found is not None
    told = {path: (side, last) for path, side, last in found.select("relative_path", "split", "last").iter_rows()}
    assert told == {"a.jpg": ("train", False), "b.jpg": ("test", True), "c.jpg": ("val", True)}
    put(table, rows(a="test"), 2, fresh=True)
    found = kept_so_far(table, "leaves")
    assert found is not None
    assert found.select("relative_path", "split", "last").rows() == [("a.jpg", "test", True)]


def test_a_version_that_was_withdrawn_counts_no_more_and_its_number_is_not_used_again(table: LakeTable) -> None:
    put(table, rows(a="train", b="test"), 0)
    put(table, rows(a="train", b="test", c="val"), 1)
    withdraw(table, "leaves", 2, "wrong labels", LogProgress())
    assert [one.version for one in versions(table)] == [1]
    assert last_version(table, "leaves") == 1
    with pytest.raises(CurationError, match="leaves@2 was withdrawn: wrong labels"):
        read_version(table, "leaves", 2)
    found = kept_so_far(table, "leaves")
    assert found is not None
    assert set(found["relative_path"]) == {"a.jpg", "b.jpg"}
    assert put(table, rows(a="train", b="val"), 1) == (3, True)
    withdraw(table, "leaves", 1, "x", LogProgress())
    withdraw(table, "leaves", 3, "y", LogProgress())
    assert kept_so_far(table, "leaves") is None
    with pytest.raises(CurationError, match="every version of leaves was withdrawn"):
        read_version(table, "leaves")
    assert put(table, rows(a="train"), 0) == (4, True)


def test_what_was_left_out_for_another_is_remembered_where_that_one_lay(table: LakeTable) -> None:
    found = rows(a="test", b=None).with_columns(
        reason=pl.when(pl.col("kept")).then("reason").otherwise(pl.lit("near")),
        witness=pl.when(~pl.col("kept")).then(pl.lit("a.jpg")),
    )
    put(table, found, 0)
    told = kept_so_far(table, "leaves")
    assert told is not None
    assert told.select("relative_path", "split", "last").rows() == [("a.jpg", "test", True), ("b.jpg", "test", False)]


def test_another_version_that_came_meanwhile_is_not_written_over(table: LakeTable) -> None:
    put(table, rows(a="train"), 0)
    with pytest.raises(CurationError, match="version 1 of leaves was published meanwhile"):
        put(table, rows(a="test"), 0)
    assert last_version(table, "leaves") == 1


def test_what_ends_before_its_commit_leaves_no_half_version(table: LakeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    put(table, rows(a="train"), 0)
    with monkeypatch.context() as patch:
        patch.setattr(Rewrite, "commit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            put(table, rows(a="train", b="test"), 1)
    assert last_version(table, "leaves") == 1
    assert put(table, rows(a="train", b="test"), 1) == (2, True)
    left = {path.name for path in table.path.rglob("*.parquet")}
    named = {file.path.rpartition("/")[2] for file in table.latest().named_files()}
    assert left == named


_KILLED = """
import importlib, os, signal, sys
from pathlib import Path
from curation_assets.datasets.versions import withdraw
from curation_assets.lake.schemas import DATASETS
from curation_assets.lake.table import LakeTable
from curation_assets.progress import LogProgress
from curation_assets_tests.datasets.test_versions import put, rows

path, what, module, owner, name = sys.argv[1:]
setattr(getattr(importlib.import_module(module), owner), name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
table = LakeTable(Path(path), DATASETS)
if what == "publish":
    put(table, rows(a="train", b="test"), 1)
else:
    withdraw(table, "leaves", 1, "wrong labels", LogProgress())
"""


@pytest.mark.parametrize("what", ["publish", "withdraw"])
@pytest.mark.parametrize("place", [BEFORE_THE_COMMIT, AFTER_THE_COMMIT], ids=["before", "after"])
def test_a_killed_process_leaves_all_of_a_version_or_none_and_the_next_one_finishes(
    table: LakeTable, what: str, place: Place
) -> None:
    put(table, rows(a="train"), 0)
    killed = run_script(_KILLED, str(table.path), what, *place)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    is_done = place == AFTER_THE_COMMIT
    there = [(one.version, one.images) for one in versions(table)]
    if what == "publish":
        assert there == ([(2, 2), (1, 1)] if is_done else [(1, 1)])
        wanted = rows(a="train", b="test")
        assert put(table, wanted, last_version(table, "leaves")) == (2, not is_done)
        assert read_manifest(table, "leaves", 2)["content_id"] == content_id(wanted)
    else:
        assert there == ([] if is_done else [(1, 1)])
        if not is_done:
            withdraw(table, "leaves", 1, "wrong labels", LogProgress())
        assert versions(table) == []
        assert put(table, rows(a="train"), 0) == (2, True)
    assert not list(table.path.glob("_writers/*/*.parquet"))


@pytest.mark.parametrize("where", ["output", "put"])
def test_a_full_disk_is_one_line_and_no_half_version(
    table: LakeTable, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    put(table, rows(a="train"), 0)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, where, full)
        with pytest.raises(CurationError, match="No space left on device"):
            put(table, rows(a="train", b="test"), 1)
        with pytest.raises(CurationError, match="No space left on device"):
            withdraw(table, "leaves", 1, "x", LogProgress())
    assert [(one.version, one.images) for one in versions(table)] == [(1, 1)]
    assert put(table, rows(a="train", b="test"), 1) == (2, True)


def test_a_table_as_it_was_says_which_versions_are_there(table: LakeTable) -> None:
    put(table, rows(a="train"), 0)
    put(table, rows(a="train", b="test"), 1)
    withdraw(table, "leaves", 1, "x", LogProgress())
    before = TableAt(table, 2)
    assert [(one.version, one.images) for one in versions(before)] == [(2, 2), (1, 1)]
    assert not TableAt(table, None).exists()
    with pytest.raises(CurationError, match="has no version 9; it has 0 to 3"):
        TableAt(table, 9).latest()
    with pytest.raises(CurationError, match="was made anew since"):
        TableAt(table, 2, "another").latest()
    assert table.vacuum(0)
    with pytest.raises(CurationError, match="files of version 1 were vacuumed; versions 3 to 5 are there"):
        TableAt(table, 1).latest()
    assert TableAt(table, 3).latest().rows("leaves") == 3
