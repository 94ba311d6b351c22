"""Photographs drawn to look like the usual problems and the usual false alarms, and what is measured of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from curation_assets.curate.measuring import sharpness_of
from curation_assets.curate.tones import tones
from curation_assets.images.decode import open_image
from curation_assets.images.preview import PREVIEW_SIDE, jpeg_of

SIZE = (1200, 900)
SOIL, LEAF, FRUIT = (110, 85, 60), (70, 120, 50), (150, 60, 50)


def texture(size: tuple[int, int] = SIZE, colour: tuple[int, int, int] = LEAF, seed: int = 0) -> Image.Image:
    """Detail from an eighth of the width down to single pixels, between smooth parts, as on leaves and soil."""
    rng = np.random.default_rng(seed)
    light = np.zeros(size[::-1], np.float32)
    for cells, strength in ((8, 40), (40, 26), (size[0] // 2, 26)):
        cells = (cells, max(2, cells * size[1] // size[0]))
        noise = Image.fromarray(rng.standard_normal(cells[::-1]).astype(np.float32))
        light += strength * np.asarray(noise.resize(size, Image.Resampling.BICUBIC))
    smooth = Image.fromarray(rng.standard_normal((6, 8)).astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    light *= np.clip(0.5 + 2 * np.asarray(smooth), 0, 1)
    return Image.fromarray((np.asarray(colour) + light[..., None]).clip(0, 255).astype(np.uint8))


def blurred(image: Image.Image, share: float) -> Image.Image:
    """By a Gaussian whose sigma is a share of the longer side."""
    return image.filter(ImageFilter.GaussianBlur(share * max(image.size)))


def moved(image: Image.Image, pixels: int) -> Image.Image:
    """As if the camera had gone sideways."""
    values = np.asarray(image, np.float32)
    return Image.fromarray(np.mean([np.roll(values, step, 1) for step in range(pixels)], axis=0).astype(np.uint8))


def noisy(image: Image.Image, sigma: float) -> Image.Image:
    """With a sensor's noise, as at night."""
    values = np.asarray(image, np.float32)
    return Image.fromarray(
        (values + np.random.default_rng(9).normal(0, sigma, values.shape)).clip(0, 255).astype(np.uint8)
    )


def gained(image: Image.Image, gain: float, added: int = 0) -> Image.Image:
    """Each value times a gain, and something added, up to white."""
    return image.point([min(255, round(value * gain + added)) for value in range(256)] * 3)


def shallow_depth() -> Image.Image:
    """A fruit in focus before a ground that is not."""
    image = blurred(texture(colour=SOIL), 0.02)
    fruit = texture((400, 400), FRUIT, 1)
    image.paste(fruit, (400, 250), _disc(400))
    return image


def moving_subject() -> Image.Image:
    """An insect that moved, on a ground in focus."""
    image = texture()
    image.paste(moved(texture((300, 200), FRUIT, 1), 40), (450, 350))
    return image


def night() -> Image.Image:
    """Lamps in the dark."""
    image = Image.fromarray(np.random.default_rng(3).integers(0, 14, (900, 1200, 3), dtype=np.uint8))
    draw, rng = ImageDraw.Draw(image), np.random.default_rng(4)
    for _ in range(40):
        x, y, radius = int(rng.integers(20, 1180)), int(rng.integers(20, 880)), int(rng.integers(5, 16))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 220, 150))
    return image


def white_background() -> Image.Image:
    """A fruit, as shops show it."""
    image = Image.new("RGB", SIZE, "white")
    image.paste(texture((300, 300), FRUIT, 1), (450, 300), _disc(300))
    return image


def scanned_page(paper: int = 250) -> Image.Image:
    """Print."""
    image = Image.new("L", (1240, 1754), paper)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(22)
    words = "rust of coffee spreads in warm and humid weather; look at the lower side of the leaf for orange spores"
    for number in range(50):
        draw.text((110, 140 + number * 30), words[number % 9 :], fill=30, font=font)
    return image.convert("RGB")


def uniform_leaf() -> Image.Image:
    """The surface of a healthy leaf: fine veins, hardly any contrast."""
    plain = np.asarray(texture(), np.float32)
    image = Image.fromarray((np.asarray(LEAF) + (plain - LEAF) * 0.2).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for number in range(9):
        draw.line((0, 90 * number, SIZE[0], 90 * number + 140), fill=(80, 132, 58), width=2)
    draw.line((0, 450, SIZE[0], 470), fill=(92, 146, 70), width=6)
    return noisy(image, 1)


def mist() -> Image.Image:
    """A field in the mist of a morning: pale, as it was."""
    return gained(blurred(texture(colour=(80, 130, 70)), 0.0005), 0.4, added=150)


def black() -> Image.Image:
    """A covered lens."""
    return noisy(Image.new("RGB", SIZE, (3, 3, 3)), 2)


FALSE_ALARMS: dict[str, Callable[[], Image.Image]] = {
    "shallow depth of field": shallow_depth,
    "a moving subject": moving_subject,
    "lamps at night": night,
    "a white background": white_background,
    "a scanned page": scanned_page,
    "a uniform leaf": uniform_leaf,
}


def as_jpeg(image: Image.Image) -> bytes:
    """A file."""
    out = BytesIO()
    image.save(out, "JPEG", quality=92)
    return out.getvalue()


def measured(image: Image.Image, path: str = "field/1.jpg", camera: str | None = None) -> dict[str, Any]:
    """What a row of the quality table says of it."""
    picture = open_image(as_jpeg(image), 10**9)
    row = {
        "relative_path": path,
        "folder": path.rpartition("/")[0],
        "camera": camera,
        "sharpness": sharpness_of(picture),
    }
    row |= {"width": image.width, "height": image.height, "aspect_ratio": image.width / image.height}
    return row | asdict(tones(jpeg_of(open_image(as_jpeg(image), 10**9), PREVIEW_SIDE, 80)))


def _disc(side: int) -> Image.Image:
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).ellipse((0, 0, side - 1, side - 1), fill=255)
    return mask
