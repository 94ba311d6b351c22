"""Keys of an object store, through obstore: pages of them, many at once, and their bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from curation_assets.errors import is_panic
from curation_assets.stores import keys
from curation_assets.stores.address import StoreAddress, is_address
from curation_assets.stores.conditional import tag_of
from curation_assets.stores.errors import explained_store, reason
from curation_assets.stores.keys import Enter, KeyFacts, NotListedError, OddKeyError, at_once
from curation_assets.stores.opening import open_store
from curation_assets.stores.options import StorageOptions

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PAGE = 1000  # keys, as the stores give them
_LOOKED_DOWN = 4  # levels below the root, for one that has several directories
_KEY = re.compile(r'[Pp]ath "(.*?)"[: ]', re.DOTALL)


@dataclass(frozen=True)
class ObjectKeys:
    """Keys of a bucket below an address."""

    address: StoreAddress
    options: StorageOptions

    def everything(self, enter: Enter) -> Iterator[pl.DataFrame]:  # noqa: D102
        start = ""
        for _ in range(_LOOKED_DOWN):
            files, directories = self.right_in(start)
            if len(directories) != 1 or len(files):
                break
            (start,) = directories
        if not directories:
            yield files
        elif self._is_sorted:
            bounds = sorted(directories, key=lambda each: f"{each}/")[:: -(-len(directories) // keys.AT_ONCE)]
            ranges = list(pairwise(["", *bounds[1:], ""]))
            yield from at_once(lambda each: self._between(start, *each), ranges)
        elif len(directories) <= 16 * keys.AT_ONCE:
            yield files
            yield from at_once(lambda each: self.below(each, enter), directories)
        else:
            yield from self.below(start, enter)

    def below(self, directory: str, enter: Enter) -> Iterator[pl.DataFrame]:  # noqa: ARG002, D102
        import obstore

        with self._listed():
            prefix = self.address.key(directory) or None
            for batch in obstore.list(self._store, prefix, chunk_size=_PAGE, return_arrow=True):
                yield self._frame(batch)

    def right_in(self, directory: str) -> tuple[pl.DataFrame, list[str]]:  # noqa: D102
        import obstore

        with self._listed():
            found = obstore.list_with_delimiter(self._store, self.address.key(directory) or None, return_arrow=True)
            start = len(self.address.key("x")) - 1
            return self._frame(found["objects"]), sorted(each[start:] for each in found["common_prefixes"])

    def holds(self, directory: str) -> bool:  # noqa: D102
        return any(len(frame) for frame in self.below(directory, lambda _: True))

    def get(self, name: str) -> tuple[bytes, KeyFacts]:  # noqa: D102
        import obstore

        with self._explained(name):
            found = obstore.get(self._store, self.address.key(name))
            return found.bytes().to_bytes(), _facts(found.meta)

    def head(self, name: str) -> KeyFacts:  # noqa: D102
        import obstore

        with self._explained(name):
            return _facts(obstore.head(self._store, self.address.key(name)))

    def put(self, name: str, data: bytes | Path, *, is_new: bool = False) -> bool:  # noqa: D102
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._explained(name):
            if not is_new:
                obstore.put(self._store, self.address.key(name), data)
                return True
            try:
                obstore.put(self._store, self.address.key(name), data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            return True

    def delete(self, name: str) -> None:  # noqa: D102
        import obstore

        with self._explained(name):
            obstore.delete(self._store, self.address.key(name))

    def holding(self, location: str) -> tuple[ObjectKeys, str] | None:  # noqa: D102
        if not is_address(location):
            return None
        if (below := self.address.below(location)) is not None:
            return self, below
        above, _, name = location.rpartition("/")
        return replace(self, address=StoreAddress.parse(above)), name

    @property
    def _is_sorted(self) -> bool:
        """Whether keys come in the order of their bytes, from any on: not on Azure, nor in directory buckets."""
        return self.address.scheme in ("s3", "gs") and not self.address.bucket.endswith("--x-s3")

    def _between(self, start: str, lower: str, upper: str) -> Iterator[pl.DataFrame]:
        """Keys below ``start`` from a directory's first one on, before another's; ``""`` is no bound."""
        import obstore

        with self._listed():
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
        found = pl.DataFrame(pl.from_arrow(pa.table(batch)))
        path = pl.col("path").str.slice(len(self.address.key("x")) - 1)
        tag = pl.col("e_tag").str.strip_prefix("W/").str.strip_chars('"')
        return found.filter(path != "").select(  # the root's own mark
            path=path,
            size_bytes=pl.col("size").cast(pl.Int64),
            mtime_ns=pl.col("last_modified").dt.epoch("ns"),
            etag=pl.coalesce(pl.when(tag != "").then(tag), "version"),
        )

    @property
    def _store(self) -> ObjectStore:
        return open_store(self.address.root, self.options)

    def _explained(self, name: str) -> AbstractContextManager[None]:
        return explained_store(self.address / name, self.options)

    @contextmanager
    def _listed(self) -> Iterator[None]:
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
            raise NotListedError(reason(error, self.options)) from None


def _facts(meta: Mapping[str, Any]) -> KeyFacts:
    ns = round(meta["last_modified"].timestamp() * 1_000_000) * 1000
    return KeyFacts(meta["size"], ns, tag_of(meta["e_tag"] or meta["version"]))
