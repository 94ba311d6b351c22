"""Which image files a tree holds, folder by folder, without opening any of them."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import polars as pl

from curation_assets.errors import CurationError
from curation_assets.images.names import ROOT_FOLDER, folder_of, text_from_path
from curation_assets.images.walk import (
    Directory,
    LinkMetError,
    Walk,
    WalkRules,
    everywhere,
    is_reached,
    is_within,
    joined,
)
from curation_assets.stores.volumes import needed

CANDIDATE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".tif",
        ".tiff",
        ".bmp",
        ".gif",
        ".heic",
        ".heif",
        ".avif",
        ".jxl",
    )
)
# Photographs too, but undeveloped: often beside a JPEG of the same, so that a row for each would only be in the way.
RAW_SUFFIXES = frozenset((
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".raf", ".orf", ".rw2", ".pef", ".srw", ".x3f",
    ".iiq", ".3fr", ".erf", ".kdc", ".mrw",
))  # fmt: skip
_PLACEHOLDERS = (".icloud", ".nextcloud", ".owncloud")  # what a cloud's folder holds in the place of a file
LISTING_SCHEMA = {
    "relative_path": pl.String,
    "size_bytes": pl.Int64,
    "mtime_ns": pl.Int64,
    "ctime_ns": pl.Int64,
    "etag": pl.String,
}


class ListedFile(NamedTuple):
    """A row of a listing.

    Attributes:
        etag: by which an object store tells this version of the object; None on disks.
    """

    relative_path: str
    size_bytes: int | None
    mtime_ns: int | None
    ctime_ns: int | None
    etag: str | None = None


@dataclass
class FolderListing:
    """The candidate files of one image folder at one moment.

    Attributes:
        folder: value of the tables' ``folder`` column.
        files: one row a file, columns of ``LISTING_SCHEMA``, sorted by ``relative_path``. A file that could not be
            examined has null size and times: reading it will say why.
        passed_over: how many entries were no candidates, by reason.
        changed_ns: newest change of a file's or directory's inode (ctime), which is the kernel's own time, in
            nanoseconds since 1970.
        unlisted: what of it can't be listed, relative to the root, and why. Nothing is known of what is there.
    """

    folder: str
    files: pl.DataFrame
    passed_over: Counter[str] = field(default_factory=Counter)
    changed_ns: int = 0
    unlisted: dict[str, str] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Of all its files together."""
        return int(self.files["size_bytes"].sum())

    @property
    def fingerprint(self) -> str:
        """Changes whenever a name, size, modification time or tag does; the same as the table's (see below)."""
        return fingerprint(self.files)

    def settled(self, seconds: float, now_ns: int | None = None) -> bool:
        """Whether nothing changed for ``seconds``; a clock ahead of ours by over a day is not waited for."""
        age = ((now_ns or time.time_ns()) - self.changed_ns) / 1e9
        return age >= seconds or age < -86_400


def fingerprint(files: pl.DataFrame) -> str:
    """32 hex digits over (relative_path, size_bytes, mtime_ns, etag) of every row, whatever their order."""
    digest = hashlib.sha256()
    columns = ["relative_path", "size_bytes", "mtime_ns", "etag"]
    for path, size, mtime, etag in files.select(columns).sort("relative_path").iter_rows():
        digest.update(f"{path}\0{size}\0{mtime}\0{'' if etag is None else etag + chr(0)}".encode())
    return digest.hexdigest()[:32]


@dataclass
class TreeListing:
    """Every image folder of a tree, by name and in the order of the names, and what was passed over in all of it.

    Attributes:
        unlisted: directories (and files) that can't be examined, relative to the root, and why: what is at or below
            one is not known to be gone.
    """

    folders: dict[str, FolderListing]
    passed_over: Counter[str]
    unlisted: dict[str, str] = field(default_factory=dict)


def list_folders(
    root: Path,
    depth: int | None = None,
    only: Iterable[str] | None = None,
    *,
    within: Iterable[str] | None = None,
    rules: WalkRules | None = None,
) -> TreeListing:
    """List every image folder under ``root``: those that hold at least one candidate.

    Linked folders are not followed unless the rules say so; linked files are taken where they point to a file inside
    the root. Hidden names, and names without an image's extension, are passed over and counted.

    Args:
        root: the images root.
        depth: how many levels name a folder (``FOLDER_DEPTH``); None takes the deepest.
        only: list just these folders; those that do not exist are missing from the answer.
        within: list just these folders and all below them.
        rules: what is not walked into.

    Raises:
        CurationError: the root cannot be listed. A listing that failed is not an empty one.
    """
    _check_root(root)
    scope = Scope(depth, None if only is None else set(only), None if within is None else set(within))
    rules = rules or WalkRules()
    try:
        return _list(Walk(root, rules, *scope.part(root, rules)), scope)
    except LinkMetError:
        return _list(Walk(root, rules), scope)


def list_folder(root: Path, folder: str, depth: int | None = None, *, rules: WalkRules | None = None) -> FolderListing:
    """List one image folder as it is now; one that is gone has no files. As :func:`list_folders` otherwise."""
    tree = list_folders(root, depth, [folder], rules=rules)
    gone = FolderListing(folder, pl.DataFrame(schema=LISTING_SCHEMA))
    listing = tree.folders.get(folder, gone)
    listing.unlisted = tree.unlisted
    return listing


def at_or_below(paths: pl.Series, places: Collection[str]) -> pl.Series:
    """Which of some relative paths are, or lie below, one of some directories or files."""
    if not places:
        return pl.repeat(False, len(paths), dtype=pl.Boolean, eager=True)
    if "" in places:
        return pl.repeat(True, len(paths), dtype=pl.Boolean, eager=True)
    directories = directories_of(paths)
    inside = [each for each in directories.unique() if any(above in places for above in and_above(each))]
    return directories.is_in(inside) | paths.is_in(list(places))


def directories_of(paths: pl.Series) -> pl.Series:
    """The directory of each relative path; ``""`` is the root."""
    return paths.str.replace("/?[^/]*$", "")


def and_above(relative_dir: str) -> list[str]:
    """The directories on the way to one, and that itself; not the root."""
    parts = relative_dir.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


@dataclass
class Scope:
    """What of a tree is wanted: some folders, some with all below them, or all."""

    depth: int | None
    only: set[str] | None
    within: set[str] | None

    def part(self, root: Path, rules: WalkRules) -> tuple[Collection[str], Callable[[str, str], bool]]:
        """Where to look, and how far: in their own place, or everywhere for a folder whose name had to be cut."""
        wanted = self.only if self.only is not None else self.within
        if wanted is None or any("~" in folder for folder in wanted):
            return [""], everywhere
        starts = {"" if folder == ROOT_FOLDER else folder for folder in wanted if folder}
        reached = {start for start in starts if is_reached(root, rules, start)}
        if self.only is not None:
            return sorted(reached), self._is_same_folder
        below_another = {start for start in reached if not reached.isdisjoint(and_above(start)[:-1])}
        return sorted(reached - below_another), _is_below_the_root

    def _is_same_folder(self, below: str, above: str) -> bool:
        return folder_of(below, self.depth) == folder_of(above, self.depth)

    def folder(self, relative_dir: str) -> str | None:
        """The image folder that a directory is of; None where it isn't wanted."""
        folder = folder_of(relative_dir, self.depth)
        if self.only is not None:
            return folder if folder in self.only else None
        if self.within is None or folder in self.within:
            return folder
        levels = len(relative_dir.split("/")) if self.depth is None else self.depth
        above = and_above(relative_dir)[:levels]
        return folder if any(each in self.within for each in above) else None

    def holds(self, place: str) -> bool:
        """Whether a directory that can't be listed may hold something that is wanted."""
        wanted = self.only if self.only is not None else self.within
        if wanted is None or self.folder(place) is not None:
            return True
        return any("~" in each or is_within(each, place) for each in wanted)


def _is_below_the_root(_below: str, above: str) -> bool:
    return above != ""


def _list(walk: Walk, scope: Scope) -> TreeListing:
    collected: dict[str, _Collector] = {}
    real_root = os.path.realpath(walk.root)
    for directory in walk:
        folder = scope.folder(directory.relative)
        if folder is None:
            continue
        collector = collected.setdefault(folder, _Collector(folder))
        walk.unlisted |= collector.add(directory, None if walk.rules.follow_links else real_root)
    if "" in walk.unlisted:
        raise CurationError(f"images root {walk.root} cannot be listed: {walk.unlisted['']}")
    unlisted = {place: walk.unlisted[place] for place in sorted(walk.unlisted) if scope.holds(place)}
    unlisted = {
        place: reason
        for place, reason in unlisted.items()
        if not any(above in unlisted for above in and_above(place)[:-1])
    }
    folders = {name: collected[name].listing() for name in sorted(collected) if collected[name].paths}
    for place, reason in unlisted.items():
        if (of := folders.get(folder_of(place, scope.depth))) is not None:
            of.unlisted[place] = reason
    passed_over = sum((collector.passed_over for collector in collected.values()), Counter[str]())
    return TreeListing(folders, passed_over, unlisted)


def table_ns(nanoseconds: int) -> int:
    """A file's time as the tables hold it: a time after the year 2262, which file systems allow, is cut to that."""
    return max(-(2**63), min(nanoseconds, 2**63 - 1))


@dataclass(frozen=True)
class FileTimes:
    """What a file system says of a file: bytes, and when content and inode last changed, in nanoseconds since 1970.

    Attributes:
        etag: as of :class:`ListedFile`.
    """

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    etag: str | None = None

    @classmethod
    def of(cls, status: os.stat_result) -> FileTimes:
        """As the tables hold it."""
        return cls(status.st_size, table_ns(status.st_mtime_ns), table_ns(status.st_ctime_ns))


def is_candidate(name: str) -> bool:
    """Whether a file's name says it is an image; what it really is shows when it is read."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in CANDIDATE_SUFFIXES


def why_no_candidate(name: str) -> str:
    """For people: why a file is passed over, as its name says."""
    if name.lower().endswith(_PLACEHOLDERS):
        return "placeholder of a cloud, to be downloaded first"
    if name.startswith("."):
        return "hidden"
    is_raw = os.path.splitext(name)[1].lower() in RAW_SUFFIXES
    return "raw photograph, to be developed first" if is_raw else "not an image name"


class _Collector:
    """Rows of one folder while the walk goes on; plain lists, a few hundred bytes a file."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.paths: list[str] = []
        self.sizes: list[int | None] = []
        self.mtimes: list[int | None] = []
        self.ctimes: list[int | None] = []
        self.passed_over: Counter[str] = Counter()
        self.changed_ns = 0

    def add(self, directory: Directory, real_root: str | None) -> dict[str, str]:
        """Take what is a candidate of a directory.

        Args:
            real_root: that linked files have to lie in; None takes those out of it too.

        Returns:
            What can't be examined, and why: a file, or all of the directory where no file can be.
        """
        with suppress(OSError):
            self.changed_ns = max(self.changed_ns, directory.path.stat().st_ctime_ns)
        self.passed_over += directory.passed_over
        before = len(self.paths)
        failed: dict[str, str] = {}
        examined = False
        for entry in directory.entries:
            if not self._is_wanted(entry, real_root):
                continue
            path = joined(directory.relative, text_from_path(entry.name))
            size: int | None
            mtime: int | None
            ctime: int | None
            try:
                status = entry.stat()
                times = FileTimes.of(status)
                size, mtime, ctime = times.size_bytes, times.mtime_ns, times.ctime_ns
                if not stat.S_ISREG(status.st_mode):
                    size = 0
                self.changed_ns = max(self.changed_ns, ctime)
                examined = True
            except OSError as error:
                # A link that leads nowhere is a file that can't be read. Of anything else the directory or disk fails.
                if not isinstance(error, FileNotFoundError) and not entry.is_symlink():
                    failed[path] = error.strerror or str(error)
                    continue
                size = mtime = ctime = None
            self.paths.append(path)
            self.sizes.append(size)
            self.mtimes.append(mtime)
            self.ctimes.append(ctime)
        if not failed or examined:
            return failed
        del self.paths[before:]
        for column in (self.sizes, self.mtimes, self.ctimes):
            del column[before:]
        return {directory.relative: next(iter(failed.values()))}

    def _is_wanted(self, entry: os.DirEntry[str], real_root: str | None) -> bool:
        if not is_candidate(entry.name):
            is_broken = entry.is_symlink() and not os.path.exists(entry.path) and not entry.name.startswith(".")
            self.passed_over["broken link" if is_broken else why_no_candidate(entry.name)] += 1
            return False
        if real_root is not None and entry.is_symlink() and not is_within(os.path.realpath(entry.path), real_root):
            self.passed_over["link out of the root"] += 1
            return False
        return True

    def listing(self) -> FolderListing:
        tags = [None] * len(self.paths)
        columns = dict(zip(LISTING_SCHEMA, (self.paths, self.sizes, self.mtimes, self.ctimes, tags), strict=True))
        files = pl.DataFrame(columns, schema=LISTING_SCHEMA).sort("relative_path")
        return FolderListing(self.folder, files, self.passed_over, self.changed_ns)


def _check_root(root: Path) -> None:
    """A root that isn't there must not look like folders that are gone."""
    try:
        with os.scandir(root):
            pass
    except OSError as error:
        reason = error.strerror
        if os.path.islink(root):
            what = "it is a broken link to" if not os.path.exists(root) else "it is a link to"
            reason = f"{reason}; {what} {os.readlink(root)}"
        hint = needed(root) or "set CURATION_IMAGES_ROOT or --images to a folder of image folders"
        raise CurationError(f"images root {root} cannot be listed: {reason}; {hint}") from None
