"""An image → the small upright JPEG that pages and thumbnails show instead of the file itself."""

from __future__ import annotations

import threading
from io import BytesIO
from typing import Any

import cykooz_resizer  # Pillow's filters in vector instructions: an eighth of its time
from PIL import Image

from curation_assets.images.decode import Picture, orientation_of, upright_rgb

PREVIEW_SIDE = 384
_of_thread = threading.local()


def preview(picture: Picture) -> bytes:
    """Decode an image into its preview.

    Returns:
        JPEG bytes without EXIF, longest side at most ``PREVIEW_SIDE`` pixels; a smaller image keeps its size.

    Raises:
        ImageError: the pixel data is truncated or broken.
    """
    return jpeg_of(picture, PREVIEW_SIDE, 80)


def jpeg_of(picture: Picture, side: int, quality: int) -> bytes:
    """Decode an image into an upright JPEG without EXIF.

    A JPEG is decoded at the smallest of its own scales that is no smaller than what is asked for: its scaled decoding
    averages as it goes, so that little is left to shrink.

    Args:
        side: most pixels of the longest side; a smaller image keeps its size.

    Raises:
        ImageError: the pixel data is truncated or broken.
    """
    at_least = _fit(picture.size, side) if max(picture.size) > side else None
    rgb = upright_rgb(picture, orientation_of(picture), at_least)
    if max(rgb.size) > side:
        rgb = shrink(rgb, _fit(rgb.size, side))
    out = BytesIO()
    rgb.save(out, "JPEG", quality=quality)
    return out.getvalue()


def shrink(rgb: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize an RGB image to a smaller (width, height) with a bicubic filter over all the pixels it covers."""
    small = Image.new("RGB", size)
    resizer, options = _resizer()
    resizer.resize_pil(rgb, small, options)
    return small


def _fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resizer() -> tuple[Any, Any]:
    """This thread's resizer, which keeps a buffer and serves one thread at a time."""
    if not hasattr(_of_thread, "resizer"):
        bicubic = cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.catmull_rom)
        _of_thread.resizer = cykooz_resizer.Resizer(), cykooz_resizer.ResizeOptions(bicubic)
    resizer: tuple[Any, Any] = _of_thread.resizer
    return resizer
