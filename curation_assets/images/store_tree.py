"""Photographs in an object store: keys below a prefix, read many at once."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import polars as pl

from curation_assets.errors import CurationError
from curation_assets.images.listing import (
    LISTING_SCHEMA,
    FileTimes,
    FolderListing,
    ListedFile,
    Scope,
    TreeListing,
    and_above,
)
from curation_assets.images.names import ROOT_FOLDER, path_from_text
from curation_assets.images.source import FileRead, FileReader, read_bytes
from curation_assets.images.store_listing import KeyListing, OddKeyError, Sorted
from curation_assets.images.walk import LEFT_OUT_REASON, OWN_REASON, WalkRules
from curation_assets.stores.address import StoreAddress, is_address
from curation_assets.stores.conditional import tag_of
from curation_assets.stores.errors import explained_store
from curation_assets.stores.opening import open_store
from curation_assets.stores.options import StorageOptions

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_READS = 64  # files at once


@dataclass(frozen=True)
class StoreTree:
    """Photographs in an object store; what lies between two ``/`` of a key is a folder.

    Attributes:
        address: the images root.
        depth: as of :class:`LocalTree`.
        rules: the same; ``own`` are addresses here.
    """

    address: StoreAddress
    options: StorageOptions
    depth: int | None = None
    rules: WalkRules = field(default_factory=WalkRules)

    @property
    def location(self) -> str:  # noqa: D102
        return str(self.address)

    def list_folders(  # noqa: D102
        self, only: Iterable[str] | None = None, *, within: Iterable[str] | None = None
    ) -> TreeListing:
        scope = Scope(self.depth, None if only is None else set(only), None if within is None else set(within))
        listing, found = KeyListing(self.address, self.options), Sorted(scope, self.left_out)
        try:
            for keys in self._wanted(listing, scope):
                found.add(keys)
        except OddKeyError:
            found = Sorted(scope, self.left_out)
            for place, keys_or_why in listing.walked():
                if isinstance(keys_or_why, str):
                    found.unlisted[place] = keys_or_why
                else:
                    found.add(keys_or_why)
        if not found.keys and not found.unlisted and not self._holds(""):
            raise CurationError(f"images root {self.address} cannot be listed: there is nothing below it")
        return found.tree()

    def _wanted(self, listing: KeyListing, scope: Scope) -> Iterator[pl.DataFrame]:
        """Keys among which are all of a scope."""
        wanted = scope.only if scope.only is not None else scope.within
        if wanted is None or any("~" in folder for folder in wanted):
            return listing.everything()
        places = {"" if folder == ROOT_FOLDER else folder for folder in wanted if folder}
        places = {place for place in places if self._is_key(place) and self.left_out(place) is None}
        if scope.only is None:
            deep = {each for each in places if each and not any(above in places for above in and_above(each)[:-1])}
        else:
            deep = {each for each in places if each and self.depth == each.count("/") + 1}
            places -= deep
        shallow = places & {""} if scope.only is None else places
        return chain(listing.of(sorted(deep), is_deep=True), listing.of(sorted(shallow), is_deep=False))

    @staticmethod
    def _is_key(relative_dir: str) -> bool:
        return not relative_dir or all(part not in ("", ".", "..") for part in relative_dir.split("/"))

    def list_folder(self, folder: str) -> FolderListing:  # noqa: D102
        tree = self.list_folders([folder])
        listing = tree.folders.get(folder, FolderListing(folder, pl.DataFrame(schema=LISTING_SCHEMA)))
        listing.unlisted = tree.unlisted
        return listing

    def stands(self, relative_dir: str) -> bool:  # noqa: D102
        return self._holds(relative_dir) and self.why_not_listed(relative_dir) is None

    def broken_link(self, relative_dir: str) -> str | None:  # noqa: ARG002, D102
        return None

    def why_not_listed(self, relative_dir: str) -> str | None:  # noqa: D102
        why = self.left_out(relative_dir)
        return None if why is None else f"{why[0]!r}: {why[1]}"

    def location_of(self, relative_path: str) -> str:  # noqa: D102
        return f"{self.address}/{relative_path}"

    def read(self, relative_path: str) -> bytes:  # noqa: D102
        return self._get(relative_path).data

    def read_listed(self, listed: ListedFile) -> FileRead:  # noqa: D102
        found = self._get(listed.relative_path)
        is_listed = found.now is not None and _same(found.now, listed)
        return FileRead(found.data) if is_listed else found

    def begun(self, files: Iterable[ListedFile]) -> FileReader:  # noqa: D102
        pool = _readers(os.getpid())
        return _Begun(self, {file.relative_path: pool.submit(self.read_listed, file) for file in files})

    def begun_at(self, location: str) -> Callable[[], bytes]:  # noqa: D102
        if not is_address(location):
            return lambda: read_bytes(path_from_text(location))
        tree, name = self._holding(location)
        return _readers(os.getpid()).submit(tree.read, name).result

    def size_at(self, location: str) -> int:  # noqa: D102
        if not is_address(location):
            return os.stat(path_from_text(location)).st_size
        tree, name = self._holding(location)
        return tree.times(name).size_bytes

    def times(self, relative_path: str) -> FileTimes:  # noqa: D102
        import obstore

        with self._explained(relative_path):
            return _times(obstore.head(self._store, self._key(relative_path)))

    def is_there(self, relative_path: str) -> bool:  # noqa: D102
        try:
            self.times(relative_path)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def delete(self, relative_path: str) -> None:  # noqa: D102
        import obstore

        with suppress(FileNotFoundError), self._explained(relative_path):
            obstore.delete(self._store, self._key(relative_path))

    def on_disk(self, relative_path: str) -> str | None:  # noqa: ARG002, D102
        return None

    def left_out(self, relative_dir: str) -> tuple[str, str] | None:
        """What on the way to a directory, it included, is not looked into, and why; None where there is nothing."""
        for above in and_above(relative_dir) if relative_dir else ():
            if above.rpartition("/")[2].startswith("."):
                return above, "hidden"
            if self.rules.leaves_out(above):
                return above, LEFT_OUT_REASON
            if self.location_of(above) in self.rules.own:
                return above, OWN_REASON
        return None

    def _holding(self, location: str) -> tuple[StoreTree, str]:
        """A tree that a location lies in, and what it is called there."""
        below = self.address.below(location)
        if below is not None:
            return self, below
        above, _, name = location.rpartition("/")
        return replace(self, address=StoreAddress.parse(above)), name

    @property
    def _store(self) -> ObjectStore:
        return open_store(self.address.root, self.options)

    def _key(self, relative_path: str) -> str:
        return self.address.key(path_from_text(relative_path))

    def _holds(self, relative_dir: str) -> bool:
        """Whether any key lies below a directory."""
        keys = KeyListing(self.address, self.options)
        return self._is_key(relative_dir) and any(len(frame) for frame in keys.below(path_from_text(relative_dir)))

    def _explained(self, relative_path: str) -> AbstractContextManager[None]:
        return explained_store(self.address / relative_path, self.options)

    def _get(self, relative_path: str) -> FileRead:
        import obstore

        with self._explained(relative_path):
            found = obstore.get(self._store, self._key(relative_path))
            data = found.bytes().to_bytes()
            times = _times(found.meta)
        if len(data) != times.size_bytes:
            raise OSError(
                errno.EIO, f"{len(data):,} of {times.size_bytes:,} bytes came", self.location_of(relative_path)
            )
        return FileRead(data, times)


def _times(meta: Mapping[str, Any]) -> FileTimes:
    ns = _ns(meta["last_modified"])
    return FileTimes(meta["size"], ns, ns, tag_of(meta["e_tag"] or meta["version"]))


def _ns(time: datetime) -> int:
    return round(time.timestamp() * 1_000_000) * 1000


def _same(now: FileTimes, listed: ListedFile) -> bool:
    """Whether an answer is of what was listed. Its time is of whole seconds, and a listing's may be finer."""
    if now.size_bytes != listed.size_bytes:
        return False
    if now.etag is not None and listed.etag is not None:
        return now.etag == listed.etag
    return listed.mtime_ns is not None and now.mtime_ns // 10**9 == listed.mtime_ns // 10**9


@dataclass(frozen=True)
class _Begun:
    """Reads that have begun."""

    tree: StoreTree
    reads: Mapping[str, Future[FileRead]]

    def location_of(self, relative_path: str) -> str:
        return self.tree.location_of(relative_path)

    def read_listed(self, listed: ListedFile) -> FileRead:
        return self.reads[listed.relative_path].result()


@lru_cache(maxsize=1)
def _readers(_process: int) -> ThreadPoolExecutor:
    """Threads that wait for answers, of this process."""
    return ThreadPoolExecutor(_READS, "store")
