"""Lock, plan, stage, commit, and plan anew: on one partition, on several, and on tables without any."""

from __future__ import annotations

from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from deltalake import DeltaTable

from curation_assets.errors import CurationError
from curation_assets.lake import rewrite as rewriting
from curation_assets.lake.hive import WHOLE
from curation_assets.lake.rewrite import Rewrite, groups, rewrite
from curation_assets.lake.schemas import DIRECTORY
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.staging import StagedFile
from curation_assets.lake.table import LakeTable, PartitionChangedError
from curation_assets.progress import LogProgress
from curation_assets_tests.lake.test_table import add, batch, rows
from curation_assets_tests.processes import FORKED

WITHOUT = replace(DIRECTORY, partition_column=None)
BY_CAMERA = replace(DIRECTORY, partition_column="camera")


class Notes(LogProgress):
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    table = LakeTable(tmp_path / "lake" / "table", DIRECTORY)
    table.create()
    return table


def appended(names: list[str]) -> object:
    """Work that adds a file of rows to each partition."""

    def work(change: Rewrite) -> Snapshot:
        staged = []
        for partition, writer in change.writers.items():
            with writer.file() as stage:
                stage.write(batch(DIRECTORY, partition, names))
            staged += stage.files
        change.commit(staged, [])
        return change.base

    return work


def markers(table: LakeTable) -> list[Path]:
    return list((table.path / "_writers").rglob("*.parquet"))


def test_several_partitions_change_in_one_version(table: LakeTable) -> None:
    add(table, "a", ["old"])
    add(table, "c", ["other"])

    def work(change: Rewrite) -> None:
        with change.writers["b"].file() as stage:
            stage.write(batch(DIRECTORY, "b", ["moved"]))
        change.commit(stage.files, change.base.files("a"))

    rewrite(table, ["b", "a"], work, info={"job": "move"})
    assert table.snapshot().version == 3
    assert rows(table) == [("b", "b/moved"), ("c", "c/other")]
    assert DeltaTable(str(table.path)).history(1)[0]["job"] == "move"


def test_a_file_of_a_partition_that_was_not_asked_for_is_refused(table: LakeTable) -> None:
    with table.writer("b") as writer:
        with writer.file() as stage:
            stage.write(batch(DIRECTORY, "b", ["1"]))
        with pytest.raises(ValueError, match="'b'"):
            table.replace("a", table.snapshot(), add=stage.files, remove=[])
    assert table.snapshot().version == 0


def test_work_is_planned_anew_when_somebody_was_faster_and_leaves_nothing_behind(table: LakeTable) -> None:
    tries: list[int] = []
    progress = Notes()

    def work(change: Rewrite) -> Snapshot:
        tries.append(change.base.rows("a"))
        with change.writer.file() as stage:
            stage.write(batch(DIRECTORY, "a", [f"ours {len(tries)}"]))
        if len(tries) == 1:  # one who doesn't ask for the lock
            DeltaTable(str(table.path)).delete("folder = 'a'")
        change.commit(stage.files, [])
        return change.base

    add(table, "a", ["theirs"])
    made = rewrite(table, "a", work, info={}, progress=progress)
    assert tries == [1, 0]
    assert rows(table) == [("a", "a/ours 2")]
    assert made.version == table.snapshot().version
    assert progress.notes == ["a: another process changed the table; planning anew"]
    assert markers(table) == []
    assert {str(path.relative_to(table.path)) for path in table.path.glob("folder=a/*")} >= {
        file.path for file in table.snapshot().files()
    }


def test_what_a_first_try_committed_is_in_the_base_of_the_second(table: LakeTable) -> None:
    bases: list[list[tuple[str, str]]] = []

    def work(change: Rewrite) -> None:
        bases.append(sorted(change.base.read(["folder", "relative_path"]).drop("_file").iter_rows()))
        for name in ("one", "two"):
            if ("a", f"a/{name}") in bases[-1]:
                continue
            with change.writer.file() as stage:
                stage.write(batch(DIRECTORY, "a", [name]))
            if name == "two" and len(bases) == 1:
                other = LakeTable(table.path, DIRECTORY)
                other.replace("a", other.snapshot(), add=[], remove=[], info={})
                DeltaTable(str(table.path)).update(updates={"camera": "'x'"}, predicate="folder = 'a'")
            change.commit(stage.files, [])
        commits.append(change.commits)

    commits: list[int] = []
    rewrite(table, "a", work, info={})
    assert commits == [1]
    assert bases == [[], [("a", "a/one")]]
    assert rows(table) == [("a", "a/one"), ("a", "a/two")]


def test_a_work_that_fails_gives_back_every_right(table: LakeTable) -> None:
    def fail(change: Rewrite) -> None:
        with change.writers["a"].file() as stage:
            stage.write(batch(DIRECTORY, "a", ["1"]))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        rewrite(table, ["a", "b"], fail, info={})
    assert markers(table) == []
    for partition in ("a", "b"):
        with table.writer(partition, pytest.fail):
            pass


def _change_both(path: Path, order: list[str], together: Barrier) -> None:
    table = LakeTable(path, DIRECTORY)
    together.wait(60)
    for number in range(6):
        rewrite(table, order, appended([f"{order[0]}{number}"]), info={})  # type: ignore[arg-type]


def test_two_who_want_the_same_partitions_in_another_order_do_not_wait_for_ever(table: LakeTable) -> None:
    together = FORKED.Barrier(2)
    processes = [
        FORKED.Process(target=_change_both, args=(table.path, order, together)) for order in (["a", "b"], ["b", "a"])
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)
    assert [process.exitcode for process in processes] == [0, 0]
    assert table.snapshot().version == 12
    assert len(rows(table)) == 24


def test_a_table_without_partitions_is_one(tmp_path: Path) -> None:
    table = LakeTable(tmp_path / "decisions", WITHOUT)
    table.create()
    assert DeltaTable(str(table.path)).metadata().partition_columns == []

    def add_row(name: str) -> object:
        def work(change: Rewrite) -> None:
            with change.writer.file() as stage:
                rows_of = batch(WITHOUT, "x", [name])
                stage.write(rows_of)
            change.commit(stage.files, change.base.files() if name == "last" else [])

        return work

    for name in ("first", "second"):
        rewrite(table, WHOLE, add_row(name), info={})  # type: ignore[arg-type]
    snapshot = table.snapshot()
    assert sorted(snapshot.read(["relative_path", "folder"]).drop("_file").iter_rows()) == [
        ("x/first", None), ("x/second", None)
    ]  # fmt: skip
    assert snapshot.partitions == [WHOLE]
    assert all("/" not in file.path for file in snapshot.files())
    rewrite(table, WHOLE, add_row("last"), info={})  # type: ignore[arg-type]
    assert table.snapshot().read(["relative_path"])["relative_path"].to_list() == ["x/last"]
    assert DeltaTable(str(table.path)).to_pyarrow_table(columns=["relative_path"]).num_rows == 1


def test_a_table_may_be_partitioned_by_another_column(tmp_path: Path) -> None:
    table = LakeTable(tmp_path / "by camera", BY_CAMERA)
    table.create()

    def work(change: Rewrite) -> None:
        with change.writer.file() as stage:
            stage.write(batch(BY_CAMERA, "a", ["1"]))
        change.commit(stage.files, [])

    rewrite(table, "SONY α/7", work, info={})
    found = table.snapshot().read(["relative_path", "camera", "folder"]).drop("_file").rows()
    assert found == [("a/1", "SONY α/7", None)]
    assert DeltaTable(str(table.path)).to_pyarrow_table(columns=["camera"])["camera"].to_pylist() == ["SONY α/7"]


def test_a_plan_for_two_partitions_is_refused_when_either_changed(table: LakeTable) -> None:
    old = table.snapshot()
    add(table, "b", ["1"])
    with table.writer("a") as writer:
        with writer.file() as stage:
            stage.write(batch(DIRECTORY, "a", ["2"]))
        with pytest.raises(PartitionChangedError):
            table.replace(["a", "b"], old, add=stage.files, remove=[])
        table.replace(["a"], old, add=stage.files, remove=[])
    assert rows(table) == [("a", "a/2"), ("b", "b/1")]


def test_changes_that_wait_for_each_other_are_one_version_and_can_be_read_before_it(table: LakeTable) -> None:
    add(table, "a", ["old"])
    seen: list[list[tuple[str, str]]] = []

    def work(change: Rewrite) -> None:
        for partition in ("a", "b"):
            with change.writers[partition].file() as stage:
                stage.write(batch(DIRECTORY, partition, ["new"]))
            change.commit(stage.files, change.base.files(partition))
            seen.append(sorted(change.base.read(["folder", "relative_path"]).drop("_file").iter_rows()))
            assert table.snapshot().version == 1, "nothing is committed yet"

    made = rewrite(table, ["a", "b"], work, info={}, together=True)
    assert seen == [[("a", "a/new")], [("a", "a/new"), ("b", "b/new")]]
    assert (made.version, table.snapshot().version) == (2, 2)
    assert rows(table) == [("a", "a/new"), ("b", "b/new")]
    assert markers(table) == []


def test_a_file_that_comes_and_goes_while_it_waits_is_never_committed(table: LakeTable) -> None:
    def work(change: Rewrite) -> None:
        for name in ("one", "two"):
            with change.writers["a"].file() as stage:
                stage.write(batch(DIRECTORY, "a", [name]))
            change.commit(stage.files, change.base.files("a"))

    rewrite(table, ["a", "b"], work, info={}, together=True)
    assert rows(table) == [("a", "a/two")]
    assert table.snapshot().version == 1
    assert len(list(table.path.glob("folder=a/*.parquet"))) == 1
    assert markers(table) == []


@pytest.mark.parametrize("end", [RuntimeError, KeyboardInterrupt, CurationError])
def test_what_is_finished_is_committed_whatever_ends_the_rest(table: LakeTable, end: type[BaseException]) -> None:
    def work(change: Rewrite) -> None:
        with change.writers["a"].file() as stage:
            stage.write(batch(DIRECTORY, "a", ["1"]))
        change.commit(stage.files, [])
        raise end("the second one fails")

    with pytest.raises(end):
        rewrite(table, ["a", "b"], work, info={}, together=True)
    assert rows(table) == [("a", "a/1")]
    assert markers(table) == []


def test_when_somebody_was_faster_all_that_waits_is_planned_anew(table: LakeTable) -> None:
    tries: list[int] = []

    def work(change: Rewrite) -> None:
        tries.append(change.base.rows("b"))
        for partition in ("a", "b"):
            with change.writers[partition].file() as stage:
                stage.write(batch(DIRECTORY, partition, [f"{len(tries)}"]))
            change.commit(stage.files, change.base.files(partition))
        if len(tries) == 1:
            DeltaTable(str(table.path)).delete("folder = 'b'")

    add(table, "b", ["theirs"])
    rewrite(table, ["a", "b"], work, info={}, together=True, progress=Notes())
    assert tries == [1, 0]
    assert rows(table) == [("a", "a/2"), ("b", "b/2")]
    assert markers(table) == []


def test_what_waits_is_committed_when_it_is_much(table: LakeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewriting, "TOGETHER_BYTES", 1)
    partitions = ["a", "b", "c"]

    def work(change: Rewrite) -> None:
        for partition in partitions:
            with change.writers[partition].file() as stage:
                stage.write(batch(DIRECTORY, partition, ["1"]))
            change.commit(stage.files, [])

    rewrite(table, partitions, work, info={}, together=True)
    assert table.snapshot().version == 3


def test_groups_hold_many_small_partitions_or_one_large() -> None:
    names = [f"{number:03}" for number in range(130)]
    assert [len(group) for group in groups(names, {})] == [64, 64, 2]
    sizes = {"a": 1, "big": 10**9, "b": 1, "c": 1}
    assert list(groups(["a", "big", "b", "c"], sizes)) == [["a"], ["big"], ["b", "c"]]
    assert list(groups([], {})) == []


def staged_everywhere(change: Rewrite, *partitions: str) -> list[StagedFile]:
    staged = []
    for partition in partitions:
        with change.writer.of(partition).file() as stage:
            stage.write(batch(DIRECTORY, partition, ["new"]))
        staged += stage.files
    return staged


def test_one_right_changes_any_partitions_in_one_version_and_plans_anew(table: LakeTable) -> None:
    add(table, "a", ["old"])
    add(table, "c", ["other"])
    tries: list[int] = []
    progress = Notes()

    def work(change: Rewrite) -> None:
        tries.append(change.base.rows("c"))
        staged = staged_everywhere(change, "x=1", "b/ü%20")
        if len(tries) == 1:
            add(table, "c", ["meanwhile"])  # by who asks for that folder's right alone
        change.commit(staged, change.base.files("a"))

    made = rewrite(table, WHOLE, work, info={}, progress=progress)
    assert tries == [1, 2], "planned on all folders, also those that it leaves as they are"
    assert rows(table) == [("b/ü%20", "b/ü%20/new"), ("c", "c/meanwhile"), ("c", "c/other"), ("x=1", "x=1/new")]
    assert made.version == 4
    assert progress.notes == ["table: another process changed the table; planning anew"]
    assert markers(table) == []
    assert len(list(table.path.glob("folder=*/*.parquet"))) == 1 + 2 + 2, "what was staged in vain is gone"


def test_what_is_left_of_such_a_writer_is_swept_and_what_it_committed_stays(table: LakeTable) -> None:
    kept: list[StagedFile] = []

    def work(change: Rewrite) -> None:
        kept.extend(staged_everywhere(change, "a", "b"))
        change.commit(kept, [])

    rewrite(table, WHOLE, work, info={})
    for file in kept:  # as if it had died between the commit and taking the markers away
        (table.path / file.marker).write_text(file.path)
    with table.writer() as writer:
        assert markers(table) == []
        with writer.of("a").file() as stage:
            stage.write(batch(DIRECTORY, "a", ["lost"]))
        assert len(markers(table)) == 1
    assert markers(table) == []
    assert rows(table) == [("a", "a/new"), ("b", "b/new")]
    assert {str(path.relative_to(table.path)) for path in table.path.glob("folder=*/*")} == {f.path for f in kept}
