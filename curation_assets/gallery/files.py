"""Pixels of stored images: previews from the table, large pictures made of the stored file, and the file itself.

Everything is found by an image's key, through its row; no path ever comes from a request.
"""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import polars as pl
import pybase64
from cachetools import LRUCache

from curation_assets.errors import CurationError
from curation_assets.images.errors import ImageError
from curation_assets.images.guard import with_picture
from curation_assets.images.names import printable
from curation_assets.images.preview import jpeg_of
from curation_assets.images.source import ImageSource
from curation_assets.search.index import SearchIndex
from curation_assets.search.searcher import Searcher
from curation_assets.settings import Settings

PICTURE_SIDE = 1600
_CACHE_BYTES = 96_000_000  # some thousand previews
_PATIENCE_SECONDS = 20  # with which a request waits for a preview that is being read already


class NotThereError(CurationError):
    """What was asked for isn't there, or not any more."""


class ByteCache:
    """The values that were used last, of no more than some bytes in all. Threads may share it."""

    def __init__(self, most_bytes: int) -> None:
        self._held: LRUCache[str, bytes] = LRUCache(most_bytes, getsizeof=len)
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """A value, which counts as used now."""
        with self._lock:
            return self._held.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Keep a value, in the place of those that were not used for longest; one that is larger than all may be isn't.

        What was held under the key before goes in any case.
        """
        with self._lock:
            self._held.pop(key, None)
            if len(value) <= self._held.maxsize:
                self._held[key] = value

    def __contains__(self, key: str) -> bool:
        with self._lock:
            return key in self._held


class Files:
    """Previews, pictures and originals of one lake; what was made is cached under the content's hash."""

    def __init__(self, searcher: Searcher, settings: Settings, source: ImageSource) -> None:
        self._searcher = searcher
        self._source = source
        self._settings = settings
        self._cache = ByteCache(_CACHE_BYTES)
        self._readers = ThreadPoolExecutor(2, "previews")
        self._coming: dict[str, Future[None]] = {}
        self._lock = threading.Lock()  # of what is coming
        self._decoders = threading.Semaphore(settings.worker_threads)  # so that large pictures don't fill the memory

    def close(self) -> None:
        """End the threads."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def expect(self, index: SearchIndex, rows: pl.DataFrame) -> None:
        """Read the previews of some images ahead, all at once: a browser will ask for each of them presently."""
        usable = rows.filter(pl.col("status") == "ok", pl.col("content_sha256").is_not_null())
        with self._lock:
            keys = {
                content: key
                for content, key in usable.select("content_sha256", "relative_path").rows()
                if content not in self._coming and content not in self._cache
            }
            if not keys:
                return
            coming = self._readers.submit(self._read_ahead, index, keys)
            self._coming |= dict.fromkeys(keys, coming)

    def _read_ahead(self, index: SearchIndex, keys: dict[str, str]) -> None:
        try:
            previews = self._searcher.previews(index, keys.values())
            for content, key in keys.items():
                if key in previews:
                    self._cache.put(content, previews[key])
        except CurationError:
            pass  # whoever asks for one of them is told why
        finally:
            with self._lock:
                for content in keys:
                    self._coming.pop(content, None)

    def thumbnail(self, index: SearchIndex, row: dict[str, Any]) -> bytes:
        """A small JPEG, from the table.

        Raises:
            CurationError: there is none, or the table's file is gone.
        """
        content = row["content_sha256"]
        if content is None:
            raise NotThereError(f"{printable(row['relative_path'])} has no preview: {row['error'] or row['status']}")
        with self._lock:
            coming = self._coming.get(content)
        if coming is not None:
            wait([coming], _PATIENCE_SECONDS)
        found = self._cache.get(content)
        if found is None:
            found = self._cell(index, row, "preview")
            if not isinstance(found, bytes):
                raise NotThereError(
                    f"{printable(row['relative_path'])} has no preview: {row['error'] or row['status']}"
                )
            self._cache.put(content, found)
        return found

    def picture(self, index: SearchIndex, row: dict[str, Any]) -> bytes:
        """A large upright JPEG, at most ``PICTURE_SIDE`` pixels, whatever the stored format.

        Raises:
            CurationError: the image can't be shown; the message says why.
        """
        key = f"{row['content_sha256']} picture"
        found = self._cache.get(key)
        if found is None:
            with self._decoders:
                data = self.original(index, row)
                try:
                    found = with_picture(jpeg_of, data, self._settings.decode_options, PICTURE_SIDE, 88)
                except ImageError as error:
                    raise NotThereError(
                        f"{printable(row['relative_path'])} can't be shown: {printable(str(error))}"
                    ) from None
            self._cache.put(key, found)
        return found

    def original(self, index: SearchIndex, row: dict[str, Any]) -> bytes:
        """The file's bytes: from the table, or where it doesn't hold them from the disk, if they are still the same.

        Raises:
            CurationError: they can't be had; the message says why.
        """
        stored = self._cell(index, row, "image_base64") if row["status"] == "ok" else None
        if stored is not None:
            return bytes(pybase64.b64decode(stored, validate=True))
        name = printable(row["relative_path"])
        if row["content_sha256"] is None:
            raise NotThereError(f"{name} was never read: {row['error'] or row['status']}")
        path = row["file_path"]  # of the table's row, never of the request
        changed = NotThereError(
            f"the file of {name} has changed since it was scanned; `curation run` brings its row up to date"
        )
        try:
            if self._source.size_at(path) != row["size_bytes"]:
                raise changed  # before it is read: whatever lies there now may be of any size
            data = self._source.begun_at(path)()
        except OSError as error:
            raise NotThereError(
                f"{name} is not stored in the table, and its file {printable(path)} can't be read: {error.strerror}"
            ) from None
        if hashlib.sha256(data).hexdigest() != row["content_sha256"]:
            raise changed
        return data

    def _cell(self, index: SearchIndex, row: dict[str, Any], column: str) -> Any:
        try:
            return self._searcher.image_bytes(index, row["relative_path"], column)
        except CurationError as error:
            if index.path is None:
                raise NotThereError(
                    f"{printable(row['relative_path'])} is gone: files of earlier versions of the table were removed"
                ) from error
            if self._searcher.behind(index):
                raise NotThereError(
                    f"{printable(row['relative_path'])} is gone from the table that the index was made of; "
                    "`curation index` brings the index up to date"
                ) from error
            raise
