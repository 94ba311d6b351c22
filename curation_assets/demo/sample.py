"""A small field trial in pictures: crops, symptoms, fruit and field rows, with the dirt that real folders have."""

from __future__ import annotations

import math
import os
import random
import shutil
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

# folder: (kind, leaf colour, spot colour, number of spots)
_PLOTS = {
    "maize_healthy": ("leaf", (84, 150, 52), None, 0),
    "maize_rust": ("leaf", (104, 142, 52), (156, 84, 30), 60),
    "coffee_healthy": ("leaf", (38, 104, 52), None, 0),
    "coffee_leaf_spot": ("leaf", (58, 104, 50), (92, 62, 40), 14),
    "tomato_fruit": ("fruit", (200, 42, 34), None, 5),
    "orange_fruit": ("fruit", (236, 140, 30), None, 4),
    "wheat_rows": ("rows", (182, 168, 74), None, 9),
    "weeds/among_rows": ("rows", (84, 134, 60), (40, 92, 40), 7),
}
_PER_PLOT = 12
_SIZES = ((800, 600), (600, 800), (640, 480), (512, 512))


def write_sample(root: Path, per_folder: int = _PER_PLOT, seed: int = 7) -> int:
    """Write the sample tree unless ``root`` exists; all or nothing.

    Args:
        root: images root to make.
        per_folder: photographs in each of the eight folders.
        seed: the same seed draws the same photographs.

    Returns:
        Number of files written; 0 if the tree was there.
    """
    if root.exists():
        return 0
    root.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=".sample-", dir=root.parent))
    try:
        for folder in _PLOTS:
            (staged / folder).mkdir(parents=True)
            for index in range(per_folder):
                rng = random.Random(f"{seed} {folder} {index}")
                draw_photo(folder, rng).save(staged / folder / f"IMG_{index:04}.jpg", quality=85)
        _add_dirt(staged)
        staged.chmod(0o755)
        staged.rename(root)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return sum(len(files) for _, _, files in os.walk(root))


def draw_photo(plot: str, rng: random.Random, size: tuple[int, int] | None = None) -> Image.Image:
    """Draw one photograph, RGB.

    Args:
        plot: a folder of the sample, such as ``maize_rust``.
        rng: decides everything that varies.
        size: pixels; None takes one of a few usual sizes.
    """
    kind, colour, spot, number = _PLOTS[plot]
    width, height = size or rng.choice(_SIZES)
    image = _ground(width, height, rng)
    if kind == "leaf":
        for _ in range(rng.randint(1, 3)):
            leaf = _leaf(min(width, height), colour, spot, number, rng)
            where = (rng.randint(-width // 6, width // 3), rng.randint(-height // 6, height // 3))
            image.paste(leaf, where, leaf)
    elif kind == "fruit":
        _fruit(image, colour, number, rng)
    else:
        _rows(image, colour, spot, number, rng)
    light = rng.uniform(0.75, 1.2)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.4))).point(lambda value: min(255, value * light))


def _shade(colour: tuple[int, int, int], rng: random.Random, by: int = 18) -> tuple[int, int, int]:
    red, green, blue = (max(0, min(255, channel + rng.randint(-by, by))) for channel in colour)
    return red, green, blue


def _ground(width: int, height: int, rng: random.Random) -> Image.Image:
    soil = rng.choice([(122, 92, 64), (96, 78, 58), (148, 128, 98), (92, 112, 70)])
    small = Image.new("RGB", (width // 8, height // 8))
    small.putdata([_shade(soil, rng, 26) for _ in range(small.width * small.height)])
    return small.resize((width, height), Image.Resampling.BICUBIC)


def _leaf(
    side: int, colour: tuple[int, int, int], spot: tuple[int, int, int] | None, number: int, rng: random.Random
) -> Image.Image:
    leaf = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(leaf)
    middle, half = side / 2, side * rng.uniform(0.12, 0.24)
    across = [half * math.sin(math.pi * step / 40) for step in range(41)]
    along = [side * (0.05 + 0.9 * step / 40) for step in range(41)]
    outline = [(x, middle - y) for x, y in zip(along, across, strict=True)]
    outline += [(x, middle + y) for x, y in zip(reversed(along), reversed(across), strict=True)]
    draw.polygon(outline, fill=(*_shade(colour, rng), 255))
    vein = (*(min(255, channel + 40) for channel in colour), 255)
    draw.line([(along[0], middle), (along[-1], middle)], fill=vein, width=max(2, side // 120))
    for step in range(4, 38, 4):
        for sign in (-1, 1):
            end = (along[step] + side * 0.06, middle + sign * across[step] * 0.85)
            draw.line([(along[step], middle), end], fill=vein, width=1)
    if spot is not None:
        for _ in range(number):
            step = rng.randint(4, 36)
            x, y = along[step], middle + rng.uniform(-0.8, 0.8) * across[step]
            radius = side * rng.uniform(0.006, 0.02) * (2 if number < 20 else 1)
            halo = (x - radius * 1.6, y - radius * 1.6, x + radius * 1.6, y + radius * 1.6)
            draw.ellipse(halo, fill=(196, 178, 60, 255))
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*_shade(spot, rng), 255))
    return leaf.rotate(rng.uniform(0, 360), Image.Resampling.BICUBIC)


def _fruit(image: Image.Image, colour: tuple[int, int, int], number: int, rng: random.Random) -> None:
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(2, number)):
        radius = min(image.size) * rng.uniform(0.1, 0.2)
        x, y = rng.uniform(0.2, 0.8) * image.width, rng.uniform(0.2, 0.8) * image.height
        base = _shade(colour, rng)
        for step in range(12):  # from the shaded rim to the lit side
            part, light = 1 - step / 12, step * 5
            lit = tuple(min(255, channel + light) for channel in base)
            cx, cy, r = x - step * radius * 0.02, y - step * radius * 0.03, radius * part
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=lit)
        draw.line([(x, y - radius), (x + radius * 0.2, y - radius * 1.3)], fill=(60, 90, 40), width=5)


def _rows(
    image: Image.Image,
    colour: tuple[int, int, int],
    weed: tuple[int, int, int] | None,
    number: int,
    rng: random.Random,
) -> None:
    draw = ImageDraw.Draw(image)
    horizon = image.height * rng.uniform(0.2, 0.35)
    draw.rectangle((0, 0, image.width, horizon), fill=_shade((168, 200, 228), rng))
    vanish = image.width * rng.uniform(0.4, 0.6)
    for row in range(-number, number + 1):
        foot = image.width / 2 + row * image.width / number
        for step in range(60):
            part = (step / 60) ** 1.6
            x, y = vanish + (foot - vanish) * part, horizon + (image.height - horizon) * part
            size = 2 + 16 * part
            draw.ellipse((x - size, y - size / 2, x + size, y + size / 2), fill=_shade(colour, rng))
            if weed is not None and rng.random() < 0.06:
                side = x + rng.uniform(1, 3) * size
                draw.ellipse((side - size, y - size, side + size, y + size), fill=_shade(weed, rng))


def _add_dirt(root: Path) -> None:
    """What real folders hold besides photographs."""
    good = sorted((root / "maize_rust").glob("*.jpg"))
    shutil.copy(good[0], root / "maize_healthy" / "copy of IMG_0000.jpg")
    (root / "maize_rust" / "truncated.jpg").write_bytes(good[1].read_bytes()[:6000])
    (root / "coffee_healthy" / "empty.JPG").touch()
    (root / "coffee_healthy" / "page.jpg").write_text("<!DOCTYPE html><title>404 not found</title>")
    (root / "tomato_fruit" / "labels.csv").write_text("file,label\nIMG_0000.jpg,ripe\n")
    with Image.open(good[2]) as photo:
        exif = Image.Exif()
        exif[0x0112] = 6
        photo.rotate(90, expand=True).save(root / "maize_rust" / "rotated in camera.jpg", exif=exif, quality=85)
