"""One read of one file → every fact the directory table holds of it."""

from __future__ import annotations

import errno
import hashlib
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pybase64

from curation_assets.images.decode import Picture, orientation_of, upright_size
from curation_assets.images.errors import ImageError
from curation_assets.images.exif import read_exif
from curation_assets.images.guard import DecodeOptions, with_picture
from curation_assets.images.listing import ListedFile
from curation_assets.images.names import printable
from curation_assets.images.preview import preview, upright_at
from curation_assets.images.sharpness import SHARPNESS_VERSION, SIDE, sharpness
from curation_assets.images.source import FileReader

READER_VERSION = 2  # of everything that makes a row of a file; one more whenever a row would say something else
# The version since which rows of a format are as now; rows without a format are of files that were refused.
READ_ALIKE_SINCE = {"BMP": 1, "GIF": 2}
# What says that there is no such file, or no regular one; any other error may be of the disk or of a moment.
_NOT_A_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EINVAL)
_MAX_INT32 = 2**31 - 1  # a TIFF header can claim more than the table's columns hold


@dataclass(frozen=True)
class ReadLimits:
    """What is read and kept of a file.

    Attributes:
        store_images: whether ``image_base64`` is filled.
        max_pixels, max_file_bytes: larger ones get status ``too_large``.
        bands: of a raster of four or more: those that make the picture, from 1; None chooses.
        decode_seconds: a picture that takes longer gets status ``unreadable``.
    """

    store_images: bool = True
    max_pixels: int = 200_000_000
    max_file_bytes: int = 268_435_456
    bands: tuple[int, ...] | None = None
    decode_seconds: float = 60.0

    @property
    def decode(self) -> DecodeOptions:
        """How pictures are decoded."""
        return DecodeOptions(self.max_pixels, self.bands, self.decode_seconds)


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
    """A row of the directory table but its ``folder``; the schema there describes each field.

    Attributes:
        may_pass: no field of the table. Whether what kept the file from being read is of the moment (a disk, a right,
            time or memory), so that nothing is known of the file itself.
    """

    file_path: str
    file_name: str
    relative_path: str
    size_bytes: int | None
    created_at: datetime | None
    modified_at: datetime | None
    mtime_ns: int | None
    etag: str | None = None
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
    warning: str | None = None
    reader_version: int | None = None
    pixels_as: str | None = None
    scan_sharpness: float | None = None
    scan_sharpness_version: int | None = None
    may_pass: bool = False


def read_record(
    source: FileReader,
    listed: ListedFile,
    limits: ReadLimits,
    spent: Spent | None = None,
    stop: threading.Event | None = None,
) -> ImageRecord:
    """Read a listed file once and describe it. Never raises for what is wrong with the file.

    Size and times are those of the listing unless the opened file shows others, so that a file written to in the
    meantime differs from its row at the next listing and is read again.

    Args:
        spent: the time this takes is added to it; one thread's own.
        stop: ends the work when it is set.
    """
    spent = spent or Spent()
    record = ImageRecord(
        file_path=source.location_of(listed.relative_path),
        file_name=listed.relative_path.rsplit("/", 1)[-1],
        relative_path=listed.relative_path,
        size_bytes=listed.size_bytes,
        created_at=_time(listed.ctime_ns),
        modified_at=_time(listed.mtime_ns),
        mtime_ns=listed.mtime_ns,
        etag=listed.etag,
        reader_version=READER_VERSION,
    )
    started = time.perf_counter()
    try:
        data = _read(source, listed, record, limits)
    except ImageError as error:
        record.status, record.error = error.status, str(error)
        return record
    except OSError as error:
        record.status, record.error = "unreadable", os_reason(error)
        record.may_pass = error.errno not in _NOT_A_FILE
        return record
    finally:
        spent.read_seconds += time.perf_counter() - started
    started = time.thread_time()
    record.content_sha256 = hashlib.sha256(data).hexdigest()
    try:
        facts = with_picture(_describe, data, limits.decode, stop=stop)
    except ImageError as error:
        record.status, record.error = error.status, printable(str(error))
        record.may_pass = error.status == "unreadable"
        if error.size is not None:  # says at the next scan whether a raised limit now admits it
            record.width, record.height = (min(side, _MAX_INT32) for side in error.size)
    else:
        for name, value in facts.items():
            setattr(record, name, value)
        if limits.store_images:
            record.image_base64 = pybase64.b64encode_as_string(data)
    spent.decode_seconds += time.thread_time() - started
    return record


def _read(source: FileReader, listed: ListedFile, record: ImageRecord, limits: ReadLimits) -> bytes:
    if (record.size_bytes or 0) > limits.max_file_bytes:
        limit = f"the limit is {limits.max_file_bytes:,} (CURATION_MAX_FILE_BYTES)"
        raise ImageError("too_large", f"{record.size_bytes:,} bytes; {limit}")
    found = source.read_listed(listed)
    if (now := found.now) is not None:
        # Another than was listed: keep what was read, and a time that the next listing will not match unless the file
        # is already complete.
        record.size_bytes, record.etag = len(found.data), now.etag
        record.mtime_ns = now.mtime_ns if now.size_bytes == len(found.data) else 0
        record.created_at, record.modified_at = _time(now.ctime_ns), _time(now.mtime_ns)
    return found.data


def _describe(picture: Picture) -> dict[str, Any]:
    """What a row says of a picture, but of its metadata what can't be got at."""
    orientation = orientation_of(picture)
    exif = read_exif(picture.exif)
    width, height = upright_size(picture, orientation)
    facts: dict[str, Any] = {"format": picture.format, "mode": picture.mode, "orientation": orientation}
    facts |= {"width": width, "height": height, "captured_at": exif.captured_at, "camera": exif.camera}
    rgb = upright_at(picture, SIDE)
    facts |= {"latitude": exif.latitude, "longitude": exif.longitude, "preview": preview(rgb)}
    facts |= {"scan_sharpness": sharpness(rgb), "scan_sharpness_version": SHARPNESS_VERSION}
    return facts | {"warning": "; ".join(picture.remarks) or None, "pixels_as": picture.pixels_as}


def _time(nanoseconds: int | None) -> datetime | None:
    if nanoseconds is None:
        return None
    return datetime.fromtimestamp(nanoseconds // 1000 / 1_000_000, UTC)


def os_reason(error: OSError) -> str:
    """Why a file can't be read, for its row."""
    if error.errno == errno.ENOENT:
        return "the file vanished between listing and reading, or is a broken link"
    return f"cannot be read: {error.strerror or error}"
