"""PNG: its chunks, checked before anything is decoded, and its pixels without whatever else is in the file.

Metadata never decides on pixels: a decoder is given the chunks that make the picture and no others
(W3C, Portable Network Graphics, third edition).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from curation_assets.images.errors import ImageError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT"}
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_MOST_CHUNKS = 200_000  # 256 MB in pieces of 8 kB, the usual size, are 33,000
_MOST_METADATA = 16 * 2**20  # of one piece, uncompressed: more is no EXIF block and no colour profile
_RAW_PROFILE = re.compile(rb"Raw profile type (exif|APP1)\0")
_XMP = b"XML:com.adobe.xmp\0"


@dataclass
class PngHeader:
    """What the chunks say.

    Attributes:
        size: (width, height).
        bits: of a sample.
        has_transparent: whether one colour, or some of its palette, is transparent.
        exif: an EXIF block as a TIFF file, with or without ``Exif`` before it; ``xmp``: of an XMP packet.
        profile: an ICC profile.
        remarks: what is wrong beside the pixels.
        picture: the file with the chunks that make the picture alone.
    """

    size: tuple[int, int]
    bits: int
    has_transparent: bool = False
    exif: bytes | None = None
    xmp: bytes | None = None
    profile: bytes | None = None
    remarks: list[str] = field(default_factory=list)
    picture: bytes = b""


def read_header(data: bytes) -> PngHeader:
    """Walk over the chunks.

    Raises:
        ImageError: a chunk that makes the picture is damaged or missing (``corrupt``); more chunks than any program
            writes (``unsupported``).
    """
    if not data.startswith(_SIGNATURE):
        cut = len(data) < len(_SIGNATURE)
        why = "it is cut" if cut else "a transfer as text changed its line ends"
        raise ImageError("corrupt", f"broken header: {why}")
    view = memoryview(data)
    header: PngHeader | None = None
    parts: list[memoryview] = [view[:8]]
    for number, (kind, at, end) in enumerate(_chunks(data)):
        if number == 0 and kind != b"IHDR":
            raise ImageError("corrupt", "broken header: no size before its pixels")
        if number > _MOST_CHUNKS:
            raise ImageError("unsupported", f"more than {_MOST_CHUNKS:,} chunks")
        intact = zlib.crc32(view[at + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
        if kind in _PIXELS:
            if not intact:
                raise ImageError("corrupt", f"broken pixel data: the CRC of a chunk ({kind.decode()}) is wrong")
            if header is None:
                header = _of_first(data[at + 8 : end - 4])
            header.has_transparent |= kind == b"tRNS"
            parts.append(view[at:end])
        elif header is not None:
            _take_metadata(header, kind, data[at + 8 : end - 4], intact)
    if header is None:
        raise ImageError("corrupt", f"broken header: the file ends after {len(data):,} bytes")
    header.picture = b"".join([*parts, _END])
    return header


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, beginning and end of each chunk that is there as a whole, up to IEND; of pixels also one that is cut."""
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind == b"IEND":
            return
        if end > len(data):
            if kind in _PIXELS:
                raise ImageError("corrupt", f"broken pixel data: the file ends after {len(data):,} bytes")
            return
        yield kind, at, end
        at = end


def _of_first(body: bytes) -> PngHeader:
    if len(body) != 13:
        raise ImageError("corrupt", "broken header: its first chunk is cut")
    width, height, bits, *_ = struct.unpack(">IIBBBBB", body)
    if not width or not height:
        raise ImageError("corrupt", f"broken header: {width} x {height} pixels")
    return PngHeader((width, height), bits)


def _take_metadata(header: PngHeader, kind: bytes, body: bytes, intact: bool) -> None:
    if kind not in _TEXTS and kind not in (b"eXIf", b"iCCP"):
        return
    if not intact:
        if kind == b"iCCP":
            header.remarks.append("its colour profile is damaged (taken as sRGB)")
        return
    if kind == b"eXIf":
        header.exif = body
    elif kind == b"iCCP":
        header.profile = _inflated(body.partition(b"\0")[2][1:])
        if header.profile is None:
            header.remarks.append("its colour profile is damaged (taken as sRGB)")
    elif body.startswith(_XMP):
        header.xmp = _text(kind, body)
    elif header.exif is None and _RAW_PROFILE.match(body) and (text := _text(kind, body)):
        # ImageMagick's: a line with the kind, one with the number of bytes, then their hexadecimal digits.
        with suppress(ValueError):
            header.exif = bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))


def _text(kind: bytes, body: bytes) -> bytes | None:
    _, _, rest = body.partition(b"\0")
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return _inflated(rest[1:])
    text = rest[2:].split(b"\0", 2)[-1]  # after two flags come a language, its keyword and the text
    return _inflated(text) if rest[:1] == b"\1" else text


def _inflated(body: bytes) -> bytes | None:
    """Uncompressed bytes; None where they are damaged, or more than anything worth having."""
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(body, _MOST_METADATA)
    except zlib.error:
        return None
    return found if inflater.eof else None
