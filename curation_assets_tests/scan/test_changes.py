from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from curation_assets.images.listing import list_folders
from curation_assets.images.record import ReadLimits
from curation_assets.images.source import LocalTree
from curation_assets.lake.schemas import DIRECTORY
from curation_assets.lake.table import LakeTable
from curation_assets.progress import LogProgress
from curation_assets.scan.changes import ABSENT, FolderChange, folder_changes
from curation_assets.scan.job import scan_folder
from curation_assets_tests.conftest import jpeg

LIMITS = ReadLimits()


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    table = LakeTable(tmp_path / "lake" / "table", DIRECTORY)
    table.create()
    return table


@pytest.fixture
def scanned(table: LakeTable, images: Path, fill: Callable[..., list[Path]]) -> LakeTable:
    """Two folders and the root itself, scanned."""
    fill("maize", 3)
    fill("rice/weeds", 2)
    (images / "top.jpg").write_bytes(jpeg(7))
    scan_all(table, images)
    return table


def scan_all(table: LakeTable, root: Path) -> None:
    for folder in list_folders(root).folders.keys() | set(table.snapshot().folders):
        scan_folder(table, LocalTree(root), folder, LIMITS, LogProgress(), threads=1)


def changes(table: LakeTable | None, root: Path, depth: int | None = None) -> dict[str, str]:
    snapshot = table.snapshot() if table is not None else None
    return {
        change.folder: change.what
        for change in folder_changes(list_folders(root, depth), snapshot, LocalTree(root), LIMITS)
    }


def test_without_a_table_every_folder_is_new(images: Path, fill: Callable[..., list[Path]]) -> None:
    fill("maize")
    fill("rice")
    tree = list_folders(images)
    assert folder_changes(tree, None, LocalTree(images), LIMITS) == [
        FolderChange("maize", tree.folders["maize"].fingerprint, "new"),
        FolderChange("rice", tree.folders["rice"].fingerprint, "new"),
    ]


def test_in_an_empty_table_every_folder_is_new(table: LakeTable, images: Path, fill: Callable[..., list[Path]]) -> None:
    fill("maize")
    assert changes(table, images) == {"maize": "new"}


def test_nothing_differs_right_after_a_scan(scanned: LakeTable, images: Path) -> None:
    assert scanned.snapshot().folders == [".", "maize", "rice/weeds"]
    assert changes(scanned, images) == {}


def _modify(images: Path) -> None:
    (images / "maize" / "photo_0001.jpg").write_bytes(jpeg(1234, (80, 80)))


def _touch(images: Path) -> None:
    os.utime(images / "maize" / "photo_0001.jpg", ns=(0, 5))


def _add(images: Path) -> None:
    (images / "maize" / "new.PNG").write_bytes(b"")


def _delete(images: Path) -> None:
    (images / "maize" / "photo_0001.jpg").unlink()


def _rename(images: Path) -> None:
    (images / "maize" / "photo_0001.jpg").rename(images / "maize" / "other.jpg")


@pytest.mark.parametrize("change", [_modify, _touch, _add, _delete, _rename])
def test_a_changed_folder_alone_differs_until_it_is_scanned(
    scanned: LakeTable, images: Path, change: Callable[[Path], None]
) -> None:
    change(images)
    (found,) = folder_changes(list_folders(images), scanned.snapshot(), LocalTree(images), LIMITS)
    assert found == FolderChange("maize", list_folders(images).folders["maize"].fingerprint, "changed")
    scan_all(scanned, images)
    assert changes(scanned, images) == {}


def test_a_new_folder_is_new_and_a_deleted_one_gone(
    scanned: LakeTable, images: Path, fill: Callable[..., list[Path]]
) -> None:
    fill("wheat", 1)
    shutil.rmtree(images / "maize")
    found = folder_changes(list_folders(images), scanned.snapshot(), LocalTree(images), LIMITS)
    assert [(change.folder, change.what) for change in found] == [("maize", "gone"), ("wheat", "new")]
    assert found[0].fingerprint == ABSENT
    scan_all(scanned, images)
    assert changes(scanned, images) == {}


def test_a_folder_that_lost_its_last_image_is_gone(scanned: LakeTable, images: Path) -> None:
    (images / "top.jpg").unlink()
    assert changes(scanned, images) == {".": "gone"}


def test_clutter_changes_nothing(scanned: LakeTable, images: Path) -> None:
    (images / "maize" / "labels.xml").write_text("<a/>")
    (images / "maize" / ".hidden.jpg").write_bytes(jpeg())
    (images / "empty").mkdir()
    assert changes(scanned, images) == {}


def test_a_moved_root_moves_every_folder_until_it_is_scanned(scanned: LakeTable, images: Path, tmp_path: Path) -> None:
    there = images.rename(tmp_path / "elsewhere")
    assert changes(scanned, there) == {".": "moved", "maize": "moved", "rice/weeds": "moved"}
    scan_all(scanned, there)
    assert changes(scanned, there) == {}


def test_a_changed_folder_of_a_moved_root_is_changed(scanned: LakeTable, images: Path, tmp_path: Path) -> None:
    there = images.rename(tmp_path / "elsewhere")
    _delete(there)
    assert changes(scanned, there)["maize"] == "changed"


def test_another_depth_is_another_set_of_folders(scanned: LakeTable, images: Path) -> None:
    assert changes(scanned, images, depth=1) == {"rice": "new", "rice/weeds": "gone"}


def test_a_folder_with_unreadable_files_is_tried_again(scanned: LakeTable, images: Path) -> None:
    (images / "maize" / "link.jpg").symlink_to("late.jpg")
    scan_all(scanned, images)
    assert changes(scanned, images) == {"maize": "unreadable files"}
    (images / "maize" / "late.jpg").write_bytes(jpeg(5))
    assert changes(scanned, images) == {"maize": "changed"}
    scan_all(scanned, images)
    assert changes(scanned, images) == {}


def test_corrupt_files_are_not_tried_again(scanned: LakeTable, images: Path) -> None:
    (images / "maize" / "page.jpg").write_bytes(b"<html>")
    scan_all(scanned, images)
    assert changes(scanned, images) == {}


def test_a_folder_that_changed_during_its_scan_differs_still(
    scanned: LakeTable, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = list_folders(images).folders["maize"]
    path = images / "maize" / "photo_0001.jpg"
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    monkeypatch.setattr(LocalTree, "list_folder", lambda *_: stale)
    scan_folder(scanned, LocalTree(images), "maize", LIMITS, LogProgress(), threads=1, rescan=True)
    assert changes(scanned, images) == {"maize": "changed"}


def test_a_raised_limit_concerns_only_folders_with_rows_that_it_admits(
    table: LakeTable, images: Path, fill: Callable[..., list[Path]]
) -> None:
    fill("maize", 1)
    (images / "drone").mkdir()
    (images / "drone" / "large.jpg").write_bytes(jpeg(1, (400, 300)))
    tree, low, high = list_folders(images), ReadLimits(max_pixels=90_000), ReadLimits(max_pixels=120_000)
    for listing in tree.folders.values():
        scan_folder(table, LocalTree(images), listing.folder, low, LogProgress(), threads=1)
    snapshot = table.snapshot()
    assert folder_changes(tree, snapshot, LocalTree(images), low) == []
    assert folder_changes(tree, snapshot, LocalTree(images), ReadLimits(max_pixels=100_000)) == []
    (change,) = folder_changes(tree, snapshot, LocalTree(images), high)
    assert (change.folder, change.what) == ("drone", "limits raised")
    assert change.fingerprint != tree.folders["drone"].fingerprint  # or its run key would be used up
    scan_folder(table, LocalTree(images), "drone", high, LogProgress(), threads=1)
    assert folder_changes(tree, table.snapshot(), LocalTree(images), high) == []
