"""Pending rows → pixels: read the directory table's Parquet files, decode in threads, a bounded number ahead."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pybase64
from numpy.typing import NDArray

from curation_assets.errors import CurationError, first_line
from curation_assets.images.decode import ImageError
from curation_assets.images.names import path_from_text
from curation_assets.images.record import read_bytes
from curation_assets.lake.table import Snapshot

_READ_ROWS = 32  # of one Parquet batch: bounds the base64 text held at once


@dataclass(frozen=True)
class Prepared:
    """An image ready for the encoder, or the reason why not.

    Attributes:
        pixels: (crop, crop, 3) uint8; None if ``error`` says why there are none.
    """

    relative_path: str
    content_sha256: str
    pixels: NDArray[np.uint8] | None
    error: str | None = None


@contextmanager
def prepared_images(
    directory: Snapshot,
    rows: pl.DataFrame,
    prepare: Callable[[bytes], NDArray[np.uint8]],
    *,
    threads: int,
    ahead: int,
) -> Iterator[Iterator[Prepared]]:
    """Read and prepare images on other threads while the caller computes.

    Args:
        directory: snapshot of the directory table.
        rows: ``relative_path``, ``content_sha256``, ``file_path`` and ``_file`` of the images.
        prepare: bytes of an image file → pixels; raises ImageError.
        threads: how many decode; one more reads.
        ahead: how many images may be ready or in work before the caller takes them.

    Yields:
        Iterator over the images, in the order they are stored.
    """
    ready: queue.Queue[Future[Prepared] | BaseException | None] = queue.Queue(maxsize=ahead)
    stop = threading.Event()
    pool = ThreadPoolExecutor(threads, "decode")

    def put(item: Future[Prepared] | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            for row, base64 in _stored(directory, rows):
                if not put(pool.submit(_prepare, row, base64, prepare)):
                    return
            put(None)
        except BaseException as error:  # handed to the caller's thread
            put(error)

    def take() -> Iterator[Prepared]:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item.result()

    reader = threading.Thread(target=read, name="read", daemon=True)
    reader.start()
    try:
        yield take()
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        reader.join()


def _stored(directory: Snapshot, rows: pl.DataFrame) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Each row with its ``image_base64``; row groups that hold no wanted row are not read.

    Raises:
        CurationError: a file of the directory table is missing or broken.
    """
    for (file,), wanted in rows.partition_by("_file", as_dict=True, maintain_order=True).items():
        try:
            yield from _stored_in(directory.root / str(file), wanted)
        except (OSError, pa.ArrowException) as error:
            raise CurationError(f"table {directory.root} can't be read: {file}: {first_line(error)}") from error


def _stored_in(file: Path, wanted: pl.DataFrame) -> Iterator[tuple[dict[str, Any], str | None]]:
    by_path = {row["relative_path"]: row for row in wanted.iter_rows(named=True)}
    parquet = pq.ParquetFile(file)
    for group in range(parquet.num_row_groups):
        names = parquet.read_row_group(group, columns=["relative_path"])["relative_path"].to_pylist()
        if by_path.keys().isdisjoint(names):
            continue
        columns = ["relative_path", "image_base64"]
        for batch in parquet.iter_batches(batch_size=_READ_ROWS, row_groups=[group], columns=columns):
            for name, base64 in zip(batch["relative_path"].to_pylist(), batch["image_base64"], strict=True):
                if name in by_path:
                    yield by_path[name], base64.as_py()


def _prepare(row: dict[str, Any], base64: str | None, prepare: Callable[[bytes], NDArray[np.uint8]]) -> Prepared:
    path, sha256 = row["relative_path"], row["content_sha256"]
    try:
        return Prepared(path, sha256, prepare(_bytes(row, base64)))
    except (ImageError, OSError) as error:
        return Prepared(path, sha256, None, str(error))


def _bytes(row: dict[str, Any], base64: str | None) -> bytes:
    if base64 is not None:
        try:
            return pybase64.b64decode(base64, validate=True)
        except ValueError:
            raise ImageError("corrupt", "its image_base64 is not base64; rescan the folder") from None
    data = read_bytes(path_from_text(row["file_path"]))
    if hashlib.sha256(data).hexdigest() != row["content_sha256"]:
        raise ImageError("corrupt", "the file has changed since it was scanned; scan the folder again")
    return data
