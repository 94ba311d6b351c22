"""JPEG XL, which Pillow doesn't read: the size in its header, and its pixels by imagecodecs.

libjxl turns the picture upright itself (ISO/IEC 18181-1 and -2 give header and boxes).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import imagecodecs
from numpy.typing import NDArray

from curation_assets.errors import first_line
from curation_assets.images.errors import ImageError

_BARE = b"\xff\x0a"
# Width over height, where a header gives just one of them.
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_LENGTHS = (9, 13, 18, 30)


@dataclass(frozen=True)
class JxlHeader:
    """What the header says: (width, height) turned upright, and an EXIF block as a TIFF file."""

    size: tuple[int, int]
    exif: bytes | None


def read_header(data: bytes) -> JxlHeader:
    """Read the size, and find the EXIF block.

    Raises:
        ImageError: the file is cut or damaged.
    """
    stream, exif = (data, None) if data.startswith(_BARE) else _unboxed(data)
    if not stream.startswith(_BARE) or len(stream) < 12:
        raise ImageError("corrupt", f"broken header: the file ends after {len(data):,} bytes")
    bits = _Bits(stream[2:34])
    small = bits.take(1)
    height = (bits.take(5) + 1) * 8 if small else bits.take(_LENGTHS[bits.take(2)]) + 1
    ratio = bits.take(3)
    if ratio:
        numerator, denominator = _RATIOS[ratio]
        width = height * numerator // denominator
    else:
        width = (bits.take(5) + 1) * 8 if small else bits.take(_LENGTHS[bits.take(2)]) + 1
    if not bits.take(1) and bits.take(1) and bits.take(3) >= 4:  # not all defaults; extra fields; EXIF's orientation
        width, height = height, width
    return JxlHeader((width, height), exif)


def decode(data: bytes) -> NDArray[Any]:
    """Decode the first frame: (height, width) or (height, width, channels), upright, uint8, uint16 or float.

    Raises:
        ImageError: the data is cut or damaged.
    """
    try:
        pixels: NDArray[Any] = imagecodecs.jpegxl_decode(data, index=0, numthreads=1)
    except Exception as error:
        raise ImageError("corrupt", f"broken pixel data: {first_line(error)}") from None
    return pixels


class _Bits:
    """Numbers out of bytes, least significant bits first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")

    def take(self, number: int) -> int:
        found = self._value & ((1 << number) - 1)
        self._value >>= number
        return found


def _unboxed(data: bytes) -> tuple[bytes, bytes | None]:
    """The beginning of the code stream, and the EXIF block: its first four bytes say where in it the TIFF begins."""
    stream, exif = b"", None
    for kind, body in _boxes(data):
        if kind == b"jxlc" and not stream:
            stream = body[:64]
        elif kind == b"jxlp" and not stream:
            stream = body[4:68]
        elif kind == b"Exif" and len(body) > 4:
            exif = body[4 + int.from_bytes(body[:4], "big") :]
    return stream, exif


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    for _ in range(1000):  # no program writes more
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        start = at + 8
        if length == 1:
            length, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        end = at + length if length else len(data)
        if len(kind) < 4 or end < start:
            return
        yield kind, data[start:end]
        at = end
