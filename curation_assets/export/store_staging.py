"""An export into an object store, or a volume that isn't mounted: files are put when whole, the one naming all last.

A store renames nothing, so files lie under their final names while the export is made. Until it is whole, a file
``_unfinished.json`` lies among them, which says of what export they are; who goes on with it finds them by its list. On
this machine only files that are being written lie, and the journal of what was put.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import Timeout

from curation_assets.errors import CurationError, explained
from curation_assets.export.staging import ONLY_FILE, Stage, Written
from curation_assets.files import free_lock
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.keys import KeyStore, NoFolderError, NotListedError, keys_at
from curation_assets.stores.options import StorageOptions

UNFINISHED = "_unfinished.json"
_PUTTING = 16  # files at once, in the end


@dataclass(frozen=True)
class StoreTarget:
    """Where an export is to be in a store; as text, its address.

    Attributes:
        scratch: folder of this machine for what is being written.
    """

    address: StoreAddress
    options: StorageOptions = field(repr=False)
    scratch: Path = field(repr=False)

    def __str__(self) -> str:
        return str(self.address)

    @property
    def name(self) -> str:
        """Last part of the address."""
        return self.address.name

    @property
    def is_taken(self) -> bool:
        """Whether something is there."""
        return bool(self.exists("") or self.some())

    def put(self, below: str, data: bytes | Path) -> None:
        """Write a file below the address, or in its place (``""``)."""
        self._keys.put(below, data)

    def put_new(self, data: Path) -> None:
        """Write a file in the address's place.

        Raises:
            CurationError: there is one.
        """
        # One of the same bytes is one's own, of an attempt whose answer was lost.
        if not self._keys.put("", data, is_new=True) and self.get("") != data.read_bytes():
            raise CurationError(f"{self} is there already")

    def get(self, below: str) -> bytes | None:
        """Read one; None where there is none."""
        try:
            return self._keys.get(below)[0]
        except FileNotFoundError:
            return None

    def exists(self, below: str) -> bool:
        """Whether there is one."""
        try:
            self._keys.head(below)
        except FileNotFoundError:
            return False
        return True

    def delete(self, below: str) -> None:
        """Remove one."""
        self._keys.delete(below)

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Files below the address, and their bytes."""
        try:
            for page in self._keys.below("", lambda _: True):
                yield from page.select("path", "size_bytes").iter_rows()
        except NoFolderError:
            return
        except NotListedError as error:
            raise CurationError(f"{self} can't be listed: {error}") from None

    def some(self) -> list[str]:
        """Names of one or two files below the address; of none where nothing is."""
        return [name for name, _ in islice(self.sizes(), 2)]

    @property
    def _keys(self) -> KeyStore:
        return keys_at(self.address, self.options)


class StoreStage(Stage):
    """An export that is being made in a store; use :func:`staged_in_store`."""

    is_hidden = False

    def __init__(self, place: Path, target: StoreTarget, digest: str, *, is_file: bool) -> None:
        super().__init__(place, place / "files", is_file=is_file)
        self._there = target
        self._digest = digest

    def write(self, name: str, data: bytes, written: Written) -> None:
        """Put a file. Threads may."""
        self._there.put(name, data)
        super().note(name, written)

    def note(self, name: str, written: Written) -> None:
        """Put a file that is whole. Threads may."""
        self._there.put(name, self._files / name)
        super().note(name, written)
        (self._files / name).unlink()

    def _whole(self, noted: dict[str, Written], threads: int) -> Iterable[str]:  # noqa: ARG002
        """Of a store their size says so: an object is put whole or not at all."""
        there = dict(self._there.sizes()) if noted else {}
        return [name for name, written in noted.items() if there.get(name) == written.bytes]

    def publish(self) -> None:
        """Put what is left, what tells of the export last."""
        refuse_store_target(self._there, self._digest, is_file=self._is_file)
        if self._is_file:
            self._there.put_new(self._files / ONLY_FILE)
            return
        left = [
            (Path(above) / name).relative_to(self._files).as_posix()
            for above, _, names in os.walk(self._files)
            for name in names
        ]
        with ThreadPoolExecutor(_PUTTING, "export") as pool:
            list(pool.map(lambda name: self._there.put(name, self._files / name), left))
        self._there.delete(UNFINISHED)


@contextmanager
def staged_in_store(target: StoreTarget, key: str, *, is_file: bool) -> Iterator[Stage]:
    """Make an export in a store.

    Args:
        key: of all that decides what is written.
        is_file: whether the export is one object.

    Raises:
        CurationError: something is there already, another process of this machine makes it, or the store refuses.
    """
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    place = target.scratch / digest
    with ExitStack() as stack:
        stack.enter_context(
            explained(
                OSError, lambda reason: f"{target} can't be written: {reason}; what is whole stays for the next run"
            )
        )
        refuse_store_target(target, digest, is_file=is_file)
        place.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(free_lock(place / "lock"))
        except Timeout:
            raise CurationError(f"{target}: another process is writing this export") from None
        if not is_file:
            target.put(UNFINISHED, json.dumps({"export": digest}).encode())
        stage = StoreStage(place, target, digest, is_file=is_file)
        stack.callback(stage.close)
        yield stage
        shutil.rmtree(place, ignore_errors=True)


def refuse_store_target(target: StoreTarget, digest: str, *, is_file: bool) -> None:
    """An export is written to a place where nothing is, but for the beginning of itself.

    Raises:
        CurationError: something is.
    """
    if is_file:
        if target.exists(""):
            raise CurationError(f"{target} is there already")
        return
    if not target.some():
        return
    said: Any = None
    if (text := target.get(UNFINISHED)) is not None:
        try:
            said = json.loads(text)["export"]
        except (ValueError, KeyError, TypeError):
            said = None
    if said is None:
        raise CurationError(f"{target} is not empty; name a prefix below which nothing is")
    if said != digest:
        raise CurationError(
            f"{target} holds the beginning of another export, which did not come to its end; delete it, or name "
            "another place"
        )
