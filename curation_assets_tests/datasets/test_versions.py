"""Versions come to be in one commit, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation_assets.datasets.versions import (
    content_id,
    kept_so_far,
    last_version,
    publish,
    read_manifest,
    read_version,
    versions,
    withdraw,
)
from curation_assets.errors import CurationError
from curation_assets.lake.rewrite import Rewrite
from curation_assets.lake.schemas import DATASETS
from curation_assets.lake.table import LakeTable
from curation_assets.progress import LogProgress


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
