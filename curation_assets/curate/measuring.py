"""Rows of the quality table: measured in threads, in their order, into a staged file; wherever it runs."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pybase64

from curation_assets.curate.tones import TONES_VERSION, Tones, tones
from curation_assets.embed.reader import RowGroup
from curation_assets.images.decode import Picture
from curation_assets.images.errors import ImageError
from curation_assets.images.guard import DecodeOptions, with_picture
from curation_assets.images.preview import upright_at
from curation_assets.images.record import os_reason
from curation_assets.images.sharpness import SHARPNESS_VERSION, SIDE, sharpness
from curation_assets.images.source import ImageSource
from curation_assets.lake.schemas import QUALITY
from curation_assets.lake.snapshot import TableReader
from curation_assets.lake.staging import ParquetStage

MEASURES_VERSION = 1000 * SHARPNESS_VERSION + TONES_VERSION
CARRIED = ("content_sha256", "width", "height", "camera", "pixels_as")  # of the directory's row
MEASURED = ("sharpness", *(tone.name for tone in fields(Tones)))
_READ_ROWS = 32  # of one Parquet batch: bounds the base64 text held at once
_AT_ONCE = 8  # images a thread is handed: a small one costs less to measure than to hand over
_SCANNED = ("scan_sharpness", "scan_sharpness_version")
_SCHEMA = QUALITY.file_schema


@dataclass
class Measured:
    """What measuring some rows did.

    Attributes:
        rows: that were written.
        read_again: of them, those whose picture had to be decoded for its sharpness, as the scan measured none.
        failed: path and reason of those that have no or not all measures.
        waiting: path and reason of those that have no row, as their file can't be read now.
    """

    rows: int = 0
    read_again: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)

    def add(self, other: Measured) -> None:
        """Take up what was done elsewhere."""
        self.rows += other.rows
        self.read_again += other.read_again
        self.failed |= other.failed
        self.waiting |= other.waiting


@dataclass(frozen=True)
class _Stored:
    """An image as the directory table holds it, and the row that is to be."""

    row: dict[str, Any]
    preview: bytes | None
    base64: str | None
    read: Callable[[], bytes] | None
    scanned: tuple[float | None, int | None]


def measure_groups(
    table: TableReader,
    groups: Iterable[RowGroup],
    source: ImageSource,
    stage: ParquetStage,
    options: DecodeOptions,
    threads: int,
    on_done: Callable[[int], object],
    added: pl.DataFrame | None = None,
) -> Measured:
    """Measure the images of some row groups and write their rows.

    Everything it works on is an argument, so it can be called on any machine that sees the tables.

    Args:
        table: reads the directory table.
        groups: with the columns ``CARRIED`` in their rows.
        source: of images that the table doesn't hold.
        options: of decoding, where sharpness has to be measured.
        on_done: called on this thread with the number of images done since the last call; may raise to stop the work.
        added: ``relative_path`` and what users added to rows that are measured again.

    Raises:
        CurationError: a file of the directory table is missing or broken.
    """
    done = Measured()
    pool = ThreadPoolExecutor(threads, "quality")
    try:
        for results in _in_order(pool, threads, _some(table, groups, source), options):
            rows = []
            for row, read_again, waiting in results:
                if waiting is not None:
                    done.waiting[row["relative_path"]] = waiting
                    continue
                rows.append(row)
                done.read_again += read_again
                if row["error"] is not None:
                    done.failed[row["relative_path"]] = row["error"]
            if rows:
                stage.write(_with_added(_arrow(rows), added))
            done.rows += len(rows)
            on_done(len(results))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return done


_Result = tuple[dict[str, Any], bool, str | None]  # row; whether it was decoded again; why it has to wait


def _in_order(
    pool: ThreadPoolExecutor, threads: int, images: Iterable[Sequence[_Stored]], options: DecodeOptions
) -> Iterator[list[_Result]]:
    waiting: deque[Future[list[_Result]]] = deque()
    for some in images:
        while len(waiting) >= 2 * threads:
            yield waiting.popleft().result()
        waiting.append(pool.submit(_measure, some, options))
    while waiting:
        yield waiting.popleft().result()


def _some(table: TableReader, groups: Iterable[RowGroup], source: ImageSource) -> Iterator[Sequence[_Stored]]:
    for group in groups:
        rows = {row["relative_path"]: row for row in group.rows.iter_rows(named=True)}
        with table.parquet(group.file) as parquet:
            scanned = _scanned(parquet, group.index, rows)
            lacking = any(version != SHARPNESS_VERSION for _, version in scanned.values())
            columns = ["relative_path", "preview", *(["image_base64"] if lacking else [])]
            for batch in parquet.iter_batches(batch_size=_READ_ROWS, row_groups=[group.index], columns=columns):
                found = (_stored(rows[path], values, scanned[path], source) for path, values in _values(batch, rows))
                yield from _cut(list(found))


def _scanned(parquet: Any, group: int, rows: dict[str, Any]) -> dict[str, tuple[float | None, int | None]]:
    """Sharpness and version that the scan left with the rows; none where it was an earlier version's."""
    if not set(_SCANNED) <= set(parquet.schema_arrow.names):
        return dict.fromkeys(rows, (None, None))
    stored = parquet.read_row_group(group, columns=["relative_path", *_SCANNED]).to_pydict()
    found = zip(stored["relative_path"], *(stored[name] for name in _SCANNED), strict=True)
    return {path: (sharp, version) for path, sharp, version in found if path in rows}


def _values(batch: pa.RecordBatch, rows: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, path in enumerate(batch["relative_path"].to_pylist()):
        if path in rows:
            yield path, {name: batch[name][index].as_py() for name in batch.schema.names}


def _cut(images: list[_Stored]) -> Iterator[list[_Stored]]:
    for first in range(0, len(images), _AT_ONCE):
        yield images[first : first + _AT_ONCE]


def _stored(
    row: dict[str, Any], values: dict[str, Any], scanned: tuple[float | None, int | None], source: ImageSource
) -> _Stored:
    needs_picture = scanned[1] != SHARPNESS_VERSION
    told = {name: row[name] for name in ("relative_path", *CARRIED)}
    base64 = values.get("image_base64") if needs_picture else None
    read = source.begun_at(row["file_path"]) if needs_picture and base64 is None else None
    return _Stored(told, values["preview"], base64, read, scanned)


def _measure(images: Sequence[_Stored], options: DecodeOptions) -> list[_Result]:
    return [_measure_one(image, options) for image in images]


def _measure_one(image: _Stored, options: DecodeOptions) -> _Result:
    row = image.row
    ratio = row["width"] / row["height"] if row["width"] and row["height"] else None
    made = row | dict.fromkeys(MEASURED) | {"aspect_ratio": ratio, "error": None}
    made |= {"measures_version": MEASURES_VERSION, "measured_at": datetime.now(UTC)}
    sharp, version = image.scanned
    read_again = version != SHARPNESS_VERSION
    errors = []
    try:
        made["sharpness"] = _sharpness(image, options) if read_again else sharp
    except OSError as error:
        return row, read_again, os_reason(error)
    except ImageError as error:
        if error.status == "unreadable":  # time or memory: another day it may be read
            return row, read_again, str(error)
        errors.append(str(error))
    try:
        if image.preview is None:
            raise ImageError("corrupt", "it has no preview")
        made |= asdict(tones(image.preview))
    except ImageError as error:
        errors.append(str(error))
    made["error"] = "; ".join(errors) or None
    for name in MEASURED:  # a NaN would be larger than every threshold
        if made[name] is not None and not math.isfinite(made[name]):
            made[name] = None
    return made, read_again, None


def _sharpness(image: _Stored, options: DecodeOptions) -> float | None:
    if image.base64 is not None:
        try:
            data = pybase64.b64decode(image.base64, validate=True)
        except ValueError:
            raise ImageError("corrupt", "its image_base64 is not base64; rescan the folder") from None
    else:
        assert image.read is not None
        data = image.read()
        if hashlib.sha256(data).hexdigest() != image.row["content_sha256"]:
            raise OSError(0, "the file is another now than the one that was scanned")
    return with_picture(sharpness_of, data, options)


def sharpness_of(picture: Picture) -> float | None:
    """Sharpness of an image that is not decoded yet.

    Raises:
        ImageError: the pixel data is truncated or broken.
    """
    return sharpness(upright_at(picture, SIDE))


def _arrow(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.record_batch([pa.array([row[f.name] for row in rows], f.type) for f in _SCHEMA], schema=_SCHEMA)


def _with_added(batch: pa.RecordBatch, added: pl.DataFrame | None) -> pa.RecordBatch:
    if added is None:
        return batch
    paths = pl.DataFrame({"relative_path": batch["relative_path"]})
    found = paths.join(added, on="relative_path", how="left", maintain_order="left").drop("relative_path")
    for name, column in zip(found.columns, found.to_arrow().combine_chunks().columns, strict=True):
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        batch = batch.append_column(name, array)
    return batch
