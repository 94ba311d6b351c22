"""Copies of folders in a bucket: what each of several machines sees, and what of their changes stands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from curation_assets.errors import CurationError
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.mirror import LEAD, Mirror
from curation_assets.stores.options import StorageOptions
from curation_assets_tests.stores.s3_server import S3, Fault

Machines = Callable[..., Mirror]


@pytest.fixture
def machine(s3: S3, tmp_path: Path) -> Machines:
    """Makes a machine's copies, by its name."""

    def made(name: str, most_bytes: int = 10**9) -> Mirror:
        address = StoreAddress.parse(f"s3://{s3.bucket}/lake_index/of")
        return Mirror(address, StorageOptions.parse(s3.options), tmp_path / name, most_bytes)

    return made


def write(mirror: Mirror, files: dict[str, str], name: str = "index") -> None:
    for path, text in files.items():
        target = mirror.folder / name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def read(mirror: Mirror, name: str = "index") -> dict[str, str]:
    mirror.bring(name, now=True)
    folder = mirror.folder / name
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name[0] not in "._")
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


FIRST = {LEAD: "one", "one.npy": "vectors", "neighbours/current.json": "graph", "neighbours/graph.arrow": "edges"}


def test_what_one_machine_writes_another_reads(machine: Machines) -> None:
    one, other = machine("one"), machine("other")
    write(one, FIRST | {"_writer.lock": "", ".draft": "half"})
    assert read(one) == FIRST
    assert read(other) == FIRST
    write(one, {LEAD: "two", "two.npy": "more"})
    for path in set((one.folder / "index").iterdir()) - {one.folder / "index" / name for name in (LEAD, "two.npy")}:
        shutil.rmtree(path) if path.is_dir() else path.unlink()  # as an index does with what it doesn't name
    assert read(one) == read(other)
    assert "one.npy" not in read(other)
    assert read(other)[LEAD] == "two"


def test_nothing_is_fetched_or_put_twice(machine: Machines, s3: S3) -> None:
    one, other = machine("one"), machine("other")
    write(one, FIRST)
    read(one)
    read(other)
    s3.forget()
    assert read(one) == read(other) == FIRST
    assert not s3.of("GET")
    assert not s3.of("PUT")
    one.bring("index")
    one.bring("index")
    assert sum(s3.of("LIST").values()) == 2, "a store is not asked again within seconds"


def test_of_two_that_write_at_once_the_first_one_stands(machine: Machines) -> None:
    one, other = machine("one"), machine("other")
    write(one, FIRST)
    assert read(one) == read(other)
    write(one, {LEAD: "of one", "of one.npy": "1"})
    write(other, {LEAD: "of other", "of other.npy": "2"})
    assert read(one)[LEAD] == "of one"
    assert read(other)[LEAD] == "of one"
    assert read(other)["of one.npy"] == "1"


def test_what_a_killed_process_did_not_bring_is_brought_by_the_next(machine: Machines) -> None:
    write(machine("one"), FIRST)
    read(machine("one"))
    write(machine("one"), {LEAD: "two", "two.npy": "more"})  # and it was killed here
    assert read(machine("one"))[LEAD] == "two"
    assert read(machine("other"))[LEAD] == "two"


@pytest.mark.parametrize("fetched", [["two.npy"], ["two.npy", LEAD]])
def test_a_fetch_that_was_killed_is_gone_on_with(machine: Machines, fetched: list[str]) -> None:
    one, other = machine("one"), machine("other")
    write(one, FIRST)
    assert read(one) == read(other)
    write(one, {LEAD: "two", "two.npy": "more"})
    wanted = read(one)
    write(other, {path: wanted[path] for path in fetched})  # and no note says so
    assert read(other) == wanted == read(one)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_put_whose_answer_is_lost_is_ones_own(machine: Machines, s3: S3, lost: int) -> None:
    one = machine("one")
    write(one, FIRST)
    s3.fail(Fault("PUT", f"of/index/{LEAD}$", status=503, landed=True, times=lost))
    assert read(one) == FIRST
    s3.fail()
    write(one, {LEAD: "two"})
    assert read(one)[LEAD] == read(machine("other"))[LEAD] == "two"


def test_copies_that_were_not_used_for_longest_make_room(machine: Machines) -> None:
    one = machine("one", most_bytes=25)
    for age, name in enumerate(("a", "b", "c")):
        write(one, {LEAD: "0123456789"}, name)
        read(one, name)
        note = one.folder / ".mirrored" / f"{name}.json"
        os.utime(note, (age, age)) if note.exists() else None
    assert sorted(path.name for path in one.folder.iterdir()) == [".mirrored", "b", "c"]
    assert read(one, "a") == {LEAD: "0123456789"}, "it is fetched again"


def test_a_folder_that_is_deleted_goes_from_every_machine(machine: Machines) -> None:
    one, other = machine("one"), machine("other")
    write(one, FIRST)
    assert read(one) == read(other)
    assert one.names() == ["index"]
    assert one.size("index") == sum(map(len, FIRST.values()))
    one.delete("index")
    assert one.names() == []
    assert read(other) == {}


def test_a_store_that_refuses_is_one_line(machine: Machines, s3: S3) -> None:
    s3.fail(Fault(status=403))
    with pytest.raises(CurationError, match="lake_index/of/index") as refused:
        machine("one").bring("index")
    assert "\n" not in str(refused.value)
