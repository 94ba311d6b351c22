"""An image → the small upright JPEG that pages and thumbnails show instead of the file itself."""

from __future__ import annotations

import threading
from io import BytesIO
from typing import Any

import cykooz_resizer  # Pillow's filters in vector instructions: an eighth of its time
from PIL import Image

from curation_assets.images.decode import upright_rgb

PREVIEW_SIDE = 384
_of_thread = threading.local()


def preview(image: Image.Image, orientation: int | None) -> bytes:
    """Decode an image into its preview.

    A JPEG is decoded at the smallest of its own scales that is no smaller than the preview: its scaled decoding
    averages as it goes, so that little is left to shrink.

    Args:
        image: as ``open_image`` returned it; its pixels are decoded here.
        orientation: EXIF orientation 1–8 (``orientation_of``), or None.

    Returns:
        JPEG bytes without EXIF, longest side at most ``PREVIEW_SIDE`` pixels; a smaller image keeps its size.

    Raises:
        ImageError: the pixel data is truncated or broken.
    """
    rgb = upright_rgb(image, orientation, _fit(image.size) if max(image.size) > PREVIEW_SIDE else None)
    if max(rgb.size) > PREVIEW_SIDE:
        rgb = shrink(rgb, _fit(rgb.size))
    out = BytesIO()
    rgb.save(out, "JPEG", quality=80)
    return out.getvalue()


def shrink(rgb: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize an RGB image to a smaller (width, height) with a bicubic filter over all the pixels it covers."""
    small = Image.new("RGB", size)
    resizer, options = _resizer()
    resizer.resize_pil(rgb, small, options)
    return small


def _fit(size: tuple[int, int]) -> tuple[int, int]:
    scale = PREVIEW_SIDE / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resizer() -> tuple[Any, Any]:
    """This thread's resizer, which keeps a buffer and serves one thread at a time."""
    if not hasattr(_of_thread, "resizer"):
        bicubic = cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.catmull_rom)
        _of_thread.resizer = cykooz_resizer.Resizer(), cykooz_resizer.ResizeOptions(bicubic)
    resizer: tuple[Any, Any] = _of_thread.resizer
    return resizer
