"""Bytes of an image file → an upright RGB picture; the one place that decodes, for previews and for the model.

What a file is goes by its content, never by its name. What it may cost is known from its header, so that the verdict
is the same on every machine; each format has a module of its own where Pillow alone would be wrong.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from curation_assets.errors import first_line
from curation_assets.images import colour, jpeg, jxl, png, tiff
from curation_assets.images.errors import ImageError
from curation_assets.images.kinds import identify
from curation_assets.images.levels import to_bytes

try:  # an optional extra: its library's licence (LGPL) is not everybody's
    import pi_heif

    pi_heif.register_heif_opener()
    _READS_HEIF = True
except ImportError:
    _READS_HEIF = False

Image.init()
warnings.filterwarnings("ignore", module=r"PIL\.")  # odd EXIF and the like: a file's row says what matters
Image.MAX_IMAGE_PIXELS = None  # `open_image` enforces the limit from the settings, and says so per file
FORMATS = frozenset({"JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF", "JXL"})
MOST_SIDE = 1_000_000  # pixels: decoders and filters keep tables by row and by column
BIG_PIXELS = 32_000_000  # one picture this large is decoded at a time, so that threads don't multiply its memory
_big = threading.Lock()
# Formats beside JPEG and JPEG XL whose data hardly ever ends in zeros: where it does, a copy or download was cut short.
_ENDS_IN_ZEROS = {"WEBP", "AVIF", "HEIF", "GIF"}
_MANY_ZEROS, _HOLE = 64, bytes(1024)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass
class Picture:
    """An image of which the header has been read, and no pixels.

    Attributes:
        format: one of ``FORMATS``.
        mode: pixel mode as stored, in Pillow's terms where it has one.
        size: (width, height) as stored.
        exif: of its metadata; empty where there is none or it is broken.
        scans: how often decoding goes over its pixels.
        is_plain: whether its header tells all that decoding costs.
        remarks: what a user should know of an image that is usable all the same; decoding may add some.
        pixels_as: how the pixels are made, where that is not as the first version of this program did.
        stop: ends waiting for another large picture when it is set.
    """

    format: str
    mode: str
    size: tuple[int, int]
    exif: Image.Exif
    scans: int = 1
    is_plain: bool = True
    remarks: list[str] = field(default_factory=list)
    pixels_as: str | None = None
    stop: threading.Event | None = None
    _decode: Callable[[int], Image.Image] = field(default=lambda _: Image.new("RGB", (1, 1)))
    _profile: bytes | None = None
    _turns_itself: bool = False
    _skips: bool = False  # is decoded at every second, third … row and column where it is large

    @property
    def width(self) -> int:
        """Pixels, as stored."""
        return self.size[0]

    @property
    def height(self) -> int:
        """Pixels, as stored."""
        return self.size[1]

    @property
    def pixels(self) -> int:
        """How many there are."""
        return self.width * self.height

    @property
    def cost(self) -> int:
        """Pixels that decoding goes over, as often as it does."""
        return self.pixels * self.scans

    def remark(self, what: str) -> None:
        """Add a remark, once."""
        if what not in self.remarks:
            self.remarks.append(what)


def open_image(data: bytes, max_pixels: int, bands: tuple[int, ...] | None = None) -> Picture:
    """Identify an image by its content and read its header, no pixels.

    Args:
        bands: of a raster of four or more: those that make the picture, from 1; None chooses.

    Raises:
        ImageError: empty, not an image, a format outside ``FORMATS``, a broken header, over ``max_pixels`` or
            ``MOST_SIDE``, or dearer to decode than any program writes.
    """
    kind = identify(data)
    if kind is None:
        raise ImageError("unsupported", f"not an image: the file begins with {data[:16]!r}")
    if kind == "HEIF" and not _READS_HEIF:
        raise ImageError("unsupported", "a HEIC photograph; `pip install 'curation_assets[heic]'` reads it")
    if kind == "TIFF":
        return _open_tiff(data, max_pixels, bands)
    open_it = _OPENERS.get(kind)
    return open_it(data, max_pixels) if open_it is not None else _open_with_pillow(data, max_pixels, kind)


def as_bands(bands: tuple[int, ...] | None) -> str:
    """What the tables' ``pixels_as`` says of a raster of four bands or more, if those are to make its picture."""
    return f"{AS_BANDS} {','.join(map(str, bands or ['auto']))}"


def refuse_size(size: tuple[int, int], max_pixels: int) -> None:
    """Refuse a picture over the limits.

    Raises:
        ImageError: with status ``too_large``.
    """
    width, height = size
    if width * height > max_pixels:
        limit = f"the limit is {max_pixels:,} (CURATION_MAX_PIXELS)"
        raise ImageError("too_large", f"{width} x {height} pixels = {width * height:,}; {limit}", size)
    if max(size) > MOST_SIDE:
        raise ImageError("too_large", f"{width} x {height} pixels; a side has at most {MOST_SIDE:,}", size)


def orientation_of(picture: Picture) -> int | None:
    """EXIF orientation 1–8; None where there is none, it is invalid, or the EXIF block is broken."""
    try:
        value = picture.exif.get(0x0112)
    except Exception:  # a broken EXIF block raises whatever its parser stumbled on; the pixels are still good
        return None
    return value if isinstance(value, int) and 1 <= value <= 8 else None


def upright_size(picture: Picture, orientation: int | None) -> tuple[int, int]:
    """(width, height) of the image turned upright, from the header alone."""
    return (picture.height, picture.width) if left_to_turn(picture, orientation) >= 5 else picture.size


def left_to_turn(picture: Picture, orientation: int | None) -> int:
    """The EXIF orientation that decoded pixels still have: 1 where the decoder has turned them upright."""
    return 1 if picture._turns_itself else orientation or 1


def decoded_size(picture: Picture, at_least: tuple[int, int] | None) -> tuple[int, int]:
    """(width, height), not turned, at which :func:`upright_rgb` decodes a picture that is asked for at a size."""
    factor = _factor(picture, at_least)
    return -(-picture.width // factor), -(-picture.height // factor)


def upright_rgb(picture: Picture, orientation: int | None, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode the first frame, turned upright, as sRGB; transparency is laid over white.

    Samples of more than eight bits are scaled by what is there (:mod:`~curation_assets.images.levels`), colours of a
    profile converted (:mod:`~curation_assets.images.colour`).

    Args:
        picture: as :func:`open_image` returned it; its pixels are decoded here.
        orientation: EXIF orientation 1–8 (:func:`orientation_of`), or None.
        at_least: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size while that is no smaller than this (width,
            height), not turned; another picture of more than ``BIG_PIXELS`` averaged down likewise, or, of many bits
            or bands, be read at every second, third … row and column. None keeps every pixel.

    Raises:
        ImageError: the pixel data is truncated or broken.
    """
    try:
        with one_large_at_a_time(picture.pixels, picture.stop):
            factor = _factor(picture, at_least)
            stored = picture._decode(factor)
            if stored.size == picture.size and factor > 1:
                stored = _reduced(stored, factor)
            rgb = _to_srgb(picture, stored)
            turn = _UPRIGHT.get(left_to_turn(picture, orientation))
            return rgb.transpose(turn) if turn is not None else rgb
    except ImageError:
        raise
    except MemoryError:  # may pass: unreadable files are tried again
        raise ImageError("unreadable", "not enough memory to decode it") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
        raise ImageError("corrupt", f"broken pixel data: {first_line(error)}") from None


@contextmanager
def one_large_at_a_time(pixels: int, stop: threading.Event | None = None) -> Iterator[None]:
    """Wait until no other picture of more than ``BIG_PIXELS`` is at work in this process, if this is one.

    Args:
        stop: ends the waiting when it is set.

    Raises:
        ImageError: it was set.
    """
    if pixels <= BIG_PIXELS:
        yield
        return
    while not _big.acquire(timeout=0.25):
        if stop is not None and stop.is_set():
            raise ImageError("unreadable", "it was not waited for")
    try:
        yield
    finally:
        _big.release()


def _factor(picture: Picture, at_least: tuple[int, int] | None) -> int:
    """By what whole number a picture's sides are divided as it is decoded."""
    if at_least is None:
        return 1
    scale = min(picture.width // max(1, at_least[0]), picture.height // max(1, at_least[1]))
    if picture.format in ("JPEG", "MPO"):
        return next((factor for factor in (8, 4, 2) if scale >= factor), 1)
    if picture._skips:
        return math.ceil(math.sqrt(max(1.0, picture.pixels / BIG_PIXELS)))
    return max(1, scale) if picture.pixels > BIG_PIXELS else 1


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    if image.mode in ("P", "PA", "1") or "transparency" in image.info:
        image = _over_white(image)
    return image.reduce(factor)


def _to_srgb(picture: Picture, image: Image.Image) -> Image.Image:
    try:
        if picture._profile is not None and image.mode == "CMYK":
            converted = colour.to_srgb(image, picture._profile)
            picture.pixels_as = _AS_PROFILED
            return converted if converted is not None else image.convert("RGB")
        rgb = _over_white(image)
        if picture._profile is None:
            return rgb
        grey = colour.space_of(picture._profile) == "L" and image.mode in ("L", "LA", "1")
        converted = colour.to_srgb(rgb.getchannel("R") if grey else rgb, picture._profile)
    except colour.ProfileError as error:
        picture.remark(f"{error} (taken as sRGB)")
        return _over_white(image)
    if converted is None:
        return rgb
    picture.pixels_as = picture.pixels_as or _AS_PROFILED
    return converted


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image.convert("RGB")


# How pixels are made where the first version of this program made others (the tables' `pixels_as`).
_AS_PROFILED, _AS_SCALED, _AS_OPAQUE, AS_BANDS = "profile", "scaled", "opaque", "bands"


def _open_jpeg(data: bytes, max_pixels: int) -> Picture:
    header = jpeg.read_header(data)
    refuse_size(header.size, max_pixels)
    picture = _described(_pillow(data, "JPEG"), header.size)
    picture.scans = header.scans
    if not header.has_end:
        _remark_tail(picture, data)

    def decode(factor: int) -> Image.Image:
        size = (-(-header.size[0] // factor), -(-header.size[1] // factor)) if factor > 1 else None
        pixels, warning = jpeg.decode(data, header, size)
        if warning:
            picture.remark(f"its pixels are partly invented: {warning}")
        return pixels

    picture._decode = decode
    return picture


def _open_png(data: bytes, max_pixels: int) -> Picture:
    header = png.read_header(data)
    refuse_size(header.size, max_pixels)
    image = _pillow(header.picture, "PNG")
    image.info.update({k: v for k, v in (("exif", header.exif), ("xmp", header.xmp)) if v})
    picture = _described(image, header.size)
    picture._profile, picture.remarks = header.profile, header.remarks
    if header.bits != 16 or header.has_transparent:
        return picture
    picture.pixels_as, picture._skips = _AS_SCALED, True
    picture._decode = lambda factor: _scaled(imagecodecs.png_decode(header.picture)[::factor, ::factor])
    return picture


def _open_tiff(data: bytes, max_pixels: int, bands: tuple[int, ...] | None) -> Picture:
    raster = tiff.read_header(data, bands)
    refuse_size(raster.size, max_pixels)
    image = None
    try:
        image = _pillow(data, "TIFF")
    except ImageError:
        if raster.kind == "None":
            raise
    if image is not None and raster.simple:
        picture = _described(image, image.size)
        picture.is_plain = raster.is_plain
        picture._turns_itself = True  # Pillow reports its upright size, and turns its pixels as it decodes them
        with_pillow = picture._decode

        def opaque(factor: int) -> Image.Image:
            pixels = with_pillow(factor)
            if pixels.mode in ("RGBA", "RGBa", "LA", "La") and not tiff.is_transparency(pixels.split()[-1].histogram()):
                picture.pixels_as = _AS_OPAQUE
                return _without_last(pixels)
            return pixels

        picture._decode = opaque
        return picture
    exif = _exif(lambda exif: exif.load_from_fp(BytesIO(data), None))
    mode = image.mode if image is not None and raster.bands < 5 else raster.mode
    selectable = raster.bands >= tiff.SELECTABLE
    picture = Picture("TIFF", mode, raster.size, exif, pixels_as=as_bands(bands) if selectable else _AS_SCALED)
    if bands and selectable and max(bands) > raster.bands:
        named = ",".join(map(str, bands))
        picture.remark(f"CURATION_BANDS={named} names more bands than its {raster.bands}: the usual ones are shown")
    picture._profile = raster.profile if raster.colour else None
    picture.is_plain = False
    picture._skips, picture._decode = True, lambda factor: tiff.decode(data, raster, factor)
    return picture


def _open_jxl(data: bytes, max_pixels: int) -> Picture:
    header = jxl.read_header(data)
    refuse_size(header.size, max_pixels)
    block = header.exif or b""
    picture = Picture("JXL", "RGB", header.size, _exif(lambda exif: exif.load(b"Exif\0\0" + block)))
    _remark_zeros(picture, data, [block])
    picture._turns_itself = picture._skips = True
    picture._decode = lambda factor: _scaled(jxl.decode(data)[::factor, ::factor])
    return picture


def _open_with_pillow(data: bytes, max_pixels: int, kind: str) -> Picture:
    image = _pillow(data, kind)
    refuse_size(image.size, max_pixels)
    picture = _described(image, image.size)
    if picture.format in _ENDS_IN_ZEROS:
        _remark_zeros(picture, data, [block for block in image.info.values() if isinstance(block, bytes)])
    return picture


def _pillow(data: bytes, kind: str) -> ImageFile.ImageFile:
    try:
        return Image.open(BytesIO(data), formats=(kind,))
    except UnidentifiedImageError:
        raise ImageError("corrupt", "broken header: it is cut or damaged") from None
    except Exception as error:  # format plugins raise what they like on broken headers
        raise ImageError("corrupt", f"broken header: {first_line(error)}") from None


def _exif(load: Callable[[Image.Exif], object]) -> Image.Exif:
    """What a block holds; nothing of a broken one, which raises whatever its parser stumbled on."""
    exif = Image.Exif()
    try:
        load(exif)
    except Exception:
        return Image.Exif()
    return exif


def _described(image: ImageFile.ImageFile, size: tuple[int, int]) -> Picture:
    """A picture that Pillow decodes."""
    try:
        exif = Image.Image.getexif(image)  # of a PNG, not the method that decodes to look for a block after the pixels
    except Exception:
        exif = Image.Exif()
    profile = image.info.get("icc_profile")

    def decode(_: int) -> Image.Image:
        image.load()
        return image

    return Picture(image.format or "", image.mode, size, exif, _decode=decode, _profile=profile or None)


def _scaled(samples: NDArray[Any]) -> Image.Image:
    """A picture of whatever samples, grey or colour, with transparency or not."""
    samples = samples[..., None] if samples.ndim == 2 else samples
    number = samples.shape[2]
    colours, alpha = samples[..., : number - 1 + number % 2], None if number % 2 else samples[..., -1]
    bits = samples.dtype.itemsize * 8 if samples.dtype.kind == "u" else None
    if samples.dtype != np.uint8:
        colours = to_bytes(colours, colour=number > 2, inverted=False, bits=bits)
    image = Image.fromarray(np.ascontiguousarray(colours[..., 0] if colours.shape[2] == 1 else colours))
    if alpha is not None:
        if alpha.dtype != np.uint8:
            full = np.iinfo(alpha.dtype).max if alpha.dtype.kind == "u" else 1.0
            alpha = (alpha.astype(np.float32) * (255 / full)).clip(0, 255).astype(np.uint8)
        image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
    return image


def _without_last(image: Image.Image) -> Image.Image:
    channels = image.split()[:-1]
    return Image.merge("RGB", channels) if len(channels) == 3 else channels[0]


def _remark_zeros(picture: Picture, data: bytes, metadata: Sequence[bytes]) -> None:
    """Tell of zeros where compressed data hardly ever has them; an EXIF block may well be padded with some."""
    hole = data.find(_HOLE)
    if hole >= 0 or _zeros_at_end(data) > _MANY_ZEROS:
        for block in filter(None, metadata):
            data = data.replace(block, b"")
    if picture.format == "GIF" and data.rstrip(b"\0").endswith(b";"):
        return
    if not _remark_tail(picture, data) and picture.format != "GIF" and _HOLE in data:
        picture.remark(f"its pixels may be partly invented: there are only zeros from byte {hole:,} on")


def _remark_tail(picture: Picture, data: bytes) -> bool:
    """Tell of zeros at the end; whether there are any to speak of."""
    zeros = _zeros_at_end(data)
    if zeros > _MANY_ZEROS:
        picture.remark(f"its pixels are partly invented: the last {zeros:,} bytes of the file are zero")
    return zeros > _MANY_ZEROS


def _zeros_at_end(data: bytes) -> int:
    return len(data) - len(data.rstrip(b"\0"))


_OPENERS = {"JPEG": _open_jpeg, "PNG": _open_png, "JXL": _open_jxl}
