from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from polars.testing import assert_frame_equal

from curation_assets.errors import CurationError
from curation_assets.images import source
from curation_assets.images.listing import FolderListing, ListedFile, list_folder, list_folders
from curation_assets.images.names import file_path, path_from_text
from curation_assets.images.record import ImageRecord, ReadLimits
from curation_assets.images.source import LocalTree
from curation_assets.lake import layout
from curation_assets.lake.schemas import DIRECTORY
from curation_assets.lake.table import LakeTable
from curation_assets.progress import LogProgress, Progress
from curation_assets.scan import job, plan
from curation_assets.scan import rows as scan_rows
from curation_assets.scan.job import scan_folder
from curation_assets.scan.result import ScanResult
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.images.test_decode import encoded, four_corners, png_header
from curation_assets_tests.images.test_names import NAMES
from curation_assets_tests.processes import FORKED

FOLDER = "maize"


@dataclass
class Scanned:
    """An images root with its table, and the names of the files that were opened since last asked."""

    root: Path
    table: LakeTable
    opened: list[str] = field(default_factory=list)

    def scan(
        self,
        folder: str = FOLDER,
        *,
        listing: FolderListing | None = None,
        progress: Progress | None = None,
        rescan: bool = False,
        **limits: Any,
    ) -> ScanResult:
        reported = progress or LogProgress()
        with pytest.MonkeyPatch.context() as patch:
            if listing is not None:  # as if the folder changed right after it was listed
                patch.setattr(LocalTree, "list_folder", lambda *_: listing)
            tree = LocalTree(self.root)
            return scan_folder(self.table, tree, folder, ReadLimits(**limits), reported, threads=2, rescan=rescan)

    def listing(self, folder: str = FOLDER) -> FolderListing:
        return list_folder(self.root, folder)

    def write(self, name: str, data: bytes) -> Path:
        path = self.root / FOLDER / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    def rows(self, *columns: str) -> pl.DataFrame:
        names = columns or tuple(column.name for column in DIRECTORY.columns)
        return self.table.snapshot().read(names).drop("_file").sort("relative_path" if not columns else columns[0])

    def row(self, name: str) -> dict[str, Any]:
        return self.rows().row(by_predicate=pl.col("file_name") == name, named=True)

    def opened_since(self) -> list[str]:
        opened, self.opened[:] = sorted(self.opened), []
        return opened

    def assert_equal_to_disk(self) -> None:
        """Every candidate on disk is exactly one row that tells its content, and there is no other row."""
        on_disk = {}
        for directory, _, names in os.walk(self.root):
            for name in names:
                path = Path(directory, name)
                if path.suffix == ".jpg":
                    on_disk[str(path.relative_to(self.root))] = hashlib.sha256(path.read_bytes()).hexdigest()
        in_table = list(self.rows("relative_path", "content_sha256").iter_rows())
        assert Counter(path for path, _ in in_table) == Counter(on_disk.keys())
        assert dict(in_table) == on_disk

    def assert_nothing_lies_around(self) -> None:
        """No file is staged that no version names."""
        assert list((self.table.path / "_writers").rglob("*.parquet")) == []


def _scanned(root: Path, lake: Path, monkeypatch: pytest.MonkeyPatch) -> Scanned:
    table = LakeTable(lake, DIRECTORY)
    table.create()
    scanned = Scanned(root, table)
    really_read = scan_rows.read_record

    def counted(tree: LocalTree, listed: ListedFile, *rest: Any) -> ImageRecord:
        scanned.opened.append(listed.relative_path.removeprefix(FOLDER + "/"))
        return really_read(tree, listed, *rest)

    for module in (job, scan_rows):  # the plan tries unreadable files
        monkeypatch.setattr(module, "read_record", counted)
    return scanned


@pytest.fixture
def maize(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scanned:
    """Three photographs in one folder, not scanned yet."""
    scanned = _scanned(images, tmp_path / "lake" / "table", monkeypatch)
    for number in range(3):
        scanned.write(f"{number}.jpg", jpeg(number))
    return scanned


@pytest.fixture(autouse=True)
def _no_thread_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """A scan's threads end with it."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("scan_"):
            thread.join(5)
            assert not thread.is_alive()


def test_a_first_scan_makes_one_row_of_every_image(maize: Scanned) -> None:
    result = maize.scan()
    assert (result.new, result.changed, result.vanished, result.unchanged) == (3, 0, 0, 0)
    assert (result.read, result.commits, result.files, result.ok, result.bad) == (3, 1, 3, 3, 0)
    assert result.bytes_read == sum(len(jpeg(number)) for number in range(3))
    assert result.version == maize.table.snapshot().version == 1
    maize.assert_equal_to_disk()


def test_the_six_old_columns_hold_what_old_notebooks_read(maize: Scanned) -> None:
    maize.scan()
    for number, row in enumerate(maize.rows().iter_rows(named=True)):
        path = maize.root / FOLDER / f"{number}.jpg"
        assert row["file_path"] == str(path)
        assert row["file_name"] == f"{number}.jpg"
        assert row["folder"] == FOLDER
        assert row["size_bytes"] == path.stat().st_size
        assert abs(row["created_at"].timestamp() - path.stat().st_ctime) < 1e-5
        assert row["created_at"].utcoffset().total_seconds() == 0
        assert base64.b64decode(row["image_base64"]) == path.read_bytes()


def test_a_second_scan_opens_nothing_and_commits_nothing(maize: Scanned) -> None:
    maize.scan()
    maize.opened_since()
    result = maize.scan()
    assert maize.opened_since() == []
    assert (result.unchanged, result.read, result.commits, result.version, result.files) == (3, 0, 0, 1, 3)


def _rewrite(maize: Scanned) -> str:
    maize.write("1.jpg", jpeg(77, (80, 60)))
    return "1.jpg"


def _touch(maize: Scanned) -> str:
    os.utime(maize.root / FOLDER / "1.jpg", ns=(0, 1_600_000_000_000_000_001))
    return "1.jpg"


def _same_size(maize: Scanned) -> str:
    path = maize.root / FOLDER / "2.jpg"
    path.write_bytes(b"x" * path.stat().st_size)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    return "2.jpg"


def _same_time(maize: Scanned) -> str:
    path = maize.root / FOLDER / "0.jpg"
    mtime = path.stat().st_mtime_ns
    path.write_bytes(jpeg(5) + b"more")
    os.utime(path, ns=(mtime, mtime))
    return "0.jpg"


@pytest.mark.parametrize("change", [_rewrite, _touch, _same_size, _same_time])
def test_a_changed_file_alone_is_read_again(maize: Scanned, change: Callable[[Scanned], str]) -> None:
    maize.scan()
    maize.opened_since()
    name = change(maize)
    result = maize.scan()
    assert maize.opened_since() == [name]
    assert (result.new, result.changed, result.vanished, result.unchanged, result.commits) == (0, 1, 0, 2, 1)
    maize.assert_equal_to_disk()


def test_a_new_file_alone_is_read(maize: Scanned) -> None:
    maize.scan()
    maize.opened_since()
    maize.write("new.jpg", jpeg(9))
    result = maize.scan()
    assert maize.opened_since() == ["new.jpg"]
    assert (result.new, result.changed, result.vanished, result.unchanged, result.commits) == (1, 0, 0, 3, 1)
    maize.assert_equal_to_disk()


def test_a_vanished_files_row_goes_without_a_file_being_opened(maize: Scanned) -> None:
    maize.scan()
    maize.opened_since()
    (maize.root / FOLDER / "1.jpg").unlink()
    result = maize.scan()
    assert maize.opened_since() == []
    assert (result.new, result.changed, result.vanished, result.unchanged, result.commits) == (0, 0, 1, 2, 1)
    maize.assert_equal_to_disk()


def test_rows_that_stay_stay_as_they_were(maize: Scanned) -> None:
    maize.scan()
    before = maize.rows()
    maize.write("new.jpg", jpeg(9))
    maize.write("1.jpg", jpeg(10))
    maize.scan()
    stayed = pl.col("file_name").is_in(["0.jpg", "2.jpg"])
    assert_frame_equal(maize.rows().filter(stayed), before.filter(stayed))


def test_a_rename_within_a_folder_is_one_row_gone_and_one_new(maize: Scanned) -> None:
    maize.scan()
    (maize.root / FOLDER / "1.jpg").rename(maize.root / FOLDER / "renamed.jpg")
    result = maize.scan()
    assert (result.new, result.vanished, result.unchanged) == (1, 1, 2)
    maize.assert_equal_to_disk()


def test_a_folder_that_is_gone_loses_its_rows_and_only_those(maize: Scanned) -> None:
    (maize.root / "rice").mkdir()
    (maize.root / "rice" / "r.jpg").write_bytes(jpeg(50))
    maize.scan()
    maize.scan("rice")
    shutil.rmtree(maize.root / FOLDER)
    result = maize.scan()
    assert (result.vanished, result.files, result.commits) == (3, 0, 1)
    maize.assert_equal_to_disk()
    assert maize.scan().commits == 0
    assert maize.table.snapshot().folders == ["rice"]


def test_a_folder_that_never_was_commits_nothing(maize: Scanned) -> None:
    assert maize.scan("absent").commits == 0


def test_a_rescan_reads_everything_again(maize: Scanned) -> None:
    maize.scan()
    maize.opened_since()
    result = maize.scan(rescan=True)
    assert maize.opened_since() == ["0.jpg", "1.jpg", "2.jpg"]
    assert (result.changed, result.read, result.files) == (3, 3, 3)
    maize.assert_equal_to_disk()


def test_a_moved_root_changes_the_full_paths_and_opens_no_image(maize: Scanned, tmp_path: Path) -> None:
    maize.write("bad.jpg", b"not an image")
    maize.scan()
    before = maize.rows()
    maize.opened_since()
    maize.root = maize.root.rename(tmp_path / "elsewhere")
    result = maize.scan()
    assert maize.opened_since() == []
    assert (result.unchanged, result.read, result.commits) == (4, 0, 1)
    after = maize.rows()
    assert_frame_equal(after.drop("file_path"), before.drop("file_path"))
    assert [Path(path).parent for path in after["file_path"]] == [tmp_path / "elsewhere" / FOLDER] * 4
    assert maize.scan().commits == 0


BAD_FILES = {
    "empty.jpg": (b"", "corrupt"),
    "truncated.jpg": (jpeg(1, (640, 480))[:3000], "corrupt"),
    "page.jpg": (b"<html>404</html>", "unsupported"),
    "icon.jpg": (encoded(four_corners(), "ICO"), "unsupported"),
    "bomb.jpg": (png_header(50_000, 50_000), "too_large"),
    "png.jpg": (encoded(four_corners(), "PNG"), "ok"),
}


def test_every_bad_file_is_one_row_with_its_reason_and_is_not_tried_again(maize: Scanned) -> None:
    for name, (data, _) in BAD_FILES.items():
        maize.write(name, data)
    (maize.root / FOLDER / "dangling.jpg").symlink_to("gone.jpg")
    os.mkfifo(maize.root / FOLDER / "pipe.jpg")
    result = maize.scan()
    expected = {name: status for name, (_, status) in BAD_FILES.items()}
    expected |= {"dangling.jpg": "unreadable", "pipe.jpg": "unreadable"} | {f"{n}.jpg": "ok" for n in range(3)}
    rows = maize.rows()
    assert dict(rows.select("file_name", "status").iter_rows()) == expected
    assert len(rows) == len(expected)
    assert rows.filter((pl.col("status") == "ok") != pl.col("error").is_null()).is_empty()
    assert rows.filter((pl.col("status") == "ok") != pl.col("image_base64").is_not_null()).is_empty()
    assert result.statuses == Counter(expected.values())
    assert (result.ok, result.bad) == (4, 7)
    maize.opened_since()
    again = maize.scan()
    assert (again.commits, again.unchanged, again.read) == (0, 11, 0)
    assert maize.opened_since() == ["dangling.jpg", "pipe.jpg"], "a permission leaves no trace in size or time"


def test_an_unreadable_file_is_read_once_it_can_be(maize: Scanned) -> None:
    link = maize.root / FOLDER / "link.jpg"
    link.symlink_to("late.JPG")
    maize.scan()
    assert maize.row("link.jpg")["status"] == "unreadable"
    maize.write("late.JPG", jpeg(20))
    maize.scan()
    row = maize.row("link.jpg")
    assert (row["status"], row["error"]) == ("ok", None)
    assert base64.b64decode(row["image_base64"]) == jpeg(20)
    assert maize.scan().commits == 0


def test_an_unreadable_file_is_noticed_although_size_and_time_stay(maize: Scanned) -> None:
    path = maize.root / FOLDER / "pipe.jpg"
    os.mkfifo(path)
    maize.scan()
    mtime = path.stat().st_mtime_ns
    path.unlink()
    path.touch()
    os.utime(path, ns=(mtime, mtime))
    result = maize.scan()
    assert (result.changed, result.commits, maize.row("pipe.jpg")["status"]) == (1, 1, "corrupt")
    maize.opened_since()
    assert maize.scan().commits == 0
    assert maize.opened_since() == []


@pytest.mark.parametrize("limit", [{"max_pixels": 3000}, {"max_file_bytes": 900}])
def test_a_raised_limit_admits_what_a_lower_one_refused(maize: Scanned, limit: dict[str, int]) -> None:
    maize.write("large.jpg", jpeg(30, (100, 80)))
    maize.write("small.jpg", jpeg(31, (16, 16)))
    sizes = {path.name: path.stat().st_size for path in (maize.root / FOLDER).iterdir()}
    assert sizes["small.jpg"] < 900 < min(size for name, size in sizes.items() if name != "small.jpg")
    maize.scan(**limit)
    refused = maize.rows().filter(pl.col("status") == "too_large")["file_name"].to_list()
    assert refused == ["0.jpg", "1.jpg", "2.jpg", "large.jpg"]
    maize.opened_since()
    assert maize.scan(**limit).commits == 0
    assert maize.opened_since() == [], "under the same limit nothing is tried again"
    assert maize.scan().ok == 5
    assert maize.opened_since() == refused
    maize.assert_equal_to_disk()
    assert maize.scan(**limit).commits == 0, "a lowered limit takes nothing back"


def test_without_stored_images_a_row_holds_all_but_the_file(maize: Scanned) -> None:
    maize.scan(store_images=False)
    rows = maize.rows()
    assert rows["image_base64"].null_count() == 3
    assert rows["preview"].null_count() == rows["content_sha256"].null_count() == 0
    maize.assert_equal_to_disk()


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:24]))
def test_a_file_of_any_name_is_found_again_by_its_row(maize: Scanned, name: bytes) -> None:
    directory = os.path.join(os.fsencode(maize.root), b"folder " + name[:200])
    try:
        os.mkdir(directory)
        Path(os.fsdecode(os.path.join(directory, name))).write_bytes(jpeg(40))
    except OSError as error:
        pytest.skip(f"this file system refuses the name: {error.strerror}")
    (folder,) = list_folders(maize.root).folders.keys() - {FOLDER}
    maize.scan(folder)
    (row,) = maize.rows().rows(named=True)
    for path in (file_path(maize.root, row["relative_path"]), path_from_text(row["file_path"])):
        assert Path(path).read_bytes() == base64.b64decode(row["image_base64"]) == jpeg(40)
    assert os.fsencode(path_from_text(row["file_name"])) == name
    assert row["folder"] == folder
    assert maize.scan(folder).commits == 0


def test_a_file_that_changed_after_the_listing_ends_up_right(maize: Scanned) -> None:
    stale = maize.listing()
    maize.write("0.jpg", jpeg(60, (200, 100)))
    path = maize.root / FOLDER / "1.jpg"
    path.write_bytes(jpeg(1)[::-1])
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    maize.scan(listing=stale)
    maize.opened_since()
    maize.scan()
    assert "1.jpg" in maize.opened_since(), "its row held the time of the listing"
    maize.assert_equal_to_disk()
    assert maize.scan().commits == 0


def test_a_file_that_grows_while_it_is_read_is_read_again(maize: Scanned, monkeypatch: pytest.MonkeyPatch) -> None:
    path = maize.root / FOLDER / "0.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    stale = maize.listing()
    path.write_bytes(whole[:300])
    really_read = source.read_bytes

    def read_then_grow(name: str) -> bytes:
        data = really_read(name)
        if name == str(path):
            path.write_bytes(whole)
        return data

    with monkeypatch.context() as patch:
        patch.setattr(source, "read_bytes", read_then_grow)
        maize.scan(listing=stale)
    assert maize.row("0.jpg")["status"] != "ok"
    maize.opened_since()
    maize.scan()
    assert maize.opened_since() == ["0.jpg"]
    assert maize.row("0.jpg")["status"] == "ok"
    maize.assert_equal_to_disk()


def test_a_file_that_vanished_after_the_listing_is_a_row_until_the_next_scan(maize: Scanned) -> None:
    stale = maize.listing()
    (maize.root / FOLDER / "1.jpg").unlink()
    maize.scan(listing=stale)
    assert maize.row("1.jpg")["status"] == "unreadable"
    assert "vanished" in maize.row("1.jpg")["error"]
    maize.scan()
    maize.assert_equal_to_disk()


def test_many_small_scans_do_not_leave_many_small_files(maize: Scanned) -> None:
    maize.scan()
    most = 0
    for number in range(20):
        maize.write(f"more{number:02}.jpg", jpeg(100 + number))
        maize.opened_since()
        assert maize.scan().commits == 1
        assert maize.opened_since() == [f"more{number:02}.jpg"], "merging opens no image"
        assert maize.scan().commits == 0, "nothing is merged when there is nothing else to do"
        most = max(most, len(maize.table.snapshot().files()))
    assert 1 < most <= layout.SMALL_FILES
    maize.assert_equal_to_disk()


def test_a_large_file_of_the_table_is_not_rewritten_for_a_new_image(
    maize: Scanned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "FILE_ROWS", 1)
    monkeypatch.setattr(layout, "FILE_BYTES", 1)
    for number in range(12):
        maize.write(f"more{number:02}.jpg", jpeg(100 + number))
        before = {file.path for file in maize.table.snapshot().files()}
        maize.scan()
        assert before < {file.path for file in maize.table.snapshot().files()}
    maize.assert_equal_to_disk()


def test_only_the_parquet_files_of_changed_rows_are_rewritten(maize: Scanned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "UNIT_FILES", 2)
    for number in range(3, 10):
        maize.write(f"{number}.jpg", jpeg(number))
    maize.scan()
    before = {file.path for file in maize.table.snapshot().files()}
    (maize.root / FOLDER / "4.jpg").unlink()
    maize.scan()
    after = {file.path for file in maize.table.snapshot().files()}
    assert len(before - after) == len(after - before) == 1
    maize.assert_equal_to_disk()


@pytest.mark.parametrize(("name", "value"), [("UNIT_FILES", 4), ("UNIT_BYTES", 10_000)])
def test_a_large_folder_is_committed_in_several_units(
    maize: Scanned, monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    monkeypatch.setattr(plan, name, value)
    for number in range(3, 30):
        maize.write(f"{number:02}.jpg", jpeg(number))
    result = maize.scan()
    files = maize.table.snapshot().files()
    assert result.commits == len(files) >= 3
    if name == "UNIT_FILES":
        assert max(file.rows for file in files) <= value
    else:
        per_file = maize.table.snapshot().read(["size_bytes"]).group_by("_file").agg(pl.sum("size_bytes"))
        assert per_file["size_bytes"].max() <= value + max(len(jpeg(number)) for number in range(30))
    assert (result.read, result.new) == (30, 30)
    maize.assert_equal_to_disk()
    assert maize.scan().commits == 0, "many small files alone are no reason for a commit"


class _StopsAfter(LogProgress):
    def __init__(self, images: int) -> None:
        super().__init__()
        self.left = images

    def advance(self, images: int) -> None:
        self.left -= images
        if self.left <= 0:
            raise KeyboardInterrupt


def test_a_stopped_scan_keeps_its_finished_units_and_goes_on_from_there(
    maize: Scanned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "UNIT_FILES", 2)
    for number in range(3, 10):
        maize.write(f"{number}.jpg", jpeg(number))
    with pytest.raises(KeyboardInterrupt):
        maize.scan(progress=_StopsAfter(5))
    done = set(maize.rows("file_name")["file_name"])
    assert len(done) == 4
    maize.assert_nothing_lies_around()
    maize.opened_since()
    assert maize.scan().new == 6
    assert not done & set(maize.opened_since())
    maize.assert_equal_to_disk()


def test_a_folder_that_another_engine_changed_during_a_scan_is_planned_anew(maize: Scanned) -> None:
    maize.scan()
    maize.write("new.jpg", jpeg(9))

    class Meddles(LogProgress):
        notes: list[str] = []  # noqa: RUF012

        def advance(self, images: int) -> None:
            if not self.notes:
                base = maize.table.snapshot()
                maize.table.replace(FOLDER, base, add=[], remove=base.files(FOLDER))

        def note(self, message: str) -> None:
            self.notes.append(message)

    progress = Meddles()
    result = maize.scan(progress=progress)
    assert progress.notes == ["maize: another process changed the table; planning anew"]
    assert (result.new, result.commits) == (4, 1)
    maize.assert_equal_to_disk()
    maize.assert_nothing_lies_around()
    files = {file.path for file in maize.table.snapshot().files()}
    assert len(list(maize.table.path.glob("folder=*/*.parquet"))) == len(files) + 1, "but the first scan's"


def test_progress_counts_every_image_that_is_read(maize: Scanned) -> None:
    class Counts(LogProgress):
        started: list[tuple[str, int]] = []  # noqa: RUF012
        done = 0

        def start(self, task: str, total: int) -> None:
            self.started.append((task, total))

        def advance(self, images: int) -> None:
            self.done += images

    progress = Counts()
    maize.scan(progress=progress)
    maize.scan(progress=progress)
    assert (progress.started, progress.done) == ([("scan maize", 3)], 3)


def test_a_missing_table_is_an_error_and_not_a_new_table(maize: Scanned) -> None:
    shutil.rmtree(maize.table.path)
    with pytest.raises(CurationError):
        maize.scan()


def test_a_folder_with_a_missing_data_file_is_left_as_it_is_and_that_is_said(maize: Scanned) -> None:
    maize.scan()
    (maize.table.path / maize.table.snapshot().files()[0].path).unlink()
    maize.write("new.jpg", jpeg(9))
    version = maize.table.newest_version()
    with pytest.raises(CurationError, match=r"data file .* is missing; `curation repair` makes its rows anew"):
        maize.scan()
    assert maize.table.newest_version() == version


def test_two_scans_of_one_folder_at_once_leave_every_image_once(
    maize: Scanned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "UNIT_FILES", 2)
    for number in range(3, 10):
        maize.write(f"{number}.jpg", jpeg(number))
    results: list[ScanResult] = []
    threads = [threading.Thread(target=lambda: results.append(maize.scan())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.commits for result in results) == [0, 0, 5]
    assert len(maize.opened_since()) == 10
    maize.assert_equal_to_disk()


def _scan_all(root: Path, lake: Path, folders: list[str], together: Barrier) -> None:
    table = LakeTable(lake, DIRECTORY)
    together.wait(60)
    table.create()
    for folder in folders:
        scan_folder(table, LocalTree(root), folder, ReadLimits(), LogProgress(), threads=1)


def test_two_processes_scanning_the_same_and_different_folders_leave_every_image_once(
    images: Path, fill: Callable[..., list[Path]], tmp_path: Path
) -> None:
    for folder in ("a", "b", "c", "d"):
        fill(folder, 5)
    together = FORKED.Barrier(2)
    orders = (["a", "b", "c"], ["a", "c", "d", "b"])
    processes = [FORKED.Process(target=_scan_all, args=(images, tmp_path / "lake", o, together)) for o in orders]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)
    assert [process.exitcode for process in processes] == [0, 0]
    scanned = Scanned(images, LakeTable(tmp_path / "lake", DIRECTORY))
    scanned.assert_equal_to_disk()
    scanned.assert_nothing_lies_around()
    assert scanned.table.snapshot().version == 4, "each folder was committed once"


def test_the_table_opens_in_polars_duckdb_and_pyarrow(maize: Scanned) -> None:
    for name, (data, _) in BAD_FILES.items():
        maize.write(name, data)
    maize.scan()
    expected = maize.rows()
    columns = expected.columns
    by_polars = pl.read_delta(str(maize.table.path)).select(columns).sort("relative_path")
    assert_frame_equal(by_polars, expected)
    arrow = pa.table(DeltaTable(str(maize.table.path)).to_pyarrow_table())
    assert_frame_equal(pl.DataFrame(arrow).select(columns).sort("relative_path"), expected)
    paths = [str(maize.table.path / file.path) for file in maize.table.snapshot().files()]
    in_file = [name for name in columns if name != "folder"]
    by_duckdb = duckdb.read_parquet(paths, hive_partitioning=False).order("relative_path").to_arrow_table()
    assert by_duckdb.column_names == [column.name for column in DIRECTORY.columns if column.name != "folder"]
    for name in set(in_file) - {"created_at", "modified_at", "captured_at"}:
        assert by_duckdb[name].to_pylist() == expected[name].to_list()


class FolderOverTime(RuleBasedStateMachine):
    """Files come, change and go between scans; whenever a scan has run, the table is the disk."""

    names = st.sampled_from([f"{letter}.jpg" for letter in "abcdefgh"])
    contents = st.integers(0, 30)

    @initialize(store=st.booleans())
    def start(self, store: bool) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(plan, "UNIT_FILES", 3)
        self.patch.setattr(layout, "SMALL_FILES", 3)
        self.home = Path(tempfile.mkdtemp())
        self.scanned = _scanned(self.home / "images", self.home / "lake", self.patch)
        (self.home / "images" / FOLDER).mkdir(parents=True)
        self.store = store
        self.clock = 1_600_000_000_000_000_000

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.patch.undo()
            shutil.rmtree(self.home)

    def _path(self, name: str) -> Path:
        return self.scanned.root / FOLDER / name

    @rule(name=names, content=contents)
    def write(self, name: str, content: int) -> None:
        self.clock += 1  # two writes within one tick of a file system's clock can't be told apart
        self._path(name).write_bytes(jpeg(content, (16, 16)) if content < 25 else bytes([content]) * content)
        os.utime(self._path(name), ns=(0, self.clock))

    @rule(name=names)
    def delete(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    @rule(name=names, other=names)
    def rename(self, name: str, other: str) -> None:
        if self._path(name).exists():
            self._path(name).rename(self._path(other))

    @rule()
    def move_the_root(self) -> None:
        self.scanned.root = self.scanned.root.rename(self.scanned.root.with_name(f"images{self.clock}"))

    @rule(stop_after=st.integers(1, 6))
    def scan_is_stopped(self, stop_after: int) -> None:
        try:
            self.scanned.scan(progress=_StopsAfter(stop_after), store_images=self.store)
        except KeyboardInterrupt:
            rows = self.scanned.rows("relative_path")
            assert rows["relative_path"].is_duplicated().sum() == 0
            self.scanned.assert_nothing_lies_around()

    @rule()
    def scan(self) -> None:
        self.scanned.scan(store_images=self.store)
        self.scanned.assert_equal_to_disk()
        paths = self.scanned.rows("file_path")["file_path"].to_list()
        assert all(Path(path).exists() for path in paths)
        self.scanned.opened_since()
        assert self.scanned.scan(store_images=self.store).commits == 0
        assert self.scanned.opened_since() == []


def test_after_any_history_the_table_is_the_disk() -> None:
    run_state_machine_as_test(
        FolderOverTime,
        settings=settings(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


def test_the_order_of_rows_in_a_new_file_is_that_of_their_names(maize: Scanned) -> None:
    for name in ("b.jpg", "A.jpg", "c c.jpg"):
        maize.write(name, jpeg(ord(name[0])))
    maize.scan()
    (file,) = maize.table.snapshot().files()
    names = maize.table.snapshot().read(["relative_path"], files=[file])["relative_path"].to_list()
    assert names == sorted(names)
