"""Tables that gain columns, columns that users added, and files that others wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema

from curation_assets.errors import CurationError
from curation_assets.lake.schemas import DIRECTORY, Column
from curation_assets.lake.table import LakeTable
from curation_assets_tests.lake.test_table import add, batch

LATER = replace(
    DIRECTORY,
    columns=(
        *DIRECTORY.columns,
        Column("later_version", pa.int32(), "which reader made the row", came_later=True),
        Column("notes", pa.list_(pa.string()), "what was odd", came_later=True),
    ),
)


@pytest.fixture
def earlier(tmp_path: Path) -> LakeTable:
    """A table as it was before its spec gained two columns, with three rows."""
    table = LakeTable(tmp_path / "lake" / "table", DIRECTORY)
    table.create()
    add(table, "a", ["1", "2"])
    add(table, "b", ["3"])
    return table


def log_of(table: LakeTable, version: int) -> list[str]:
    """Kinds of actions of a commit."""
    text = (table.path / "_delta_log" / f"{version:020}.json").read_text()
    return [next(iter(json.loads(line))) for line in text.splitlines()]


def test_a_table_gains_columns_by_a_commit_of_metadata_alone(earlier: LakeTable) -> None:
    files = {file.path: (earlier.path / file.path).stat().st_mtime_ns for file in earlier.snapshot().files()}
    later = LakeTable(earlier.path, LATER)
    later.create()
    assert later.snapshot().version == 3
    assert set(log_of(later, 3)) == {"commitInfo", "metaData"}
    assert {f.path: (later.path / f.path).stat().st_mtime_ns for f in later.snapshot().files()} == files
    comments = {field.name: field.metadata.get("comment") for field in DeltaTable(str(later.path)).schema().fields}
    assert comments["later_version"] == "which reader made the row"
    later.create()
    assert later.snapshot().version == 3, "once"


def test_rows_from_before_a_column_read_as_null_in_it_beside_newer_ones(earlier: LakeTable) -> None:
    later = LakeTable(earlier.path, LATER)
    later.create()
    with later.writer("a") as writer:
        base = later.snapshot()
        with writer.file() as stage:
            stage.write(
                batch(LATER, "a", ["4"]).set_column(
                    LATER.file_schema.get_field_index("later_version"), "later_version", pa.array([7], pa.int32())
                )
            )
        later.replace("a", base, add=stage.files, remove=[])
    found = later.snapshot().read(["relative_path", "later_version", "notes", "folder"]).drop("_file")
    assert sorted(found.rows()) == [
        ("a/1", None, None, "a"), ("a/2", None, None, "a"), ("a/4", 7, None, "a"), ("b/3", None, None, "b")
    ]  # fmt: skip
    assert later.snapshot().read(["relative_path"], where=pl.col("later_version") == 7)["relative_path"].to_list() == [
        "a/4"
    ]
    assert len(pl.scan_delta(str(later.path)).select("later_version").collect()) == 4, "for other readers too"
    rows = [
        row for part in later.snapshot().reader.batches(later.snapshot().files("b"), 10) for row in part.to_pylist()
    ]
    assert [(row["relative_path"], row["later_version"]) for row in rows] == [("b/3", None)]


def test_a_table_that_nothing_may_change_is_read_with_the_columns_it_lacks(earlier: LakeTable) -> None:
    snapshot = LakeTable(earlier.path, LATER).snapshot()  # without create()
    assert snapshot.read(["relative_path", "later_version"], "b").drop("_file").rows() == [("b/3", None)]
    assert snapshot.version == 2


def test_an_earlier_version_of_the_code_writes_to_a_table_that_has_a_later_column(earlier: LakeTable) -> None:
    LakeTable(earlier.path, LATER).create()
    add(earlier, "a", ["5"])
    found = LakeTable(earlier.path, LATER).snapshot().read(["relative_path", "later_version"], "a")
    assert sorted(found["relative_path"]) == ["a/1", "a/2", "a/5"]
    assert found["later_version"].null_count() == 3


def test_a_column_may_come_between_staging_and_commit(earlier: LakeTable) -> None:
    with earlier.writer("a") as writer:
        base = earlier.latest()
        with writer.file() as stage:
            stage.write(batch(DIRECTORY, "a", ["6"]))
        LakeTable(earlier.path, LATER).create()
        made = earlier.replace("a", base, add=stage.files, remove=base.files("a"))
    assert made.read(["relative_path"], "a")["relative_path"].to_list() == ["a/6"]
    assert "later_version" in [field.name for field in DeltaTable(str(earlier.path)).schema().fields]


def test_columns_are_not_added_to_a_table_of_another_kind(earlier: LakeTable) -> None:
    other = replace(LATER, columns=(*LATER.columns, Column("serial", pa.int64(), "was there from the beginning")))
    with pytest.raises(CurationError, match="lacks the columns serial"):
        LakeTable(earlier.path, other).create()
    assert earlier.snapshot().version == 2


def users_add(table: LakeTable, **types: pa.DataType) -> None:
    """Add columns as a user does, with deltalake itself."""
    fields = Schema.from_arrow(pa.schema(list(types.items()))).fields
    DeltaTable(str(table.path)).alter.add_columns(fields)


def test_a_column_that_a_user_added_is_read_and_stays_when_others_commit(earlier: LakeTable) -> None:
    users_add(earlier, plot=pa.string())
    DeltaTable(str(earlier.path)).update(updates={"plot": "'north'"}, predicate="folder = 'a'")
    add(earlier, "a", ["7"])
    snapshot = earlier.snapshot()
    assert snapshot.added_columns == ["plot"]
    assert dict(snapshot.read(["relative_path", "plot"]).drop("_file").iter_rows()) == {
        "a/1": "north", "a/2": "north", "a/7": None, "b/3": None
    }  # fmt: skip


def test_rows_that_deltalake_wrote_have_the_types_of_the_table(earlier: LakeTable) -> None:
    DeltaTable(str(earlier.path)).update(updates={"camera": "'SONY'"}, predicate="folder = 'a'")
    snapshot = earlier.snapshot()
    (part,) = snapshot.reader.batches(snapshot.files("a"), 10)
    assert part.schema == snapshot.file_schema
    assert part["camera"].to_pylist() == ["SONY", "SONY"]
