"""A table's files in an object store. There are no locks: the commit is the guarantee, age tells what is left over.

A lease (``lease.py``) saves double work, and nothing else.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation_assets.lake.lease import leased
from curation_assets.lake.storage import StoredFile
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.errors import explained_store, reason
from curation_assets.stores.opening import open_store
from curation_assets.stores.options import StorageOptions

if TYPE_CHECKING:
    from obstore import ReadableFile, WritableFile
    from obstore.store import ObjectStore

_READ_BYTES = 2**20  # of a file at a time, where less is asked for
_PART_BYTES = 8 * 2**20  # of a file that is written


@dataclass(frozen=True)
class ObjectStorage:
    """A table below an address."""

    address: StoreAddress
    options: StorageOptions

    @property
    def location(self) -> str:  # noqa: D102
        return str(self.address)

    @property
    def library_options(self) -> Mapping[str, str]:  # noqa: D102
        return self.options.of(self.address.scheme)

    def uri(self, path: str) -> str:  # noqa: D102
        return str(self.address / path)  # polars decodes nothing

    @property
    def table_uri(self) -> str:  # noqa: D102
        return self.address.as_uri()

    def reason(self, error: BaseException) -> str:  # noqa: D102
        return reason(error, self.options)

    def size(self, path: str) -> int:  # noqa: D102
        return int(self._head(path)["size"])

    def stamp(self, path: str) -> object:  # noqa: D102
        try:
            found = self._head(path)
        except FileNotFoundError:
            return None
        return found["size"], found["e_tag"], found["last_modified"]

    def exists(self, path: str) -> bool:  # noqa: D102
        return self.stamp(path) is not None

    def list(self, prefix: str) -> Iterator[StoredFile]:  # noqa: D102
        now, start = time.time(), len(self._key("x")) - 1
        for found in self._listed(prefix)["objects"]:
            yield StoredFile(found["path"][start:], found["size"], now - found["last_modified"].timestamp())

    def names(self, prefix: str, after: str = "") -> Sequence[str]:  # noqa: D102
        if not after:
            return [found["path"].rpartition("/")[2] for found in self._listed(prefix)["objects"]]
        import obstore

        key = self._key(prefix)
        with self._explained(prefix):
            pages = obstore.list(self._store, key, offset=f"{key}/{after}")
            names = [found["path"].removeprefix(f"{key}/") for page in pages for found in page]
        return [name for name in names if "/" not in name]

    def directories(self, prefix: str) -> Sequence[str]:  # noqa: D102
        return [found.rpartition("/")[2] for found in self._listed(prefix)["common_prefixes"]]

    def put(self, path: str, data: bytes = b"") -> None:  # noqa: D102
        import obstore

        with self._explained(path):
            obstore.put(self._store, self._key(path), data)

    def put_whole(self, path: str, data: bytes) -> None:  # noqa: D102
        self.put(path, data)

    def get(self, path: str) -> bytes:  # noqa: D102
        import obstore

        with self._explained(path):
            return obstore.get(self._store, self._key(path)).bytes().to_bytes()

    def delete(self, path: str) -> None:  # noqa: D102
        import obstore

        with self._explained(path):
            try:
                obstore.delete(self._store, self._key(path))
            except FileNotFoundError:
                return

    def output(self, path: str) -> pa.NativeFile:  # noqa: D102
        import obstore

        with self._explained(path):
            opened = obstore.open_writer(self._store, self._key(path), buffer_size=_PART_BYTES)
        return pa.PythonFile(_Written(opened, self, path), mode="w")

    def sync(self, paths: Sequence[str]) -> None:
        """Nothing: what was acknowledged is there."""

    def sync_log(self, version: int) -> None:
        """The same."""

    def parquet(self, path: str, *, verify: bool = False) -> pq.ParquetFile:  # noqa: D102
        import obstore

        with self._explained(path):
            opened = obstore.open_reader(self._store, self._key(path), buffer_size=_READ_BYTES)
            # What is small comes whole: its footer and columns, read each by itself, would be four requests and more.
            is_small = opened.size <= _READ_BYTES
            file = pa.BufferReader(opened.read()) if is_small else pa.PythonFile(_Read(opened, self, path), mode="r")
        return pq.ParquetFile(file, page_checksum_verification=verify, pre_buffer=True)

    @contextmanager
    def lock(  # noqa: D102
        self, path: str, on_wait: Callable[[], object] | None = None, *, by_lease: bool = False
    ) -> Iterator[bool]:
        with leased(self.address / path, self.options, on_wait) if by_lease else nullcontext():
            yield False

    def lock_if_free(self, path: str) -> AbstractContextManager[bool | None]:  # noqa: ARG002, D102
        return nullcontext(False)

    @property
    def _store(self) -> ObjectStore:
        return open_store(self.address.root, self.options)

    def _key(self, path: str) -> str:
        return self.address.key(path)

    def _head(self, path: str) -> Any:
        import obstore

        with self._explained(path):
            return obstore.head(self._store, self._key(path))

    def _listed(self, prefix: str) -> Any:
        import obstore

        with self._explained(prefix):
            return obstore.list_with_delimiter(self._store, self._key(prefix) or None)

    def _explained(self, path: str) -> AbstractContextManager[None]:
        return explained_store(self.address / path, self.options)


class _Read(io.RawIOBase):
    """What Arrow reads a file through."""

    def __init__(self, opened: ReadableFile, storage: ObjectStorage, path: str) -> None:
        self._opened, self._storage, self._path = opened, storage, path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> Any:
        with self._storage._explained(self._path):
            return self._opened.read() if size is None or size < 0 else self._opened.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._opened.seek(offset, whence)

    def tell(self) -> int:
        return self._opened.tell()

    def close(self) -> None:
        if not self.closed:
            self._opened.close()
        super().close()


class _Written(io.RawIOBase):
    """What Arrow writes a file through."""

    def __init__(self, opened: WritableFile, storage: ObjectStorage, path: str) -> None:
        self._opened, self._storage, self._path = opened, storage, path
        self._bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        with self._storage._explained(self._path):
            self._opened.write(bytes(view))
        self._bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self._bytes

    def close(self) -> None:
        if not self.closed:
            super().close()
            with self._storage._explained(self._path):
                self._opened.close()
