"""Colours as a profile defines them → sRGB, in which previews are shown and the model was trained."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
# A profile that moves no colour by more than this, of 255, is sRGB under another name: most are.
_NEAR = 3
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
_SRGB = ImageCms.createProfile("sRGB")


class ProfileError(Exception):
    """A profile that can't be followed; the message says why."""


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Convert an image to sRGB.

    Args:
        image: ``RGB``, ``CMYK``, or ``L``; of a grey profile.
        profile: ICC profile (ISO 15076-1).

    Returns:
        ``RGB``; None where the profile is sRGB's.

    Raises:
        ProfileError: it is damaged, or of another kind of picture.
    """
    transform = _transform(profile, image.mode)
    return None if transform is None else transform.apply(image)


@lru_cache(maxsize=64)
def space_of(profile: bytes) -> str:
    """The mode of the pictures that a profile is for.

    Raises:
        ProfileError: it is damaged, or for none that are read.
    """
    try:
        space = ImageCms.ImageCmsProfile(BytesIO(profile)).profile.xcolor_space
    except (OSError, ImageCms.PyCMSError, TypeError, ValueError) as error:
        raise ProfileError("its colour profile is damaged") from error
    if space not in _SPACES:
        raise ProfileError(f"its colour profile is for {space.strip()} pictures")
    return _SPACES[space]


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    if space_of(profile) != mode:
        raise ProfileError(f"its colour profile is for {space_of(profile)} pictures, and it is {mode}")
    try:
        opened = ImageCms.ImageCmsProfile(BytesIO(profile))
        intent = ImageCms.Intent.PERCEPTUAL if mode == "CMYK" else ImageCms.Intent.RELATIVE_COLORIMETRIC
        transform = ImageCms.buildTransform(opened, _SRGB, mode, "RGB", intent, _FLAGS)
        if mode != "CMYK" and _changes(transform, mode) <= _NEAR:
            return None
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
        raise ProfileError("its colour profile is damaged") from error
    return transform


def _changes(transform: ImageCms.ImageCmsTransform, mode: str) -> int:
    """How far a transform moves the colour that it moves farthest, of a lattice of them."""
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    lattice = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(18, -1, 3)
    before = Image.fromarray(lattice, "RGB") if mode == "RGB" else Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    after = np.asarray(transform.apply(before), np.int16)
    return int(np.abs(after - np.asarray(before.convert("RGB"), np.int16)).max())
