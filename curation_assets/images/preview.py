"""An image → the small upright JPEG that pages and thumbnails show instead of the file itself."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from curation_assets.images.decode import Picture, orientation_of, upright_rgb
from curation_assets.images.resize import fit, shrink

PREVIEW_SIDE = 384


def preview(rgb: Image.Image) -> bytes:
    """Make the preview of a decoded picture.

    Args:
        rgb: upright, RGB, of any size.

    Returns:
        JPEG bytes without EXIF, longest side at most ``PREVIEW_SIDE`` pixels; a smaller image keeps its size.
    """
    return _jpeg(rgb, PREVIEW_SIDE, 80)


def jpeg_of(picture: Picture, side: int, quality: int) -> bytes:
    """Decode an image into an upright JPEG without EXIF.

    Args:
        side: most pixels of the longest side; a smaller image keeps its size.

    Raises:
        ImageError: the pixel data is truncated or broken.
    """
    return _jpeg(upright_at(picture, side), side, quality)


def upright_at(picture: Picture, side: int) -> Image.Image:
    """Decode an image at a size.

    A JPEG is decoded at the smallest of its own scales that is no smaller than what is asked for: its scaled decoding
    averages as it goes, so that little is left to shrink.

    Args:
        side: pixels of the longest side; a smaller image keeps its size.

    Raises:
        ImageError: the pixel data is truncated or broken.
    """
    at_least = fit(picture.size, side) if max(picture.size) > side else None
    rgb = upright_rgb(picture, orientation_of(picture), at_least)
    return shrink(rgb, fit(rgb.size, side)) if max(rgb.size) > side else rgb


def _jpeg(rgb: Image.Image, side: int, quality: int) -> bytes:
    if max(rgb.size) > side:
        rgb = shrink(rgb, fit(rgb.size, side))
    out = BytesIO()
    rgb.save(out, "JPEG", quality=quality)
    return out.getvalue()
