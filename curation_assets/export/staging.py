"""Where an export to a disk is made until it is whole: a hidden folder beside its place, where a killed run goes on.

``.<name>.curation-export-<key>`` holds ``lock``, ``journal.jsonl`` (a line for each file that was written whole: name,
bytes, SHA-256) and ``files``, which becomes the export by one rename. The key is made of all that decides what is
written, so that only the same export goes on from there; what another one left for the same place is removed.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from filelock import Timeout

from curation_assets.errors import CurationError, explained
from curation_assets.files import free_lock, sync

ONLY_FILE = "export"  # of a format that is one file: its name in the stage
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Written:
    """A file that is whole."""

    bytes: int
    sha256: str


class HashingFile:
    """A file to write to, which knows the SHA-256 of what was written."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._digest = hashlib.sha256()
        self._bytes = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Add bytes."""
        self._out.write(data)
        self._digest.update(data)
        self._bytes += memoryview(data).nbytes
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Hand what was written to the system."""
        self._out.flush()

    def tell(self) -> int:
        """How many bytes were written."""
        return self._bytes

    def writable(self) -> bool:
        """It is."""
        return True

    def readable(self) -> bool:
        """It is not."""
        return False

    def seekable(self) -> bool:
        """It is not."""
        return False

    @property
    def written(self) -> Written:
        """What was."""
        return Written(self._bytes, self._digest.hexdigest())


class Stage:
    """An export that is being made; use :func:`staged`.

    Attributes:
        resumed: files that an earlier run wrote whole.
        is_hidden: whether nobody sees a file of it before it is published.
        goes_on: whether a later run goes on from the files that are whole.
    """

    is_hidden = goes_on = True

    def __init__(self, place: Path, target: Path, *, is_file: bool) -> None:
        self._target = target
        self._is_file = is_file
        self._files = place / "files"
        self._made: set[Path] = set()
        self._files.mkdir(exist_ok=True)
        self._journal = place / "journal.jsonl"
        self._log = os.open(self._journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.resumed: dict[str, Written] = {}
        self._synced: set[str] = set()

    @property
    def is_empty(self) -> bool:
        """Whether no file was written whole."""
        return os.fstat(self._log).st_size == 0

    def close(self) -> None:
        """Let go of the journal."""
        os.close(self._log)

    def path(self, name: str) -> Path:
        """Place of a file, whose folders are there."""
        path = self._files / name
        if path.parent not in self._made:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(path.parent)
        return path

    @contextmanager
    def file(self, name: str) -> Iterator[HashingFile]:
        """A file to write; it is in the journal once it is whole."""
        with new_file(self.path(name)) as raw:
            out = HashingFile(raw)
            yield out
            raw.flush()
            os.fsync(raw.fileno())
        self.note(name, out.written)

    def write(self, name: str, data: bytes, written: Written) -> None:
        """Write a file. Threads may."""
        with new_file(self.path(name)) as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())  # beside other threads' reading, not of all files one after the other in the end
        self.note(name, written)

    def note(self, name: str, written: Written) -> None:
        """Say that a file is whole and on the disk. Threads may."""
        self._synced.add(name)
        line = json.dumps([name, written.bytes, written.sha256], ensure_ascii=True)
        os.write(self._log, f"{line}\n".encode())

    def resume(self, wanted: set[str], threads: int) -> dict[str, Written]:
        """Files of an earlier run that are whole, by their size and hash.

        Args:
            wanted: names.
        """
        noted: dict[str, Written] = {}
        for line in self._journal.read_text(encoding="ascii", errors="replace").splitlines():
            with suppress(ValueError):  # the last line of a killed run
                name, size, digest = json.loads(line)
                noted[name] = Written(size, digest)
        noted = {name: written for name, written in noted.items() if name in wanted}
        self.resumed |= {name: noted[name] for name in self._whole(noted, threads)}
        return self.resumed

    def _whole(self, noted: dict[str, Written], threads: int) -> Iterable[str]:
        """Names of files that are there as the journal says."""

        def is_whole(name: str) -> bool:
            try:
                path = self._files / name
                if path.stat().st_size != noted[name].bytes:
                    return False
                with path.open("rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest() == noted[name].sha256
            except OSError:
                return False

        with ThreadPoolExecutor(max(4, threads), "export") as pool:
            return [name for name, found in zip(noted, pool.map(is_whole, noted), strict=True) if found]

    def publish(self) -> None:
        """Bring all of it to the disk, and give it its final name.

        Raises:
            CurationError: something stands there by now.
            OSError: it can't be written or renamed.
        """
        refuse_target(self._target, is_file=self._is_file)
        if self._is_file:
            only = self._files / ONLY_FILE
            sync(only)
            _rename_file(only, self._target)
        else:
            for above, _, names in os.walk(self._files):
                folder = Path(above)
                within = folder.relative_to(self._files).as_posix()
                for name in names:
                    if (name if within == "." else f"{within}/{name}") not in self._synced:
                        sync(folder / name)
                sync(folder)
            if self._target.exists():
                os.chmod(self._files, self._target.stat().st_mode & 0o7777)
            try:
                os.rename(self._files, self._target)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise CurationError(f"{self._target} is not empty any more") from None
                raise
        sync(self._target.parent)


@contextmanager
def staged(target: Path, key: str, *, is_file: bool) -> Iterator[Stage]:
    """Make an export beside its final place; what is made stays there until :meth:`Stage.publish`.

    Args:
        target: folder or file that is to be; absolute.
        key: of all that decides what is written.
        is_file: whether the export is one file, ``ONLY_FILE`` of the stage.

    Raises:
        CurationError: another process makes it, the disk is full, or the place can't be written to.
    """
    refuse_target(target, is_file=is_file)
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    place = target.parent / f"{_prefix(target)}{digest}"
    with ExitStack() as stack:
        stack.enter_context(
            explained(
                OSError, lambda reason: f"{target} can't be written: {reason}; what is whole stays for the next run"
            )
        )
        _sweep(target, but=place)
        place.mkdir(exist_ok=True)
        try:
            stack.enter_context(free_lock(place / "lock"))
        except Timeout:
            raise CurationError(f"{target}: another process is writing this export") from None
        except NotImplementedError:
            pass  # a file system without locks
        stage = Stage(place, target, is_file=is_file)
        stack.callback(stage.close)
        try:
            yield stage
        except BaseException:
            if stage.is_empty:  # nothing that another run could go on from
                shutil.rmtree(place, ignore_errors=True)
            raise
        shutil.rmtree(place, ignore_errors=True)


def refuse_target(target: Path, *, is_file: bool) -> None:
    """An export is written to a place where nothing is.

    Raises:
        CurationError: something is, or the folder above isn't there.
    """
    if not target.parent.is_dir():
        raise CurationError(f"{target}: there is no folder {target.parent}")
    if target.is_dir() and not target.is_symlink():
        if is_file:
            raise CurationError(f"{target} is a folder; name the file to write")
        if any(target.iterdir()):
            raise CurationError(f"{target} is not empty; name a folder that is, or one that isn't there yet")
    elif os.path.lexists(target):
        raise CurationError(f"{target} is there already")


def new_file(path: Path) -> IO[bytes]:
    """A file that is opened to be written, in the place of what a killed run left.

    That may be a link to a file of a user, so it is never written to.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileExistsError:
        os.unlink(path)
        descriptor = os.open(path, flags, 0o666)
    return os.fdopen(descriptor, "wb", buffering=_CHUNK)


def _prefix(target: Path) -> str:
    return f".{target.name.encode()[:150].decode(errors='ignore')}.curation-export-"


def _sweep(target: Path, but: Path) -> None:
    """Remove what killed exports of something else left for the same place."""
    for left in target.parent.glob(f"{glob.escape(_prefix(target))}*"):
        if left == but or not (left / "journal.jsonl").is_file():
            continue
        with suppress(Timeout, NotImplementedError, OSError), free_lock(left / "lock"):
            shutil.rmtree(left, ignore_errors=True)


def _rename_file(file: Path, target: Path) -> None:
    """Rename where nothing is replaced, as far as the file system has links."""
    try:
        os.link(file, target)
    except FileExistsError:
        raise CurationError(f"{target} is there already") from None
    except OSError:
        os.rename(file, target)
