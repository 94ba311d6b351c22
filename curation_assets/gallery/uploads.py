"""Images that visitors gave to search with: the vector of each, in memory, for as long as it is among the last used."""

from __future__ import annotations

import secrets
import threading

from cachetools import LRUCache

from curation_assets.errors import CurationError
from curation_assets.search.query import Picture

_HELD = 500


class Uploads:
    """The last few hundred images that were given. Threads may share it."""

    def __init__(self, most: int = _HELD) -> None:
        self._held: LRUCache[str, Picture] = LRUCache(most)
        self._lock = threading.Lock()

    def add(self, picture: Picture) -> str:
        """Keep an image's vector.

        Returns:
            A random id, which nobody can guess.
        """
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._held[key] = picture
        return key

    def get(self, key: str) -> Picture:
        """The image of an id.

        Raises:
            CurationError: it is not held any more.
        """
        with self._lock:
            picture = self._held.get(key)
        if picture is None:
            raise CurationError("the image you gave is not held any more: give it again")
        return picture
