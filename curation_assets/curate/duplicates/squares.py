"""A preview → the small grey square that is hashed and compared, and the eight ways to turn one."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation_assets.errors import first_line
from curation_assets.images.errors import ImageError
from curation_assets.images.resize import shrink

SIDE = 128  # pixels: a crop to 80 % has more of them than are compared
ORIENTATIONS = 8


def square(preview: bytes) -> NDArray[np.uint8]:
    """Make the square of a preview.

    Args:
        preview: an image of any mode, as in the directory table's ``preview``.

    Returns:
        (SIDE, SIDE) grey levels. Both sides of the picture are brought to ``SIDE``, whatever its shape: so a window of
        it is a window of the square.

    Raises:
        ImageError: it doesn't decode.
    """
    try:
        with Image.open(BytesIO(preview)) as image:
            grey = image.convert("L")
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
        raise ImageError("corrupt", f"its preview doesn't decode: {first_line(error)}") from None
    if min(grey.size) >= SIDE:
        return np.asarray(shrink(grey, (SIDE, SIDE)), np.uint8)
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.uint8)


def turned(pictures: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pictures in one of the eight orientations.

    Args:
        pictures: (…, height, width).
        orientation: bit 0 mirrors left to right, bit 1 top to bottom, after bit 2 mirrored at the diagonal.
    """
    if orientation & 4:
        pictures = np.swapaxes(pictures, -1, -2)
    if orientation & 1:
        pictures = pictures[..., :, ::-1]
    if orientation & 2:
        pictures = pictures[..., ::-1, :]
    return pictures


def in_words(orientation: int) -> tuple[int, bool]:
    """An orientation as people say it: mirrored left to right or not, then turned clockwise by 0, 90, 180 or 270."""
    return {
        0: (0, False),
        1: (0, True),
        2: (180, True),
        3: (180, False),
        4: (270, True),
        5: (90, False),
        6: (270, False),
        7: (90, True),
    }[orientation]
