"""Bytes of an image file → an upright RGB picture; the one place that decodes, for previews and for the model.

What a file is goes by its content, never by its name.
"""

from __future__ import annotations

import threading
import warnings
from contextlib import AbstractContextManager, nullcontext
from io import BytesIO

from PIL import Image, ImageFile, UnidentifiedImageError

from curation_assets.errors import first_line

try:  # an optional extra; Pillow itself reads AVIF
    import pillow_heif  # type: ignore[import-not-found,unused-ignore]

    pillow_heif.register_heif_opener()
except ImportError:
    pass

Image.init()
warnings.filterwarnings("ignore", module=r"PIL\.")  # odd EXIF and the like: a file's row says what matters
Image.MAX_IMAGE_PIXELS = None  # `open_image` enforces the limit from the settings, and says so per file
FORMATS = frozenset({"JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF"})
_BIG_PIXELS = 32_000_000  # one picture this large is decoded at a time, so that threads don't multiply its memory
_big = threading.Lock()
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(Exception):
    """A file that can't be used as an image.

    Attributes:
        status: ``corrupt``, ``unsupported``, ``too_large`` or ``unreadable``, as in the directory table.
        size: (width, height) as the header claims it, of an image refused for its pixels; else None.
    """

    def __init__(self, status: str, reason: str, size: tuple[int, int] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.size = size


def open_image(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """Identify an image by its content and read its header, no pixels.

    Raises:
        ImageError: empty, not an image, a format outside ``FORMATS``, a broken header, or over ``max_pixels``.
    """
    if not data:
        raise ImageError("corrupt", "the file is empty")
    try:
        image = Image.open(BytesIO(data))
    except UnidentifiedImageError:
        raise ImageError("unsupported", f"not an image: the file begins with {data[:16]!r}") from None
    except Exception as error:  # format plugins raise what they like on broken headers
        raise ImageError("corrupt", f"broken header: {first_line(error)}") from None
    if image.format not in FORMATS:
        raise ImageError("unsupported", f"{image.format} images are not supported")
    width, height = image.size
    if width * height > max_pixels:
        limit = f"the limit is {max_pixels:,} (CURATION_MAX_PIXELS)"
        raise ImageError("too_large", f"{width} x {height} pixels = {width * height:,}; {limit}", image.size)
    return image


def orientation_of(image: Image.Image) -> int | None:
    """EXIF orientation 1–8; None where there is none, it is invalid, or the EXIF block is broken."""
    try:
        with _one_large_at_a_time(image):  # a PNG without an EXIF block before its pixels is decoded to look for one
            value = image.getexif().get(0x0112)
    except Exception:  # a broken EXIF block raises whatever its parser stumbled on; the pixels are still good
        return None
    return value if isinstance(value, int) and 1 <= value <= 8 else None


def upright_size(image: Image.Image, orientation: int | None) -> tuple[int, int]:
    """(width, height) of the image turned upright, from the header alone."""
    turned = orientation is not None and orientation >= 5 and not _turns_itself(image)
    return (image.height, image.width) if turned else image.size


def upright_rgb(image: Image.Image, orientation: int | None, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode the first frame, turned upright, as RGB; transparency is laid over white.

    16-bit grey keeps its high byte, wider integers and floats are scaled to their own range.

    Args:
        image: as :func:`open_image` returned it; its pixels are decoded here.
        orientation: EXIF orientation 1–8 (:func:`orientation_of`), or None.
        at_least: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size while that is no smaller than this
            (width, height), not turned; None decodes every pixel.

    Raises:
        ImageError: the pixel data is truncated or broken.
    """
    if at_least is not None:
        image.draft(None, at_least)
    try:
        with _one_large_at_a_time(image):
            return _to_upright_rgb(image, orientation)
    except MemoryError:  # may pass: unreadable files are tried again
        raise ImageError("unreadable", "not enough memory to decode it") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
        raise ImageError("corrupt", f"broken pixel data: {first_line(error)}") from None


def _one_large_at_a_time(image: Image.Image) -> AbstractContextManager[object]:
    return _big if image.width * image.height > _BIG_PIXELS else nullcontext()


def _to_upright_rgb(image: Image.Image, orientation: int | None) -> Image.Image:
    image.load()
    rgb = _to_rgb(image)
    turn = None if _turns_itself(image) else _UPRIGHT.get(orientation or 1)
    return rgb.transpose(turn) if turn is not None else rgb


def _turns_itself(image: Image.Image) -> bool:
    """Pillow reports a TIFF's upright size when it is opened, and turns its pixels when they are decoded."""
    return image.format == "TIFF"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if image.mode in ("I", "F"):
        low, high = image.getextrema()
        scale = 255 / ((high - low) or 1)  # type: ignore[operator]
        return image.point(lambda value: value * scale - low * scale).convert("L").convert("RGB")  # type: ignore[operator]
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image.convert("RGB")
