"""Where a table's files lie: put, list, delete, Parquet in and out, and the right to write.

Paths are relative to the table, with ``/``. A local or mounted folder, or a prefix of an object store
(``object_storage.py``); what is above knows only :class:`Storage`. The commit is the guarantee everywhere; a lock only
saves double work, and where there is none, what dead writers left is told by its age.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import Timeout

from curation_assets.errors import reason_of
from curation_assets.files import free_lock, sync, waiting_lock, write_whole
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.options import StorageOptions

_SYNCING = 16  # files at once
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class StoredFile:
    """A file that lies there.

    Attributes:
        age_seconds: since it was last written.
    """

    path: str
    size_bytes: int
    age_seconds: float


class Storage(Protocol):
    """Files of one table. Whatever fails raises ``OSError``. It can be pickled."""

    @property
    def location(self) -> str:
        """Of the table, as settings and messages name it."""

    def uri(self, path: str) -> str:
        """How polars names a file."""

    @property
    def table_uri(self) -> str:
        """How delta-rs names the table."""

    @property
    def library_options(self) -> Mapping[str, str]:
        """What they have to be told for it (``storage_options``)."""

    def reason(self, error: BaseException) -> str:
        """Why a library that reads by itself failed, in a line without secrets."""

    def size(self, path: str) -> int:
        """Bytes of a file."""

    def stamp(self, path: str) -> object:
        """What changes when a file is written again; None where it isn't there."""

    def exists(self, path: str) -> bool:
        """Whether a file is there."""

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Files right below a directory; none where it isn't there."""

    def names(self, prefix: str, after: str = "") -> Sequence[str]:
        """Names of what lies right below a directory; none where it isn't there.

        Args:
            after: those that come before it in the order of their bytes, and itself, may be left out.
        """

    def directories(self, prefix: str) -> Sequence[str]:
        """Names of the directories right below one; none where it isn't there."""

    def put(self, path: str, data: bytes = b"") -> None:
        """Write a small file."""

    def put_whole(self, path: str, data: bytes) -> None:
        """The same in one step: whoever reads it sees the old content or the new."""

    def get(self, path: str) -> bytes:
        """Read a small file."""

    def delete(self, path: str) -> None:
        """Remove a file; one that isn't there is no error."""

    def output(self, path: str) -> pa.NativeFile:
        """Open a new file to be written from its beginning to its end."""

    def sync(self, paths: Sequence[str]) -> None:
        """Bring finished files to the disk, and the directories' entries that lead to them."""

    def sync_log(self, version: int) -> None:
        """Bring a version's commit to the disk, and the checkpoint that may have come with it."""

    def parquet(self, path: str, *, verify: bool = False) -> pq.ParquetFile:
        """Open a Parquet file: the footer is read, and what is asked for then.

        Args:
            verify: compare the checksums of pages, where there are some.

        Raises:
            pa.ArrowException: it is no Parquet file, or a damaged one.
        """

    def lock(
        self, path: str, on_wait: Callable[[], object] | None = None, *, by_lease: bool = False
    ) -> AbstractContextManager[bool]:
        """Wait for a lock and hold it; gives whether it is held, or there are no locks here.

        Args:
            on_wait: called once, if somebody else has it.
            by_lease: where there are no locks, wait for a lease instead, which costs requests and proves nothing.
        """

    def lock_if_free(self, path: str) -> AbstractContextManager[bool | None]:
        """The same without waiting; gives None where somebody else holds it."""


@dataclass(frozen=True)
class LocalStorage:
    """A table's folder on a local or mounted file system."""

    root: Path

    @property
    def location(self) -> str:  # noqa: D102
        return str(self.root)

    def uri(self, path: str) -> str:  # noqa: D102
        return str(self.root / path)

    @property
    def table_uri(self) -> str:  # noqa: D102
        return str(self.root)

    @property
    def library_options(self) -> Mapping[str, str]:  # noqa: D102
        return {}

    def reason(self, error: BaseException) -> str:  # noqa: D102
        return reason_of(error)

    def size(self, path: str) -> int:  # noqa: D102
        return (self.root / path).stat().st_size

    def stamp(self, path: str) -> object:  # noqa: D102
        try:
            status = (self.root / path).stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def exists(self, path: str) -> bool:  # noqa: D102
        return (self.root / path).exists()

    def list(self, prefix: str) -> Iterator[StoredFile]:  # noqa: D102
        now = time.time()
        directory = self.root / prefix
        for entry in directory.iterdir() if directory.is_dir() else ():
            if entry.is_file():
                status = entry.stat()
                yield StoredFile(f"{prefix}/{entry.name}", status.st_size, now - status.st_mtime)

    def names(self, prefix: str, after: str = "") -> Sequence[str]:  # noqa: ARG002, D102
        try:
            return os.listdir(self.root / prefix)
        except OSError:
            return []

    def directories(self, prefix: str) -> Sequence[str]:  # noqa: D102
        directory = self.root / prefix
        with suppress(FileNotFoundError), os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        return []

    def put(self, path: str, data: bytes = b"") -> None:  # noqa: D102
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def put_whole(self, path: str, data: bytes) -> None:  # noqa: D102
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, data)

    def get(self, path: str) -> bytes:  # noqa: D102
        return (self.root / path).read_bytes()

    def delete(self, path: str) -> None:  # noqa: D102
        (self.root / path).unlink(missing_ok=True)

    def output(self, path: str) -> pa.NativeFile:  # noqa: D102
        target = self.root / path
        target.parent.mkdir(exist_ok=True)
        return pa.OSFile(str(target), "wb")

    def sync(self, paths: Sequence[str]) -> None:  # noqa: D102
        files = [self.root / path for path in paths]
        if len(files) > 1:  # each waits for the disk, which takes several at once
            with ThreadPoolExecutor(min(_SYNCING, len(files)), "sync") as pool:
                list(pool.map(sync, files))
        elif files:
            sync(files[0])
        directories = {above for file in files for above in (file.parent, file.parent.parent)}
        for directory in sorted(directories):
            if directory == self.root or self.root in directory.parents:
                sync(directory)

    def sync_log(self, version: int) -> None:  # noqa: D102
        names = [name for name in self.names("_delta_log") if name.startswith(f"{version:020}.")]
        if any("checkpoint" in name for name in names):
            names.append("_last_checkpoint")
        self.sync([f"_delta_log/{name}" for name in names])

    def parquet(self, path: str, *, verify: bool = False) -> pq.ParquetFile:  # noqa: D102
        return pq.ParquetFile(self.root / path, page_checksum_verification=verify)

    def lock(  # noqa: D102
        self,
        path: str,
        on_wait: Callable[[], object] | None = None,
        *,
        by_lease: bool = False,  # noqa: ARG002
    ) -> AbstractContextManager[bool]:
        return self._lock(path, lambda target: waiting_lock(target, on_wait))

    @contextmanager
    def lock_if_free(self, path: str) -> Iterator[bool | None]:  # noqa: D102
        with ExitStack() as stack:
            try:
                is_held: bool | None = stack.enter_context(self._lock(path, free_lock))
            except Timeout:
                is_held = None
            yield is_held

    @contextmanager
    def _lock(self, path: str, of: Callable[[Path], AbstractContextManager[None]]) -> Iterator[bool]:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            is_held = True
            try:
                stack.enter_context(of(target))
            except NotImplementedError:  # filelock's word for a file system without locks
                is_held = False
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                is_held = False
            yield is_held


@dataclass(frozen=True)
class SharedFiles:
    """Small files right below a directory of a table, in which the processes of one job hand each other work."""

    storage: Storage
    directory: str

    def where(self, name: str) -> str:
        """Of a file, for people."""
        return f"{self.storage.location}/{self.directory}/{name}"

    def put(self, name: str, data: bytes) -> None:
        """Write a file."""
        self.storage.put(f"{self.directory}/{name}", data)

    def get(self, name: str) -> bytes:
        """Read one.

        Raises:
            OSError: it isn't there, or can't be read.
        """
        return self.storage.get(f"{self.directory}/{name}")

    def exists(self, name: str) -> bool:
        """Whether one is there."""
        return self.storage.exists(f"{self.directory}/{name}")

    def delete(self, name: str) -> None:
        """Remove one; one that isn't there is no error."""
        self.storage.delete(f"{self.directory}/{name}")


def storage_of(place: Path | StoreAddress, options: StorageOptions) -> Storage:
    """The files of a table, where it lies."""
    if isinstance(place, Path):
        return LocalStorage(place)
    from curation_assets.lake.object_storage import ObjectStorage

    return ObjectStorage(place, options)
