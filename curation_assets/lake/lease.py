"""Leases in an object store: who works on a partition says so there, so that nobody does the same meanwhile.

Nothing depends on them: the commit decides, with or without. A lease that its holder doesn't renew any more expires;
one that can't be had, since the store refuses it, say, is done without.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from curation_assets.errors import CurationError
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.conditional import create, replace, tag_of
from curation_assets.stores.errors import explained_store
from curation_assets.stores.opening import open_store
from curation_assets.stores.options import StorageOptions

SECONDS = 60.0  # that a lease holds without being renewed
_RENEWED_SECONDS = SECONDS / 4
_LOOK_SECONDS = 1.0
_CLOCKS_APART_SECONDS = 3600.0  # a store's and ours, at most: what is older than that is known to be nobody's

_log = logging.getLogger(__name__)


@contextmanager
def leased(place: StoreAddress, options: StorageOptions, on_wait: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold a lease, after whoever has it; or none, where it can't be had.

    Args:
        place: of its object.
        on_wait: called once, if somebody else has it.
    """
    lease = _Lease(place, options)
    try:
        lease.take(on_wait)
    except (OSError, CurationError) as error:
        _log.debug("no lease at %s: %s", place, error)
    ended = threading.Event()
    renewing = threading.Thread(target=lease.renew, args=(ended,), name="lease", daemon=True)
    if is_held := lease.tag is not None:
        renewing.start()
    try:
        yield
    finally:
        ended.set()
        if is_held:
            renewing.join()
            lease.give_back()


@dataclass
class _Lease:
    """One holder's view of a lease.

    Attributes:
        tag: of the object while it is ours; None where it isn't.
    """

    place: StoreAddress
    options: StorageOptions
    tag: str | None = None
    content: bytes = field(
        default_factory=lambda: json.dumps(
            {"host": socket.gethostname(), "process": os.getpid(), "token": uuid.uuid4().hex}
        ).encode()
    )

    def take(self, on_wait: Callable[[], object] | None) -> None:
        """Wait until it is ours.

        Raises:
            OSError, CurationError: the store refuses it.
        """
        seen: str | None = None
        since, told = time.monotonic(), False
        while not self._put():
            if (found := self._found()) is None:
                continue
            tag, content, modified = found
            if content == self.content:  # the answer to our own was lost
                self.tag = tag
                return
            if tag != seen:  # it was renewed, or is another's
                seen, since = tag, time.monotonic()
            is_old = time.monotonic() - since > SECONDS or time.time() - modified > SECONDS + _CLOCKS_APART_SECONDS
            if (is_old or _is_of_a_dead_process(content)) and self._put(tag):
                return
            if on_wait is not None and not told:
                on_wait()
                told = True
            time.sleep(_LOOK_SECONDS)

    def renew(self, ended: threading.Event) -> None:
        """Say again and again that it is held, until the work ends; or until somebody took it for nobody's."""
        while not ended.wait(_RENEWED_SECONDS):
            try:
                if not self._put(self.tag):
                    return
            except (OSError, CurationError):
                continue

    def give_back(self) -> None:
        """Delete it, while it is ours."""
        import obstore

        with suppress(OSError, CurationError):
            found = self._found()
            if found is not None and found[0] == self.tag:
                with explained_store(self.place, self.options):
                    obstore.delete(self._store, self.place.prefix)

    def _put(self, tag: str | None = None) -> bool:
        """Write the object where it isn't there, or in the place of the one of a tag; whether it is ours now."""
        with explained_store(self.place, self.options):
            key = self.place.prefix
            if tag is None:
                self.tag = create(self._store, key, self.content)
            else:
                self.tag = replace(self._store, key, self.content, tag)
        return self.tag is not None

    def _found(self) -> tuple[str, bytes, float] | None:
        """Tag, content and time of the object, in seconds of the store's clock; None where it isn't there."""
        import obstore

        try:
            with explained_store(self.place, self.options):
                found = obstore.get(self._store, self.place.prefix)
                return (
                    str(tag_of(found.meta["e_tag"])),
                    found.bytes().to_bytes(),
                    found.meta["last_modified"].timestamp(),
                )
        except FileNotFoundError:
            return None

    @property
    def _store(self) -> Any:
        return open_store(self.place.root, self.options)


def _is_of_a_dead_process(content: bytes) -> bool:
    """Whether it was held by a process of this machine that is no more."""
    try:
        holder = json.loads(content)
        if holder["host"] != socket.gethostname():
            return False
        os.kill(int(holder["process"]), 0)
    except ProcessLookupError:
        return True
    except (ValueError, KeyError, TypeError, OSError):
        return False
    return False
