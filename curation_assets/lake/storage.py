"""Where a table's files lie: put, list, delete, Parquet in and out, and the right to write.

Paths are relative to the table, with ``/``. The one implementation is a local or mounted folder; what is above knows
only :class:`Storage`. The commit is the guarantee everywhere; a lock only saves double work, and where there is none,
what dead writers left is told by its age.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from curation_assets.files import waiting_lock, write_whole

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
        """How libraries that read by themselves name a file."""

    def scratch(self, prefix: str) -> Path:
        """Folder for files that the processes of one job hand each other, below a directory."""

    def size(self, path: str) -> int:
        """Bytes of a file."""

    def exists(self, path: str) -> bool:
        """Whether a file is there."""

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Files right below a directory; none where it isn't there."""

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

    def parquet(self, path: str) -> pq.ParquetFile:
        """Open a Parquet file: the footer is read, and what is asked for then.

        Raises:
            pa.ArrowException: it is no Parquet file, or a damaged one.
        """

    def lock(self, path: str, on_wait: Callable[[], object] | None = None) -> AbstractContextManager[bool]:
        """Wait for a lock and hold it; gives whether it is held, or there are no locks here.

        Args:
            on_wait: called once, if somebody else has it.
        """


@dataclass(frozen=True)
class LocalStorage:
    """A table's folder on a local or mounted file system."""

    root: Path

    @property
    def location(self) -> str:  # noqa: D102
        return str(self.root)

    def scratch(self, prefix: str) -> Path:  # noqa: D102
        return self.root / prefix

    def uri(self, path: str) -> str:  # noqa: D102
        return str(self.root / path)

    def size(self, path: str) -> int:  # noqa: D102
        return (self.root / path).stat().st_size

    def exists(self, path: str) -> bool:  # noqa: D102
        return (self.root / path).exists()

    def list(self, prefix: str) -> Iterator[StoredFile]:  # noqa: D102
        now = time.time()
        directory = self.root / prefix
        for entry in directory.iterdir() if directory.is_dir() else ():
            if entry.is_file():
                status = entry.stat()
                yield StoredFile(f"{prefix}/{entry.name}", status.st_size, now - status.st_mtime)

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

    def parquet(self, path: str) -> pq.ParquetFile:  # noqa: D102
        return pq.ParquetFile(self.root / path)

    @contextmanager
    def lock(self, path: str, on_wait: Callable[[], object] | None = None) -> Iterator[bool]:  # noqa: D102
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            is_held = True
            try:
                stack.enter_context(waiting_lock(target, on_wait))
            except NotImplementedError:  # filelock's word for a file system without locks
                is_held = False
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                is_held = False
            yield is_held
