"""What a table's storage must do, on a disk, in stores, and in memory; and what a table must, wherever it can lie."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation_assets.lake.schemas import DIRECTORY
from curation_assets.lake.storage import Storage, storage_of
from curation_assets.lake.table import LakeTable, PartitionChangedError
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.conditional import create, replace
from curation_assets.stores.opening import open_store
from curation_assets.stores.options import StorageOptions
from curation_assets_tests.lake.test_table import add, rows
from curation_assets_tests.stores import azure_server
from curation_assets_tests.stores.s3_server import S3

Place = tuple[Path | StoreAddress, StorageOptions]


@pytest.fixture(params=["disk", "s3", "gs", "azure", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Somewhere with nothing in it."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    if request.param == "disk":
        (tmp_path / "table").mkdir()
        return tmp_path / "table", StorageOptions()
    if request.param == "memory":
        return StoreAddress.parse(f"memory://{name}/lake/table"), StorageOptions()
    if request.param == "s3":
        s3: S3 = request.getfixturevalue("s3")
        return StoreAddress.parse(f"s3://{s3.bucket}/lake/a b=ü/table"), StorageOptions.parse(s3.options)
    if request.param == "gs":  # Google's requests as this project's libraries make them; no emulator answers those
        s3 = request.getfixturevalue("s3")
        return StoreAddress.parse(f"gs://{s3.bucket}/lake/table"), StorageOptions.parse(s3.google_options)
    azure: azure_server.Azure = request.getfixturevalue("azure")
    azure.create(name)
    return StoreAddress.parse(f"az://{name}/lake/table"), StorageOptions.parse(azure.options)


@pytest.fixture
def storage(place: Place) -> Storage:
    return storage_of(*place)


@pytest.fixture
def table(place: Place) -> LakeTable:
    """An empty table, where one can lie."""
    if getattr(place[0], "scheme", "") == "memory":
        pytest.skip("delta-rs has a memory of its own")
    made = LakeTable(place[0], DIRECTORY, place[1])
    made.create()
    return made


def test_what_is_put_is_there_until_it_is_deleted(storage: Storage) -> None:
    assert not storage.exists("a/b.txt")
    assert storage.stamp("a/b.txt") is None
    with pytest.raises(FileNotFoundError):
        storage.get("a/b.txt")
    storage.put("a/b.txt", b"one")
    first = storage.stamp("a/b.txt")
    assert (storage.get("a/b.txt"), storage.size("a/b.txt"), storage.exists("a/b.txt")) == (b"one", 3, True)
    time.sleep(0.01)
    storage.put_whole("a/b.txt", b"other")
    assert storage.get("a/b.txt") == b"other"
    assert storage.stamp("a/b.txt") != first
    storage.delete("a/b.txt")
    storage.delete("a/b.txt")
    assert not storage.exists("a/b.txt")


def test_a_put_takes_the_place_of_nothing_or_of_one_certain_object(place: Place) -> None:
    address, options = place
    if isinstance(address, Path):
        pytest.skip("on a disk there are locks")
    store, key = open_store(address.root, options), address.key("one")
    first = create(store, key, b"first")
    assert first is not None
    assert create(store, key, b"other") is None
    second = replace(store, key, b"second", first)
    assert second is not None
    assert replace(store, key, b"third", first) is None
    assert replace(store, address.key("none"), b"x", first) is None
    storage = storage_of(*place)
    assert storage.get("one") == b"second"
    assert not storage.exists("none")


def test_what_lies_right_below_a_directory_is_listed(storage: Storage) -> None:
    assert [*storage.list("a"), *storage.names("a"), *storage.directories("a")] == []
    for name in ("a/1", "a/2", "a/c/3", "a/folder=x%2F ü/4", "ab/5"):
        storage.put(name, b"xy")
    listed = sorted(storage.list("a"), key=lambda file: file.path)
    assert [(file.path, file.size_bytes) for file in listed] == [("a/1", 2), ("a/2", 2)]
    assert all(-5 < file.age_seconds < 60 for file in listed)
    assert set(storage.names("a")) >= {"1", "2"}
    assert set(storage.names("a", "1")) >= {"2"}
    assert sorted(storage.directories("a")) == ["c", "folder=x%2F ü"]
    assert sorted(storage.directories("")) == ["a", "ab"]


@pytest.mark.parametrize("number", [10, 3_000_000], ids=["small", "of many parts"])
def test_a_file_is_written_from_its_beginning_to_its_end_and_read_in_parts(storage: Storage, number: int) -> None:
    wanted = pa.table({"a": pa.array(range(number)), "b": pa.array([str(i % 7) for i in range(number)])})
    with storage.output("folder=x/1.parquet") as out:
        pq.write_table(wanted, out, compression="none", use_dictionary=False, row_group_size=500_000)
        size = out.tell()
    assert storage.size("folder=x/1.parquet") == size
    with storage.parquet("folder=x/1.parquet", verify=True) as file:
        assert file.metadata.num_rows == number
        assert file.read(["a"])["a"].equals(wanted["a"])
        assert file.read_row_group(0, ["b"])["b"].equals(wanted["b"][:500_000])
    storage.put("folder=x/2.parquet", b"no Parquet")
    with pytest.raises(pa.ArrowException):
        storage.parquet("folder=x/2.parquet")
    with pytest.raises(OSError, match=r"(no such|No such)"):
        storage.parquet("folder=x/3.parquet")


def test_a_table_is_written_read_and_changed(table: LakeTable) -> None:
    for folder in ("maize", "rye/plot 1", "x=1 ü%20"):
        add(table, folder, ["1.jpg", "2.jpg"])
    add(table, "maize", ["3.jpg"], remove=lambda base: base.files("maize"))
    wanted = [("maize", "maize/3.jpg"), *((f, f"{f}/{n}.jpg") for f in ("rye/plot 1", "x=1 ü%20") for n in (1, 2))]
    assert rows(table) == wanted
    assert rows(LakeTable(table.path, DIRECTORY, table.options)) == wanted
    assert table.newest_version() == table.latest().version == 4
    assert len(table.commit_times()) == 5
    assert table.snapshot(1).rows() == 2
    assert table.vacuum(0)
    assert rows(table) == wanted
    vacuumed = table.snapshot(1)
    assert len(vacuumed.read(["relative_path"])) == 0
    assert len(vacuumed.broken()) == 1


def test_of_two_plans_on_one_folder_the_second_is_refused(table: LakeTable, place: Place) -> None:
    add(table, "maize", ["1.jpg"])
    base = table.latest()
    with table.writer("maize") as writer, writer.file() as stage:
        for batch in base.reader.batches(base.files("maize"), 64):
            stage.write(batch)
        LakeTable(place[0], DIRECTORY, place[1]).replace("maize", base, add=[], remove=base.files("maize"))
        stage.close()
        with pytest.raises(PartitionChangedError):
            table.replace("maize", base, add=stage.files, remove=base.files("maize"))
    assert rows(table) == []


def test_eight_writers_of_many_folders_all_land(table: LakeTable, place: Place) -> None:
    if getattr(place[0], "scheme", "") == "gs":
        pytest.skip("the server is that of s3")

    def write(number: int) -> None:
        add(LakeTable(place[0], DIRECTORY, place[1]), f"field {number}", ["a.jpg", "b.jpg"])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert rows(table) == sorted((f"field {n}", f"field {n}/{name}.jpg") for n in range(8) for name in "ab")
    assert table.newest_version() == 8
