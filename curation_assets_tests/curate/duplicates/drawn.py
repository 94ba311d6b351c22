"""Photographs drawn by code, what people do to photographs, and both as squares."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from scipy import ndimage

from curation_assets.curate.duplicates.squares import square
from curation_assets.demo.render import render
from curation_assets.demo.scenes import SCENES
from curation_assets.images.preview import preview

Edit = Callable[[Image.Image], Image.Image]


@cache
def photograph(number: int) -> Image.Image:
    """One of any number of different photographs, 640 pixels wide."""
    scenes = sorted(SCENES)
    drawn = render(scenes[number % len(scenes)], random.Random(number), (640, 480))
    grain = np.random.default_rng(number).normal(0, 3, (*drawn.size[::-1], 1))
    return Image.fromarray((np.asarray(drawn) + grain).clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    out = BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def again(image: Image.Image, quality: int) -> Image.Image:
    return Image.open(BytesIO(jpeg(image, quality))).convert("RGB")


def cropped(image: Image.Image, share: float, at: tuple[float, float] = (0.3, 0.8)) -> Image.Image:
    """A window of a share of the sides; ``at`` says how far right and down, 0 to 1."""
    width, height = round(image.width * share), round(image.height * share)
    left, top = round((image.width - width) * at[0]), round((image.height - height) * at[1])
    return image.crop((left, top, left + width, top + height))


def resized(image: Image.Image, scale: float) -> Image.Image:
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def written_on(image: Image.Image) -> Image.Image:
    image = image.copy()
    draw, high = ImageDraw.Draw(image), round(image.height * 0.1)
    draw.rectangle((0, image.height - high, image.width, image.height), fill=(0, 0, 0))
    draw.text((10, image.height - high), "Plot 12-B  2026-06-03", fill=(255, 255, 0), font_size=round(high * 0.7))
    return image


EDITS: dict[str, Edit] = {
    "re-encoded": lambda image: again(image, 40),
    "a quarter of the size": lambda image: resized(image, 0.25),
    "four times the size": lambda image: resized(image, 4),
    "turned by 90°": lambda image: image.transpose(Image.Transpose.ROTATE_270),
    "turned by 180°": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "mirrored": ImageOps.mirror,
    "mirrored and turned": lambda image: ImageOps.mirror(image).transpose(Image.Transpose.ROTATE_90),
    "brightened": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "darkened": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "with more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.5),
    "greyed": lambda image: ImageOps.grayscale(image).convert("RGB"),
    "framed": lambda image: ImageOps.expand(image, 32, (255, 255, 255)),
    "written on": written_on,
    "cropped to 90 %": lambda image: cropped(image, 0.9),
    "cropped to 80 %": lambda image: cropped(image, 0.8),
    "cropped, turned and smaller": lambda image: resized(
        cropped(image, 0.85, (0.9, 0.1)).transpose(Image.Transpose.ROTATE_90), 0.6
    ),
}


def squares(*images: Image.Image) -> NDArray[np.uint8]:
    """(n, SIDE, SIDE)."""
    return np.stack([square(preview(image)) for image in images])


def sizes(*images: Image.Image) -> NDArray[np.float32]:
    """(n, 2)."""
    return np.array([image.size for image in images], np.float32)


def fruit(number: int) -> Image.Image:
    """One of many before the same wall: all have one outline and the light from one side, each a skin of its own."""
    rng = np.random.default_rng(number)
    width, height = 320, 256
    y, x = np.mgrid[:height, :width]
    right, down = (x - 160) / 84, (y - 130) / 70
    skin = ndimage.gaussian_filter(rng.normal(0, 1, (height, width)), 6)
    cells = np.where(right**2 + down**2 < 1, 80 + 12 * skin / skin.std() - 25 * right - 15 * down, 205.0)
    cells[40:66, 170:178] = 60  # its stalk, so that it has an upside
    return Image.fromarray(ndimage.gaussian_filter(cells, 0.7).clip(0, 255).astype(np.uint8)).convert("RGB")
