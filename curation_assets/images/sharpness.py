"""How sharp a picture is, from its pixels at about 1,000 a side."""

from __future__ import annotations

from PIL import Image

SHARPNESS_VERSION = 1  # one more whenever a picture would get another number
SIDE = 1000  # pixels of the longer side at which it is measured; a smaller picture is measured as it is


def sharpness(rgb: Image.Image) -> float | None:
    """Measure a picture.

    Args:
        rgb: upright or not, any size; best at least ``SIDE`` pixels at its longer side.

    Returns:
        0 to 1; None where it is too small or too flat to tell.
    """
    raise NotImplementedError
