"""Tables that others wrote to, with the tools that are installed: every run goes on, and users' columns come along."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.schema import ArrayType, MapType, PrimitiveType, StructType

from curation_assets import ingest
from curation_assets.commands.ingest import exit_code
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.conftest import jpeg


def _update(table: DeltaTable) -> None:
    table.update(updates={"file_name": "'other'"}, predicate="file_name = '2.jpg'")


def _merge(table: DeltaTable) -> None:
    source = pa.table({"relative_path": ["a/0.jpg"], "file_name": ["m"]})
    merging = table.merge(source, "t.relative_path = s.relative_path", source_alias="s", target_alias="t")
    merging.when_matched_update({"file_name": "s.file_name"}).execute()


def _polars(table: DeltaTable) -> None:
    frame = pl.read_delta(table.table_uri).filter(pl.col("folder") == "a")
    frame.write_delta(table.table_uri, mode="overwrite", delta_write_options={"predicate": "folder = 'a'"})


def _arrow(table: DeltaTable) -> None:
    write_deltalake(table.table_uri, table.to_pyarrow_table(), mode="overwrite")


OPERATIONS: dict[str, Callable[[DeltaTable], object]] = {
    "delete": lambda table: table.delete("file_name = '1.jpg'"),
    "update": _update,
    "merge": _merge,
    "compact": lambda table: table.optimize.compact(),
    "z-order": lambda table: table.optimize.z_order(["relative_path"]),
    "polars": _polars,
    "arrow": _arrow,
}
COLUMNS: dict[str, tuple[Any, str, Any]] = {
    "text": (PrimitiveType("string"), "concat('p', file_name)", "p0.jpg"),
    "long": (PrimitiveType("long"), "7", 7),
    "byte": (PrimitiveType("byte"), "7", 7),
    "double": (PrimitiveType("double"), "1.5", 1.5),
    "decimal": (PrimitiveType("decimal(10,2)"), "1.25", "1.25"),
    "day": (PrimitiveType("date"), "DATE '2026-01-02'", "2026-01-02"),
    "time": (PrimitiveType("timestamp"), "TIMESTAMP '2026-01-02T03:04:05Z'", "2026-01-02 03:04:05+00:00"),
    "flag": (PrimitiveType("boolean"), "true", True),
    "bytes": (PrimitiveType("binary"), "X'ff00'", b"\xff\x00"),
    "list": (ArrayType("string", True), "make_array('q', 'r')", ["q", "r"]),
    "map": (MapType("string", "long", True), "map(make_array('a'), make_array(1))", {"a": 1}),
    "struct": (StructType([Field("x", "double")]), "named_struct('x', 1.5)", {"x": 1.5}),
}


@pytest.fixture
def lake(images: Path, ready: Pipeline) -> Pipeline:
    for folder in ("a", "b"):
        (images / folder).mkdir()
        for number in range(3):
            (images / folder / f"{number}.jpg").write_bytes(jpeg(number + 10 * ord(folder)))
    ingest.run(ready, LogProgress())
    return ready


def is_in_line(pipeline: Pipeline, images: Path, *, curate: bool = True) -> bool:
    """A run after one file of each folder was touched, so that rows are written anew beside what others wrote."""
    for folder in ("a", "b"):
        os.utime(images / folder / "2.jpg")
    summary = ingest.run(Pipeline(pipeline.settings), LogProgress(), curate=curate)
    counts = [(row["files"], row["ok"], row["embedded"], row["stale"]) for row in summary.status.to_dicts()]
    return (exit_code(summary), counts, summary.index_error) == (0, [(3, 3, 3, 0)] * 2, None)


@pytest.mark.parametrize("which", ["directory", "embeddings"])
def test_whatever_wrote_to_a_table_a_run_goes_on(lake: Pipeline, images: Path, which: str) -> None:
    for name, operation in OPERATIONS.items():
        operation(DeltaTable(str(getattr(lake.tables, which).path)))
        # Only these write other types, which a curation would read.
        assert is_in_line(lake, images, curate=name in ("polars", "arrow")), name


def test_columns_of_every_type_come_along(lake: Pipeline, images: Path) -> None:
    path = str(lake.tables.directory.path)
    DeltaTable(path).alter.add_columns([Field(name, kind) for name, (kind, _, _) in COLUMNS.items()])
    DeltaTable(path).update(updates={name: value for name, (_, value, _) in COLUMNS.items()})
    assert is_in_line(lake, images)
    rows = Pipeline(lake.settings).tables.directory.latest().read(["file_name", *COLUMNS]).drop("_file")
    for row in rows.to_dicts():
        for name, (_, _, expected) in COLUMNS.items():
            wanted = f"p{row['file_name']}" if name == "text" else expected
            found = str(row[name]) if name in ("decimal", "day", "time") else row[name]
            assert found == wanted, name
