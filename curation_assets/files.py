"""Files of this project's own, whatever is in them: written whole, brought to the disk, and locked between processes.

Nothing here knows tables, indexes or images. Errors are the system's (``OSError``): callers know what a file is for,
and say so.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

# What file systems say that bring nothing, or no directory, to the disk when they are asked to.
_NOT_SYNCED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF)
_POLL_SECONDS = 0.2  # between two looks at a lock that another process holds


def write_whole(target: Path, content: bytes) -> None:
    """Write a file in one step: whoever reads it sees the old content or the new."""
    handle, draft = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(draft, 0o644)
        os.replace(draft, target)
        sync(target.parent)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(draft)
        raise


def hash_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Bring a finished file, or the entries of a directory, to the disk: before anything names them."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SYNCED:
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """The same of a folder, with all that is in it."""
    for above, _, names in os.walk(folder):
        for name in names:
            sync(Path(above, name))
        sync(Path(above))


def can_write(folder: Path) -> bool:
    """Whether this process may write into a folder, or make it where it is not there yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


@contextmanager
def waiting_lock(path: Path, on_wait: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold a lock that one process of this machine has at a time; the kernel takes it back when that process dies.

    Args:
        path: file of the lock, in a folder that is there; it stays.
        on_wait: called once, if another process has to be waited for.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if on_wait is not None:
            on_wait()
        lock.acquire(poll_interval=_POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def free_lock(path: Path) -> Iterator[None]:
    """Hold the same lock if nobody else does.

    Raises:
        Timeout: of filelock: somebody does.
    """
    lock = FileLock(path)
    lock.acquire(timeout=0)
    try:
        yield
    finally:
        lock.release()
