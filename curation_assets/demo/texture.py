"""Canvas, noise and masks that every drawn scene is made of.

Lengths are in units of the photograph's short side, with the origin in its middle, x to the right and y down; colours
are RGB from 0 to 1. So one recipe draws a thumbnail and a large photograph alike.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Field = NDArray[np.floating[Any]]
Colour = tuple[float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True)
class Window:
    """A rectangle of the canvas.

    Attributes:
        rows, columns: the rectangle in pixels.
        x: (1, columns) positions of the pixels.
        y: (rows, 1) positions of the pixels.
    """

    rows: slice
    columns: slice
    x: Field
    y: Field

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns in pixels."""
        return self.y.shape[0], self.x.shape[1]


class Canvas:
    """A photograph in the making.

    Args:
        width: pixels.
        height: pixels.
        rng: decides everything that varies.
    """

    def __init__(self, width: int, height: int, rng: random.Random) -> None:
        self.width, self.height, self.rng = width, height, rng
        self.unit = min(width, height)
        self.right, self.bottom = width / 2 / self.unit, height / 2 / self.unit
        self.generator = np.random.default_rng(rng.getrandbits(64))
        self.rgb: Field = np.zeros((3, height, width), np.float32)  # planes: three times as fast as pixels of three

    def all(self) -> Window:
        """The whole canvas."""
        return self._window(0, self.height, 0, self.width)

    def window(self, x: float, y: float, reach_x: float, reach_y: float | None = None) -> Window | None:
        """Pixels within some reach of a point; None where that is out of the picture."""
        reach_y = reach_x if reach_y is None else reach_y
        left, right = ((p + self.right) * self.unit for p in (x - reach_x, x + reach_x))
        top, bottom = ((p + self.bottom) * self.unit for p in (y - reach_y, y + reach_y))
        rows = max(0, math.floor(top)), min(self.height, math.ceil(bottom))
        columns = max(0, math.floor(left)), min(self.width, math.ceil(right))
        if rows[0] >= rows[1] or columns[0] >= columns[1]:
            return None
        return self._window(*rows, *columns)

    def _window(self, top: int, bottom: int, left: int, right: int) -> Window:
        x = (np.arange(left, right, dtype=np.float32) + 0.5) / self.unit - self.right
        y = (np.arange(top, bottom, dtype=np.float32) + 0.5) / self.unit - self.bottom
        return Window(slice(top, bottom), slice(left, right), x[None, :], y[:, None])

    def pixels(self) -> NDArray[np.uint8]:
        """The canvas as (height, width, 3) uint8."""
        scaled = np.clip(self.rgb * np.float32(255), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(scaled.transpose(1, 2, 0))

    def noise(self, window: Window, cells: float, stretch: float = 1.0) -> Field:
        """Smooth noise from 0 to 1, about 0.5.

        Args:
            window: where.
            cells: features a unit, down the picture.
            stretch: times as many features across as down.
        """
        rows, columns = window.shape
        down = max(2, min(rows, round(cells * rows / self.unit) + 1))
        across = max(2, min(columns, round(cells * stretch * columns / self.unit) + 1))
        coarse = Image.fromarray(self.generator.integers(0, 256, (down, across), np.uint8))
        return np.asarray(coarse.resize((columns, rows), Image.Resampling.BICUBIC), np.float32) / 255

    def clouds(self, window: Window, cells: float, octaves: int = 3) -> Field:
        """Noise of several scales, each twice as fine and half as strong, from 0 to 1."""
        total = self.noise(window, cells)
        weight = 1.0
        for octave in range(1, octaves):
            total += self.noise(window, cells * 2**octave) / 2**octave
            weight += 0.5**octave
        return total / np.float32(weight)

    def grain(self, window: Window) -> Field:
        """Noise from pixel to pixel, standard deviation about 1."""
        rows, columns = window.shape
        raw = np.frombuffer(self.generator.bytes(rows * columns), np.uint8).reshape(rows, columns)
        noise: Field = (raw.astype(np.float32) - 127.5) / 74
        return noise

    def inside(self, distance: Field) -> Field:
        """Signed distance to an outline, positive inside → coverage from 0 to 1, one pixel soft."""
        return unit(distance * self.unit + 0.5)

    def blend(self, window: Window, coverage: Field | float, colour: Colour | Field) -> None:
        """Lay a colour, or a (3, rows, columns) picture, over the canvas."""
        overlay(self.rgb[:, window.rows, window.columns], coverage, colour)

    def shade(self, window: Window, factor: Field) -> None:
        """Multiply the canvas by a factor a pixel."""
        self.rgb[:, window.rows, window.columns] *= factor

    def shadow(self, window: Window, coverage: Field, strength: float, softness: float, shift: Point) -> None:
        """Darken the canvas where something of this coverage throws its shadow."""
        scale = max(1, min(window.shape) // 48)
        rows, columns = window.shape
        mask = Image.fromarray((coverage * 255).astype(np.uint8)).reduce(scale)
        dx, dy = (round(part * self.unit / scale) for part in shift)
        moved = Image.new("L", mask.size)
        moved.paste(mask, (dx, dy))
        soft = moved.filter(ImageFilter.BoxBlur(max(0.5, softness * self.unit / scale)))
        self.shade(window, 1 - strength * (as_field(soft.resize((columns, rows), Image.Resampling.BILINEAR))))

    def draw_mask(
        self,
        window: Window,
        *,
        polygons: Iterable[Sequence[Point]] = (),
        discs: Iterable[tuple[float, float, float]] = (),
        strokes: Iterable[tuple[Sequence[Point], float]] = (),
        soft: float = 0.0,
    ) -> Field:
        """Coverage from 0 to 1 of polygons, discs (x, y, radius) and lines with their widths, blurred by ``soft``."""
        rows, columns = window.shape
        scale = 2 if rows * columns <= 200_000 else 1
        mask = Image.new("L", (columns * scale, rows * scale))
        draw = ImageDraw.Draw(mask)
        by = self.unit * scale
        left, top = self.right * by - window.columns.start * scale, self.bottom * by - window.rows.start * scale
        for polygon in polygons:
            draw.polygon([(x * by + left, y * by + top) for x, y in polygon], fill=255)
        for x, y, radius in discs:
            r, cx, cy = max(0.5, radius * by), x * by + left, y * by + top
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=255)
        for line, width in strokes:
            pixels = max(1, round(width * by))
            draw.line([(x * by + left, y * by + top) for x, y in line], fill=255, width=pixels, joint="curve")
        if scale > 1:
            mask = mask.reduce(scale)
        return as_field(mask.filter(ImageFilter.BoxBlur(soft * self.unit)) if soft else mask)


class Sheet:
    """A Pillow drawing of the canvas at twice its size, for scenes of many small shapes.

    Args:
        canvas: what the drawing starts from.
    """

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self._scale = 2
        self._by = canvas.unit * self._scale
        self._left, self._top = canvas.right * self._by, canvas.bottom * self._by
        picture = Image.fromarray(canvas.pixels())
        self._image = picture.resize((canvas.width * 2, canvas.height * 2), Image.Resampling.BILINEAR)
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon([(x * self._by + self._left, y * self._by + self._top) for x, y in points], fill=ink(colour))

    def disc(self, x: float, y: float, radius: float, colour: Colour, flat: float = 1.0) -> None:
        """Fill a disc, or an ellipse ``flat`` times as high as wide."""
        cx, cy, r = x * self._by + self._left, y * self._by + self._top, max(0.5, radius * self._by)
        self._draw.ellipse((cx - r, cy - r * flat, cx + r, cy + r * flat), fill=ink(colour))

    def line(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a line."""
        scaled = [(x * self._by + self._left, y * self._by + self._top) for x, y in points]
        self._draw.line(scaled, fill=ink(colour), width=max(1, round(width * self._by)))

    def blade(self, base: Point, tip: Point, width: float, colour: Colour, bend: float = 0.0) -> None:
        """Fill a pointed blade from its base to its tip, bent to one side by a share of its length."""
        (x0, y0), (x1, y1) = base, tip
        dx, dy = x1 - x0, y1 - y0
        length = math.hypot(dx, dy) or 1e-6
        nx, ny = -dy / length, dx / length
        one, other = [], []
        for part, thick in _BLADE if length * self._by > 30 else _SHORT_BLADE:
            off = bend * length * 4 * part * (1 - part)
            x, y = x0 + dx * part + nx * off, y0 + dy * part + ny * off
            one.append((x + nx * width * thick, y + ny * width * thick))
            other.append((x - nx * width * thick, y - ny * width * thick))
        self.polygon(one + other[::-1], colour)

    def done(self) -> None:
        """Put the drawing on the canvas."""
        pixels = np.asarray(self._image.reduce(self._scale))
        np.multiply(pixels.transpose(2, 0, 1), np.float32(1 / 255), out=self.canvas.rgb)


_BLADE = ((0.0, 0.35), (0.2, 0.85), (0.4, 1.0), (0.6, 0.9), (0.8, 0.55), (1.0, 0.04))
_SHORT_BLADE = ((0.0, 0.4), (0.45, 1.0), (1.0, 0.04))


def unit(values: Field) -> Field:
    """Values cut to the range from 0 to 1."""
    cut: Field = np.clip(values, 0, 1)
    return cut


def planes(colour: Colour) -> Field:
    """A colour as (3, 1, 1), to be combined with fields."""
    return np.asarray(colour, np.float32)[:, None, None]


def tint(tone: Field, colour: Colour) -> Field:
    """A colour lighter and darker by a factor a pixel: (rows, columns) → (3, rows, columns)."""
    return tone * planes(colour)


def overlay(below: Field, coverage: Field | float, colour: Colour | Field) -> None:
    """Lay a colour, or a (3, rows, columns) picture, over another picture in place."""
    above = planes(colour) if isinstance(colour, tuple) else colour
    change = above - below
    change *= coverage if isinstance(coverage, np.ndarray) else np.float32(coverage)
    below += change


def as_field(mask: Image.Image) -> Field:
    """A grey picture as numbers from 0 to 1."""
    return np.asarray(mask, np.float32) / 255


def ink(colour: Colour) -> tuple[int, int, int]:
    """A colour as Pillow wants it."""
    red, green, blue = (max(0, min(255, round(channel * 255))) for channel in colour)
    return red, green, blue


def vary(rng: random.Random, colour: Colour, by: float = 0.06) -> Colour:
    """A colour lighter or darker, and a little off in hue."""
    light = rng.uniform(1 - 2 * by, 1 + 2 * by)
    red, green, blue = (max(0.0, min(1.0, channel * light + rng.uniform(-by, by) / 2)) for channel in colour)
    return red, green, blue


def mix(one: Colour, other: Colour, part: float) -> Colour:
    """The colour ``part`` of the way from one to the other."""
    red, green, blue = (a + (b - a) * part for a, b in zip(one, other, strict=True))
    return red, green, blue
