"""Where photographs lie, and the one way to list and read them. Nothing here knows what is in a file.

A tree of folders on a local or mounted file system (:class:`LocalTree`), or the keys of an object store
(``images/store_tree.py``); what is above knows only :class:`ImageSource`. A file has a key (``relative_path``) and a
location (the tables' ``file_path``), both as text.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from curation_assets.images import listing
from curation_assets.images.listing import FileTimes, FolderListing, ListedFile, TreeListing
from curation_assets.images.names import file_path, path_from_text, text_from_path
from curation_assets.images.walk import WalkRules
from curation_assets.stores.address import is_address


@dataclass(frozen=True)
class FileRead:
    """What reading a listed file gave.

    Attributes:
        now: what the file is, where that isn't what was listed; its size may be yet another than that of ``data``.
    """

    data: bytes
    now: FileTimes | None = None


class FileReader(Protocol):
    """Reads files that were listed."""

    def location_of(self, relative_path: str) -> str:
        """A file's location."""

    def read_listed(self, listed: ListedFile) -> FileRead:
        """As :meth:`ImageSource.read_listed`."""


class ImageSource(Protocol):
    """One tree of image folders. It can be pickled; every process that reads sees the same files under its keys."""

    @property
    def location(self) -> str:
        """Of the tree: what every file's location begins with, before a ``/`` and the key."""

    def list_folders(self, only: Iterable[str] | None = None, *, within: Iterable[str] | None = None) -> TreeListing:
        """Every image folder, those of some that are there, or some with all below them.

        Raises:
            CurationError: the tree can't be listed. A listing that failed is not an empty one.
        """

    def list_folder(self, folder: str) -> FolderListing:
        """One image folder; one that is gone holds no files.

        Raises:
            CurationError: the tree can't be listed; where only the folder can't be, ``unlisted`` says so.
        """

    def stands(self, relative_dir: str) -> bool:
        """Whether there is a directory, or a link in its place, which photographs are looked for in."""

    def broken_link(self, relative_dir: str) -> str | None:
        """The link that leads nowhere on the way to a directory; None where there is none."""

    def why_not_listed(self, relative_dir: str) -> str | None:
        """For people: what keeps a directory that is there from being listed; None where nothing does."""

    def location_of(self, relative_path: str) -> str:
        """A file's location."""

    def read(self, relative_path: str) -> bytes:
        """A file's bytes.

        Raises:
            OSError: it can't be opened or read, or isn't a regular file.
        """

    def read_listed(self, listed: ListedFile) -> FileRead:
        """A listed file's bytes, and what it is by now.

        Raises:
            OSError: as :meth:`read`.
        """

    def begun(self, files: Iterable[ListedFile]) -> FileReader:
        """A reader of some files, which will be asked for soon; where reading takes long it has begun by then."""

    def begun_at(self, location: str) -> Callable[[], bytes]:
        """Gives the bytes of the file at a location that a table tells, also where the tree lay elsewhere then.

        Where reading takes long it has begun. What it gives raises ``OSError``, as :meth:`read` does.
        """

    def size_at(self, location: str) -> int:
        """Its bytes.

        Raises:
            OSError: it can't be examined.
        """

    def times(self, relative_path: str) -> FileTimes:
        """A file's size and times as they are now.

        Raises:
            OSError: it can't be examined.
        """

    def is_there(self, relative_path: str) -> bool:
        """Whether there is a file, or a link in its place, whether or not it can be read."""

    def delete(self, relative_path: str) -> None:
        """Delete a file; one that isn't there is no error.

        Raises:
            OSError: it can't be deleted.
        """

    def on_disk(self, relative_path: str) -> str | None:
        """Path of a file for whoever links or copies it; None where it lies on no disk."""


@dataclass(frozen=True)
class LocalTree:
    """A tree of folders on a local or mounted file system.

    Attributes:
        root: the images root.
        depth: how many levels name a folder (``FOLDER_DEPTH``); None takes the deepest.
        rules: what of the tree is not walked into.
    """

    root: Path
    depth: int | None = None
    rules: WalkRules = field(default_factory=WalkRules)

    @property
    def location(self) -> str:  # noqa: D102
        return text_from_path(str(self.root)).rstrip("/")

    def list_folders(  # noqa: D102
        self, only: Iterable[str] | None = None, *, within: Iterable[str] | None = None
    ) -> TreeListing:
        return listing.list_folders(self.root, self.depth, only, within=within, rules=self.rules)

    def list_folder(self, folder: str) -> FolderListing:  # noqa: D102
        return listing.list_folder(self.root, folder, self.depth, rules=self.rules)

    def stands(self, relative_dir: str) -> bool:  # noqa: D102
        path = file_path(self.root, relative_dir)
        is_own = os.path.realpath(path) in self.rules.own
        return (os.path.isdir(path) or os.path.islink(path)) and not is_own and not self.rules.leaves_out(relative_dir)

    def broken_link(self, relative_dir: str) -> str | None:  # noqa: D102
        for above, path in self._on_the_way(relative_dir):
            if os.path.islink(path) and not os.path.exists(path):
                return above
        return None

    def why_not_listed(self, relative_dir: str) -> str | None:  # noqa: D102
        for above, path in self._on_the_way(relative_dir):
            if os.path.islink(path):
                link = f"{above!r} is a link to {text_from_path(os.readlink(path))!r}"
                if not os.path.exists(path):
                    return f"{link}, which isn't there"
                if not self.rules.follow_links:
                    return f"{link}, and links are not followed (CURATION_FOLLOW_LINKS)"
                return f"{link}, which holds no images or is listed by another name"
            if os.path.isdir(path) and self.rules.leaves_out(above):
                return f"{above!r} is left out by CURATION_LEAVE_OUT"
            if os.path.realpath(path) in self.rules.own:
                return f"{above!r} is a folder of this program"
        return None

    def _on_the_way(self, relative_dir: str) -> Iterator[tuple[str, str]]:
        """Each directory from the root's own to this one, and its path."""
        parts = relative_dir.split("/")
        for end in range(1, len(parts) + 1):
            above = "/".join(parts[:end])
            yield above, file_path(self.root, above)

    def location_of(self, relative_path: str) -> str:  # noqa: D102
        return text_from_path(file_path(self.root, relative_path))

    def read(self, relative_path: str) -> bytes:  # noqa: D102
        return read_bytes(file_path(self.root, relative_path))

    def read_listed(self, listed: ListedFile) -> FileRead:  # noqa: D102
        data = self.read(listed.relative_path)
        return FileRead(data, None if len(data) == listed.size_bytes else self.times(listed.relative_path))

    def begun(self, files: Iterable[ListedFile]) -> FileReader:  # noqa: ARG002, D102
        return self

    def begun_at(self, location: str) -> Callable[[], bytes]:  # noqa: D102
        return lambda: read_bytes(local_path(location))

    def size_at(self, location: str) -> int:  # noqa: D102
        return os.stat(local_path(location)).st_size

    def times(self, relative_path: str) -> FileTimes:  # noqa: D102
        return FileTimes.of(os.stat(file_path(self.root, relative_path)))

    def is_there(self, relative_path: str) -> bool:  # noqa: D102
        return os.path.lexists(file_path(self.root, relative_path))

    def delete(self, relative_path: str) -> None:  # noqa: D102
        Path(file_path(self.root, relative_path)).unlink(missing_ok=True)

    def on_disk(self, relative_path: str) -> str | None:  # noqa: D102
        return file_path(self.root, relative_path)


def local_path(location: str) -> str:
    """Path of the file at a location that a table tells.

    Raises:
        OSError: it lies on no disk.
    """
    if is_address(location):
        raise OSError(errno.ENOENT, "it lay in an object store when it was scanned; scan the folder again", location)
    return path_from_text(location)


def read_bytes(path: str) -> bytes:
    """Bytes of a regular file, without waiting for a pipe or device that bears an image's name.

    Raises:
        OSError: it can't be opened or read, or isn't a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.readall()
