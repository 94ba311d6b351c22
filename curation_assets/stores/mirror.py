"""Folders of this machine that stand for some in a store, for libraries that map files into memory.

Of each, a note says as what every file was last fetched or put. What changed there is fetched, what changed here
is put, the file that names the others (``current.json``) last of all, and only over what it was made from: of two
machines that wrote at once the first one's stands, and the other fetches it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from curation_assets.errors import CurationError
from curation_assets.files import free_lock, waiting_lock, write_whole
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.conditional import create, replace, tag_of
from curation_assets.stores.errors import explained_store
from curation_assets.stores.opening import open_store
from curation_assets.stores.options import StorageOptions

if TYPE_CHECKING:
    from obstore.store import ObjectStore

LEAD = "current.json"
_LOCK = "_writer.lock"  # held by whoever changes a copy
_NOTES = ".mirrored"  # not among the copies, of which whoever changes one deletes what it doesn't know
_LOOK_SECONDS = 3.0  # a store is asked for changes at most so often
_FILES_AT_ONCE = 8
_CHUNK = 8 * 2**20


@dataclass(frozen=True)
class _Known:
    """A file as it is in the store, and as its copy here was when they were the same."""

    tag: str
    size: int
    mtime_ns: int


@dataclass
class Mirror:
    """Copies of folders right below an address. Threads and processes may share it.

    Attributes:
        address: where the folders lie.
        folder: where the copies do.
        most_bytes: of copies; those that were not used for longest go first.
    """

    address: StoreAddress
    options: StorageOptions
    folder: Path
    most_bytes: int
    _looked: dict[str, float] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def bring(self, name: str, *, now: bool = False) -> None:
        """Make a copy and its folder in the store the same.

        Args:
            name: of the folder.
            now: also where it was looked at a moment ago, or another process of this machine is changing it: that is
                waited for. Else it brings them together when it is done.

        Raises:
            CurationError: the store, or the copy's disk, refuses.
        """
        with self._lock:
            if not now and time.monotonic() - self._looked.get(name, -_LOOK_SECONDS) < _LOOK_SECONDS:
                return
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            lock = self.folder / name / _LOCK
            with suppress(Timeout), waiting_lock(lock) if now else free_lock(lock):
                self._put_changes(name)
                self._fetch(name)
                self._make_room(name)
            self._looked[name] = time.monotonic()

    def names(self) -> list[str]:
        """Of the folders that are there."""
        import obstore

        with self._explained(""):
            listed = obstore.list_with_delimiter(self._store, self.address.key("") or None)
        return sorted(one.rpartition("/")[2] for one in listed["common_prefixes"])

    def size(self, name: str) -> int:
        """Bytes of a folder in the store."""
        return sum(int(found["size"]) for found in self._listed(name).values())

    def delete(self, name: str) -> None:
        """Remove a folder, there and here; the file that names the others first."""
        import obstore

        keys = sorted(self._listed(name), key=lambda path: path != LEAD)
        for path in keys:
            with self._explained(f"{name}/{path}"):
                obstore.delete(self._store, self._key(name, path))
        self._drop(name)

    def _drop(self, name: str) -> None:
        """Remove a copy; whoever has it open keeps its maps."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        with suppress(OSError):
            self._note_of(name).unlink()

    def _put_changes(self, name: str) -> None:
        """Put what changed here; where another machine was first, forget it."""
        import obstore

        known, here = self._noted(name), _files(self.folder / name)
        changed = [path for path, status in here.items() if not _is_same(known.get(path), status)]
        gone = [path for path in known if path not in here]
        # Without that file it is a copy that somebody emptied, or an index that is not finished.
        if LEAD not in here or not (changed or gone):
            return
        with ThreadPoolExecutor(_FILES_AT_ONCE, "mirror") as pool:
            put = [path for path in changed if path != LEAD]
            # What names others comes after them, in folders below as well.
            for part in ([p for p in put if not p.endswith(LEAD)], [p for p in put if p.endswith(LEAD)]):
                for path, tag in zip(part, pool.map(lambda p: self._put(name, p), part), strict=True):
                    known[path] = _known(tag, here[path])
        if LEAD in changed:
            before = known.get(LEAD)
            data = (self.folder / name / LEAD).read_bytes()
            key = self._key(name, LEAD)
            with self._explained(f"{name}/{LEAD}"):
                store = self._store
                now = create(store, key, data) if before is None else replace(store, key, data, before.tag)
                if now is None:
                    if self._content(name, LEAD) != data:  # else the answer to an earlier attempt was lost
                        self._drop_changes(name, known)
                        return
                    now = str(tag_of(obstore.head(store, key)["e_tag"]))
            known[LEAD] = _known(now, here[LEAD])
        for path in gone:
            with self._explained(f"{name}/{path}"):
                obstore.delete(self._store, self._key(name, path))
            del known[path]
        self._note(name, known)

    def _drop_changes(self, name: str, known: dict[str, _Known]) -> None:
        """Forget what was made here from what is not the newest any more."""
        known.pop(LEAD, None)
        self._note(name, known)
        with suppress(FileNotFoundError):
            (self.folder / name / LEAD).unlink()

    def _fetch(self, name: str) -> None:
        folder = self.folder / name
        for _ in range(5):
            known, listed, here = self._noted(name), self._listed(name), _files(folder)
            lacking = [
                path
                for path, found in listed.items()
                if path not in here or known.get(path) is None or known[path].tag != tag_of(found["e_tag"])
            ]
            try:
                with ThreadPoolExecutor(_FILES_AT_ONCE, "mirror") as pool:
                    for is_lead in (False, True):
                        part = [path for path in lacking if path.endswith(LEAD) == is_lead]
                        for path, status in zip(part, pool.map(lambda p: self._get(name, p), part), strict=True):
                            known[path] = _known(str(tag_of(listed[path]["e_tag"])), status)
            except FileNotFoundError:  # a newer one took its place meanwhile
                continue
            for path in [path for path in known if path not in listed]:
                del known[path]
                with suppress(FileNotFoundError):
                    (folder / path).unlink()
            self._note(name, known)
            return
        raise CurationError(f"{self.address / name} changes all the time; try again in a moment")

    def _make_room(self, but: str) -> None:
        """Delete copies that were not used for longest, where there are more bytes of them than allowed."""
        notes = sorted((self.folder / _NOTES).glob("*.json"), key=lambda note: note.stat().st_mtime)
        used = [note.stem for note in notes if (self.folder / note.stem).is_dir()]
        sizes = {name: sum(status.st_size for status in _files(self.folder / name).values()) for name in used}
        total = sum(sizes.values())
        for name in used:
            if total <= self.most_bytes:
                return
            if name == but:
                continue
            with suppress(OSError, Timeout), free_lock(self.folder / name / _LOCK):
                self._drop(name)
                total -= sizes[name]

    def _put(self, name: str, path: str) -> str:
        import obstore

        with self._explained(f"{name}/{path}"):
            done = obstore.put(self._store, self._key(name, path), self.folder / name / path)
        return str(tag_of(done["e_tag"]))

    def _get(self, name: str, path: str) -> os.stat_result:
        import obstore

        target = self.folder / name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=".fetched-", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as out, self._explained(f"{name}/{path}"):
                for chunk in obstore.get(self._store, self._key(name, path)).stream(_CHUNK):
                    out.write(memoryview(chunk))
            os.replace(draft, target)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(draft)
            raise
        return target.stat()

    def _content(self, name: str, path: str) -> bytes | None:
        import obstore

        try:
            with self._explained(f"{name}/{path}"):
                return bytes(obstore.get(self._store, self._key(name, path)).bytes())
        except FileNotFoundError:
            return None

    def _listed(self, name: str) -> dict[str, Any]:
        import obstore

        start = self._key(name, "")
        with self._explained(name):
            pages: Iterable[Any] = obstore.list(self._store, start.rstrip("/"))
            return {one["path"].removeprefix(start): one for page in pages for one in page}

    def _noted(self, name: str) -> dict[str, _Known]:
        try:
            return {path: _Known(*one) for path, one in json.loads(self._note_of(name).read_bytes()).items()}
        except (FileNotFoundError, ValueError, TypeError):
            return {}

    def _note(self, name: str, known: dict[str, _Known]) -> None:
        text = json.dumps({path: (one.tag, one.size, one.mtime_ns) for path, one in known.items()})
        note = self._note_of(name)
        note.parent.mkdir(exist_ok=True)
        write_whole(note, text.encode())

    def _note_of(self, name: str) -> Path:
        return self.folder / _NOTES / f"{name}.json"

    def _key(self, name: str, path: str) -> str:
        return self.address.key(f"{name}/{path}")

    @property
    def _store(self) -> ObjectStore:
        return open_store(self.address.root, self.options)

    @contextmanager
    def _explained(self, below: str) -> Iterator[None]:
        place = self.address / below if below else self.address
        try:
            with explained_store(place, self.options):
                yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise CurationError(f"search index {place}: {error}; copies lie in {self.folder}") from None


def _known(tag: str, status: os.stat_result) -> _Known:
    return _Known(tag, status.st_size, status.st_mtime_ns)


def _is_same(known: _Known | None, status: os.stat_result) -> bool:
    return known is not None and (known.size, known.mtime_ns) == (status.st_size, status.st_mtime_ns)


def _files(folder: Path) -> dict[str, os.stat_result]:
    """What is copied of a folder, by its path there: neither locks nor drafts."""
    found = {}
    for above, _, names in os.walk(folder):
        for name in names:
            if not name.startswith((".", "_")) and not name.endswith(".lock"):
                path = Path(above, name)
                with suppress(FileNotFoundError):
                    found[path.relative_to(folder).as_posix()] = path.stat()
    return found
