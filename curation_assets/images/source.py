"""Where photographs lie, and the one way to list and read them. Nothing here knows what is in a file.

The one implementation is a tree of folders on a local or mounted file system; what is above knows only
:class:`ImageSource`. A file has a key (``relative_path``) and a location (the tables' ``file_path``), both as text.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from curation_assets.images import listing
from curation_assets.images.listing import FileTimes, FolderListing, TreeListing
from curation_assets.images.names import file_path, path_from_text, text_from_path


class ImageSource(Protocol):
    """One tree of image folders. It can be pickled; every process that reads sees the same files under its keys."""

    @property
    def location(self) -> str:
        """Of the tree: what every file's location begins with, before a ``/`` and the key."""

    def list_folders(self, only: Iterable[str] | None = None) -> TreeListing:
        """Every image folder, or those of some that are there.

        Raises:
            CurationError: a folder can't be listed. A listing that failed is not an empty one.
        """

    def list_folder(self, folder: str) -> FolderListing:
        """One image folder; one that is gone holds no files.

        Raises:
            CurationError: it can't be listed.
        """

    def location_of(self, relative_path: str) -> str:
        """A file's location."""

    def read(self, relative_path: str) -> bytes:
        """A file's bytes.

        Raises:
            OSError: it can't be opened or read, or isn't a regular file.
        """

    def times(self, relative_path: str) -> FileTimes:
        """A file's size and times as they are now.

        Raises:
            OSError: it can't be examined.
        """


@dataclass(frozen=True)
class LocalTree:
    """A tree of folders on a local or mounted file system.

    Attributes:
        root: the images root.
        depth: how many levels name a folder (``FOLDER_DEPTH``); None takes the deepest.
    """

    root: Path
    depth: int | None = None

    @property
    def location(self) -> str:  # noqa: D102
        return text_from_path(str(self.root)).rstrip("/")

    def list_folders(self, only: Iterable[str] | None = None) -> TreeListing:  # noqa: D102
        return listing.list_folders(self.root, self.depth, only)

    def list_folder(self, folder: str) -> FolderListing:  # noqa: D102
        return listing.list_folder(self.root, folder, self.depth)

    def location_of(self, relative_path: str) -> str:  # noqa: D102
        return text_from_path(file_path(self.root, relative_path))

    def read(self, relative_path: str) -> bytes:  # noqa: D102
        return read_bytes(file_path(self.root, relative_path))

    def times(self, relative_path: str) -> FileTimes:  # noqa: D102
        return FileTimes.of(os.stat(file_path(self.root, relative_path)))


def read_location(location: str) -> bytes:
    """Bytes of the file at a location, whichever source it is of.

    Raises:
        OSError: as :meth:`ImageSource.read`.
    """
    return read_bytes(path_from_text(location))


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
