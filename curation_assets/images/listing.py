"""Which image files a tree holds, folder by folder, without opening any of them."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from curation_assets.errors import CurationError
from curation_assets.images.names import ROOT_FOLDER, folder_of, path_from_text, text_from_path

CANDIDATE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif", ".avif"}
)
LISTING_SCHEMA = {
    "relative_path": pl.String,
    "size_bytes": pl.Int64,
    "mtime_ns": pl.Int64,
    "ctime_ns": pl.Int64,
}


@dataclass
class FolderListing:
    """The candidate files of one image folder at one moment.

    Attributes:
        folder: value of the tables' ``folder`` column.
        files: one row a file, columns of ``LISTING_SCHEMA``, sorted by ``relative_path``. A file that could not be
            examined has null size and times: reading it will say why.
        passed_over: how many entries were no candidates, by reason.
        changed_ns: newest change (file or directory) the file system reports, in nanoseconds since 1970.
    """

    folder: str
    files: pl.DataFrame
    passed_over: Counter[str] = field(default_factory=Counter)
    changed_ns: int = 0

    @property
    def size_bytes(self) -> int:
        """Of all its files together."""
        return int(self.files["size_bytes"].sum())

    @property
    def fingerprint(self) -> str:
        """Changes whenever a name, size or modification time does; the same as the table's (see below)."""
        return fingerprint(self.files)

    def settled(self, seconds: float, now_ns: int | None = None) -> bool:
        """Whether nothing changed for ``seconds``; a clock ahead of ours by over a day is not waited for."""
        age = ((now_ns or time.time_ns()) - self.changed_ns) / 1e9
        return age >= seconds or age < -86_400


def fingerprint(files: pl.DataFrame) -> str:
    """32 hex digits over (relative_path, size_bytes, mtime_ns) of every row, whatever their order."""
    digest = hashlib.sha256()
    columns = ["relative_path", "size_bytes", "mtime_ns"]
    for path, size, mtime in files.select(columns).sort("relative_path").iter_rows():
        digest.update(f"{path}\0{size}\0{mtime}\0".encode())
    return digest.hexdigest()[:32]


@dataclass
class TreeListing:
    """Every image folder of a tree, by name and in the order of the names, and what was passed over in all of it."""

    folders: dict[str, FolderListing]
    passed_over: Counter[str]


def list_folders(root: Path, depth: int | None = None, only: Iterable[str] | None = None) -> TreeListing:
    """List every image folder under ``root``: those that hold at least one candidate.

    Symlinked folders are not followed; symlinked files are taken where they point to a file inside the root. Hidden
    names, and names without an image's extension, are passed over and counted.

    Args:
        root: the images root.
        depth: how many levels name a folder (``FOLDER_DEPTH``); None takes the deepest.
        only: list just these folders; those that do not exist are missing from the answer.

    Raises:
        CurationError: the root or a folder below it cannot be listed. A listing that failed is not an empty one.
    """
    _check_root(root)
    starts = [""] if only is None else _starts(root, set(only))
    wanted = None if only is None else set(only)
    collected: dict[str, _Collector] = {}
    passed_over: Counter[str] = Counter()
    real_root = os.path.realpath(root)
    for relative_dir, entries in _walk(root, starts, depth, wanted):
        folder = folder_of(relative_dir, depth)
        if wanted is not None and folder not in wanted:
            continue
        collector = collected.setdefault(folder, _Collector(folder))
        collector.add_directory(root / path_from_text(relative_dir))
        for entry in entries:
            collector.add(relative_dir, entry, real_root)
    for collector in collected.values():
        passed_over += collector.passed_over
    folders = {name: collected[name].listing() for name in sorted(collected) if collected[name].paths}
    return TreeListing(folders, passed_over)


def list_folder(root: Path, folder: str, depth: int | None = None) -> FolderListing:
    """List one image folder as it is now; one that is gone has no files. As :func:`list_folders` otherwise."""
    gone = FolderListing(folder, pl.DataFrame(schema=LISTING_SCHEMA))
    return list_folders(root, depth, [folder]).folders.get(folder, gone)


def table_ns(nanoseconds: int) -> int:
    """A file's time as the tables hold it: a time after the year 2262, which file systems allow, is cut to that."""
    return max(-(2**63), min(nanoseconds, 2**63 - 1))


@dataclass(frozen=True)
class FileTimes:
    """What a file system says of a file: bytes, and when content and inode last changed, in nanoseconds since 1970."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileTimes:
        """As the tables hold it."""
        return cls(status.st_size, table_ns(status.st_mtime_ns), table_ns(status.st_ctime_ns))


def is_candidate(name: str) -> bool:
    """Whether a file's name says it is an image; what it really is shows when it is read."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in CANDIDATE_SUFFIXES


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

    def add_directory(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            self.changed_ns = max(self.changed_ns, path.stat().st_mtime_ns)

    def add(self, relative_dir: str, entry: os.DirEntry[str], real_root: str) -> None:
        if entry.name.startswith("."):
            self.passed_over["hidden"] += 1
            return
        if not is_candidate(entry.name):
            self.passed_over["not an image name"] += 1
            return
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if os.path.isdir(target):
                self.passed_over["link to a folder"] += 1
                return
            if os.path.commonpath([target, real_root]) != real_root:
                self.passed_over["link out of the root"] += 1
                return
        size: int | None
        mtime: int | None
        ctime: int | None
        try:
            status = entry.stat()
            times = FileTimes.of(status)
            size, mtime, ctime = times.size_bytes, times.mtime_ns, times.ctime_ns
            if not stat.S_ISREG(status.st_mode):
                size = 0
            self.changed_ns = max(self.changed_ns, mtime, ctime)
        except OSError:
            size = mtime = ctime = None
        name = text_from_path(entry.name)
        self.paths.append(f"{relative_dir}/{name}" if relative_dir else name)
        self.sizes.append(size)
        self.mtimes.append(mtime)
        self.ctimes.append(ctime)

    def listing(self) -> FolderListing:
        columns = dict(zip(LISTING_SCHEMA, (self.paths, self.sizes, self.mtimes, self.ctimes), strict=True))
        files = pl.DataFrame(columns, schema=LISTING_SCHEMA).sort("relative_path")
        return FolderListing(self.folder, files, self.passed_over, self.changed_ns)


def _check_root(root: Path) -> None:
    """A root that isn't there must not look like folders that are gone."""
    try:
        with os.scandir(root):
            pass
    except OSError as error:
        hint = "; set CURATION_IMAGES_ROOT or --images to a folder of image folders"
        raise CurationError(f"images root {root} cannot be listed: {error.strerror}{hint}") from None


def _starts(root: Path, wanted: set[str]) -> list[str]:
    """Where to look for some folders: in their own place, or everywhere for one whose name had to be cut."""
    if any("~" in folder for folder in wanted):
        return [""]
    return sorted({"" if folder == ROOT_FOLDER else folder for folder in wanted if _is_plain(root, folder)})


def _is_plain(root: Path, folder: str) -> bool:
    """Whether a walk from the root would come to a folder: no ``..``, nothing hidden, no link on the way."""
    parts = path_from_text(folder).split("/")
    if folder != ROOT_FOLDER and any(part.startswith(".") or not part for part in parts):
        return False
    return not any(os.path.islink(os.path.join(root, *parts[:end])) for end in range(1, len(parts) + 1))


def _walk(
    root: Path, starts: list[str], depth: int | None, wanted: set[str] | None
) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Yield (folder below the root as text, its entries that will not be walked into), parents first."""
    pending = list(starts)
    while pending:
        relative_dir = pending.pop()
        try:
            with os.scandir(root / path_from_text(relative_dir)) as scan:
                entries = list(scan)
            folders = [e for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed while the walk went on, or a wanted folder that isn't there
        except OSError as error:
            raise CurationError(f"folder {root / relative_dir} cannot be listed: {error.strerror}") from None
        in_folder = {e.name for e in folders}
        yield relative_dir, [e for e in entries if e.name not in in_folder]
        for entry in folders:
            name = text_from_path(entry.name)
            below = f"{relative_dir}/{name}" if relative_dir else name
            if starts == [""] and wanted != {ROOT_FOLDER}:
                pending.append(below)
            elif folder_of(below, depth) == folder_of(relative_dir, depth):
                pending.append(below)  # part of a folder that reaches deeper
