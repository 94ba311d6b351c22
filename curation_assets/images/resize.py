"""Smaller pictures."""

from __future__ import annotations

import threading
from typing import Any

import cykooz_resizer  # Pillow's filters in vector instructions: an eighth of its time
from PIL import Image

_of_thread = threading.local()


def fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) of the same shape whose longer side is ``side`` pixels."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def shrink(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize an RGB or grey image to a smaller (width, height) with a bicubic filter over all the pixels it covers."""
    small = Image.new(image.mode, size)
    resizer, options = _resizer()
    resizer.resize_pil(image, small, options)
    return small


def _resizer() -> tuple[Any, Any]:
    """This thread's resizer, which keeps a buffer and serves one thread at a time."""
    if not hasattr(_of_thread, "resizer"):
        bicubic = cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.catmull_rom)
        _of_thread.resizer = cykooz_resizer.Resizer(), cykooz_resizer.ResizeOptions(bicubic)
    resizer: tuple[Any, Any] = _of_thread.resizer
    return resizer
