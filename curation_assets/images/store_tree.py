"""Photographs among the keys of a store: an object store, or a volume that isn't mounted. Many are read at once."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain

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
from curation_assets.images.source import FileRead, FileReader, local_path, read_bytes
from curation_assets.images.store_listing import Sorted, of_folders, walked
from curation_assets.images.walk import LEFT_OUT_REASON, OWN_REASON, WalkRules
from curation_assets.stores.keys import Enter, KeyFacts, KeyStore, NotListedError, OddKeyError

_READS = 64  # files at once


@dataclass(frozen=True)
class StoreTree:
    """Photographs among the keys of a store; what lies between two ``/`` of a key is a folder.

    Attributes:
        keys: below the images root.
        depth: as of :class:`LocalTree`.
        rules: the same; ``own`` are locations here.
    """

    keys: KeyStore
    depth: int | None = None
    rules: WalkRules = field(default_factory=WalkRules)

    @property
    def location(self) -> str:  # noqa: D102
        return str(self.keys.address)

    def list_folders(  # noqa: D102
        self, only: Iterable[str] | None = None, *, within: Iterable[str] | None = None
    ) -> TreeListing:
        scope = Scope(self.depth, None if only is None else set(only), None if within is None else set(within))
        found = Sorted(scope, self.left_out)
        with self._listed():
            try:
                for keys in self._wanted(scope, found.enters):
                    found.add(keys)
            except OddKeyError:
                found = Sorted(scope, self.left_out)
                for place, keys_or_why in walked(self.keys):
                    if isinstance(keys_or_why, str):
                        found.unlisted[place] = keys_or_why
                    else:
                        found.add(keys_or_why)
            if not found.keys and not found.unlisted and not self.keys.holds(""):
                raise NotListedError("there is nothing below it")
        return found.tree()

    @contextmanager
    def _listed(self) -> Iterator[None]:
        try:
            yield
        except NotListedError as error:
            raise CurationError(f"images root {self.location} cannot be listed: {error}") from None

    def _wanted(self, scope: Scope, enter: Enter) -> Iterator[pl.DataFrame]:
        """Keys among which are all of a scope."""
        wanted = scope.only if scope.only is not None else scope.within
        if wanted is None or any("~" in folder for folder in wanted):
            return self.keys.everything(enter)
        places = {"" if folder == ROOT_FOLDER else folder for folder in wanted if folder}
        places = {place for place in places if self._is_key(place) and self.left_out(place) is None}
        if scope.only is None:
            deep = {each for each in places if each and not any(above in places for above in and_above(each)[:-1])}
        else:
            deep = {each for each in places if each and self.depth == each.count("/") + 1}
            places -= deep
        shallow = places & {""} if scope.only is None else places
        return chain(
            of_folders(self.keys, sorted(deep), enter, is_deep=True),
            of_folders(self.keys, sorted(shallow), enter, is_deep=False),
        )

    @staticmethod
    def _is_key(relative_dir: str) -> bool:
        return not relative_dir or all(part not in ("", ".", "..") for part in relative_dir.split("/"))

    def list_folder(self, folder: str) -> FolderListing:  # noqa: D102
        tree = self.list_folders([folder])
        listing = tree.folders.get(folder, FolderListing(folder, pl.DataFrame(schema=LISTING_SCHEMA)))
        listing.unlisted = tree.unlisted
        return listing

    def stands(self, relative_dir: str) -> bool:  # noqa: D102
        if not self._is_key(relative_dir) or self.why_not_listed(relative_dir) is not None:
            return False
        with self._listed():
            return self.keys.holds(path_from_text(relative_dir))

    def broken_link(self, relative_dir: str) -> str | None:  # noqa: ARG002, D102
        return None

    def why_not_listed(self, relative_dir: str) -> str | None:  # noqa: D102
        why = self.left_out(relative_dir)
        return None if why is None else f"{why[0]!r}: {why[1]}"

    def location_of(self, relative_path: str) -> str:  # noqa: D102
        return f"{self.location}/{relative_path}"

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
        if (held := self.keys.holding(location)) is None:
            return lambda: read_bytes(local_path(location))
        keys, name = held
        return _readers(os.getpid()).submit(replace(self, keys=keys).read, name).result

    def size_at(self, location: str) -> int:  # noqa: D102
        if (held := self.keys.holding(location)) is None:
            return os.stat(local_path(location)).st_size
        keys, name = held
        return keys.head(path_from_text(name)).size_bytes

    def times(self, relative_path: str) -> FileTimes:  # noqa: D102
        return _times(self.keys.head(path_from_text(relative_path)))

    def is_there(self, relative_path: str) -> bool:  # noqa: D102
        try:
            self.times(relative_path)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def delete(self, relative_path: str) -> None:  # noqa: D102
        with suppress(FileNotFoundError):
            self.keys.delete(path_from_text(relative_path))

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

    def _get(self, relative_path: str) -> FileRead:
        data, facts = self.keys.get(path_from_text(relative_path))
        if len(data) != facts.size_bytes:
            said = f"{len(data):,} of {facts.size_bytes:,} bytes came"
            raise OSError(errno.EIO, said, self.location_of(relative_path))
        return FileRead(data, _times(facts))


def _times(facts: KeyFacts) -> FileTimes:
    return FileTimes(facts.size_bytes, facts.mtime_ns, facts.mtime_ns, facts.etag)


def _same(now: FileTimes, listed: ListedFile) -> bool:
    """Whether an answer is of what was listed. Its time is of whole seconds, and a listing's may be finer."""
    if now.size_bytes != listed.size_bytes:
        return False
    if now.etag is not None and listed.etag is not None:
        return now.etag == listed.etag
    return listed.mtime_ns is not None and abs(now.mtime_ns - listed.mtime_ns) < 10**9


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
