"""One read of one file → every fact the directory table holds of it."""

from __future__ import annotations

import errno
import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import pybase64

from curation_assets.images.decode import ImageError, open_image, orientation_of, upright_size
from curation_assets.images.exif import Exif, read_exif
from curation_assets.images.names import printable
from curation_assets.images.preview import preview
from curation_assets.images.source import ImageSource

_MAX_INT32 = 2**31 - 1  # a TIFF header can claim more than the table's columns hold


@dataclass(frozen=True)
class ReadLimits:
    """What is read and kept of a file.

    Attributes:
        store_images: whether ``image_base64`` is filled.
        max_pixels, max_file_bytes: larger ones get status ``too_large``.
    """

    store_images: bool = True
    max_pixels: int = 200_000_000
    max_file_bytes: int = 268_435_456


@dataclass
class Spent:
    """Where the time of reading files went.

    Attributes:
        read_seconds: waiting for the disk and copying its bytes.
        decode_seconds: CPU time of everything that is made of them: hash, facts, preview, base64.
    """

    read_seconds: float = 0.0
    decode_seconds: float = 0.0


@dataclass
class ImageRecord:
    """A row of the directory table but its ``folder``; the schema there describes each field."""

    file_path: str
    file_name: str
    relative_path: str
    size_bytes: int | None
    created_at: datetime | None
    modified_at: datetime | None
    mtime_ns: int | None
    image_base64: str | None = None
    content_sha256: str | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    orientation: int | None = None
    captured_at: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None
    camera: str | None = None
    preview: bytes | None = None
    status: str = "ok"
    error: str | None = None


def read_record(
    source: ImageSource,
    relative_path: str,
    size_bytes: int | None,
    mtime_ns: int | None,
    ctime_ns: int | None,
    limits: ReadLimits,
    spent: Spent | None = None,
) -> ImageRecord:
    """Read a listed file once and describe it. Never raises for what is wrong with the file.

    Size and times are those of the listing unless the opened file shows others, so that a file written to in the
    meantime differs from its row at the next listing and is read again.

    Args:
        spent: the time this takes is added to it; one thread's own.
    """
    spent = spent or Spent()
    record = ImageRecord(
        file_path=source.location_of(relative_path),
        file_name=relative_path.rsplit("/", 1)[-1],
        relative_path=relative_path,
        size_bytes=size_bytes,
        created_at=_time(ctime_ns),
        modified_at=_time(mtime_ns),
        mtime_ns=mtime_ns,
    )
    started = time.perf_counter()
    try:
        data = _read(source, record, limits)
    except ImageError as error:
        record.status, record.error = error.status, str(error)
        return record
    except OSError as error:
        record.status, record.error = "unreadable", _os_reason(error)
        return record
    finally:
        spent.read_seconds += time.perf_counter() - started
    started = time.thread_time()
    record.content_sha256 = hashlib.sha256(data).hexdigest()
    try:
        _describe(data, record, limits)
    except ImageError as error:
        record.status, record.error = error.status, printable(str(error))
        if error.size is not None:  # says at the next scan whether a raised limit now admits it
            record.width, record.height = (min(side, _MAX_INT32) for side in error.size)
    else:
        if limits.store_images:
            record.image_base64 = pybase64.b64encode_as_string(data)
    spent.decode_seconds += time.thread_time() - started
    return record


def _read(source: ImageSource, record: ImageRecord, limits: ReadLimits) -> bytes:
    if (record.size_bytes or 0) > limits.max_file_bytes:
        limit = f"the limit is {limits.max_file_bytes:,} (CURATION_MAX_FILE_BYTES)"
        raise ImageError("too_large", f"{record.size_bytes:,} bytes; {limit}")
    data = source.read(record.relative_path)
    if len(data) != record.size_bytes:
        # Grew or shrank since it was listed: keep what was read, and a time that the next listing will not match
        # unless the file is already complete.
        now = source.times(record.relative_path)
        record.size_bytes = len(data)
        record.mtime_ns = now.mtime_ns if now.size_bytes == len(data) else 0
        record.created_at, record.modified_at = _time(now.ctime_ns), _time(now.mtime_ns)
    return data


def _describe(data: bytes, record: ImageRecord, limits: ReadLimits) -> None:
    image = open_image(data, limits.max_pixels)
    orientation = orientation_of(image)
    exif: Exif = read_exif(image)
    record.format, record.mode, record.orientation = image.format, image.mode, orientation
    record.width, record.height = upright_size(image, orientation)
    record.captured_at, record.camera = exif.captured_at, exif.camera
    record.latitude, record.longitude = exif.latitude, exif.longitude
    record.preview = preview(image, orientation)


def _time(nanoseconds: int | None) -> datetime | None:
    if nanoseconds is None:
        return None
    return datetime.fromtimestamp(nanoseconds // 1000 / 1_000_000, UTC)


def _os_reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "the file vanished between listing and reading, or is a broken link"
    return f"cannot be read: {error.strerror or error}"
