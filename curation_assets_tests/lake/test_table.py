from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from curation_assets.errors import CurationError
from curation_assets.images.names import folder_of
from curation_assets.lake import broken
from curation_assets.lake.broken import BrokenFileError, BrokenFiles, why_broken
from curation_assets.lake.schemas import DIRECTORY, EMBEDDINGS, TableSpec
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.staging import StagedFile
from curation_assets.lake.storage import LocalStorage
from curation_assets.lake.table import LakeTable, PartitionChangedError
from curation_assets_tests.processes import FORKED

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

ODD_FOLDERS = [
    ".",
    "..",
    "a b, c",
    "quotes ' \" `",
    "per%20cent %2F % %%",
    "hash# plus+ and& question? equal= semi; colon:",
    "a/b/c",
    "folder=x",
    "new\nline\ttab\x1b\x7f",
    "back\\slash [1] {a} * ~ | < > ^ $",
    "ma\u00efs \u679c\u6a39 \U0001f33d e\u0301 \u2028",
    "bytes \U0010ff80\U0010ffff",
    " leading and trailing ",
    "-",
    "null",
    "12",
    "2020-01-01",
    "x" * 248,
    folder_of("\u679c" * 200, None),
    folder_of("__HIVE_DEFAULT_PARTITION__", None),
]


def batch(spec: TableSpec, folder: str, names: Iterable[str]) -> pa.RecordBatch:
    """Rows that hold little but their key."""
    paths = [f"{folder}/{name}" for name in names]
    columns = {
        "relative_path": paths,
        "file_path": [f"/images/{path}" for path in paths],
        "status": ["ok"] * len(paths),
        "model_version": ["1"] * len(paths),
        "embeddings": [[0.6, 0.8]] * len(paths),
    }
    empty = [None] * len(paths)
    schema = spec.file_schema
    return pa.record_batch([pa.array(columns.get(f.name, empty), f.type) for f in schema], schema=schema)


def add(
    table: LakeTable, folder: str, names: Sequence[str], remove: Callable[[Snapshot], list] = lambda _: []
) -> Snapshot:
    """Commit one file of rows to a folder; ``remove`` picks files that leave."""
    with table.writer(folder) as writer:
        base = table.snapshot()
        with writer.file() as stage:
            stage.write(batch(table.spec, folder, names))
        return table.replace(folder, base, add=[stage.staged] if stage.staged else [], remove=remove(base))


def rows(table: LakeTable, folder: str | None = None) -> list[tuple[str, str]]:
    return sorted(table.snapshot().read(["folder", "relative_path"], folder).drop("_file").iter_rows())


@pytest.fixture(params=[DIRECTORY, EMBEDDINGS], ids=["directory", "embeddings"])
def any_table(tmp_path: Path, request: pytest.FixtureRequest) -> LakeTable:
    table = LakeTable(tmp_path / "lake" / "autobricks" / "agriculture" / "some_table", request.param)
    table.create()
    return table


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    table = LakeTable(tmp_path / "lake" / "table", DIRECTORY)
    table.create()
    return table


def test_creating_twice_changes_nothing(any_table: LakeTable) -> None:
    assert any_table.exists()
    any_table.create()
    assert any_table.snapshot().version == 0


def test_columns_carry_their_meaning_in_the_metadata(any_table: LakeTable) -> None:
    delta = DeltaTable(str(any_table.path))
    comments = {field.name: field.metadata["comment"] for field in delta.schema().fields}
    assert comments == {column.name: column.comment for column in any_table.spec.columns}
    assert all(comments.values())
    assert delta.metadata().name == "some_table"
    assert delta.metadata().description == any_table.spec.description
    assert delta.metadata().partition_columns == ["folder"]


def test_the_six_columns_of_old_notebooks_are_there_with_their_types(tmp_path: Path) -> None:
    table = LakeTable(tmp_path / "lake", DIRECTORY)
    table.create()
    types = {field.name: str(field.type.type) for field in DeltaTable(str(table.path)).schema().fields}
    old = ("file_path", "file_name", "folder", "size_bytes", "created_at", "image_base64")
    assert [types[name] for name in old] == ["string", "string", "string", "long", "timestamp", "string"]


def test_changes_of_embeddings_can_be_followed_and_tell_the_truth(tmp_path: Path) -> None:
    table = LakeTable(tmp_path / "lake", EMBEDDINGS)
    table.create()
    delta = DeltaTable(str(table.path))
    assert delta.metadata().configuration["delta.enableChangeDataFeed"] == "true"
    add(table, "maize", ["a", "b"])
    add(table, "maize", ["b", "c", "d"], remove=lambda base: base.files("maize"))
    feed = pa.table(DeltaTable(str(table.path)).load_cdf(starting_version=1))
    found = zip(*(feed[n].to_pylist() for n in ("_commit_version", "_change_type", "relative_path")), strict=True)
    assert sorted(found) == [
        (1, "insert", "maize/a"),
        (1, "insert", "maize/b"),
        (2, "delete", "maize/a"),
        (2, "delete", "maize/b"),
        (2, "insert", "maize/b"),
        (2, "insert", "maize/c"),
        (2, "insert", "maize/d"),
    ]


def _create_all(paths: list[Path], together: Barrier) -> None:
    for path in paths:
        together.wait(60)
        LakeTable(path, EMBEDDINGS).create()


def _run_together(target: Callable[..., None], arguments: Sequence[tuple[object, ...]]) -> None:
    together = FORKED.Barrier(len(arguments))
    processes = [FORKED.Process(target=target, args=(*args, together)) for args in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_two_processes_creating_a_table_at_once_create_it_once(tmp_path: Path) -> None:
    paths = [tmp_path / f"table{number}" for number in range(10)]
    _run_together(_create_all, [(paths,), (paths,)])
    for path in paths:
        assert [file.name for file in (path / "_delta_log").glob("*.json")] == ["00000000000000000000.json"]
        add(LakeTable(path, EMBEDDINGS), "maize", ["a"])


def _commit_often(path: Path, folder: str, together: Barrier) -> None:
    table = LakeTable(path, DIRECTORY)
    together.wait(60)
    for number in range(4):
        add(table, folder, [f"{number}.jpg", f"{number}.png"])


def test_commits_of_different_folders_at_once_all_land(table: LakeTable) -> None:
    folders = ["a", "b", "c/d", "e f"]
    _run_together(_commit_often, [(table.path, folder) for folder in folders])
    expected = [(f, f"{f}/{n}.{suffix}") for f in folders for n in range(4) for suffix in ("jpg", "png")]
    assert rows(table) == sorted(expected)
    assert table.snapshot().version == 16


def test_commits_of_one_folder_at_once_all_land(table: LakeTable) -> None:
    _run_together(_commit_often_under_own_names, [(table.path, "one"), (table.path, "two")])
    expected = [("maize", f"maize/{name}{number}") for name in ("one", "two") for number in range(4)]
    assert rows(table) == sorted(expected)


def _commit_often_under_own_names(path: Path, name: str, together: Barrier) -> None:
    table = LakeTable(path, DIRECTORY)
    together.wait(60)
    for number in range(4):
        add(table, "maize", [f"{name}{number}"])


def test_rows_of_folders_with_odd_names_are_read_back_by_every_reader(table: LakeTable) -> None:
    for folder in ODD_FOLDERS:
        add(table, folder, ["1.jpg", "2.jpg"])
    expected = sorted((folder, f"{folder}/{n}.jpg") for folder in ODD_FOLDERS for n in (1, 2))
    snapshot = table.snapshot()
    assert rows(table) == expected
    assert snapshot.folders == sorted(ODD_FOLDERS)
    assert all(rows(table, folder) == [e for e in expected if e[0] == folder] for folder in ODD_FOLDERS)

    delta = pl.scan_delta(str(table.path)).select("folder", "relative_path").collect()
    assert sorted(delta.iter_rows()) == expected
    one = pl.scan_delta(str(table.path)).filter(pl.col("folder") == ODD_FOLDERS[4]).collect()
    assert len(one) == 2

    arrow = DeltaTable(str(table.path)).to_pyarrow_table(columns=["folder", "relative_path"])
    assert sorted(zip(*(column.to_pylist() for column in arrow.columns), strict=True)) == expected

    paths = {str(table.path / file.path): file.partition for file in snapshot.files()}
    keys = sorted(key for _, key in expected)
    by_duckdb = duckdb.read_parquet(list(paths), hive_partitioning=False).project("relative_path").fetchall()
    assert sorted(key for (key,) in by_duckdb) == keys
    by_pyarrow = [pq.ParquetFile(path).read(["relative_path"]) for path in paths]
    assert sorted(pa.concat_tables(by_pyarrow)["relative_path"].to_pylist()) == keys


def test_a_removed_file_is_gone_for_folders_with_odd_names(table: LakeTable) -> None:
    for folder in ODD_FOLDERS:
        add(table, folder, ["1.jpg"])
        add(table, folder, ["2.jpg"], remove=lambda base, folder=folder: base.files(folder))
    assert rows(table) == sorted((folder, f"{folder}/2.jpg") for folder in ODD_FOLDERS)


def test_replace_adds_removes_and_leaves_other_folders_alone(table: LakeTable) -> None:
    add(table, "a", ["1"])
    add(table, "a", ["2"])
    add(table, "b", ["3"])
    snapshot = add(table, "a", ["4"], remove=lambda base: base.files("a")[:1])
    kept = {key for _, key in rows(table, "a")}
    assert "a/4" in kept
    assert len(kept) == 2
    assert rows(table, "b") == [("b", "b/3")]
    assert (snapshot.rows("a"), snapshot.rows("b"), snapshot.rows(), snapshot.rows("absent")) == (2, 1, 3, 0)
    assert snapshot.version == 4


def test_replace_can_only_remove(table: LakeTable) -> None:
    add(table, "a", ["1"])
    base = table.snapshot()
    assert table.replace("a", base, add=[], remove=base.files("a")).folders == []
    assert rows(table) == []
    assert len(table.snapshot().read(["relative_path"], "a")) == 0


def test_replacing_nothing_commits_nothing(table: LakeTable) -> None:
    base = table.snapshot()
    assert table.replace("a", base, add=[], remove=[]) is base
    assert table.snapshot().version == 0


def test_a_commit_says_who_made_it(table: LakeTable) -> None:
    with table.writer("a") as writer:
        with writer.file() as stage:
            stage.write(batch(DIRECTORY, "a", ["1"]))
        table.replace("a", table.snapshot(), add=[stage.staged], remove=[], info={"job": "scan", "folder": "a"})
    newest = DeltaTable(str(table.path)).history(1)[0]
    assert (newest["job"], newest["folder"]) == ("scan", "a")


def test_a_plan_made_on_an_older_state_of_the_folder_is_refused(table: LakeTable) -> None:
    add(table, "a", ["1"])
    old = table.snapshot()
    add(table, "a", ["2"])
    with table.writer("a") as writer:
        with writer.file() as stage:
            stage.write(batch(DIRECTORY, "a", ["3"]))
        with pytest.raises(PartitionChangedError):
            table.replace("a", old, add=[stage.staged], remove=old.files("a"))
    assert rows(table) == [("a", "a/1"), ("a", "a/2")]
    assert table.snapshot().version == 2


def test_a_plan_holds_when_only_other_folders_changed(table: LakeTable) -> None:
    add(table, "a", ["1"])
    old = table.snapshot()
    add(table, "b", ["2"])
    table.replace("a", old, add=[], remove=old.files("a"))
    assert rows(table) == [("b", "b/2")]


def _missing(path: Path) -> None:
    path.unlink()


def _longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def _shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _other_rows(path: Path) -> None:
    pq.write_table(pa.Table.from_batches([batch(DIRECTORY, "a", ["1", "2"])]), path)


def _other_columns(path: Path) -> None:
    pq.write_table(pa.Table.from_batches([batch(EMBEDDINGS, "a", ["1"])]), path)


def _with_the_partition_column(path: Path) -> None:
    table = pa.Table.from_batches([batch(DIRECTORY, "a", ["1"])])
    pq.write_table(table.append_column("folder", pa.array(["a"])), path)


@pytest.mark.parametrize(
    "spoil", [_missing, _longer, _shorter, _other_rows, _other_columns, _with_the_partition_column]
)
def test_a_staged_file_that_is_not_what_was_staged_is_refused_before_the_commit(
    table: LakeTable, spoil: Callable[[Path], None]
) -> None:
    with table.writer("a") as writer:
        with writer.file() as stage:
            stage.write(batch(DIRECTORY, "a", ["1"]))
        spoil(table.path / stage.staged.path)
        with pytest.raises((ValueError, OSError)):
            table.replace("a", table.snapshot(), add=[stage.staged], remove=[])
    assert table.snapshot().version == 0


@pytest.mark.parametrize("other", [{"rows": 2}, {"size_bytes": 1}])
def test_a_staged_file_of_other_rows_or_size_is_refused(table: LakeTable, other: dict[str, int]) -> None:
    with table.writer("a") as writer:
        with writer.file() as stage:
            stage.write(batch(DIRECTORY, "a", ["1"]))
        with pytest.raises(ValueError, match="is not the file that was staged"):
            table.replace("a", table.snapshot(), add=[replace(stage.staged, **other)], remove=[])
    assert table.snapshot().version == 0


def test_a_file_of_another_table_is_refused_before_the_commit(table: LakeTable, tmp_path: Path) -> None:
    (table.path / "folder=a").mkdir()
    path = table.path / "folder=a" / "x.parquet"
    _other_columns(path)
    file = StagedFile("folder=a/x.parquet", path.stat().st_size, 1, "a", "_writers/marker")
    with pytest.raises(ValueError, match=r"folder=a/x\.parquet has columns"):
        table.replace("a", table.snapshot(), add=[file], remove=[])
    assert table.snapshot().version == 0


def test_reading_filters_and_says_which_file_a_row_lies_in(table: LakeTable) -> None:
    add(table, "a", ["1", "2"])
    add(table, "a", ["3"])
    snapshot = table.snapshot()
    found = snapshot.read(["relative_path"], where=pl.col("file_path") == "/images/a/2")
    assert found.columns == ["relative_path", "_file"]
    assert found["relative_path"].to_list() == ["a/2"]
    (file,) = [file for file in snapshot.files("a") if file.path == found["_file"][0]]
    assert file.rows == 2
    assert snapshot.read(["relative_path"], files=[file])["relative_path"].to_list() == ["a/1", "a/2"]
    assert snapshot.bytes("a") == sum(f.size_bytes for f in snapshot.files("a")) > 0


def test_an_empty_table_is_read_as_no_rows_of_the_right_types(table: LakeTable) -> None:
    add(table, "a", ["1"])
    columns = [column.name for column in DIRECTORY.columns]
    nothing = table.snapshot().read(columns, "absent")
    assert nothing.schema == table.snapshot().read(columns, "a").schema
    assert len(nothing) == 0


def _one_line(error: pytest.ExceptionInfo[CurationError]) -> str:
    message = str(error.value)
    assert message.isprintable(), "one line, without terminal colours"
    return message


def _first_log(table: LakeTable) -> Path:
    return table.path / "_delta_log" / "00000000000000000000.json"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda log: log.write_text("{garbage"),
        lambda log: log.write_bytes(b"\xff\xfe\x00" * 50),
        lambda log: log.write_bytes(b""),
        lambda log: log.unlink(),
        lambda log: (log.parent / "_last_checkpoint").write_text('{"version":77,"size":1}'),
    ],
)
def test_a_broken_log_is_one_clear_line(table: LakeTable, spoil: Callable[[Path], object]) -> None:
    add(table, "a", ["1"])
    spoil(_first_log(table))
    with pytest.raises(CurationError, match=re.escape(f"table {table.path} can't be read or written")) as error:
        table.snapshot()
    _one_line(error)
    with pytest.raises(CurationError), LakeTable(table.path, table.spec).writer("a"):
        pass


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_missing, "is missing"),
        (_shorter, r"has [\d,]+ of its [\d,]+ bytes"),
        (lambda p: p.write_bytes(b"PAR1"), "has 4 of its"),
        (lambda p: p.write_bytes(b""), "has 0 of its"),
        (lambda p: p.write_bytes(b"\0" * p.stat().st_size), r"is damaged \(.*magic bytes"),
    ],
)
@pytest.mark.parametrize("where", [None, pl.col("status") == "ok"])
def test_a_missing_or_broken_data_file_costs_its_own_rows(
    table: LakeTable, spoil: Callable[[Path], object], reason: str, where: pl.Expr | None
) -> None:
    add(table, "a", ["1"])
    add(table, "a", ["2"])
    add(table, "b", ["3"])
    lost = next(file for file in table.snapshot().files("a") if file.rows)
    (gone,) = table.snapshot().read(["relative_path"], files=[lost])["relative_path"]
    spoil(table.path / lost.path)
    snapshot = table.snapshot()
    found = snapshot.read(["relative_path"], where=where)["relative_path"]
    assert sorted(found) == sorted({"a/1", "a/2", "b/3"} - {gone})
    ((file, why),) = snapshot.broken()
    assert (file, table.snapshot().broken("b")) == (lost, [])
    assert re.match(reason, why)
    with pytest.raises(BrokenFileError, match=re.escape(f"table {table.path} can't be read: data file {lost.path}")):
        snapshot.refuse_broken("a")
    snapshot.refuse_broken("b")
    with pytest.raises(BrokenFileError, match=re.escape(lost.path)):
        list(snapshot.reader.batches([lost], 100))
    assert snapshot.named_files(["a"]) != snapshot.files("a"), "a commit knows of it"


def test_damage_within_a_file_is_found_by_its_checksum(table: LakeTable) -> None:
    with table.writer("a") as writer:
        with writer.file() as stage:
            stage.write(batch(table.spec, "a", [str(number) for number in range(100)]))
        table.replace("a", table.snapshot(), add=stage.files, remove=[])
    (file,) = table.snapshot().files()
    path = table.path / file.path
    metadata = pq.ParquetFile(path).metadata.row_group(0)
    names = [metadata.column(index).path_in_schema for index in range(metadata.num_columns)]
    column = metadata.column(names.index("relative_path"))
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 0x10
    path.write_bytes(data)
    assert why_broken(table.storage, file.path, file.size_bytes) is None
    assert why_broken(table.storage, file.path, file.size_bytes, ["status"]) is None
    assert "is damaged" in str(why_broken(table.storage, file.path, file.size_bytes, ["relative_path"]))


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_an_error_of_the_moment_breaks_no_file(table: LakeTable, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    add(table, "a", ["1"])
    (file,) = table.snapshot().files()

    def fails(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(LocalStorage, "parquet", fails)
    with pytest.raises((OSError, CurationError), match=os.strerror(code)):
        list(table.snapshot().reader.batches([file], 100))
    assert table.snapshot().broken() == []


def test_a_broken_file_is_looked_at_again(table: LakeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    add(table, "a", ["1"])
    path = table.path / table.snapshot().files()[0].path
    whole = path.read_bytes()
    path.unlink()
    assert rows(table) == []
    path.write_bytes(whole)
    assert rows(table) == [("a", "a/1")], "it has come back"
    monkeypatch.setattr(broken, "_HELD_SECONDS", 0.0)
    BrokenFiles.of(str(table.path)).note(table.snapshot().named_files(["a"])[0].path, "was away")
    assert rows(table) == [("a", "a/1")]


@pytest.mark.parametrize("below", [".", "catalog/schema/table"])
def test_a_lake_that_is_a_file_is_one_clear_line(tmp_path: Path, below: str) -> None:
    (tmp_path / "lake").write_text("a file")
    table = LakeTable(tmp_path / "lake" / below, DIRECTORY)
    with pytest.raises(CurationError, match="Not a directory") as error:
        table.create()
    assert str(table.path) in _one_line(error)
    with pytest.raises(CurationError) as error:
        table.snapshot()
    _one_line(error)


def test_a_table_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    table = LakeTable(tmp_path / "lake", DIRECTORY)
    assert not table.exists()
    with pytest.raises(CurationError, match=r"there is no table at .*; `curation run` creates it"):
        table.snapshot()
    assert not table.path.exists()


def test_a_table_of_other_columns_is_not_taken_over(tmp_path: Path) -> None:
    LakeTable(tmp_path / "lake", EMBEDDINGS).create()
    with pytest.raises(CurationError, match=r"lacks the columns .*image_base64"):
        LakeTable(tmp_path / "lake", DIRECTORY).create()


@pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")
def test_a_lake_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir(mode=0o500)
    with pytest.raises(CurationError, match="Permission denied; check CURATION_LAKE_ROOT"):
        LakeTable(tmp_path / "lake" / "table", DIRECTORY).create()


@pytest.mark.parametrize("name", ["sp ace", "50%", "h#ash ?&=+", "ma\u00efs \u679c", "quo'te\"", "[a]{b}*", "a,b;c:d"])
def test_a_lake_may_lie_under_an_odd_name(tmp_path: Path, name: str) -> None:
    table = LakeTable(tmp_path / name / "table", DIRECTORY)
    table.create()
    add(table, "a b%20", ["1"])
    add(table, "a b%20", ["2"], remove=lambda base: base.files("a b%20"))
    assert rows(table) == [("a b%20", "a b%20/2")]


@pytest.mark.parametrize("name", ["my%20lake", "back\\slash", "new\nline", "tab\t", os.fsdecode(b"\xff")])
def test_a_lake_where_no_delta_table_can_lie_is_refused_clearly(tmp_path: Path, name: str) -> None:
    with pytest.raises(CurationError, match=r"a Delta table can't lie in a path with .*CURATION_LAKE_ROOT") as error:
        LakeTable(tmp_path / name / "table", DIRECTORY).create()
    _one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_the_log_holds_what_readers_need_of_a_file(table: LakeTable) -> None:
    add(table, "a b", ["1", "2"])
    actions = [json.loads(line) for line in (_first_log(table).with_name("00000000000000000001.json")).open()]
    (action,) = [action["add"] for action in actions if "add" in action]
    assert action["partitionValues"] == {"folder": "a b"}
    assert json.loads(action["stats"])["numRecords"] == 2
    assert action["dataChange"] is True
