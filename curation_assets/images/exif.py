"""What a camera wrote beside the pixels: when, where, with what. Broken or absent tags are None, never an error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from PIL import Image

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_MAKE, _MODEL = 0x010F, 0x0110
# (time, its UTC offset): original, digitised, file change
_TIMES = ((0x9003, 0x9011), (0x9004, 0x9012), (0x0132, 0x9010))
_BASE_TAGS = (_MAKE, _MODEL, *(tag for pair in _TIMES for tag in pair))


@dataclass(frozen=True)
class Exif:
    """Facts from an EXIF block.

    Attributes:
        captured_at: UTC; a camera clock without an offset is taken as UTC.
        latitude, longitude: degrees, north and east positive.
        camera: make and model.
    """

    captured_at: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None
    camera: str | None = None


def read_exif(image: Image.Image) -> Exif:
    """Read the facts of an opened image."""
    try:
        exif = image.getexif()
        base = {tag: exif.get(tag) for tag in _BASE_TAGS}  # one by one: the others cost more than the decoding
        detail, gps = exif.get_ifd(_EXIF_IFD), exif.get_ifd(_GPS_IFD)
    except Exception:  # a broken block raises whatever its parser stumbled on
        return Exif()
    latitude, longitude = _degrees(gps, 1, 2, 90), _degrees(gps, 3, 4, 180)
    if latitude is None or longitude is None:
        latitude = longitude = None
    return Exif(_captured_at(base | dict(detail)), latitude, longitude, _camera(base))


def _captured_at(tags: dict[int, Any]) -> datetime | None:
    for time_tag, offset_tag in _TIMES:
        text = _text(tags.get(time_tag))
        if not text:
            continue
        offset = _text(tags.get(offset_tag)) or "+00:00"
        for candidate in (text + offset, text + "+00:00"):
            try:
                return datetime.strptime(candidate, "%Y:%m:%d %H:%M:%S%z").astimezone(UTC)
            except (ValueError, OverflowError):
                continue
    return None


def _degrees(gps: dict[int, Any], ref_tag: int, value_tag: int, limit: int) -> float | None:
    try:
        parts = [float(part) for part in gps[value_tag]]
        value = float(sum(part / 60**power for power, part in enumerate(parts)))
        ref = _text(gps.get(ref_tag))
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None
    if ref not in ("N", "S", "E", "W") or not parts or not math.isfinite(value) or not 0 <= value <= limit:
        return None
    return -value if ref in ("S", "W") else value


def _camera(tags: dict[int, Any]) -> str | None:
    make, model = _text(tags.get(_MAKE)), _text(tags.get(_MODEL))
    if make and model and model.lower().startswith(make.lower()):
        return model
    return " ".join(part for part in (make, model) if part) or None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    text = value.split("\0")[0].strip()
    return text.encode("utf-8", "replace").decode()
