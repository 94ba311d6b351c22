from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed.known import KnownContents
from curation_assets.lake.schemas import EMBEDDINGS
from curation_assets.lake.snapshot import DataFile, Snapshot
from curation_assets.lake.table import LakeTable

MODEL = RegisteredModel("c.s.m", "1", "f", 2, 128, 1, "demo", True, "run")


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    made = LakeTable(tmp_path / "embeddings", EMBEDDINGS)
    made.create()
    return made


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders of the files that were read."""
    folders: list[str] = []
    really = Snapshot.read

    def counted(self: Snapshot, columns: Sequence[str], *rest: Any, **how: Any) -> pl.DataFrame:
        files: Sequence[DataFile] | None = how.get("files")
        folders.extend(file.partition for file in (self.files() if files is None else files))
        return really(self, columns, *rest, **how)

    monkeypatch.setattr(Snapshot, "read", counted)
    return folders


def content(number: int) -> str:
    return f"{number:064x}"[::-1]


def add(table: LakeTable, folder: str, contents: Sequence[str], model: RegisteredModel = MODEL) -> None:
    with table.writer(folder) as writer:
        with writer.file() as stage:
            rows = [
                {
                    "file_path": f"/{folder}/{index}", "relative_path": f"{folder}/{index}", "file_name": str(index),
                    "size_bytes": 1, "created_at": None, "content_sha256": sha256, "model_name": model.name,
                    "model_version": model.version, "model_fingerprint": model.fingerprint, "embeddings": [1.0, 0.0],
                    "embedded_at": None,
                }
                for index, sha256 in enumerate(contents)
            ]  # fmt: skip
            stage.write(pa.RecordBatch.from_pylist(rows, EMBEDDINGS.file_schema))
        assert stage.staged is not None
        table.replace(folder, table.snapshot(), add=[stage.staged], remove=[])


def asked(*contents: str) -> pl.DataFrame:
    return pl.DataFrame(
        {"content_sha256": list(contents), "pixels_as": None}, schema_overrides={"pixels_as": pl.String}
    )


def test_a_content_is_found_wherever_it_is_and_others_are_not(table: LakeTable) -> None:
    add(table, "a", [content(1), content(2)])
    add(table, "b", [content(3)])
    found, files = KnownContents(MODEL).among([table.snapshot()], asked(content(2), content(3), content(4)))
    assert sorted(found["relative_path"]) == ["a/1", "b/0"]
    assert {file.partition for file in files.values()} == {"a", "b"}
    assert set(files) == set(found["_file"])


def test_each_file_is_read_once_and_after_that_only_those_that_may_answer(table: LakeTable, read: list[str]) -> None:
    known = KnownContents(MODEL)
    for folder in ("a", "b", "c"):
        add(table, folder, [content(ord(folder)), content(1)])
    known.among([table.snapshot()], asked(content(1000)))
    assert sorted(read) == ["a", "b", "c"]
    read.clear()
    add(table, "d", [content(7)])
    found, _ = known.among([table.snapshot()], asked(content(ord("b"))))
    assert found["relative_path"].to_list() == ["b/0"]
    assert sorted(read) == ["b", "d"]


def test_nothing_pending_reads_nothing(table: LakeTable, read: list[str]) -> None:
    add(table, "a", [content(1)])
    found, files = KnownContents(MODEL).among([table.snapshot()], asked())
    assert (len(found), files, read) == (0, {}, [])


def test_rows_that_left_the_table_are_known_no_longer_but_in_an_earlier_snapshot(table: LakeTable) -> None:
    known = KnownContents(MODEL)
    add(table, "a", [content(1)])
    earlier = table.snapshot()
    assert len(known.among([earlier], asked(content(1)))[0]) == 1
    with table.writer("a"):
        table.replace("a", earlier, add=[], remove=earlier.files("a"))
    assert len(known.among([table.snapshot(), earlier], asked(content(1)))[0]) == 1
    assert len(known.among([table.snapshot()], asked(content(1)))[0]) == 0


def test_two_contents_whose_hashes_begin_alike_are_not_taken_for_one_another(table: LakeTable) -> None:
    one, other = "ab" * 8 + "0" * 48, "ab" * 8 + "1" * 48
    add(table, "a", [one])
    known = KnownContents(MODEL)
    assert len(known.among([table.snapshot()], asked(other))[0]) == 0
    assert len(known.among([table.snapshot()], asked(one))[0]) == 1


@pytest.mark.parametrize("change", [{"version": "2"}, {"fingerprint": "g"}, {"name": "c.s.other"}])
def test_vectors_of_another_model_are_not_known(change: dict[str, str], table: LakeTable) -> None:
    add(table, "a", [content(1)])
    assert len(KnownContents(dataclasses.replace(MODEL, **change)).among([table.snapshot()], asked(content(1)))[0]) == 0


def test_a_vector_of_another_picture_of_the_same_content_is_not_known(table: LakeTable) -> None:
    add(table, "a", [content(1)])  # made before there was such a column
    other = asked(content(1)).with_columns(pixels_as=pl.lit("profile"))
    assert len(KnownContents(MODEL).among([table.snapshot()], other)[0]) == 0
    assert len(KnownContents(MODEL).among([table.snapshot()], asked(content(1)))[0]) == 1
