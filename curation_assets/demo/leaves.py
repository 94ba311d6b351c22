"""Leaves: outline, veins and light of each species."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import numpy as np

from curation_assets.demo.texture import Canvas, Colour, Field, Point, Window, mix, overlay, planes, tint, vary


@dataclass(frozen=True)
class Species:
    """How the leaves of a species look.

    Attributes:
        colour: of the healthy blade.
        rib: of midrib and veins.
        width: half the greatest width, as a share of the length.
        widest: where along the leaf that is, from 0 to 1.
        blunt: below 1 for a rounder leaf, above for a more pointed one.
        veins: pairs of side veins; 0 for veins along the leaf.
        slope: how far a side vein runs towards the tip, as a share of the length, while it runs the width of the leaf.
        teeth: teeth along the margin.
        wavy: how much the margin swings, as a share of the width.
        gloss: strength of the shine.
    """

    colour: Colour
    rib: Colour
    width: float
    widest: float = 0.45
    blunt: float = 1.0
    veins: int = 8
    slope: float = 0.12
    teeth: int = 0
    wavy: float = 0.03
    gloss: float = 0.1


SPECIES = {
    "coffee": Species((0.17, 0.38, 0.12), (0.45, 0.6, 0.3), 0.21, 0.45, 0.9, 8, 0.1, 0, 0.07, 0.22),
    "maize": Species((0.28, 0.5, 0.16), (0.72, 0.8, 0.52), 0.075, 0.3, 0.55, 0, 0, 0, 0.1, 0.06),
    "wheat": Species((0.3, 0.52, 0.2), (0.5, 0.68, 0.36), 0.03, 0.25, 0.5, 0, 0, 0, 0.02, 0.05),
    "tomato": Species((0.25, 0.45, 0.15), (0.5, 0.63, 0.34), 0.25, 0.38, 0.95, 5, 0.16, 9, 0.06, 0.06),
    "banana": Species((0.36, 0.58, 0.16), (0.78, 0.84, 0.5), 0.17, 0.5, 0.45, 34, 0.03, 0, 0.03, 0.14),
    "bean": Species((0.27, 0.5, 0.14), (0.52, 0.7, 0.32), 0.38, 0.3, 0.85, 5, 0.2, 0, 0.02, 0.05),
    "grape": Species((0.31, 0.5, 0.15), (0.62, 0.72, 0.4), 0.5, gloss=0.05),
    "cabbage": Species((0.45, 0.6, 0.44), (0.82, 0.88, 0.74), 0.42, 0.6, 0.55, 6, 0.22, 0, 0.1, 0.04),
}


@dataclass
class Leaf:
    """A leaf laid out on the canvas and not yet painted there; conditions change its colour and outline.

    Attributes:
        window: the pixels it lies in.
        length: in units of the canvas.
        edge: signed distance to the outline, positive inside.
        colour: (3, rows, columns) blade.
        veins: how much of a vein a pixel is, from 0 to 1.
        along: position along the leaf (0 stalk, 1 tip); distance from the middle for a lobed leaf.
        across: position across the leaf, -1 to 1 from margin to margin.
        holes: how much is gone, from 0 to 1.
    """

    canvas: Canvas
    window: Window
    species: str
    length: float
    edge: Field
    colour: Field
    veins: Field
    along: Field
    across: Field
    centre: Point
    angle: float
    holes: Field | None = None
    _half: dict[int, float] = field(default_factory=dict)

    @property
    def rng(self) -> random.Random:
        """The canvas's source of chance."""
        return self.canvas.rng

    def at(self, along: float, across: float) -> Point:
        """Canvas position of a point of the leaf."""
        if self.species == "grape":
            angle, radius = across * math.pi, along * self.length * 0.36
            return self.centre[0] + radius * math.cos(angle), self.centre[1] + radius * math.sin(angle)
        half = half_width(SPECIES[self.species], along)
        u, v = (along - 0.5) * self.length, across * half * self.length
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return self.centre[0] + u * cos - v * sin, self.centre[1] + u * sin + v * cos

    def somewhere(self, margin: float = 0.15) -> Point:
        """Canvas position of a random point of the leaf, in the picture where that can be had."""
        point = (0.0, 0.0)
        for _ in range(12):
            point = self.at(self.rng.uniform(margin, 1 - margin), self.rng.uniform(margin - 1, 1 - margin))
            if abs(point[0]) < self.canvas.right * 0.95 and abs(point[1]) < self.canvas.bottom * 0.95:
                break
        return point

    def distance(
        self, point: Point, radius: float, ragged: float, reach: float = 2.0
    ) -> tuple[tuple[slice, slice], Field] | None:
        """Distance to the outline of a spot around a point, in radii: 0 in the middle, 1 at the rim.

        Args:
            ragged: how far the rim swings, in radii.
            reach: radii around the point that are looked at.

        Returns:
            Rows and columns of the leaf's own arrays, and the distances there; None outside the picture.
        """
        near = self.canvas.window(*point, radius * reach)
        if near is None:
            return None
        top, left = self.window.rows.start, self.window.columns.start
        rows = slice(max(near.rows.start, top), min(near.rows.stop, self.window.rows.stop))
        columns = slice(max(near.columns.start, left), min(near.columns.stop, self.window.columns.stop))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return None
        part = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        x, y = self.window.x[:, part[1]], self.window.y[part[0]]
        away = np.hypot(x - np.float32(point[0]), y - np.float32(point[1])) / np.float32(radius)
        if ragged:
            small = Window(rows, columns, x, y)
            away = away + ragged * 2 * (self.canvas.clouds(small, 1.1 / radius, 3) - 0.5)
        return part, away

    def paint(self, shadow: float = 0.0) -> None:
        """Put the leaf on the canvas, with a soft shadow of some strength."""
        cover = self.canvas.inside(self.edge)
        if self.holes is not None:
            cover = cover * (1 - self.holes)
        if shadow:
            shift = self.rng.uniform(0.01, 0.04), self.rng.uniform(0.01, 0.05)
            self.canvas.shadow(self.window, cover, shadow, 0.03, shift)
        self.canvas.blend(self.window, cover, self.colour)


def half_width(species: Species, along: float) -> float:
    """Half the width of a leaf at a point along it, as a share of its length."""
    return float(np.interp(along * 255, np.arange(256), _profile(species)))


def _profile(species: Species) -> Field:
    u = np.linspace(0, 1, 256)
    a = species.blunt
    b = a * (1 - species.widest) / species.widest
    shape = u**a * (1 - u) ** b
    profile: Field = (species.width * shape / shape.max()).astype(np.float32)
    return profile


def lay(
    canvas: Canvas, species: str, centre: Point, length: float, angle: float, *, bend: float = 0.0, light: float = 1.0
) -> Leaf | None:
    """Lay out a leaf; None where it would be out of the picture.

    Args:
        centre: of the leaf, canvas units.
        length: in canvas units.
        angle: from stalk to tip, radians.
        bend: how far the midrib leaves the straight line, as a share of the length.
        light: brightness of the blade.
    """
    if species == "grape":
        return _lobed(canvas, centre, length, angle, light)
    kind, rng = SPECIES[species], canvas.rng
    cos, sin = math.cos(angle), math.sin(angle)
    half, wide = length / 2, (kind.width * (1 + kind.wavy) + abs(bend)) * length
    window = canvas.window(*centre, half * abs(cos) + wide * abs(sin) + 0.03, half * abs(sin) + wide * abs(cos) + 0.03)
    if window is None:
        return None
    dx, dy = window.x - np.float32(centre[0]), window.y - np.float32(centre[1])
    u = (dx * np.float32(cos / length) + dy * np.float32(sin / length)) + np.float32(0.5)
    v = dy * np.float32(cos / length) - dx * np.float32(sin / length)
    if bend:
        v -= np.float32(bend) * (1 - 4 * (u - 0.5) ** 2)
    width = _profile(kind)[np.clip(u * 255, 0, 255).astype(np.int16)]
    aside = np.abs(v)
    margin = width
    if kind.wavy:
        margin = margin * (1 + np.float32(2 * kind.wavy) * (canvas.noise(window, 7 / length) - 0.5))
    if kind.teeth:
        margin = margin * (1 - 0.22 * np.abs(((u + aside * 0.6) * kind.teeth) % 1 - 0.25))
    # Along the leaf the outline runs nearly parallel to v, so the distance across is the distance.
    edge = np.minimum(margin - aside, 0.5 - np.abs(u - 0.5)) * np.float32(length)
    across = np.clip(v / (width + 1e-4), -1, 1)
    veins, bulge = _vein_pattern(kind, u, v, aside, rng, canvas.unit * length)
    return _coloured(canvas, window, species, length, edge, veins, bulge, u, across, centre, angle, light)


def _vein_pattern(
    kind: Species, u: Field, v: Field, aside: Field, rng: random.Random, pixels: float
) -> tuple[Field, Field]:
    thin = max(1.1 / pixels, 0.004)
    midrib = np.clip(1.4 - aside / (max(0.009, thin) * (1.3 - 0.9 * np.clip(u, 0, 1))), 0, 1)
    if kind.veins:
        run = kind.slope / kind.width
        turn = (u - aside * np.float32(run)) * kind.veins + np.float32(rng.random())
        turn += (v > 0) * np.float32(0.5)
        phase = turn - np.floor(turn)
        off = np.minimum(phase, 1 - phase) / kind.veins
        side = np.clip(1.3 - off / max(thin, 0.005 if kind.veins < 20 else 0.002), 0, 1) * 0.7
        bulge = (phase - 0.5) * np.float32(0.22)
    else:
        turn = v * np.float32(11 / kind.width / 2)
        phase = turn - np.floor(turn)
        side = np.clip(1 - np.abs(phase - 0.5) * 5, 0, 1) * np.float32(min(0.3, pixels * kind.width / 250))
        bulge = np.clip(aside * np.float32(1 / kind.width), 0, 1) * np.float32(0.25) - np.float32(0.12)
    return np.maximum(midrib, side), bulge


def _lobed(canvas: Canvas, centre: Point, size: float, angle: float, light: float) -> Leaf | None:
    """A grape leaf: five lobes around the stalk, teeth, five main veins."""
    rng, kind = canvas.rng, SPECIES["grape"]
    window = canvas.window(*centre, size * 0.62)
    if window is None:
        return None
    cos, sin = math.cos(angle), math.sin(angle)
    # The stalk meets the blade behind its middle.
    x0, y0 = centre[0] - 0.1 * size * cos, centre[1] - 0.1 * size * sin
    dx, dy = (window.x - np.float32(x0)) / np.float32(size), (window.y - np.float32(y0)) / np.float32(size)
    along, aside = dx * np.float32(cos) + dy * np.float32(sin), dy * np.float32(cos) - dx * np.float32(sin)
    radius, turn = np.hypot(along, aside), np.arctan2(np.abs(aside), along)
    steps = np.linspace(0, math.pi, 512)
    outline = np.full(512, 0.2)
    for lobe, reach, wide in ((0.0, 0.5, 0.5), (1.1, 0.44, 0.5), (2.15, 0.36, 0.5)):
        outline = np.maximum(outline, reach * np.cos(np.clip((steps - lobe) / wide * 0.85, -1.5, 1.5)) ** 0.7)
    outline *= np.clip((math.pi + 0.12 - steps) * 3.2, 0.12, 1)
    outline *= 1 - 0.09 * np.abs((steps * 5.2) % 1 - 0.5) * 2
    table = outline.astype(np.float32)
    edge = table[np.clip(turn * (511 / math.pi), 0, 511).astype(np.int16)] - radius
    veins = np.zeros_like(radius)
    thin = max(0.007, 1.1 / (canvas.unit * size))
    bulge = np.full_like(radius, 9.0)
    for lobe, reach in ((0.0, 0.5), (1.1, 0.43), (2.15, 0.34)):
        c, s = np.float32(math.cos(lobe)), np.float32(math.sin(lobe))
        ahead, off = along * c + np.abs(aside) * s, np.abs(np.abs(aside) * c - along * s)
        inside = (ahead > 0) & (ahead < reach)
        veins = np.maximum(veins, inside * np.clip(1.3 - off / (thin * (1.4 - np.minimum(ahead / reach, 1))), 0, 1))
        side = (ahead - off * 0.8) * 11
        side = np.abs(side - np.floor(side) - 0.5) / 11
        branch = inside & (off < 0.35 * (reach - ahead))
        veins = np.maximum(veins, branch * np.clip(1.2 - side / (thin * 0.8), 0, 1) * 0.6)
        bulge = np.minimum(bulge, np.where(ahead > 0, off, 9))
    bulge = np.clip(bulge * 2.2, 0, 0.3) - 0.12 + 0.1 * (canvas.noise(window, 9 / size) - 0.5)
    leaf = _coloured(
        canvas,
        window,
        "grape",
        size,
        edge * np.float32(size),
        veins,
        bulge,
        radius * 2,
        aside * 2,
        (x0, y0),
        angle,
        light,
    )
    leaf.colour *= 1 - 0.1 * kind.gloss * rng.random()
    return leaf


def _coloured(
    canvas: Canvas,
    window: Window,
    species: str,
    length: float,
    edge: Field,
    veins: Field,
    bulge: Field,
    along: Field,
    across: Field,
    centre: Point,
    angle: float,
    light: float,
) -> Leaf:
    rng, kind = canvas.rng, SPECIES[species]
    base = vary(rng, kind.colour, 0.05)
    side = rng.choice((-1, 1)) * rng.uniform(0.04, 0.18)
    tone = 1 + bulge * np.float32(rng.uniform(0.5, 1.2)) + across * np.float32(side)
    tone += np.float32(0.3) * (canvas.clouds(window, 5 / max(0.3, length), 2) - 0.5)
    tone += np.float32(0.035) * canvas.grain(window)
    colour = tint(tone * np.float32(light), base)
    rib = planes(mix(vary(rng, kind.rib, 0.03), base, 0.35)) * np.float32(light)
    overlay(colour, veins * np.float32(0.8), rib)
    if kind.gloss:
        shine = np.clip((canvas.noise(window, 3 / max(0.4, length)) - 0.55) * 3, 0, 1) * np.float32(
            kind.gloss * rng.random() * 1.6
        )
        overlay(colour, shine, (0.85, 0.85, 0.85))
    return Leaf(canvas, window, species, length, edge, colour, veins, along, across, centre, angle)
