"""JPEG: what its markers say before anything is decoded, and its pixels with the decoder's warnings.

libjpeg-turbo goes on where data is damaged, fills in what is missing and says so in a warning that Pillow drops;
simplejpeg hands it out, with the same pixels (ITU-T T.81 names the markers).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image

from curation_assets.images.errors import ImageError

MOST_SCANS = 100  # cameras and programs write at most some twenty
MOST_SCANNED = 4_000_000_000  # pixels times scans: 20 scans of the largest picture that is read by default
_MOST_SEGMENTS = 20_000
_END = b"\xff\xd9"
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_NOT_READ = {0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical", 0xCB: "lossless"}
_NOT_READ |= {0xCD: "hierarchical", 0xCE: "hierarchical", 0xCF: "hierarchical"}
_PROGRESSIVE = {0xC2, 0xCA}
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a segment
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]", re.DOTALL)  # what ends a scan's data
# What libjpeg says where pixels are invented from here to the end, as against damaged on the way.
_CUT = "premature end of data segment"


@dataclass(frozen=True)
class JpegHeader:
    """What the markers say.

    Attributes:
        size: (width, height) as stored.
        components: 1 grey, 3 colour, 4 CMYK.
        scans: passes over the picture that a decoder makes.
        end: bytes up to the end of the picture, its end marker included.
        has_end: whether there is an end marker.
    """

    size: tuple[int, int]
    components: int
    scans: int
    end: int
    has_end: bool
    progressive: bool

    @property
    def scanned(self) -> int:
        """Pixels times scans: what decoding costs."""
        return self.size[0] * self.size[1] * self.scans


def read_header(data: bytes) -> JpegHeader:
    """Walk over the markers.

    Raises:
        ImageError: cut or damaged before its pixels (``corrupt``), a kind of JPEG that is not read, or more scans than
            any program writes (``unsupported``).
    """
    at, segments, frame = 2, 0, None
    while True:
        marker, at = _next_marker(data, at)
        if marker in _ALONE:
            continue
        if marker == 0xD9:
            raise ImageError("corrupt", "broken header: it ends before its pixels")
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            raise ImageError("corrupt", f"broken header: the file ends after {len(data):,} bytes, before its pixels")
        if marker in _NOT_READ:
            raise ImageError("unsupported", f"{_NOT_READ[marker]} JPEGs are not supported")
        if marker in _FRAMES:
            frame = _frame(data[at + 2 : at + length], marker)
        if marker == 0xDA:
            break
        at += length
        segments += 1
        if segments > _MOST_SEGMENTS:
            raise ImageError("unsupported", f"more than {_MOST_SEGMENTS:,} segments before its pixels")
    if frame is None:
        raise ImageError("corrupt", "broken header: no size before its pixels")
    size, components, progressive = frame
    scans, end, has_end = 1, *_end_of(data, at)
    if progressive or data[at + 2] < components:
        scans, end, has_end = _count_scans(data, at)
    header = JpegHeader(size, components, scans, end, has_end, progressive)
    if scans > MOST_SCANS or header.scanned > MOST_SCANNED:
        number = f"more than {MOST_SCANS}" if scans > MOST_SCANS else f"{scans}"
        what = f"{number} scans of {size[0]} x {size[1]} pixels, which would take minutes to decode"
        raise ImageError("unsupported", f"{what}; at most {MOST_SCANNED:,} pixels are gone over")
    return header


def decode(data: bytes, header: JpegHeader, size: tuple[int, int] | None) -> tuple[Image.Image, str | None]:
    """Decode the picture.

    Args:
        size: (width, height) to decode at, as one of libjpeg's scales of the stored size gives it; None: its own.

    Returns:
        ``RGB``, ``L`` or, as stored, ``CMYK`` pixels, and what the decoder warned of: pixels it had to invent.

    Raises:
        ImageError: the data ends before the picture does.
    """
    whole = data if header.has_end else data[: header.end] + _END
    space = {1: "GRAY", 4: "CMYK"}.get(header.components, "RGB")
    width, height = size or header.size
    scale = {"min_width": width, "min_height": height} if size else {}
    warning = None
    try:
        pixels = simplejpeg.decode_jpeg(whole, space, strict=True, **scale)
    except ValueError as error:
        warning = str(error).removeprefix("Corrupt JPEG data: ")
        if _CUT in warning or not _is_warning(str(error)):
            cut = "image file is truncated: " if _CUT in warning else ""
            raise ImageError("corrupt", f"broken pixel data: {cut}{warning}") from None
        pixels = simplejpeg.decode_jpeg(whole, space, strict=False, **scale)
    if space == "CMYK":  # programs store it inverted, as Adobe's always did
        pixels = 255 - pixels
    pixels = pixels[..., 0] if space == "GRAY" else pixels
    return Image.fromarray(np.ascontiguousarray(pixels), {"GRAY": "L"}.get(space, space)), warning


def _is_warning(said: str) -> bool:
    """Whether libjpeg went on: the sentences of its warnings (jerror.h)."""
    known = ("Corrupt JPEG data", "Premature end of JPEG file", "Inconsistent progression", "Warning:", "Unknown Adobe")
    return said.startswith(known)


def _next_marker(data: bytes, at: int) -> tuple[int, int]:
    """The marker at or after a place, and where its segment begins; libjpeg passes over what lies before one."""
    at = data.find(b"\xff", at)
    while 0 <= at < len(data) - 1:
        value = data[at + 1]
        if value not in (0x00, 0xFF):
            return value, at + 2
        at = at + 1 if value == 0xFF else data.find(b"\xff", at + 2)
    raise ImageError("corrupt", f"broken header: the file ends after {len(data):,} bytes, before its pixels")


def _frame(segment: bytes, marker: int) -> tuple[tuple[int, int], int, bool]:
    if len(segment) < 6:
        raise ImageError("corrupt", "broken header: its frame header is cut")
    precision, components = segment[0], segment[5]
    height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
    if precision != 8:
        raise ImageError("unsupported", f"JPEGs of {precision} bits are not supported")
    if not width or not height or components not in (1, 3, 4):
        raise ImageError("corrupt", f"broken header: {width} x {height} pixels of {components} components")
    return (width, height), components, marker in _PROGRESSIVE


def _end_of(data: bytes, at: int) -> tuple[int, bool]:
    """Where a picture of one scan ends at the latest, and whether there is an end marker; no marker is in its data."""
    found = data.rfind(_END, at)
    return (found + 2, True) if found >= 0 else (len(data), False)


def end_of_first_picture(data: bytes, at: int) -> int:
    """Where a picture ends, whatever follows it: a second one, a trailer that a phone added.

    Args:
        at: place after the marker of its first scan.
    """
    return _count_scans(data, at)[1]


def _count_scans(data: bytes, at: int) -> tuple[int, int, bool]:
    """How many scans there are, where the last ends, and whether a marker says so; counting ends beyond the limit."""
    scans = 1
    found = _MARKER.search(data, at)
    while found is not None and scans <= MOST_SCANS:
        marker = found.group()[-1]
        if marker == 0xD9:
            return scans, found.end(), True
        scans += marker == 0xDA
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        found = _MARKER.search(data, found.end() + (0 if marker in _ALONE else length))
    return scans, len(data), False
