"""Bytes of a version's images: of the file on disk, by its hash, else out of the directory table and its history."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import polars as pl
import pybase64

from curation_assets.errors import CurationError, reason_of
from curation_assets.images.names import printable
from curation_assets.images.source import ImageSource
from curation_assets.lake.table import LakeTable

T = TypeVar("T")
_MOST_BYTES = 128 * 2**20  # of images that are in memory at a time
_MOST_IMAGES = 256
_STORED_BYTES = 32 * 2**20  # of images that are read out of one data file at a time, and their number
_STORED_IMAGES = 64
_LOOKED_AT = 64  # files a task: looking at one takes no longer than handing it to a thread
_UNKNOWN_BYTES = 8 * 2**20
_NAMED = 3


@dataclass(frozen=True)
class Read:
    """The bytes of an image.

    Attributes:
        path: of the file on a disk that holds them now, if one does.
        is_stored: whether they are out of the table.
    """

    data: bytes
    path: str | None = None
    is_stored: bool = False


class LackingError(CurationError):
    """Images whose bytes can't be had.

    Attributes:
        lacking: path → why.
    """

    def __init__(self, lacking: dict[str, str], of: int) -> None:
        self.lacking = dict(sorted(lacking.items()))
        named = [f"{printable(path)}: {why}" for path, why in [*self.lacking.items()][:_NAMED]]
        more = "; …" if len(lacking) > _NAMED else ""
        super().__init__(f"{len(lacking):,} of {of:,} images can't be had: {'; '.join(named)}{more}")


class ImageReader:
    """Reads images of a version, ahead of whoever takes them.

    Args:
        source: of the images.
        directory: the table that may hold bytes of what is gone.
        threads: that read, and do what is asked for with the bytes.
    """

    def __init__(self, source: ImageSource, directory: LakeTable, threads: int) -> None:
        self._source = source
        self._directory = directory
        self._threads = max(4, threads)

    def located(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Look where the bytes of each image are, before any is read.

        Args:
            rows: ``relative_path``, ``content_sha256``, ``size_bytes`` and ``data_file``.

        Returns:
            The rows with ``on_disk``: path of a file that should hold them, perhaps under another name by now; null:
            they are in the table.

        Raises:
            LackingError: some are nowhere.
        """
        paths, sizes = rows["relative_path"].to_list(), rows["size_bytes"].to_list()
        with ThreadPoolExecutor(self._threads, "export") as pool:
            at_once = [slice(start, start + _LOOKED_AT) for start in range(0, len(paths), _LOOKED_AT)]
            looked = pool.map(lambda part: [*map(self._is_there, paths[part], sizes[part])], at_once)
            there = [*chain.from_iterable(looked)]
            gone = rows.filter(~pl.Series(there, dtype=pl.Boolean))
            moved: dict[str, str] = {}
            if len(gone):
                held = gone.select("content_sha256").unique()
                now = self._directory.latest().read(["relative_path", "content_sha256", "size_bytes"])
                for path, content, size in (
                    now.join(held, on="content_sha256", how="semi")
                    .sort("relative_path")
                    .select("relative_path", "content_sha256", "size_bytes")
                    .iter_rows()
                ):
                    if content not in moved and self._is_there(path, size):
                        moved[content] = path
            contents = rows["content_sha256"].to_list()
            on_disk = [
                path if is_there else moved.get(content)
                for path, content, is_there in zip(paths, contents, there, strict=True)
            ]
            found = rows.with_columns(on_disk=pl.Series(on_disk, dtype=pl.String))
            stored = found.filter(pl.col("on_disk").is_null())
            lacking: dict[str, str] = {}
            for of_part in pool.map(self._not_stored, _parts(stored.sort("data_file", maintain_order=True))):
                lacking |= of_part
        if lacking:
            raise LackingError(lacking, len(rows))
        return found

    def each(
        self, rows: pl.DataFrame, work: Callable[[dict[str, Any], Read], T], *, at_once: bool = False
    ) -> Generator[T]:
        """Do something with every image, in threads, in their order.

        At most some 128 MB of images are in memory, or one that is larger.

        Args:
            rows: as :meth:`located` gives them.
            work: of a row and its bytes.
            at_once: an image that can't be had ends it, else all others come first.

        Raises:
            LackingError: some can't be had: their files changed though their sizes didn't, say.
        """
        lacking: dict[str, str] = {}
        waiting: deque[tuple[Future[T], int]] = deque()
        held = 0
        pool = ThreadPoolExecutor(self._threads, "export")

        def results(room_for: int) -> Iterator[T]:
            nonlocal held
            while waiting and (held + room_for > _MOST_BYTES or len(waiting) >= _MOST_IMAGES):
                job, size = waiting.popleft()
                held -= size
                try:
                    yield job.result()
                except LackingError as error:
                    if at_once:
                        raise LackingError(error.lacking, len(rows)) from None
                    lacking.update(error.lacking)

        try:
            for part in _parts(rows):
                stored = self._stored(part, pool)
                for row in part.iter_rows(named=True):
                    size = row["size_bytes"] or _UNKNOWN_BYTES
                    yield from results(size)
                    job = pool.submit(self._one, row, stored.get(row["relative_path"]), work)
                    waiting.append((job, size))
                    held += size
            yield from results(_MOST_BYTES * 2**20)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        if lacking:
            raise LackingError(lacking, len(rows))

    def _one(
        self,
        row: dict[str, Any],
        stored: Future[dict[str, bytes | str]] | None,
        work: Callable[[dict[str, Any], Read], T],
    ) -> T:
        path, content = row["relative_path"], row["content_sha256"]
        why = ""
        if row["on_disk"] is not None:
            try:
                data = self._source.read(row["on_disk"])
            except OSError as error:
                why = f"its file can't be read ({reason_of(error)})"
            else:
                if hashlib.sha256(data).hexdigest() == content:
                    return work(row, Read(data, self._source.on_disk(row["on_disk"])))
                why = "its file has other bytes now"
        found = stored.result() if stored is not None else self._read_stored(row["data_file"], [path], {path: content})
        data_or_why = found[path]
        if isinstance(data_or_why, str):
            raise LackingError({path: f"{why}, and {data_or_why}" if why else data_or_why}, 1)
        return work(row, Read(data_or_why, is_stored=True))

    def _stored(self, part: pl.DataFrame, pool: ThreadPoolExecutor) -> dict[str, Future[dict[str, bytes | str]]]:
        """What of some images is out of the table: read a data file at a time, not an image."""
        found: dict[str, Future[dict[str, bytes | str]]] = {}
        if not part["on_disk"].null_count():
            return found
        gone = part.filter(pl.col("on_disk").is_null())
        for (file,), rows in gone.group_by("data_file", maintain_order=True):
            contents = dict(rows.select("relative_path", "content_sha256").iter_rows())
            coming = pool.submit(self._read_stored, file, [*contents], contents)
            found |= dict.fromkeys(contents, coming)
        return found

    def _read_stored(self, file: object, paths: list[str], contents: dict[str, str]) -> dict[str, bytes | str]:
        """Bytes of images out of a data file; or why they can't be had."""
        try:
            texts = self._directory.cells(str(file), "image_base64", paths)
        except CurationError:
            return dict.fromkeys(paths, "its data file is gone from the directory table's history")
        found: dict[str, bytes | str] = {}
        for path, content in contents.items():
            text = texts.get(path)
            if text is None:
                found[path] = _NOT_HELD
                continue
            data = pybase64.b64decode(text, validate=True)
            found[path] = data if hashlib.sha256(data).hexdigest() == content else "the table holds other bytes"
        return found

    def _not_stored(self, part: pl.DataFrame) -> dict[str, str]:
        """Images that the table holds no bytes of, and why."""
        lacking: dict[str, str] = {}
        for (file,), rows in part.group_by("data_file", maintain_order=True):
            paths = rows["relative_path"].to_list()
            try:
                texts = self._directory.cells(str(file), "image_base64", paths)
            except CurationError:
                why = "its file is gone, and so is its data file from the directory table's history"
                lacking |= dict.fromkeys(paths, why)
                continue
            lacking |= {path: f"its file is gone, and {_NOT_HELD}" for path in paths if texts.get(path) is None}
        return lacking

    def _is_there(self, path: str, size: int | None) -> bool:
        try:
            found = self._source.times(path).size_bytes
        except (OSError, ValueError):
            return False
        return size is None or found == size


_NOT_HELD = "the table holds no bytes of it (CURATION_STORE_IMAGES)"


def _parts(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Rows, so many at a time as may be read out of the table together."""
    start, held = 0, 0
    for at, size in enumerate(rows["size_bytes"].fill_null(_UNKNOWN_BYTES)):
        if at > start and (held + size > _STORED_BYTES or at - start == _STORED_IMAGES):
            yield rows[start:at]
            start, held = at, 0
        held += size
    if start < len(rows):
        yield rows[start:]
