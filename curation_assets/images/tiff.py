"""TIFF rasters that Pillow doesn't read or flattens: many bands, more than 8 bits, floats, planes, tiles, BigTIFF.

Which bands make the picture: those that a setting names, else those that the file calls red, green and blue, else by
their number, as orthophotos and multispectral cameras order them (TIFF 6.0; GDAL's GeoTIFF tags).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from curation_assets.errors import first_line
from curation_assets.images import jpeg
from curation_assets.images.errors import ImageError
from curation_assets.images.kinds import DEVELOP
from curation_assets.images.levels import to_bytes

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # a file's row says what matters
_MOST_BYTES = 2**30  # of one strip or tile, uncompressed
_MOST_BANDS = 1000
SELECTABLE = 4  # bands, from which on there is something to choose
# The least share of a band that is all or nothing where it is transparency; infrared is in between.
_OPAQUE_OR_NOT = 0.5
_GDAL_METADATA, _GDAL_NODATA, _DNG_VERSION, _PROFILE = 42112, 42113, 50706, 34675
_SENSOR = {32803, 34892}  # photometric interpretations of undeveloped data
_RAW_COMPRESSION = {32767, 32769, 32770, 32867, 34713, 65000, 65535}  # makers' own
_WHITE_IS_ZERO, _RGB = 0, 2
_JPEG = {6, 7}
_PLAIN = {1, 2, 3, 4, 5, 8, 32773, 32946}  # none, fax, LZW, Deflate, PackBits
# Photometric interpretations whose samples are no levels of light; Pillow reads them in eight bits.
_NO_LEVELS = {3: "palette", 5: "CMYK", 6: "YCbCr", 8: "L*a*b*", 9: "L*a*b*", 10: "L*a*b*"}
_BAND_NAME = re.compile(r'<Item name="(?:DESCRIPTION|BandName|Name)"[^>]*sample="(\d+)"[^>]*>\s*([^<]*?)\s*</Item>')
# Red, green and blue by the number of bands, from 1: MicaSense and its like begin with blue, green, red; satellites
# of eight bands and more with a band for coasts, then blue, green.
_ORDER = {5: (3, 2, 1), 6: (3, 2, 1), 7: (3, 2, 1), 8: (5, 3, 2), 10: (3, 2, 1)}
_ORDER_OF_MORE = (4, 3, 2)


@dataclass(frozen=True)
class Raster:
    """What the tags of a file's first picture say.

    Attributes:
        size: (width, height) as stored.
        bands: samples of a pixel; ``bits`` of each.
        kind: NumPy's name of their type.
        chosen: the bands that make the picture, from 0: one, or red, green and blue.
        colour: whether those are what a screen shows, rather than what a sensor measured.
        inverted: whether zero is white.
        nodata: the number that stands for no value.
        alpha: the band that is tagged as transparency, from 0; None without.
        simple: whether Pillow reads it as well.
        is_plain: whether its compression is one of those whose cost goes by the pixels.
        profile: an ICC profile.
    """

    size: tuple[int, int]
    bands: int
    bits: int
    kind: str
    chosen: tuple[int, ...]
    colour: bool
    inverted: bool
    nodata: float | None
    alpha: int | None
    simple: bool
    is_plain: bool
    profile: bytes | None

    @property
    def mode(self) -> str:
        """How the directory table calls it where Pillow has no name for it, as in ``5 x uint16``."""
        return f"{self.bands} x {self.kind}"


def read_header(data: bytes, bands: tuple[int, ...] | None) -> Raster:
    """Read the tags of the first picture.

    Args:
        bands: that make the picture where there are four or more, from 1: one, or red, green and blue; None chooses,
            also where there aren't as many.

    Raises:
        ImageError: cut or damaged (``corrupt``), or undeveloped (``unsupported``).
    """
    try:
        with tifffile.TiffFile(BytesIO(data)) as tiff:
            page = tiff.pages.first
            if int(page.compression) in _JPEG:
                _refuse_many_scans(page, data)
            return _raster(page, bands)
    except ImageError:
        raise
    except Exception as error:  # whatever a damaged tag leads to
        raise ImageError("corrupt", f"broken header: {first_line(error)}") from None


def _raster(page: tifffile.TiffPage, bands: tuple[int, ...] | None) -> Raster:
    tags = page.tags
    is_sensors = any(map(_is_sensor, [page, *(page.pages or [])])) or int(page.compression) in _RAW_COMPRESSION
    if _DNG_VERSION in tags or is_sensors:
        what = "a DNG raw photograph" if _DNG_VERSION in tags else "a raw photograph"
        raise ImageError("unsupported", f"{what}; {DEVELOP}")
    number, bits = int(page.samplesperpixel), page.bitspersample
    if not page.imagewidth or not page.imagelength or not 1 <= number <= _MOST_BANDS or page.imagedepth != 1:
        size = f"{page.imagewidth} x {page.imagelength} x {page.imagedepth}"
        raise ImageError("corrupt", f"broken header: {size} pixels of {number} samples")
    photometric = int(page.photometric)
    simple = (
        isinstance(bits, int)
        and bits <= 8
        and number <= 4
        and page.sampleformat in (1, None)
        and not (bands and number >= SELECTABLE)
    )
    if page.dtype is None and not simple:
        raise ImageError("unsupported", f"TIFFs with samples of {bits} bits are not supported")
    if not simple and photometric in _NO_LEVELS:
        raise ImageError("unsupported", f"{_NO_LEVELS[photometric]} TIFFs of {np.max(bits)} bits are not supported")
    chosen = _chosen(page, number, bands)
    alpha = _alpha(page, number)
    return Raster(
        size=(int(page.imagewidth), int(page.imagelength)),
        bands=number,
        bits=int(np.max(bits)),
        kind=str(page.dtype),
        chosen=chosen,
        colour=photometric == _RGB,
        inverted=photometric == _WHITE_IS_ZERO,
        nodata=_nodata(page),
        alpha=None if alpha in chosen else alpha,
        simple=simple,
        is_plain=int(page.compression) in _PLAIN,
        profile=bytes(tags[_PROFILE].value) if _PROFILE in tags else None,
    )


def _refuse_many_scans(page: tifffile.TiffPage, data: bytes) -> None:
    """As of a JPEG file; a strip or tile is gone over at most as often as there are markers of scans in the file."""
    scans, segments = data.count(b"\xff\xda"), max(1, int(np.prod(page.chunked)))
    pixels = int(page.chunks[0]) * int(page.chunks[1]) if len(page.chunks) > 1 else int(page.imagewidth)
    if scans > jpeg.MOST_SCANS * segments or scans * pixels > jpeg.MOST_SCANNED:
        raise ImageError(
            "unsupported", f"{scans:,} JPEG scans in {segments:,} strips or tiles, which would take minutes"
        )


def _is_sensor(page: object) -> bool:
    return int(getattr(page, "photometric", 0) or 0) in _SENSOR


def _chosen(page: tifffile.TiffPage, number: int, bands: tuple[int, ...] | None) -> tuple[int, ...]:
    if bands is not None and number >= SELECTABLE and max(bands) <= number:
        return tuple(band - 1 for band in bands)
    if number < 3:
        return (0,)
    if int(page.photometric) == _RGB or number <= 4:
        return (0, 1, 2)
    named_bands: dict[str, int] = {}
    if _GDAL_METADATA in page.tags:
        for sample, name in _BAND_NAME.findall(str(page.tags[_GDAL_METADATA].value)):
            named_bands.setdefault(name.lower(), int(sample))
    found = tuple(named_bands.get(name, number) for name in ("red", "green", "blue"))
    if max(found) < number:
        return found
    return tuple(band - 1 for band in _ORDER.get(number, _ORDER_OF_MORE))


def _alpha(page: tifffile.TiffPage, number: int) -> int | None:
    extra = [int(kind) for kind in page.extrasamples]
    found = [number - len(extra) + at for at, kind in enumerate(extra) if kind in (1, 2)]
    return found[0] if found else None


def _nodata(page: tifffile.TiffPage) -> float | None:
    if _GDAL_NODATA not in page.tags:
        return None
    try:
        return float(str(page.tags[_GDAL_NODATA].value).strip("\0 "))
    except ValueError:
        return None


def decode(data: bytes, raster: Raster, step: int = 1) -> Image.Image:
    """Read the chosen bands as an RGB picture.

    Args:
        step: 2 reads every second row and column, and so on.

    Raises:
        ImageError: the data is cut or damaged (``corrupt``), or in a compression that is not read (``unsupported``).
    """
    with tifffile.TiffFile(BytesIO(data)) as tiff:
        samples, valid = _samples(tiff.pages.first, raster, len(data), step)
    alpha = None
    if raster.alpha is not None and raster.kind.startswith("uint"):
        samples, alpha = samples[..., :-1], samples[..., -1]
    elif raster.alpha is not None:
        samples = samples[..., :-1]
    if raster.bits == 8 and raster.kind == "uint8":
        scaled = samples if not raster.inverted else 255 - samples
        if raster.nodata is not None:
            valid &= ~(samples == raster.nodata).all(axis=2)
        pixels = scaled.astype(np.uint8)
    else:
        whole = raster.bits if raster.kind.startswith("uint") else None
        pixels = to_bytes(samples, colour=raster.colour, inverted=raster.inverted, nodata=raster.nodata, bits=whole)
    pixels[~valid] = 255
    if alpha is not None and is_transparency(np.histogram(alpha, 256, (0, np.iinfo(alpha.dtype).max + 1))[0]):
        share = (alpha / np.iinfo(alpha.dtype).max)[..., None].astype(np.float32)
        pixels = (pixels * share + 255 * (1 - share)).round().astype(np.uint8)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return Image.fromarray(pixels, "RGB")


def is_transparency(histogram: Sequence[int] | NDArray[Any]) -> bool:
    """Whether a band that is tagged as transparency is; infrared is tagged so by many a program for mosaics.

    Args:
        histogram: of its samples, in 256 parts of their range.
    """
    return bool(histogram[0] + histogram[255] >= _OPAQUE_OR_NOT * sum(histogram))


def _samples(page: tifffile.TiffPage, raster: Raster, length: int, step: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The chosen bands and transparency, (height, width, bands), and where there are any: strips may be left out."""
    segment = int(np.prod(page.chunks)) * np.dtype(page.dtype).itemsize
    if segment > _MOST_BYTES:
        raise ImageError("unsupported", f"strips or tiles of {segment:,} bytes; at most {_MOST_BYTES:,}")
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if max(ends, default=0) > length:
        raise ImageError("corrupt", f"broken pixel data: the file ends after {length:,} bytes, within its pixels")
    width, height = raster.size
    shape = (-(-height // step), -(-width // step))
    chosen = raster.chosen if raster.alpha is None else (*raster.chosen, raster.alpha)
    samples = np.zeros((*shape, len(chosen)), page.dtype)
    valid = np.zeros(shape, np.bool_)
    wanted: dict[int, list[int]] = {}
    for place, band in enumerate(chosen):
        wanted.setdefault(band, []).append(place)
    planar = int(page.planarconfig) == 2
    for found, (plane, _, top, left, _), (_, rows, columns, _) in page.segments(maxworkers=1):
        if found is None or (planar and plane not in wanted):
            continue
        first_row, first_column = -top % step, -left % step
        part = found[0, first_row:rows:step, first_column:columns:step]
        y, x = (top + first_row) // step, (left + first_column) // step
        part = part[: shape[0] - y, : shape[1] - x]
        here = (slice(y, y + part.shape[0]), slice(x, x + part.shape[1]))
        valid[here] = True
        for band, places in wanted.items():
            if planar and band != plane:
                continue
            for at in places:
                samples[(*here, at)] = part[..., 0 if planar else band]
    return samples, valid
