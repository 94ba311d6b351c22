"""Every EXIF tag of an image as a few short lines of text, whatever a camera or an attacker wrote into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from PIL import ExifTags, Image

from curation_assets.gallery.responses import ExifTag
from curation_assets.images.decode import Picture
from curation_assets.images.errors import ImageError
from curation_assets.images.guard import DecodeOptions, with_picture
from curation_assets.images.names import printable

_GROUPS = (
    ("Image", None, ExifTags.TAGS),
    ("Photo", ExifTags.IFD.Exif, ExifTags.TAGS),
    ("GPS", ExifTags.IFD.GPSInfo, ExifTags.GPSTAGS),
    ("Interoperability", ExifTags.IFD.Interop, {1: "InteropIndex", 2: "InteropVersion"}),
)
_POINTERS = {0x8769, 0x8825, 0xA005}  # offsets of the other groups
_MOST_TAGS = 300
_MOST_CHARACTERS = 200
_MOST_NUMBERS = 12


def read_tags(data: bytes, options: DecodeOptions) -> list[ExifTag]:
    """All tags of an image's bytes, at most 300, each value at most 200 characters; none where it has no such block."""
    try:
        return with_picture(_tags, data, options)
    except ImageError:
        return []


def _tags(picture: Picture) -> list[ExifTag]:
    found: list[ExifTag] = []
    for group, ifd, names in _GROUPS:
        for tag, value in _values(picture.exif, ifd):
            if len(found) == _MOST_TAGS:
                return found
            if ifd is None and tag in _POINTERS:
                continue
            found.append(ExifTag(group=group, name=names.get(tag, f"0x{tag:04X}"), value=_readable(value)))
    return found


def _values(exif: Image.Exif, ifd: int | None) -> Iterator[tuple[int, Any]]:
    try:
        tags: Mapping[int, Any] = exif if ifd is None else exif.get_ifd(ifd)
        numbers = sorted(tags)
    except Exception:  # a broken block raises whatever its parser stumbled on
        return
    for tag in numbers:
        try:
            yield tag, tags[tag]
        except Exception:
            yield tag, None


def _readable(value: Any) -> str:
    """A value as text; never raises."""
    try:
        return _cut(printable(_text(value)))
    except Exception:  # a rational of odd parts, say
        return "unreadable"


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return _of_bytes(value)
    if isinstance(value, str):
        return value.split("\0")[0].strip()[: _MOST_CHARACTERS + 1].encode("utf-8", "replace").decode()
    if isinstance(value, tuple | list):
        said = ", ".join(_text(one) for one in value[:_MOST_NUMBERS])
        return f"{said}, … ({len(value)} values)" if len(value) > _MOST_NUMBERS else said
    if isinstance(value, dict):
        return f"{len(value)} values"
    if isinstance(value, int):
        return str(value) if abs(value) < 2**64 else "a very large number"
    if value is None:
        return "unreadable"
    if getattr(value, "denominator", 1) == 0:
        return "undefined"
    return f"{float(value):g}"


def _of_bytes(value: bytes) -> str:
    """Text, where it is text; else its size and how it begins."""
    head = value[: _MOST_CHARACTERS + 8]
    if head[:8] in (b"ASCII\0\0\0", b"\0" * 8):  # how a comment says its encoding
        head = head[8:]
    text = head.strip(b"\0 ")
    if text and all(32 <= byte < 127 for byte in text):
        return text.decode("ascii")
    if len(value) <= _MOST_NUMBERS:
        return " ".join(f"{byte:02x}" for byte in value)
    return f"{len(value):,} bytes, {value[:_MOST_NUMBERS].hex(' ')} …"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
