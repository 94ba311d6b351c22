"""Which images a prefix of an object store holds: pages of keys, many at once, put into folders column by column."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from curation_assets.errors import CurationError, is_panic
from curation_assets.images.listing import (
    CANDIDATE_SUFFIXES,
    LISTING_SCHEMA,
    FolderListing,
    Scope,
    TreeListing,
    directories_of,
    why_no_candidate,
)
from curation_assets.images.names import folder_of, text_from_path
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.errors import reason
from curation_assets.stores.opening import open_store
from curation_assets.stores.options import StorageOptions

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PAGE = 1000  # keys, as the stores give them
_AT_ONCE = 16  # requests
_LOOKED_DOWN = 4  # levels below the root, for one that has several directories
_KEYS = {"path": pl.String, "size_bytes": pl.Int64, "mtime_ns": pl.Int64, "etag": pl.String}
_KEY = re.compile(r'[Pp]ath "(.*?)"[: ]', re.DOTALL)
_PRIVATE_USE = "[\U0010ff80-\U0010ffff]"  # characters that stand for bytes in the tables' texts


class OddKeyError(CurationError):
    """A key that no path can stand for: it has an empty part, one that is ``.`` or ``..``, or a control character."""


@dataclass(frozen=True)
class KeyListing:
    """Lists keys of a bucket below an address: frames with the columns of ``_KEYS``, paths relative to the address."""

    address: StoreAddress
    options: StorageOptions

    def below(self, directory: str = "") -> Iterator[pl.DataFrame]:
        """All keys below a directory, page by page.

        Raises:
            CurationError: they can't be listed; :class:`OddKeyError` because of one of them.
        """
        import obstore

        with self._explained():
            prefix = self.address.key(directory) or None
            for batch in obstore.list(self._store, prefix, chunk_size=_PAGE, return_arrow=True):
                yield self._frame(batch)

    def right_in(self, directory: str) -> tuple[pl.DataFrame, list[str]]:
        """Keys right in a directory, and the directories in it, sorted.

        Raises:
            CurationError: as :meth:`below`.
        """
        import obstore

        with self._explained():
            found = obstore.list_with_delimiter(self._store, self.address.key(directory) or None, return_arrow=True)
            start = len(self.address.key("x")) - 1
            return self._frame(found["objects"]), sorted(each[start:] for each in found["common_prefixes"])

    def everything(self) -> Iterator[pl.DataFrame]:
        """All keys, several pages at once where the tree has several directories.

        Raises:
            CurationError: as :meth:`below`.
        """
        start = ""
        for _ in range(_LOOKED_DOWN):
            files, directories = self.right_in(start)
            if len(directories) != 1 or len(files):
                break
            (start,) = directories
        if not directories:
            yield files
        elif self._is_sorted:
            bounds = sorted(directories, key=lambda each: f"{each}/")[:: -(-len(directories) // _AT_ONCE)]
            ranges = list(pairwise(["", *bounds[1:], ""]))
            yield from _at_once(lambda each: self._between(start, *each), ranges)
        elif len(directories) <= 16 * _AT_ONCE:
            yield files
            yield from _at_once(self.below, directories)
        else:
            yield from self.below(start)

    def walked(self, directory: str = "") -> Iterator[tuple[str, pl.DataFrame | str]]:
        """The same directory by directory, where keys are odd: each with its keys, or why they can't be listed.

        Raises:
            CurationError: as :meth:`below`, for any other reason.
        """
        pending = [directory]
        while pending:
            one = pending.pop()
            try:
                keys, directories = self.right_in(one)
            except OddKeyError as error:
                yield one, str(error)
                continue
            yield one, keys
            pending += directories

    def of(self, folders: Iterable[str], *, is_deep: bool) -> Iterator[pl.DataFrame]:
        """Keys in some directories, or below them.

        Raises:
            CurationError: as :meth:`below`.
        """
        yield from _at_once(self.below if is_deep else lambda each: [self.right_in(each)[0]], folders)

    @property
    def _is_sorted(self) -> bool:
        """Whether keys come in the order of their bytes, from any on: not on Azure, nor in directory buckets."""
        return self.address.scheme in ("s3", "gs") and not self.address.bucket.endswith("--x-s3")

    def _between(self, start: str, lower: str, upper: str) -> Iterator[pl.DataFrame]:
        """Keys below ``start`` from a directory's first one on, before another's; ``""`` is no bound."""
        import obstore

        with self._explained():
            prefix, offset = self.address.key(start) or None, self.address.key(lower) if lower else None
            for batch in obstore.list(self._store, prefix, offset=offset, chunk_size=_PAGE, return_arrow=True):
                frame = self._frame(batch)
                if lower:
                    frame = frame.filter(pl.col("path") >= f"{lower}/")
                inside = frame.filter(pl.col("path") < f"{upper}/") if upper else frame
                yield inside
                if len(inside) < len(frame):
                    return

    def _frame(self, batch: Any) -> pl.DataFrame:
        keys = pl.DataFrame(pl.from_arrow(pa.table(batch)))
        path = pl.col("path").str.slice(len(self.address.key("x")) - 1)
        tag = pl.col("e_tag").str.strip_prefix("W/").str.strip_chars('"')
        return keys.filter(path != "").select(  # the root's own mark
            path=path,
            size_bytes=pl.col("size").cast(pl.Int64),
            mtime_ns=pl.col("last_modified").dt.epoch("ns"),
            etag=pl.coalesce(pl.when(tag != "").then(tag), "version"),
        )

    @property
    def _store(self) -> ObjectStore:
        return open_store(self.address.root, self.options)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from obstore.exceptions import BaseError, InvalidPathError

        try:
            yield
        except InvalidPathError as error:
            key = _KEY.search(str(error))
            named = f" ({key[1]!r})" if key else ""
            said = f"a key{named} has an empty part, '.', '..' or a control character"
            raise OddKeyError(f"{said}: rename it, or delete it") from None
        except BaseException as error:
            if not isinstance(error, BaseError | OSError | ValueError) and not is_panic(error):
                raise
            raise CurationError(f"images root {self.address} cannot be listed: {reason(error, self.options)}") from None


def _at_once(work: Callable[[Any], Iterable[pl.DataFrame]], each: Iterable[Any]) -> Iterator[pl.DataFrame]:
    """What some work gives of each, several at once."""
    with ThreadPoolExecutor(_AT_ONCE, "list") as pool:
        try:
            for frames in pool.map(lambda one: [frame for frame in work(one) if len(frame)], each):
                yield from frames
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass
class Sorted:
    """Keys put into folders, as they come.

    Args:
        scope: what of them is wanted.
        left_out: of a directory, the one on the way to it that is not looked into, and why; None where there is none.

    Attributes:
        keys: how many there were.
        unlisted: directories whose keys can't be listed, and why.
    """

    scope: Scope
    left_out: Callable[[str], tuple[str, str] | None]
    keys: int = 0
    unlisted: dict[str, str] = field(default_factory=dict)
    _frames: list[pl.DataFrame] = field(default_factory=list)
    _passed_over: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _folders: dict[str, str | None] = field(default_factory=dict)
    _closed: set[str] = field(default_factory=set)

    def add(self, keys: pl.DataFrame) -> None:
        """Take some keys."""
        self.keys += len(keys)
        odd = keys["path"].str.contains(_PRIVATE_USE)
        if odd.any():
            path = pl.col("path").map_elements(text_from_path, return_dtype=pl.String)
            keys = keys.with_columns(path=pl.when(odd).then(path).otherwise("path"))
        keys = keys.with_columns(
            _directory=directories_of(keys["path"]), _name=pl.col("path").str.replace("(?s)^.*/", "")
        )
        folders = {each: self._folder(each) for each in keys["_directory"].unique()}
        keys = keys.with_columns(folder=pl.col("_directory").replace_strict(folders, return_dtype=pl.String))
        keys = keys.filter(pl.col("folder").is_not_null())
        suffix = pl.col("_name").str.extract(r"(?s)^.+(\.[^.]*)$").str.to_lowercase()
        is_candidate = suffix.is_in(list(CANDIDATE_SUFFIXES)).fill_null(False) & ~pl.col("_name").str.starts_with(".")
        keys = keys.with_columns(_is_candidate=is_candidate)
        others = keys.filter(~pl.col("_is_candidate") & (pl.col("size_bytes") > 0))  # marks of directories are empty
        for folder, name in others.select("folder", "_name").iter_rows():
            self._passed_over[folder][why_no_candidate(name)] += 1
        rows = keys.filter(pl.col("_is_candidate")).with_columns(relative_path="path", ctime_ns="mtime_ns")
        self._frames.append(rows.select("folder", *LISTING_SCHEMA))

    def tree(self) -> TreeListing:
        """What they are."""
        folders = {}
        if self._frames:
            rows = pl.concat(self._frames).sort("folder", "relative_path")
            for (name,), files in rows.partition_by(
                "folder", as_dict=True, maintain_order=True, include_key=False
            ).items():
                changed = max(files["mtime_ns"].to_list())
                folders[str(name)] = FolderListing(str(name), files, self._passed_over[str(name)], changed)
        unlisted = {place: self.unlisted[place] for place in sorted(self.unlisted) if self.scope.holds(place)}
        for place, why in unlisted.items():
            if (of := folders.get(folder_of(place, self.scope.depth))) is not None:
                of.unlisted[place] = why
        return TreeListing(folders, sum(self._passed_over.values(), Counter[str]()), unlisted)

    def _folder(self, directory: str) -> str | None:
        """The image folder that a directory is of; None where it isn't wanted."""
        if directory not in self._folders:
            self._folders[directory] = self.scope.folder(directory)
            if (closed := self.left_out(directory)) is not None:
                self._folders[directory] = None
                place, why = closed
                above = place.rpartition("/")[0]
                if place not in self._closed and self.scope.folder(above) is not None:
                    self._closed.add(place)
                    self._passed_over[folder_of(above, self.scope.depth)][why] += 1
        return self._folders[directory]
