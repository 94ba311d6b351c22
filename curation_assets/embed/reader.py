"""Pending rows → bytes of their images → pixels."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import polars as pl
import pyarrow as pa
import pybase64
from numpy.typing import NDArray

from curation_assets.clip.preprocessing import Preprocessing
from curation_assets.embed.result import StageSeconds
from curation_assets.images.errors import ImageError
from curation_assets.images.guard import DecodeOptions
from curation_assets.images.source import ImageSource
from curation_assets.lake.snapshot import TableReader

_READ_ROWS = 32  # of one Parquet batch: bounds the base64 text held at once
_BATCH_BYTES = 32 * 2**20  # of a batch's base64 or files: eight photographs of twelve megapixels


@dataclass(frozen=True)
class RowGroup:
    """A row group of the directory table that holds images to embed.

    Attributes:
        file: the Parquet file's ``DataFile.path``.
        index: of the group in its file.
        rows: its images to embed, in the order they are stored: ``relative_path``, ``content_sha256``,
            ``file_path`` and what else was asked for.
    """

    file: str
    index: int
    rows: pl.DataFrame


def _nothing() -> bytes:
    return b""


@dataclass(frozen=True)
class StoredImage:
    """An image as the table holds it.

    Attributes:
        base64: text of the file's bytes; None where images aren't stored: ``read`` gives them then.
        seconds: that reading it took.
        read: gives the file's bytes, ``size`` of them.
    """

    content_sha256: str
    base64: pa.Buffer | None
    seconds: float
    read: Callable[[], bytes] = _nothing
    size: int = 0


@dataclass(frozen=True)
class Batch:
    """Images ready for the encoder.

    Attributes:
        contents: content hash of each image in ``pixels``.
        pixels: (n, crop, crop, 3) uint8.
        unusable: content hash and reason of images that could not be prepared.
        bytes: of the files of all of them.
        stages: seconds of reading and decoding.
    """

    contents: list[str]
    pixels: NDArray[np.uint8]
    unusable: dict[str, str]
    bytes: int
    stages: StageSeconds


def row_groups(table: TableReader, rows: pl.DataFrame, also: Sequence[str] = ()) -> Iterator[RowGroup]:
    """Find the row groups that hold some rows; reads one small column of each file.

    Args:
        table: reads the directory table.
        rows: ``relative_path``, ``content_sha256``, ``file_path`` and ``_file``.
        also: further columns that the row groups' rows shall have.

    Raises:
        CurationError: a file of the directory table is missing or broken.
    """
    for (file,), wanted in rows.partition_by("_file", as_dict=True, maintain_order=True).items():
        by_path = wanted.select(list(dict.fromkeys(["relative_path", "content_sha256", "file_path", *also])))
        with table.parquet(str(file)) as parquet:
            groups = range(parquet.num_row_groups)
            names = [parquet.read_row_group(group, columns=["relative_path"])["relative_path"] for group in groups]
        for index, stored in enumerate(names):
            found = pl.DataFrame({"relative_path": stored}).join(
                by_path, on="relative_path", how="inner", maintain_order="left"
            )
            if len(found):
                yield RowGroup(str(file), index, found)


def stored_images(table: TableReader, groups: Iterable[RowGroup], source: ImageSource) -> Iterator[StoredImage]:
    """The images of some row groups, in the order they are stored.

    Args:
        groups: with ``size_bytes`` in their rows.
        source: of those that the table doesn't hold.

    Raises:
        CurationError: a file of the directory table is missing or broken.
    """
    for group in groups:
        rows = {row["relative_path"]: row for row in group.rows.iter_rows(named=True)}
        with table.parquet(group.file) as parquet:
            started = perf_counter()
            for batch in parquet.iter_batches(
                batch_size=_READ_ROWS, row_groups=[group.index], columns=["relative_path", "image_base64"]
            ):
                seconds = (perf_counter() - started) / batch.num_rows
                for name, text in zip(batch["relative_path"].to_pylist(), batch["image_base64"], strict=True):
                    if row := rows.get(name):
                        size = row["size_bytes"] or 0
                        yield stored_image(source, row["content_sha256"], row["file_path"], text, size, seconds)
                started = perf_counter()


def stored_image(
    source: ImageSource, content_sha256: str, file_path: str, text: pa.StringScalar, size: int, seconds: float = 0.0
) -> StoredImage:
    """An image of which the table holds a text, or none."""
    if text.is_valid:
        return StoredImage(content_sha256, text.as_buffer(), seconds)
    return StoredImage(content_sha256, None, seconds, source.begun_at(file_path), size)


def in_batches(images: Iterator[StoredImage], size: int) -> Iterator[list[StoredImage]]:
    """Groups of ``size`` images, fewer at the end and where what they hold is more than ``_BATCH_BYTES``."""
    batch: list[StoredImage] = []
    held = 0
    for image in images:
        batch.append(image)
        held += image.base64.size if image.base64 is not None else image.size
        if len(batch) == size or held >= _BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def prepared(
    images: list[StoredImage], preprocessing: Preprocessing, options: DecodeOptions, stop: threading.Event | None = None
) -> Batch:
    """Decode, resize and crop; an image that can't be used becomes a reason."""
    stages = StageSeconds(read=sum(image.seconds for image in images))
    side = preprocessing.crop
    pixels = np.empty((len(images), side, side, 3), np.uint8)
    contents: list[str] = []
    unusable: dict[str, str] = {}
    size = 0
    for image in images:
        try:
            with stages.timed("decode" if image.base64 is not None else "read"):
                data = _bytes(image)
            size += len(data)
            with stages.timed("decode"):
                pixels[len(contents)] = preprocessing.load(data, options, stop)
        except (ImageError, OSError) as error:
            unusable[image.content_sha256] = str(error)
        else:
            contents.append(image.content_sha256)
    return Batch(contents, pixels[: len(contents)], unusable, size, stages)


def joined(batches: Iterator[Batch], size: int) -> Iterator[Batch]:
    """The same images in batches of ``size`` usable ones, the last one smaller."""
    waiting: list[Batch] = []
    number = 0
    for batch in batches:
        waiting.append(batch)
        number += len(batch.contents)
        while number >= size:
            whole = _concatenated(waiting)
            first, rest = _split(whole, size)
            yield first
            waiting, number = [rest], len(rest.contents)
    if number or any(batch.unusable for batch in waiting):
        yield _concatenated(waiting)


def _concatenated(batches: list[Batch]) -> Batch:
    stages = StageSeconds()
    unusable: dict[str, str] = {}
    for batch in batches:
        stages += batch.stages
        unusable |= batch.unusable
    return Batch(
        contents=[sha256 for batch in batches for sha256 in batch.contents],
        pixels=np.concatenate([batch.pixels for batch in batches]),
        unusable=unusable,
        bytes=sum(batch.bytes for batch in batches),
        stages=stages,
    )


def _split(batch: Batch, size: int) -> tuple[Batch, Batch]:
    """The first ``size`` images, with all that was counted; and the others."""
    first = Batch(batch.contents[:size], batch.pixels[:size], batch.unusable, batch.bytes, batch.stages)
    return first, Batch(batch.contents[size:], batch.pixels[size:], {}, 0, StageSeconds())


def _bytes(image: StoredImage) -> bytes:
    if image.base64 is not None:
        try:
            return pybase64.b64decode(image.base64, validate=True)
        except ValueError:
            raise ImageError("corrupt", "its image_base64 is not base64; rescan the folder") from None
    data = image.read()
    if hashlib.sha256(data).hexdigest() != image.content_sha256:
        raise ImageError("corrupt", "the file has changed since it was scanned; scan the folder again")
    return data
