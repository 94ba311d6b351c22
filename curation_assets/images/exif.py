"""What a camera wrote beside the pixels: when, where, with what. Broken or absent tags are None, never an error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PIL import Image

from curation_assets.images.capture_time import BASE_TAGS, MAKE, MODEL, captured_at, text

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825


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


def read_exif(exif: Image.Exif) -> Exif:
    """Read the facts of an image's EXIF block."""
    try:
        base = {tag: exif[tag] for tag in BASE_TAGS if tag in exif}  # the others cost more than the decoding
        detail, gps = exif.get_ifd(_EXIF_IFD), exif.get_ifd(_GPS_IFD)
    except Exception:  # a broken block raises whatever its parser stumbled on
        return Exif()
    latitude, longitude = _degrees(gps, 1, 2, 90), _degrees(gps, 3, 4, 180)
    if latitude is None or longitude is None:
        latitude = longitude = None
    return Exif(captured_at(base | dict(detail)), latitude, longitude, _camera(base))


def _degrees(gps: dict[int, Any], ref_tag: int, value_tag: int, limit: int) -> float | None:
    try:
        parts = [float(part) for part in gps[value_tag]]
        value = float(sum(part / 60**power for power, part in enumerate(parts)))
        ref = text(gps.get(ref_tag))
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None
    if ref not in ("N", "S", "E", "W") or not parts or not math.isfinite(value) or not 0 <= value <= limit:
        return None
    return -value if ref in ("S", "W") else value


def _camera(tags: dict[int, Any]) -> str | None:
    make, model = text(tags.get(MAKE)), text(tags.get(MODEL))
    if make and model and model.lower().startswith(make.lower()):
        return model
    return " ".join(part for part in (make, model) if part) or None
