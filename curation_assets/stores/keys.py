"""What photographs and exports ask of where their keys lie: the one protocol of object stores and unmounted volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from curation_assets.errors import CurationError
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.options import StorageOptions
from curation_assets.stores.volumes import VolumeAddress

AT_ONCE = 16  # requests for pages of keys
KEYS_SCHEMA = {"path": pl.String, "size_bytes": pl.Int64, "mtime_ns": pl.Int64, "etag": pl.String}
Enter = Callable[[str], bool]


class NotListedError(Exception):
    """Keys can't be listed; the message says why, without secrets."""


class NoFolderError(NotListedError):
    """There is no such folder, of a store that has folders."""


class OddKeyError(CurationError):
    """A key that no path can stand for: it has an empty part, one that is ``.`` or ``..``, or a control character."""


@dataclass(frozen=True)
class KeyFacts:
    """What an answer says of a key.

    Attributes:
        mtime_ns: last modification, nanoseconds since 1970; often of whole seconds, where a listing's is finer.
        etag: by which the store tells this version; None where it tells none.
    """

    size_bytes: int
    mtime_ns: int
    etag: str | None = None


class KeyStore(Protocol):
    """Keys below an address, named relative to it.

    It can be pickled: what is sent is the address, and each process opens a client of its own. Frames have the columns
    of ``KEYS_SCHEMA``.
    """

    @property
    def address(self) -> StoreAddress:
        """What the keys lie below."""

    def everything(self, enter: Enter) -> Iterator[pl.DataFrame]:
        """All keys, with several requests at once where there are several directories.

        Args:
            enter: whether a directory is wanted with what lies below it; who lists keys by their prefix doesn't ask.

        Raises:
            NotListedError: they can't be listed.
            OddKeyError: the same, because of one of them.
        """

    def below(self, directory: str, enter: Enter) -> Iterator[pl.DataFrame]:
        """All keys below a directory, page by page; as :meth:`everything`."""

    def right_in(self, directory: str) -> tuple[pl.DataFrame, list[str]]:
        """Keys right in a directory, and the directories in it, sorted; as :meth:`everything`."""

    def holds(self, directory: str) -> bool:
        """Whether there is a directory, as far as such a store has any; as :meth:`everything`."""

    def get(self, name: str) -> tuple[bytes, KeyFacts]:
        """A key's bytes, with one request, and what it is.

        Raises:
            OSError: it is about this key: it isn't there, or may not be read.
            CurationError: nothing more can be had of the store for now.
        """

    def head(self, name: str) -> KeyFacts:
        """What a key is; as :meth:`get`."""

    def put(self, name: str, data: bytes | Path, *, is_new: bool = False) -> bool:
        """Write a key, whole or not at all; as :meth:`get`.

        Args:
            data: bytes, or a file that holds them.
            is_new: leave one alone that is there.

        Returns:
            Whether it was written.
        """

    def delete(self, name: str) -> None:
        """Delete a key; as :meth:`get`."""

    def holding(self, location: str) -> tuple[KeyStore, str] | None:
        """Keys among which a location lies that a table tells, and its name there; None of a file on a disk."""


def keys_at(address: StoreAddress, options: StorageOptions) -> KeyStore:
    """Keys below an address.

    Args:
        options: for object stores; what a workspace is asked with says its own environment.
    """
    from curation_assets.stores.object_keys import ObjectKeys
    from curation_assets.stores.volume_keys import VolumeKeys

    return VolumeKeys(address) if isinstance(address, VolumeAddress) else ObjectKeys(address, options)


def at_once(work: Callable[[Any], Iterable[pl.DataFrame]], each: Iterable[Any]) -> Iterator[pl.DataFrame]:
    """What some work gives of each, several at once."""
    with ThreadPoolExecutor(AT_ONCE, "list") as pool:
        try:
            for frames in pool.map(lambda one: [frame for frame in work(one) if len(frame)], each):
                yield from frames
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
