"""kill -9 at seeded random moments, and two processes at once: nothing is lost, doubled or left behind."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psutil
import pytest

from curation_assets.annotations.record import read_rows as read_annotations
from curation_assets.decisions.record import read_rows
from curation_assets.ingest import run
from curation_assets.lake.table import LakeTable
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.kill_driver import Job, drive
from curation_assets_tests.processes import FORKED, Begun

pytestmark = pytest.mark.slow

KILLS = 5


class Driver:
    """A process with everything imported, that begins when told to."""

    def __init__(self, job: Job) -> None:
        self._connection, other = FORKED.Pipe()
        self._process = FORKED.Process(target=drive, args=(job, other), daemon=True)
        self._process.start()
        other.close()

    def go(self) -> None:
        assert self._connection.recv() == "ready"
        self._connection.send("go")

    def finish(self) -> dict[str, int]:
        result: dict[str, int] = self._connection.recv()
        self._assert_ends_well()
        return result

    def seconds(self) -> float:
        """How long it takes from now until it is done; its exit doesn't count."""
        began = time.monotonic()
        self._connection.recv()
        took = time.monotonic() - began
        self._assert_ends_well()
        return took

    def kill_after(self, seconds: float) -> bool:
        """Whether it was still at work when it was killed."""
        time.sleep(seconds)
        self._process.kill()
        self._process.join()
        try:
            said = self._connection.recv()
        except EOFError:
            said = None
        return said is None and self._process.exitcode == -signal.SIGKILL

    def kill_when(self, something: Callable[[], bool]) -> None:
        while self._process.is_alive() and not something():
            time.sleep(0.002)
        self.kill_after(0)

    def _assert_ends_well(self) -> None:
        self._process.join(60)
        assert self._process.exitcode == 0


class Tree:
    """Images that change between one attempt and the next, and every content each of them has had."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root, self._rng = root, rng
        self.history: set[tuple[str, str]] = set()
        for folder in ("a", "b/c d"):
            (root / folder).mkdir(parents=True)
            for index in range(12):
                self._write(f"{folder}/{index:03}.jpg")

    def change(self) -> None:
        """New, changed and vanished files in both folders."""
        for folder in ("a", "b/c d"):
            there = sorted(path for path in self.now() if path.startswith(f"{folder}/"))
            for path in self._rng.sample(there, 4):
                self._write(path)
            (self.root / self._rng.choice(there)).unlink()
            for _ in range(2):
                self._write(f"{folder}/{self._rng.randrange(100, 1000)}.jpg")

    def now(self) -> dict[str, str]:
        """Relative path and SHA-256 of every file on disk."""
        files = [path for path in self.root.rglob("*") if path.is_file()]
        return {str(p.relative_to(self.root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    def _write(self, path: str) -> None:
        data = jpeg(self._rng.randrange(10**9), (32, 24))
        (self.root / path).write_bytes(data)
        self.history.add((path, hashlib.sha256(data).hexdigest()))


FOLDERS = ["a", "b/c d"]


@pytest.fixture
def tree(images: Path) -> Tree:
    return Tree(images, random.Random(11))


@pytest.fixture
def start(pipeline: Pipeline) -> Callable[..., Driver]:
    """Start a driver on the tables and images of ``pipeline``."""

    def call(kind: str, folders: list[str] = FOLDERS, slow: float = 0.04) -> Driver:
        return Driver(Job(kind, folders, slow, pipeline.settings.images_root, pipeline.settings.lake_root))

    return call


def rows(table: LakeTable) -> list[tuple[str, str]]:
    """Relative path and content of every row."""
    if not table.exists():
        return []
    found = table.snapshot().read(["relative_path", "content_sha256"])
    return list(found.select("relative_path", "content_sha256").iter_rows())


def assert_sound(table: LakeTable, tree: Tree) -> None:
    """What holds at every moment: each image once, with a content that it really had."""
    found = rows(table)
    keys = [path for path, _ in found]
    assert len(keys) == len(set(keys))
    assert set(found) <= tree.history


def assert_complete(table: LakeTable, tree: Tree) -> None:
    assert sorted(rows(table)) == sorted(tree.now().items())


def leftovers(table: LakeTable) -> list[str]:
    """Markers, and Parquet files that no version of the log names."""
    named = set()
    for log in (table.path / "_delta_log").glob("*.json"):
        actions = [json.loads(line) for line in log.read_text().splitlines()]
        named |= {unquote(action["add"]["path"]) for action in actions if "add" in action}
    on_disk = {str(path.relative_to(table.path)) for path in table.path.glob("folder=*/*")}
    markers = {str(path.relative_to(table.path)) for path in table.path.glob("_writers/*/*.parquet")}
    return sorted(on_disk - named | markers)


def kill_again_and_again(
    table: LakeTable, tree: Tree, start: Callable[[], Driver], prepare: Callable[[], Any], seed: int
) -> None:
    """Kill drivers at work, ``KILLS`` of them at moments spread over what one takes; look at the table after each.

    The last one is killed with a file staged, so that there is something to sweep.
    """
    rng = random.Random(seed)
    prepare()
    driver = start()
    driver.go()
    takes = driver.seconds()
    assert_complete(table, tree)
    killed, driver = 0, start()
    while killed < KILLS or not leftovers(table):
        prepare()
        driver.go()
        upcoming = start()  # its imports go on while the other works
        if killed < KILLS:
            killed += driver.kill_after(rng.uniform(0, takes))
        else:
            driver.kill_when(lambda: leftovers(table) != [])
        assert_sound(table, tree)
        driver = upcoming
    driver.kill_after(0)


def test_a_scan_killed_at_any_moment_leaves_a_sound_table_and_a_rerun_completes_it(
    pipeline: Pipeline, tree: Tree, start: Callable[..., Driver]
) -> None:
    table = pipeline.tables.directory
    kill_again_and_again(table, tree, lambda: start("scan"), tree.change, seed=1)
    pipeline.scan(FOLDERS, LogProgress())
    assert_complete(table, tree)
    assert leftovers(table) == []
    version = table.snapshot().version
    pipeline.scan(FOLDERS, LogProgress())
    assert table.snapshot().version == version


def test_an_embedding_killed_at_any_moment_leaves_a_sound_table_and_a_rerun_completes_it(
    pipeline: Pipeline, tree: Tree, start: Callable[..., Driver]
) -> None:
    def prepare() -> None:
        tree.change()
        pipeline.scan(FOLDERS, LogProgress())

    table = pipeline.tables.embeddings
    kill_again_and_again(table, tree, lambda: start("embed"), prepare, seed=2)
    driver = start("embed")
    driver.go()
    driver.finish()
    assert_complete(table, tree)
    assert leftovers(table) == []
    driver = start("embed")
    driver.go()
    assert driver.finish() == {"done": 0, "commits": 0}


def test_measuring_killed_at_any_moment_leaves_a_sound_table_and_a_rerun_completes_it(
    pipeline: Pipeline, tree: Tree, start: Callable[..., Driver]
) -> None:
    def prepare() -> None:
        tree.change()
        pipeline.scan(FOLDERS, LogProgress())

    table = pipeline.tables.quality
    kill_again_and_again(table, tree, lambda: start("quality"), prepare, seed=3)
    pipeline.measure(FOLDERS, LogProgress())
    assert_complete(table, tree)
    assert leftovers(table) == []
    driver = start("quality")
    driver.go()
    assert driver.finish() == {"done": 0, "commits": 0}


def test_deciding_killed_at_any_moment_leaves_whole_batches_and_a_table_that_goes_on(
    pipeline: Pipeline, images: Path, start: Callable[..., Driver]
) -> None:
    def batches() -> dict[str, int]:
        reasons = read_rows(table)["reason"]
        return dict(reasons.value_counts().iter_rows())

    table, rng, kept = pipeline.tables.decisions, random.Random(5), {}
    for _ in range(KILLS // 2):
        driver = start("decide")
        driver.go()
        assert driver.kill_after(rng.uniform(0, 1.5))
        now = batches()
        assert set(now.values()) <= {3}, "a batch lands as a whole or not at all"
        assert now.items() >= kept.items(), "what landed stays"
        kept = now
    assert kept
    both(start("decide", slow=0.0), start("decide", slow=0.0))
    assert len(batches()) == len(kept) + 40, "both writers' batches landed"
    assert set(batches().values()) == {3}
    named = {file.path for file in table.snapshot().files()}
    unnamed = [str(path.relative_to(table.path)) for path in table.path.glob("_writers/*/*.parquet")]
    assert named
    assert unnamed == []


def test_annotating_killed_at_any_moment_leaves_one_import_whole_over_all_folders(
    pipeline: Pipeline, tree: Tree, start: Callable[..., Driver]
) -> None:
    def said() -> set[str]:
        rows = read_annotations(table)
        assert len(rows) in (0, len(tree.now()))
        return set(rows["values"].explode())

    table, rng, seen = pipeline.tables.annotations, random.Random(6), set()
    pipeline.tables.directory.create()
    pipeline.scan(FOLDERS, LogProgress())
    for _ in range(KILLS // 2):
        driver = start("annotate")
        driver.go()
        assert driver.kill_after(rng.uniform(0.2, 2.0))
        now = said()
        assert len(now) <= 1, "one import's rows, in every folder"
        seen |= now
    assert len(seen) > 1
    both(start("annotate", slow=0.0), start("annotate", slow=0.0))
    assert len(said()) == 1
    assert leftovers(table) == []
    named = {file.path for file in table.snapshot().files()}
    lying = {str(path.relative_to(table.path)) for path in table.path.glob("folder=*/*.parquet")}
    assert named <= lying


def both(*drivers: Driver) -> list[dict[str, int]]:
    for driver in drivers:
        driver.go()
    return [driver.finish() for driver in drivers]


def test_two_scans_of_different_folders_at_once_lose_and_double_nothing(
    pipeline: Pipeline, tree: Tree, start: Callable[..., Driver]
) -> None:
    """The table doesn't exist yet either: both want to create it."""
    said = both(start("scan", ["a"], 0.01), start("scan", ["b/c d"], 0.01))
    assert [result["done"] for result in said] == [12, 12]
    assert all(result["commits"] > 1 for result in said)
    assert_complete(pipeline.tables.directory, tree)
    assert leftovers(pipeline.tables.directory) == []


def test_two_scans_of_the_same_folder_at_once_read_each_file_once(
    pipeline: Pipeline, tree: Tree, start: Callable[..., Driver]
) -> None:
    said = both(start("scan"), start("scan"))
    assert sum(result["done"] for result in said) == 24
    assert_complete(pipeline.tables.directory, tree)
    assert leftovers(pipeline.tables.directory) == []


@pytest.mark.parametrize("folders", [(["a"], ["b/c d"]), (FOLDERS, FOLDERS)], ids=["different", "same"])
def test_two_embeddings_at_once_encode_each_image_once(
    folders: tuple[list[str], list[str]], pipeline: Pipeline, tree: Tree, start: Callable[..., Driver]
) -> None:
    pipeline.scan(FOLDERS, LogProgress())
    said = both(*(start("embed", each) for each in folders))
    assert sum(result["done"] for result in said) == 24
    assert_complete(pipeline.tables.embeddings, tree)
    assert leftovers(pipeline.tables.embeddings) == []


def test_a_scan_and_an_embedding_of_the_same_folder_at_once_leave_both_tables_sound(
    pipeline: Pipeline, tree: Tree, start: Callable[..., Driver]
) -> None:
    pipeline.scan(FOLDERS, LogProgress())
    tree.change()
    both(start("embed"), start("scan"))
    assert_complete(pipeline.tables.directory, tree)
    assert_sound(pipeline.tables.embeddings, tree)
    driver = start("embed")
    driver.go()
    driver.finish()
    assert_complete(pipeline.tables.embeddings, tree)


def test_a_process_waits_for_the_one_that_writes_the_folder_and_takes_over_when_that_is_killed(
    pipeline: Pipeline, tree: Tree, start: Callable[..., Driver]
) -> None:
    first, second = start("scan", ["a"], 0.2), start("scan", ["a"], 0.0)
    first.go()
    deadline = time.monotonic() + 30
    while not list(pipeline.tables.directory.path.glob("_writers/*/*.parquet")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    second.go()
    assert first.kill_after(0.5)
    second.finish()
    assert sorted(path for path, _ in rows(pipeline.tables.directory)) == sorted(
        p for p in tree.now() if p.startswith("a/")
    )
    assert leftovers(pipeline.tables.directory) == []


@pytest.mark.parametrize("left", ["*.unit", "*.parquet"], ids=["before its tasks", "while they write"])
def test_a_spark_driver_that_is_killed_commits_nothing_leaves_no_process_and_a_rerun_completes_it(
    left: str, ready: Pipeline, tree: Tree
) -> None:
    settings = ready.settings
    ready.scan(FOLDERS, LogProgress())
    ready.tables.embeddings.create()
    environment = {
        "CURATION_IMAGES_ROOT": str(settings.images_root),
        "CURATION_LAKE_ROOT": str(settings.lake_root),
        "CURATION_MODEL_SOURCE": "demo",
        "CURATION_ENGINE": "spark",
        "CURATION_SPARK_MASTER": "local[2,4]",
    }
    code, silent = "from curation_assets.cli import main; main()", Path(os.devnull)
    driver = Begun(code, "run", env=os.environ | environment, stderr=silent)
    while not list((ready.tables.embeddings.path / "_writers").glob(f"*/{left}")):
        assert driver.poll() is None
        time.sleep(0.002)
    started = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive
    assert rows(ready.tables.embeddings) == []
    run(ready, LogProgress(), curate=False)
    assert_complete(ready.tables.embeddings, tree)
    assert leftovers(ready.tables.embeddings) == []
    assert not list((ready.tables.embeddings.path / "_writers").glob("*/*.unit"))
