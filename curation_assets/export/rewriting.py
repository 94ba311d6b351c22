"""Bytes that are not written as they are: turned upright, or without what a camera wrote beside the pixels.

An image that EXIF doesn't turn keeps its bytes under ``upright``. Metadata is cut out, and no pixel changes: in JPEG
(ITU-T T.81) every segment of applications but JFIF's, Adobe's and the colour profile, comments, and whatever follows
the picture; in PNG (ISO/IEC 15948) and WebP (RFC 9649) the chunks that hold texts, times and EXIF. Where EXIF turns the
picture, a block of EXIF with nothing else stays.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import polars as pl

from curation_assets.errors import CurationError
from curation_assets.export.protocol import Content, Options
from curation_assets.images import jpeg
from curation_assets.images.decode import Picture, orientation_of, upright_rgb
from curation_assets.images.errors import ImageError
from curation_assets.images.guard import DecodeOptions, with_picture
from curation_assets.images.names import printable

QUALITY = 95
_TURNED = pl.col("orientation").is_between(2, 8)
_TURNED_BY_DECODER = ("HEIF", "JXL")  # their own boxes say how they lie; every reader turns them
_TURNED_BY_PILLOW = (*_TURNED_BY_DECODER, "TIFF")  # of AVIF it says how to turn it, and doesn't
_LOSSY = ("JPEG", "MPO", "WEBP")
_STRIPPED = ("JPEG", "MPO", "PNG", "WEBP", "BMP")  # a BMP holds nothing but pixels
_PNG_KEPT = frozenset(
    (
        b"IHDR",
        b"PLTE",
        b"IDAT",
        b"IEND",
        b"tRNS",
        b"cHRM",
        b"gAMA",
        b"iCCP",
        b"sBIT",
        b"sRGB",
        b"cICP",
        b"bKGD",
        b"pHYs",
        b"acTL",  # further frames
        b"fcTL",
        b"fdAT",
    )
)


def check_rewriting(content: Content) -> None:
    """Before anything is written: whether every image can be stripped.

    Raises:
        CurationError: naming one that can't.
    """
    if not content.options.strip_metadata:
        return
    kept_as = pl.col("format") if not content.options.upright else as_format()
    bad = content.rows.filter(~kept_as.is_in(_STRIPPED).fill_null(value=False))
    if len(bad):
        name, kind = bad["relative_path"][0], bad["format"][0] or "unknown"
        raise CurationError(
            f"--strip-metadata: {len(bad):,} images are not JPEG, PNG, WebP or BMP, for example {printable(name)} "
            f"({kind}); leave them out by [images] where, as format IN ('JPEG', 'PNG')"
        )


def is_turned() -> pl.Expr:
    """Which rows of ``IMAGES`` the option ``upright`` writes anew."""
    return (_TURNED & ~pl.col("format").is_in(_TURNED_BY_DECODER)).fill_null(value=False)


def shown_turned() -> pl.Expr:
    """Which rows of ``IMAGES`` readers that don't ask EXIF show as they are stored, and so turned."""
    return (_TURNED & ~pl.col("format").is_in(_TURNED_BY_PILLOW)).fill_null(value=False)


def as_format() -> pl.Expr:
    """What format ``upright`` leaves an image in."""
    lossy = pl.when(pl.col("format").is_in(_LOSSY)).then(pl.lit("JPEG")).otherwise(pl.lit("PNG"))
    return pl.when(is_turned()).then(lossy).otherwise("format")


def rewritten(data: bytes, row: dict[str, object], options: Options, decoding: DecodeOptions) -> bytes:
    """The bytes that are written for an image.

    Args:
        row: of ``IMAGES``.

    Raises:
        CurationError: the image can't be decoded, or its parts can't be told apart.
    """
    try:
        turns = int(str(row["orientation"] or 1))
        if options.upright and turns > 1 and row["format"] not in _TURNED_BY_DECODER:
            return with_picture(_turned, data, decoding, "JPEG" if row["format"] in _LOSSY else "PNG")
        if options.strip_metadata:
            return stripped(data, str(row["format"]), turns)
    except (ImageError, struct.error, IndexError, ValueError) as error:
        what = "turned upright" if options.upright else "stripped of its metadata"
        raise CurationError(f"{printable(str(row['relative_path']))} can't be {what}: {error}") from None
    return data


def _turned(picture: Picture, kind: str) -> bytes:
    """Upright, sRGB, and nothing beside the pixels."""
    out = BytesIO()
    rgb = upright_rgb(picture, orientation_of(picture))
    if kind == "JPEG":
        rgb.save(out, "JPEG", quality=QUALITY, subsampling=0)
    else:
        rgb.save(out, kind)
    return out.getvalue()


def stripped(data: bytes, kind: str, orientation: int) -> bytes:
    """A file with its pixels, its colour profile and, if it turns it, its orientation alone.

    Raises:
        ValueError, IndexError, struct.error: it isn't laid out as its format says.
        ImageError: the same of a JPEG.
    """
    if kind in ("JPEG", "MPO"):
        return _stripped_jpeg(data, orientation)
    if kind == "PNG":
        return _stripped_png(data, orientation)
    return _stripped_webp(data, orientation) if kind == "WEBP" else data


def _exif(orientation: int) -> bytes:
    """A block of EXIF that says how the picture lies, and nothing else (TIFF 6.0, big-endian)."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"MM\0*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)


def _stripped_jpeg(data: bytes, orientation: int) -> bytes:
    out, turn = [b"\xff\xd8"], b"Exif\0\0" + _exif(orientation)
    exif = b"\xff\xe1" + struct.pack(">H", len(turn) + 2) + turn if orientation > 1 else b""
    at = 2
    while True:
        if data[at] != 0xFF:
            raise ValueError("a segment doesn't begin with a marker")
        while data[at + 1] == 0xFF:  # fill bytes
            at += 1
        marker = data[at + 1]
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        is_own = 0xE0 <= marker <= 0xEF or marker == 0xFE
        is_kept = (marker == 0xE0 and body.startswith(b"JFIF\0")) or (marker == 0xEE and body.startswith(b"Adobe"))
        is_kept = is_kept or (marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"))
        if exif and not (marker == 0xE0 and is_kept):
            out.append(exif)  # after JFIF's, which comes first
            exif = b""
        if marker == 0xDA:  # entropy-coded data from here on: further scans, tables between them, the end
            return b"".join((*out, data[at : jpeg.end_of_first_picture(data, at + 2)]))
        if not is_own or is_kept:
            out.append(data[at : at + 2 + length])
        at += 2 + length


def _stripped_png(data: bytes, orientation: int) -> bytes:
    out, at = [data[:8]], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, whole = data[at + 4 : at + 8], data[at : at + 12 + length]
        if kind in _PNG_KEPT:
            out.append(whole)
        if kind == b"IHDR" and orientation > 1:
            body = b"eXIf" + _exif(orientation)
            out.append(struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
        if kind == b"IEND":
            return b"".join(out)
    raise ValueError("it has no end")


def _stripped_webp(data: bytes, orientation: int) -> bytes:
    out, at = [], 12
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    if end < 20:
        raise ValueError("it is cut")
    while at + 8 <= end:
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + length > len(data):
            raise ValueError("it is cut")
        whole = data[at : at + 8 + length + length % 2]
        whole += bytes(len(whole) % 2)
        if kind == b"VP8X":
            flags = whole[8] & ~0x0C | (0x08 if orientation > 1 else 0)
            whole = whole[:8] + bytes([flags]) + whole[9:]
        if kind not in (b"EXIF", b"XMP "):
            out.append(whole)
        at += len(whole)
    if orientation > 1:
        body = _exif(orientation)
        out.append(b"EXIF" + struct.pack("<I", len(body)) + body + bytes(len(body) % 2))
    body = b"".join((b"WEBP", *out))
    return b"RIFF" + struct.pack("<I", len(body)) + body
