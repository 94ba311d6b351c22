from __future__ import annotations

import errno
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation_assets.errors import CurationError
from curation_assets.images.listing import (
    LISTING_SCHEMA,
    FolderListing,
    TreeListing,
    fingerprint,
    is_candidate,
    list_folder,
    list_folders,
)
from curation_assets.images.names import folder_of
from curation_assets.images.record import ReadLimits
from curation_assets.images.source import LocalTree
from curation_assets.images.walk import Directory, Walk, WalkRules
from curation_assets.lake.schemas import DIRECTORY
from curation_assets.lake.table import LakeTable
from curation_assets.progress import LogProgress
from curation_assets.scan.job import scan_folder
from curation_assets_tests.conftest import jpeg

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def _put(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _files(tree: TreeListing) -> dict[str, list[str]]:
    return {name: folder.files["relative_path"].to_list() for name, folder in tree.folders.items()}


@pytest.mark.parametrize(
    "name",
    [
        "a.jpg",
        "a.JPG",
        "a.JpEg",
        "a.jpe",
        "a.jfif",
        "a.PNG",
        "a.webp",
        "a.tif",
        "a.TIFF",
        "a.bmp",
        "a.gif",
        "a.heic",
        "a.HEIF",
        "a.avif",
        "a.b.jpg",
        "IMG_1629.JPG?1507122477.jpg",
        "a .jpg",
        "-.png",
    ],
)
def test_an_image_extension_in_any_case_makes_a_candidate(name: str) -> None:
    assert is_candidate(name)


@pytest.mark.parametrize(
    "name",
    ["a.xml", "a.csv", "Thumbs.db", "jpg", ".jpg", ".a.jpg", "._a.jpg", "a.jpg.txt", "a.jpg~", "a.jpg?v=1", "a", "a."],
)
def test_other_names_are_no_candidates(name: str) -> None:
    assert not is_candidate(name)


def test_undeveloped_and_missing_photographs_are_passed_over_by_name(images: Path) -> None:
    for name in ("a.jpg", "a.DNG", "b.cr2", "c.nef", ".d.jpg.icloud", "e.jpg.nextcloud", "f.jxl"):
        (images / name).touch()
    tree = list_folders(images)
    assert tree.folders["."].files["relative_path"].to_list() == ["a.jpg", "f.jxl"]
    expected = {"raw photograph, to be developed first": 3, "placeholder of a cloud, to be downloaded first": 2}
    assert tree.passed_over == Counter(expected)


def test_clutter_is_passed_over_and_counted(images: Path) -> None:
    for name in ("a.jpg", "b.PNG", "a.xml", "b.csv", "Thumbs.db", ".DS_Store", "._a.jpg"):
        _put(images / "maize" / name)
    _put(images / "maize" / ".thumbnails" / "hidden.jpg")
    _put(images / "notes" / "readme.txt")
    tree = list_folders(images)
    assert _files(tree) == {"maize": ["maize/a.jpg", "maize/b.PNG"]}
    assert tree.folders["maize"].passed_over == Counter({"not an image name": 3, "hidden": 3})
    assert tree.passed_over == Counter({"not an image name": 4, "hidden": 3})


def test_a_listing_holds_size_and_times_of_every_file(images: Path) -> None:
    path = _put(images / "maize" / "a.jpg", b"12345")
    os.utime(path, ns=(0, 1_600_000_000_123_456_789))
    (row,) = list_folders(images).folders["maize"].files.rows(named=True)
    assert row == {
        "relative_path": "maize/a.jpg",
        "size_bytes": 5,
        "mtime_ns": 1_600_000_000_123_456_789,
        "ctime_ns": path.stat().st_ctime_ns,
        "etag": None,
    }


def test_a_folder_with_an_image_extension_is_a_folder(images: Path) -> None:
    _put(images / "scans.jpg" / "a.jpg")
    assert _files(list_folders(images)) == {"scans.jpg": ["scans.jpg/a.jpg"]}


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (None, {".": 1, "a": 1, "a/b": 1, "a/b/c": 2, "d/e": 1}),
        (1, {".": 1, "a": 4, "d": 1}),
        (2, {".": 1, "a": 1, "a/b": 3, "d/e": 1}),
    ],
)
def test_the_depth_gathers_the_files_below_a_partition(
    images: Path, depth: int | None, expected: dict[str, int]
) -> None:
    for name in ("0.jpg", "a/1.jpg", "a/b/2.jpg", "a/b/c/3.jpg", "a/b/c/4.jpg", "d/e/5.jpg"):
        _put(images / name)
    tree = list_folders(images, depth)
    assert {name: len(folder.files) for name, folder in tree.folders.items()} == expected
    everything = [path for paths in _files(tree).values() for path in paths]
    assert sorted(everything) == ["0.jpg", "a/1.jpg", "a/b/2.jpg", "a/b/c/3.jpg", "a/b/c/4.jpg", "d/e/5.jpg"]


@pytest.mark.parametrize("depth", [None, 1, 2])
def test_listing_only_some_folders_gives_what_listing_all_gives_of_them(images: Path, depth: int | None) -> None:
    for name in (
        "0.jpg",
        "a/1.jpg",
        "a/b/2.jpg",
        "a/b/c/3.jpg",
        "ab/4.jpg",
        "d/e/5.jpg",
        "x" * 200 + "/" + "y" * 100 + "/6.jpg",
        "x" * 200 + "/" + "y" * 100 + "/" + "z" * 100 + "/7.jpg",
    ):
        _put(images / name)
    everything = list_folders(images, depth).folders
    for folder in everything:
        (only,) = list_folders(images, depth, [folder]).folders.values()
        assert only.files.equals(everything[folder].files)
    both = list_folders(images, depth, [".", "a", "absent"]).folders
    assert list(both) == [".", "a"]


def test_listing_only_one_folder_looks_into_no_other(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/b/1.jpg", "a/c/2.jpg", "d/e/3.jpg"):
        _put(images / name)
    looked = []
    scandir = os.scandir

    def watched(path: str | Path) -> Iterator[os.DirEntry[str]]:
        looked.append(os.path.relpath(path, images))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", watched)
    list_folders(images, None, ["a/b"])
    assert sorted(looked) == [".", "a/b"]  # the root only to see that it is there


def test_a_linked_folder_is_not_followed(images: Path, tmp_path: Path) -> None:
    _put(images / "a" / "1.jpg")
    _put(tmp_path / "elsewhere" / "2.jpg")
    (images / "b").symlink_to(images / "a")
    (images / "c").symlink_to(tmp_path / "elsewhere")
    (images / "a" / "loop").symlink_to(images)
    (images / "a" / "pictures.jpg").symlink_to(images / "a")
    tree = list_folders(images)
    assert _files(tree) == {"a": ["a/1.jpg"]}
    assert tree.folders["a"].passed_over["link to a folder"] == 1


def test_a_linked_file_counts_only_if_it_stays_inside_the_root(images: Path, tmp_path: Path) -> None:
    target = _put(images / "a" / "1.jpg", b"1234")
    outside = _put(tmp_path / "outside.jpg")
    _put(tmp_path / "images_beside" / "x.jpg")
    (images / "a" / "in.jpg").symlink_to(target)
    (images / "a" / "relative.jpg").symlink_to("1.jpg")
    (images / "a" / "out.jpg").symlink_to(outside)
    (images / "a" / "beside.jpg").symlink_to(tmp_path / "images_beside" / "x.jpg")
    (images / "a" / "through.jpg").symlink_to(images / "a" / "out.jpg")
    folder = list_folders(images).folders["a"]
    assert folder.files["relative_path"].to_list() == ["a/1.jpg", "a/in.jpg", "a/relative.jpg"]
    assert folder.files["size_bytes"].to_list() == [4, 4, 4]
    assert folder.passed_over == Counter({"link out of the root": 3})


def test_a_root_that_is_a_link_is_followed(images: Path, tmp_path: Path) -> None:
    target = _put(images / "a" / "1.jpg")
    (images / "a" / "in.jpg").symlink_to(target)
    (tmp_path / "link").symlink_to(images)
    assert _files(list_folders(tmp_path / "link")) == {"a": ["a/1.jpg", "a/in.jpg"]}


def test_dangling_and_circular_links_are_listed_without_size(images: Path) -> None:
    (images / "a").mkdir()
    (images / "a" / "dangling.jpg").symlink_to(images / "a" / "gone.jpg")
    (images / "a" / "one.jpg").symlink_to("two.jpg")
    (images / "a" / "two.jpg").symlink_to("one.jpg")
    files = list_folders(images).folders["a"].files
    assert files["relative_path"].to_list() == ["a/dangling.jpg", "a/one.jpg", "a/two.jpg"]
    assert files.drop("relative_path").null_count().row(0) == (3, 3, 3, 3)


def test_a_pipe_with_an_images_name_is_listed_as_empty(images: Path) -> None:
    os.mkfifo(images / "a.jpg")
    assert list_folders(images).folders["."].files["size_bytes"].to_list() == [0]


@pytest.mark.parametrize("times", [(10**10 * 10**9, "after 2262"), (-(10**9), "before 1970")], ids=lambda t: t[1])
def test_a_file_of_an_absurd_time_is_listed(images: Path, times: tuple[int, str]) -> None:
    path = _put(images / "a" / "1.jpg")
    try:
        os.utime(path, ns=(0, times[0]))
    except OSError as error:
        pytest.skip(f"this file system can't hold the time: {error}")
    (mtime,) = list_folders(images).folders["a"].files["mtime_ns"]
    assert mtime == min(path.stat().st_mtime_ns, 2**63 - 1)


def test_a_folder_that_is_removed_during_the_walk_is_passed_over(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _put(images / "a" / "1.jpg")
    _put(images / "b" / "2.jpg")
    scandir = os.scandir

    def removing(path: str | Path) -> Iterator[os.DirEntry[str]]:
        if path == images / "b":
            (images / "b" / "2.jpg").unlink()
            (images / "b").rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", removing)
    assert _files(list_folders(images)) == {"a": ["a/1.jpg"]}


def test_a_missing_root_is_an_error_and_not_an_empty_tree(tmp_path: Path) -> None:
    with pytest.raises(CurationError, match=r"absent cannot be listed: No such file.*CURATION_IMAGES_ROOT"):
        list_folders(tmp_path / "absent")


def test_a_root_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CurationError, match=r"a\.jpg cannot be listed: Not a directory"):
        list_folders(_put(tmp_path / "a.jpg"))


def refuse(monkeypatch: pytest.MonkeyPatch, place: Path, number: int = errno.EACCES, after: int | None = None) -> None:
    """Let the listing of one directory fail: at once, or after some entries."""
    scandir = os.scandir

    class Failing:
        def __init__(self, scan: Any) -> None:
            self.scan = scan

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            yield_some = list(self.scan)[:after]
            self.scan.close()

            def entries() -> Iterator[os.DirEntry[str]]:
                yield from yield_some
                raise OSError(number, os.strerror(number))

            return entries()

        def __exit__(self, *_: object) -> None:
            pass

    def failing(path: str | Path) -> Any:
        if Path(path) != place:
            return scandir(path)
        if after is None:
            raise OSError(number, os.strerror(number), str(path))
        return Failing(scandir(path))

    monkeypatch.setattr(os, "scandir", failing)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
@pytest.mark.parametrize("after", [None, 0, 1])
def test_a_folder_that_cannot_be_listed_is_named_and_the_others_are_listed(
    number: int, after: int | None, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/1.jpg", "b/2.jpg", "b/3.jpg", "b/below/4.jpg", "c/5.jpg"):
        _put(images / name)
    refuse(monkeypatch, images / "b", number, after)
    tree = list_folders(images)
    assert _files(tree) == {"a": ["a/1.jpg"], "c": ["c/5.jpg"]}
    assert tree.unlisted == {"b": os.strerror(number)}
    alone = list_folder(images, "b")
    assert (len(alone.files), alone.unlisted) == (0, {"b": os.strerror(number)})
    assert list_folder(images, "a").unlisted == {}


@pytest.mark.parametrize("depth", [1, 2])
def test_a_part_of_a_folder_that_cannot_be_listed_is_named(
    depth: int, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/1.jpg", "a/b/c/2.jpg", "a/b/3.jpg"):
        _put(images / name)
    refuse(monkeypatch, images / "a" / "b" / "c", errno.EIO)
    folder = "a" if depth == 1 else "a/b"
    assert list_folders(images, depth).folders[folder].unlisted == {"a/b/c": os.strerror(errno.EIO)}
    assert list_folder(images, folder, depth).unlisted == {"a/b/c": os.strerror(errno.EIO)}


@pytest.mark.parametrize("after", [None, 1])
def test_a_root_that_cannot_be_listed_to_its_end_is_an_error(
    after: int | None, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(images / "a" / "1.jpg")
    refuse(monkeypatch, images, errno.EIO, after)
    with pytest.raises(CurationError, match=r"images root .* cannot be listed: Input/output error"):
        list_folders(images)


def test_a_path_too_long_to_open_is_a_folder_that_cannot_be_listed(images: Path) -> None:
    _put(images / "a" / "1.jpg")
    here = os.open(images, os.O_RDONLY)
    for _ in range(20):  # each level can be made from the one above, the whole path is too long to open
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    tree = list_folders(images)
    assert list(tree.folders) == ["a"]
    assert list(tree.unlisted.values()) == ["File name too long"]


@pytest.mark.skipif(AS_ROOT, reason="root may list every folder")
@pytest.mark.parametrize("mode", [0, 0o400], ids=["not listed", "listed, but no file examined"])
def test_a_forbidden_folder_is_named(mode: int, images: Path) -> None:
    _put(images / "a" / "1.jpg")
    _put(images / "b" / "2.jpg")
    (images / "a").chmod(mode)
    try:
        tree = list_folders(images)
        assert (_files(tree), tree.unlisted) == ({"b": ["b/2.jpg"]}, {"a": "Permission denied"})
    finally:
        (images / "a").chmod(0o700)


class Unexamined:
    """An entry whose inode can't be read."""

    def __init__(self, entry: os.DirEntry[str], number: int) -> None:
        self.entry, self.number = entry, number

    def __getattr__(self, name: str) -> Any:
        return getattr(self.entry, name)

    def stat(self) -> os.stat_result:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("every", [False, True])
def test_a_file_that_cannot_be_examined_is_named_and_all_of_them_are_their_folder(
    every: bool, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "b/3.jpg"):
        _put(images / name)
    walked = Walk._listed

    def failing(walk: Walk, relative: str, *rest: Any) -> Directory | None:
        directory = walked(walk, relative, *rest)
        if directory is not None and relative == "a":
            directory.entries = [
                Unexamined(entry, errno.ESTALE) if every or entry.name == "2.jpg" else entry  # type: ignore[misc]
                for entry in directory.entries
            ]
        return directory

    monkeypatch.setattr(Walk, "_listed", failing)
    tree = list_folders(images)
    assert _files(tree) == {"b": ["b/3.jpg"]} | ({} if every else {"a": ["a/1.jpg"]})
    assert list(tree.unlisted) == ["a" if every else "a/2.jpg"]


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "#recycle", "$RECYCLE.BIN", "$Recycle.Bin", "system volume information", "lost+found", "Thumbnails"],
)
def test_what_disks_and_storage_put_beside_photographs_is_left_out(
    name: str, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (name, f"maize/{name}", f"maize/{name}/deeper"):
        _put(images / place / "1.jpg")
    _put(images / "maize" / "1.jpg")
    refuse(monkeypatch, images / name)
    tree = list_folders(images)
    assert (_files(tree), tree.unlisted) == ({"maize": ["maize/1.jpg"]}, {})
    assert tree.folders["maize"].passed_over == Counter({"folder left out by CURATION_LEAVE_OUT": 1})
    assert len(list_folder(images, f"maize/{name}").files) == 0
    assert list_folders(images, within=[name]).folders == {}
    everything = list_folders(images, rules=WalkRules(leave_out=()))
    assert list(everything.unlisted) == [name]
    assert list(everything.folders) == sorted(["maize", f"maize/{name}", f"maize/{name}/deeper"])


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["old*"], ["a", "a/b"]),
        (["OLD*", "B"], ["a"]),
        (["a/old*"], ["a", "a/b", "old", "oldest/a"]),
        (["/old"], ["a", "a/b", "a/old", "oldest/a"]),
        (["a/"], ["old"]),
        (["*/a"], ["a", "a/b", "a/old", "old"]),
        (["[ab]"], ["old"]),
        ([], ["a", "a/b", "a/old", "old", "oldest/a"]),
    ],
)
def test_a_pattern_is_of_a_name_or_with_a_slash_of_a_path(patterns: list[str], left: list[str], images: Path) -> None:
    for folder in ("a", "a/b", "a/old", "old", "oldest/a"):
        _put(images / folder / "1.jpg")
    assert list(list_folders(images, rules=WalkRules(leave_out=tuple(patterns))).folders) == left


def test_a_pattern_says_nothing_of_the_root_and_of_files(tmp_path: Path) -> None:
    _put(tmp_path / "thumbnails" / "a" / "thumbnails.jpg")
    rules = WalkRules(leave_out=("thumbnails*",))
    assert _files(list_folders(tmp_path / "thumbnails", rules=rules)) == {"a": ["a/thumbnails.jpg"]}


def test_the_programs_own_folders_are_not_walked_by_whatever_name(images: Path, tmp_path: Path) -> None:
    for name in ("a/1.jpg", "lake/golden/1.png", "b/lake/2.jpg"):
        _put(images / name)
    (tmp_path / "by another name").symlink_to(images)
    rules = WalkRules(own=(os.path.realpath(tmp_path / "by another name" / "lake"),))
    tree = list_folders(tmp_path / "by another name", rules=rules)
    assert list(tree.folders) == ["a", "b/lake"]
    assert len(list_folder(images, "lake/golden", rules=rules).files) == 0


FOLLOW = WalkRules(follow_links=True)


def test_links_are_followed_without_loops_or_doubles(images: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    for name in ("x/1.jpg", "x/deep/2.jpg", "y/3.jpg"):
        _put(outside / name)
    _put(images / "a" / "0.jpg")
    (images / "b").symlink_to(outside / "x")
    (images / "c").symlink_to(outside / "x" / "deep")  # reached by b
    (images / "d").symlink_to(outside / "x")  # the same again
    (images / "e").symlink_to(images / "a")  # within the root
    (images / "up").symlink_to(tmp_path)  # would hold the root
    (outside / "x" / "loop").symlink_to(outside)
    (outside / "x" / "y").symlink_to(outside / "y")
    (images / "a" / "file.jpg").symlink_to(outside / "y" / "3.jpg")
    tree = list_folders(images, rules=FOLLOW)
    assert _files(tree) == {
        "a": ["a/0.jpg", "a/file.jpg"],
        "b": ["b/1.jpg"],
        "b/deep": ["b/deep/2.jpg"],
        "b/y": ["b/y/3.jpg"],
    }
    for folder, listing in tree.folders.items():
        assert list_folder(images, folder, rules=FOLLOW).files.equals(listing.files)
    for folder in ("c", "d", "e", "up"):
        assert len(list_folder(images, folder, rules=FOLLOW).files) == 0
    assert list(list_folders(images, within=["b"], rules=FOLLOW).folders) == ["b", "b/deep", "b/y"]


def test_the_first_link_by_name_has_a_folder_that_two_reach(images: Path, tmp_path: Path) -> None:
    _put(tmp_path / "outside" / "deep" / "1.jpg")
    _put(tmp_path / "outside" / "2.jpg")
    (images / "z").symlink_to(tmp_path / "outside")
    (images / "m").symlink_to(tmp_path / "outside" / "deep")
    (images / "sub").mkdir()
    (images / "sub" / "a").symlink_to(tmp_path / "outside" / "deep")
    for depth in (None, 1):
        tree = list_folders(images, depth, rules=FOLLOW)
        assert _files(tree) == {"m": ["m/1.jpg"], "z": ["z/2.jpg"]}
        assert list_folder(images, "z", depth, rules=FOLLOW).files.equals(tree.folders["z"].files)
        assert list_folders(images, depth, ["sub/a", "sub"], rules=FOLLOW).folders == {}


def test_a_link_is_called_a_link(images: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (images / "disk").symlink_to(tmp_path / "elsewhere")
    (images / "unmounted").symlink_to(tmp_path / "nowhere")
    (images / "here").symlink_to(images)
    _put(images / "1.jpg")
    expected = {"link to a folder": 1, "broken link": 1, "link to the root or above it": 1}
    assert list_folders(images).passed_over == Counter(expected)


@pytest.mark.parametrize(("target", "said"), [("nowhere", "it is a broken link to"), ("a.jpg", "it is a link to")])
def test_a_root_that_is_a_link_to_no_folder_is_called_a_link(target: str, said: str, tmp_path: Path) -> None:
    _put(tmp_path / "a.jpg")
    (tmp_path / "root").symlink_to(tmp_path / target)
    with pytest.raises(CurationError, match=said):
        list_folders(tmp_path / "root")


@pytest.mark.parametrize("depth", [None, 1, 2])
def test_listing_within_a_folder_gives_it_and_all_below(depth: int | None, images: Path) -> None:
    for name in ("0.jpg", "a/1.jpg", "a/b/2.jpg", "a/b/c/3.jpg", "ab/4.jpg", "x" * 200 + "/" + "y" * 100 + "/6.jpg"):
        _put(images / name)
    everything = list_folders(images, depth).folders
    for name in ("a", "a/b", "a/b/c", "ab", ".", "x" * 200, "absent"):
        # A folder that FOLDER_DEPTH gathers under a higher one is no folder of its own.
        expected = [f for f in everything if f == name or f.startswith(name + "/") or (name[0] == f[0] == "x")]
        found = list_folders(images, depth, within=[name, name + "/absent"]).folders
        assert list(found) == expected
        assert all(found[folder].files.equals(everything[folder].files) for folder in found)


def test_an_empty_tree_is_an_empty_listing(images: Path) -> None:
    (images / "a").mkdir()
    assert list_folders(images).folders == {}
    assert len(list_folder(images, "a").files) == 0


def _rename(path: Path) -> None:
    path.rename(path.with_name("other.jpg"))


def _grow(path: Path) -> None:
    mtime = path.stat().st_mtime_ns
    path.write_bytes(b"longer")
    os.utime(path, ns=(mtime, mtime))


def _touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


@pytest.mark.parametrize("change", [_rename, _grow, _touch, Path.unlink, lambda p: _put(p.with_name("new.png"))])
def test_the_fingerprint_changes_with_the_folder(images: Path, change: Callable[[Path], object]) -> None:
    paths = [_put(images / "a" / f"{number}.jpg") for number in range(3)]
    before = list_folders(images).folders["a"].fingerprint
    assert list_folders(images).folders["a"].fingerprint == before
    change(paths[1])
    assert list_folders(images).folders["a"].fingerprint != before


def test_the_fingerprint_does_not_change_with_clutter_or_neighbours(images: Path) -> None:
    _put(images / "a" / "1.jpg")
    before = list_folders(images).folders["a"].fingerprint
    _put(images / "a" / "1.xml")
    _put(images / "b" / "1.jpg")
    assert list_folders(images).folders["a"].fingerprint == before


def test_the_fingerprint_does_not_depend_on_the_order_of_rows() -> None:
    rows = [(f"a/{number}.jpg", number, 10 * number, None, None) for number in range(20)]
    frame = pl.DataFrame(rows, schema=LISTING_SCHEMA, orient="row")
    random.Random(1).shuffle(rows)
    assert fingerprint(pl.DataFrame(rows, schema=LISTING_SCHEMA, orient="row")) == fingerprint(frame)
    assert fingerprint(frame.head(19)) != fingerprint(frame)


def test_the_fingerprint_of_the_scanned_rows_is_that_of_the_disk(images: Path, tmp_path: Path) -> None:
    for name in (b"a b,c.jpg", b"\xff.jpg", b"new\nline.png", "ma\u00efs.gif".encode(), b"Z.jpg"):
        _put(images / "a" / os.fsdecode(name), name)
    (images / "a" / "dangling.jpg").symlink_to("gone.jpg")
    (images / "a" / "link.jpg").symlink_to("Z.jpg")
    os.mkfifo(images / "a" / "pipe.jpg")
    listing = list_folders(images).folders["a"]
    table = LakeTable(tmp_path / "lake", DIRECTORY)
    table.create()
    scan_folder(table, LocalTree(images), listing.folder, ReadLimits(), LogProgress(), threads=2)
    rows = table.snapshot().read(["relative_path", "size_bytes", "mtime_ns", "etag"], "a")
    assert len(rows) == 8
    assert fingerprint(rows) == listing.fingerprint


@pytest.mark.parametrize(
    ("age_seconds", "settled"), [(0, False), (9.9, False), (10, True), (1e6, True), (-60, False), (-2 * 86_400, True)]
)
def test_a_folder_is_settled_when_nothing_changed_for_a_while(age_seconds: float, settled: bool) -> None:
    now = 1_700_000_000_000_000_000
    folder = FolderListing("a", pl.DataFrame(), changed_ns=now - round(age_seconds * 1e9))
    assert folder.settled(10, now) is settled


def test_a_new_file_and_a_removed_one_unsettle_a_folder(images: Path) -> None:
    paths = [_put(images / "a" / f"{number}.jpg") for number in range(2)]
    later = time.time_ns() + 5 * 10**9
    assert not list_folders(images).folders["a"].settled(10, later)
    assert list_folders(images).folders["a"].settled(1, later)
    before = list_folders(images).folders["a"].changed_ns
    time.sleep(0.02)  # longer than a tick of the file system's clock
    paths[0].unlink()  # leaves a trace only in the folder's own time
    assert list_folders(images).folders["a"].changed_ns > before


def test_an_old_file_moved_in_unsettles_a_folder(images: Path) -> None:
    path = _put(images / "a" / "1.jpg")
    os.utime(path, (0, 0))
    os.utime(images / "a", (0, 0))
    assert not list_folders(images).folders["a"].settled(60), "the inode has changed just now"


def test_folders_come_sorted_and_a_cut_name_is_listed_whole(images: Path) -> None:
    long = "x" * 200 + "/" + "y" * 100
    for folder in ("b", "a", long):
        _put(images / folder / "1.jpg")
    tree = list_folders(images)
    assert list(tree.folders) == ["a", "b", folder_of(long, None)]
    assert _files(tree)[folder_of(long, None)] == [f"{long}/1.jpg"]


@pytest.mark.parametrize("folder", ["../outside", "a/../../outside", "/", "", ".hidden", "a/.hidden", "link", "link/b"])
def test_a_folder_that_a_walk_would_not_reach_has_no_files(folder: str, tmp_path: Path, images: Path) -> None:
    for place in (tmp_path / "outside", images / ".hidden", images / "a" / ".hidden", images / "a" / "b"):
        place.mkdir(parents=True)
        (place / "photo.jpg").write_bytes(jpeg())
    (images / "link").symlink_to(images / "a")
    assert len(list_folder(images, folder).files) == 0


@pytest.mark.parametrize("depth", [None, 1, 2])
def test_a_folder_listed_alone_is_as_in_the_whole_tree(depth: int | None, images: Path) -> None:
    for path in (
        "top.jpg",
        "a/1.jpg",
        "a/b/2.jpg",
        "a/b/c/3.jpg",
        "d/e/f/4.jpg",
        "x" * 250 + "/" + "y" * 200 + "/5.jpg",
    ):
        (images / path).parent.mkdir(parents=True, exist_ok=True)
        (images / path).write_bytes(jpeg(len(path)))
    tree = list_folders(images, depth).folders
    assert len(tree) > 3
    for folder, listing in tree.items():
        assert list_folder(images, folder, depth).files.equals(listing.files)
