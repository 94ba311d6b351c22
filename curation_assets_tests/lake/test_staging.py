from __future__ import annotations

import errno
import os
import pickle
import re
import signal
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation_assets.errors import CurationError
from curation_assets.lake import staging
from curation_assets.lake.hive import hive_directory
from curation_assets.lake.schemas import DIRECTORY, EMBEDDINGS
from curation_assets.lake.staging import PartitionWriter, StagedFile
from curation_assets.lake.storage import LocalStorage
from curation_assets.lake.table import LakeTable
from curation_assets_tests.lake.test_table import ODD_FOLDERS, add, batch, rows
from curation_assets_tests.processes import FORKED


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    table = LakeTable(tmp_path / "lake" / "table", DIRECTORY)
    table.create()
    return table


def stage(writer: PartitionWriter, folder: str, names: list[str]) -> StagedFile:
    with writer.file() as file:
        file.write(batch(DIRECTORY, folder, names))
    assert file.staged is not None
    return file.staged


def data_files(table: LakeTable) -> set[str]:
    return {str(path.relative_to(table.path)) for path in table.path.glob("folder=*/*")}


def markers(table: LakeTable) -> list[Path]:
    return [path for path in (table.path / "_writers").rglob("*") if path.is_file() and path.name != "lock"]


def test_a_staged_file_belongs_to_no_version_until_it_is_committed(table: LakeTable) -> None:
    with table.writer("a") as writer:
        staged = stage(writer, "a", ["1", "2"])
        assert data_files(table) == {staged.path}
        assert staged.rows == 2
        assert staged.size_bytes == (table.path / staged.path).stat().st_size
        assert len(markers(table)) == 1
        assert rows(table) == []
        table.replace("a", table.snapshot(), add=[staged], remove=[])
        assert markers(table) == []
    assert rows(table) == [("a", "a/1"), ("a", "a/2")]


@pytest.mark.parametrize("folder", ODD_FOLDERS, ids=lambda folder: ascii(folder[:20]))
def test_a_folders_files_lie_in_its_hive_directory(table: LakeTable, folder: str) -> None:
    with table.writer(folder) as writer:
        staged = stage(writer, folder, ["1"])
    assert Path(staged.path).parent.name == hive_directory("folder", folder)


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_file_whose_writing_fails_is_deleted(table: LakeTable, failure: type[BaseException]) -> None:
    def fail() -> None:
        with table.writer("a") as writer, writer.file() as file:
            file.write(batch(DIRECTORY, "a", ["1"]))
            raise failure

    with pytest.raises(failure):
        fail()
    assert data_files(table) == set()
    assert markers(table) == []


def test_a_file_without_rows_is_not_kept(table: LakeTable) -> None:
    with table.writer("a") as writer, writer.file() as file:
        file.write(batch(DIRECTORY, "a", []))
    assert file.staged is None
    assert data_files(table) == set()
    assert markers(table) == []


def test_rows_of_other_columns_are_refused(table: LakeTable) -> None:
    with table.writer("a") as writer, pytest.raises((ValueError, KeyError)), writer.file() as file:
        file.write(batch(EMBEDDINGS, "a", ["1"]))
    assert data_files(table) == set()


def test_a_discarded_file_leaves_nothing_behind(table: LakeTable) -> None:
    with table.writer("a") as writer:
        writer.discard(stage(writer, "a", ["1"]))
    assert data_files(table) == set()
    assert markers(table) == []


def test_row_groups_are_bounded_in_rows(table: LakeTable) -> None:
    with table.writer("a") as writer:
        with writer.file() as file:
            for number in range(100):
                file.write(batch(DIRECTORY, "a", [f"{number}-{n}" for n in range(64)]))
        footer = pq.ParquetFile(table.path / file.staged.path).metadata
    sizes = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
    assert sum(sizes) == 6400
    assert max(sizes) <= staging.ROW_GROUP_ROWS + 63
    assert len(sizes) == 4, "and no smaller than they have to be"


def test_row_groups_are_bounded_in_bytes(table: LakeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "ROW_GROUP_BYTES", 2**20)
    noise = np.random.default_rng(1)
    index = DIRECTORY.file_schema.get_field_index("preview")
    with table.writer("a") as writer:
        with writer.file() as file:
            for number in range(40):
                preview = pa.array([noise.bytes(100_000)], pa.binary())
                file.write(batch(DIRECTORY, "a", [str(number)]).set_column(index, "preview", preview))
        footer = pq.ParquetFile(table.path / file.staged.path).metadata
    sizes = [footer.row_group(group).total_byte_size for group in range(footer.num_row_groups)]
    assert max(sizes) <= 2**20 + 2 * 100_000
    assert len(sizes) == 4


def test_files_are_written_as_the_measurements_ask(tmp_path: Path) -> None:
    table = LakeTable(tmp_path / "lake", EMBEDDINGS)
    table.create()
    add(table, "a", ["1", "2"])
    file = pq.ParquetFile(table.path / table.snapshot().files()[0].path)
    group = file.metadata.row_group(0)
    columns = {group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)}
    assert "folder" not in columns
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "BYTE_STREAM_SPLIT" in columns["embeddings.list.element"].encodings
    assert not columns["relative_path"].has_dictionary_page
    assert columns["model_version"].has_dictionary_page


def test_what_is_finished_but_not_committed_goes_with_its_writer(table: LakeTable) -> None:
    add(table, "a", ["1"])
    (kept,) = (table.path / "folder=a").iterdir()
    with table.writer("a") as writer:
        with writer.file() as file:
            file.write(batch(DIRECTORY, "a", ["2"]))
        writer.shared.put("of an executor.unit", b"")
        assert file.staged is not None
    assert list((table.path / "folder=a").iterdir()) == [kept]
    assert [path.name for path in (table.path / writer.shared.directory).iterdir()] == ["lock"]


def test_a_pickled_writer_stages_files_for_the_one_who_holds_the_right(table: LakeTable) -> None:
    with table.writer("a b%/é") as writer:
        copy = pickle.loads(pickle.dumps(writer))
        with copy.file() as file:
            file.write(batch(DIRECTORY, "a b%/é", ["1"]))
        staged = pickle.loads(pickle.dumps(file.staged))
        table.replace("a b%/é", table.snapshot(), add=[staged], remove=[])
    assert table.snapshot().rows("a b%/é") == 1
    assert not writer.has_leftovers()


def _die(path: Path, scenario: str) -> None:
    """Write folder 'a' and be killed: in the middle of a file, before the commit, or just after it."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    table = LakeTable(path, DIRECTORY)
    with table.writer("a") as writer:
        if scenario == "half a file":
            with writer.file() as file:
                file.write(batch(DIRECTORY, "a", ["lost"] * 3000))
                die()
        staged = stage(writer, "a", ["new"])
        if scenario == "after the commit":
            StagedFile.committed = die  # type: ignore[method-assign]
            table.replace("a", table.snapshot(), add=[staged], remove=[])
        die()


@pytest.mark.parametrize("scenario", ["half a file", "before the commit", "after the commit"])
def test_what_a_killed_process_left_is_swept_and_what_it_committed_stays(table: LakeTable, scenario: str) -> None:
    add(table, "a", ["old"])
    add(table, "b", ["other"])
    process = FORKED.Process(target=_die, args=(table.path, scenario))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert len(markers(table)) == 1
    assert len(data_files(table)) == 3

    with table.writer("b"):
        assert len(markers(table)) == 1, "the sweep of a folder is its writer's"
    waited: list[str] = []
    with table.writer("a", waited.append):
        assert markers(table) == []
    assert waited == [], "a dead process holds no lock"
    landed = [("a", "a/new")] if scenario == "after the commit" else []
    assert rows(table) == [*landed, ("a", "a/old"), ("b", "b/other")]
    assert data_files(table) == {file.path for file in table.snapshot().files()}


@pytest.mark.parametrize("is_earlier", [False, True], ids=["now", "an empty marker of 0.1.0"])
def test_what_is_left_of_a_folder_that_never_comes_again_goes_too(table: LakeTable, is_earlier: bool) -> None:
    add(table, "b", ["other"])
    process = FORKED.Process(target=_die, args=(table.path, "before the commit"))
    process.start()
    process.join(60)
    if is_earlier:
        markers(table)[0].write_bytes(b"")
    (left,) = data_files(table) - {file.path for file in table.snapshot().files()}
    size = (table.path / left).stat().st_size
    with table.writer("c") as writer:
        mine = stage(writer, "c", ["1"])
        assert LakeTable(table.path, DIRECTORY).sweep() == size
        assert data_files(table) == {mine.path, *(file.path for file in table.snapshot().files())}
        table.replace("c", table.snapshot(), add=[mine], remove=[])
    assert markers(table) == []
    assert rows(table) == [("b", "b/other"), ("c", "c/1")]


@pytest.mark.parametrize("where", ["output", "put"])
def test_a_full_disk_names_the_lake(table: LakeTable, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device")

    monkeypatch.setattr(LocalStorage, where, full)
    with (
        pytest.raises(CurationError, match=re.escape(f"lake {table.path}: No space left on device")),
        table.writer("a") as writer,
        writer.file(),
    ):
        pass


def test_a_sweep_deletes_exactly_the_marked_files_that_the_table_does_not_name(table: LakeTable) -> None:
    add(table, "a", ["committed"])
    (committed,) = table.snapshot().files("a")
    with table.writer("a") as writer:
        orphan = stage(writer, "a", ["orphan"])
        half = Path(orphan.path).with_name("half.parquet")
        (table.path / half).write_bytes(b"PAR1")
        stranger = Path(orphan.path).with_name("stranger.txt")
        (table.path / stranger).write_bytes(b"not ours")
        for name in (Path(committed.path).name, half.name, "never_opened.parquet"):
            (table.path / orphan.marker).with_name(name).touch()
    with table.writer("a"):
        assert markers(table) == []
    assert data_files(table) == {committed.path, str(stranger)}
    assert rows(table) == [("a", "a/committed")]


def test_a_second_writer_of_a_folder_waits_and_says_so_once(table: LakeTable) -> None:
    notes: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with table.writer("a", notes.append):
            entered.set()

    with table.writer("a"):
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.6)
        with table.writer("b", notes.append):
            pass  # another folder's writer doesn't wait
    assert entered.wait(5)
    thread.join()
    assert notes == ["waiting for another process that is writing folder 'a' of table"]


def test_a_writer_that_failed_gives_its_right_back(table: LakeTable) -> None:
    with pytest.raises(RuntimeError), table.writer("a"):
        raise RuntimeError
    with table.writer("a", pytest.fail):
        pass
