"""Photographs drawn by code: leaves, fruit and fields, with the light, blur and noise of a camera."""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image, ImageFilter

from curation_assets.demo.backgrounds import background
from curation_assets.demo.conditions import afflict
from curation_assets.demo.fields import draw_field
from curation_assets.demo.fruits import draw_fruit
from curation_assets.demo.leaves import SPECIES, half_width, lay
from curation_assets.demo.scenes import SCENES
from curation_assets.demo.texture import Canvas, planes

SIZES = ((800, 600), (600, 800), (640, 480), (512, 512))
_SMALLEST = 24
_DRAWN_PIXELS = 250_000  # larger photographs are drawn smaller and enlarged: fine detail is noise added afterwards


def render(scene: str, rng: random.Random, size: tuple[int, int] | None = None) -> Image.Image:
    """Draw one photograph, RGB.

    Args:
        scene: a key of ``scenes.SCENES``.
        rng: decides everything that varies; the same state draws the same photograph.
        size: width and height in pixels, 1 or more; None takes one of a few usual sizes.

    Raises:
        KeyError: there is no such scene.
    """
    what = SCENES[scene]
    width, height = size or rng.choice(SIZES)
    scale = min(1.0, math.sqrt(_DRAWN_PIXELS / (width * height)))
    canvas = Canvas(max(round(width * scale), _SMALLEST), max(round(height * scale), _SMALLEST), rng)
    if what.group == "leaf":
        _draw_leaves(canvas, what.species, what.condition)
    elif what.group == "fruit":
        draw_fruit(canvas, what.species, what.condition)
    else:
        draw_field(canvas, scene)
    return _develop(canvas, width, height)


def _draw_leaves(canvas: Canvas, species: str, condition: str) -> None:
    rng = canvas.rng
    if species == "coffee" and rng.random() < 0.5:
        _close_up(canvas, species, condition)
        return
    background(canvas, rng.choice(("paper", "paper", "soil", "soil", "foliage", "foliage", "hand", "white")))
    turn = rng.uniform(0, math.tau)
    x, y = rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08)
    poses: list[tuple[float, float, float, float]] = []  # x, y, length, angle
    if species == "tomato":  # a compound leaf
        size = rng.uniform(0.42, 0.52)
        for along, side in ((-0.42, -1), (-0.38, 1), (-0.06, -1), (0.0, 1), (0.34, 0)):
            angle = turn + side * rng.uniform(0.85, 1.2)
            foot = x + along * math.cos(turn), y + along * math.sin(turn)
            reach = size * (1.1 if side == 0 else rng.uniform(0.8, 1.0))
            off = 0.06 + reach / 2
            poses.append((foot[0] + off * math.cos(angle), foot[1] + off * math.sin(angle), reach, angle))
        window = canvas.all()
        line = [(x + k * math.cos(turn), y + k * math.sin(turn)) for k in (-0.75, 0.4)]
        canvas.blend(window, canvas.draw_mask(window, strokes=[(line, 0.016)]), (0.42, 0.52, 0.26))
    elif species == "wheat":
        for _ in range(rng.randint(5, 7)):
            across = rng.uniform(-0.5, 0.5)
            poses.append(
                (
                    x - across * math.sin(turn),
                    y + across * math.cos(turn),
                    rng.uniform(1.5, 2.3),
                    turn + rng.uniform(-0.3, 0.3),
                )
            )
    elif species == "maize":
        for _ in range(rng.choice((1, 1, 2, 3))):
            across = rng.uniform(-0.3, 0.3) if poses else rng.uniform(-0.08, 0.08)
            poses.append(
                (
                    x - across * math.sin(turn),
                    y + across * math.cos(turn),
                    rng.uniform(1.7, 2.6),
                    turn + rng.uniform(-0.3, 0.3),
                )
            )
        poses.reverse()
    elif species == "bean":  # three leaflets
        size = rng.uniform(0.5, 0.62)
        for side in (-1, 1, 0):
            angle = turn + side * 1.5
            poses.append(
                (
                    x + (0.06 + size / 2) * math.cos(angle) - 0.1 * math.cos(turn),
                    y + (0.06 + size / 2) * math.sin(angle) - 0.1 * math.sin(turn),
                    size,
                    angle,
                )
            )
    else:
        length = {"coffee": (0.85, 1.35), "grape": (0.8, 1.15), "banana": (1.2, 1.9), "cabbage": (0.9, 1.3)}[species]
        if species in ("coffee", "grape") and rng.random() < 0.4:
            poses.append(
                (x + rng.uniform(-0.4, 0.4), y + rng.uniform(-0.4, 0.4), rng.uniform(*length), rng.uniform(0, math.tau))
            )
        poses.append((x, y, rng.uniform(*length), turn))
    strength = rng.uniform(0.25, 0.55)
    for px, py, length_, angle in poses:
        bend = rng.uniform(-0.06, 0.06) if species not in ("bean", "grape") else 0.0
        leaf = lay(canvas, species, (px, py), length_, angle, bend=bend, light=rng.uniform(0.85, 1.15))
        if leaf is not None:
            afflict(leaf, condition)
            leaf.paint(strength)


def _close_up(canvas: Canvas, species: str, condition: str) -> None:
    """Part of a leaf that fills the picture, with one lesion near its middle."""
    rng = canvas.rng
    background(canvas, rng.choice(("paper", "paper", "paper", "foliage", "soil")))
    at_edge = rng.random() < {"phoma": 0.7, "healthy": 0.6, "cercospora": 0.4}.get(condition, 0.15)
    along, across = (
        rng.uniform(0.3, 0.75),
        (rng.choice((-1, 1)) * rng.uniform(0.75, 1.0) if at_edge else rng.uniform(-0.7, 0.7)),
    )
    length, angle = rng.uniform(3.0, 5.5), rng.uniform(0, math.tau)
    u, v = (along - 0.5) * length, across * half_width(SPECIES[species], along) * length
    near = rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1)
    cos, sin = math.cos(angle), math.sin(angle)
    centre = near[0] - (u * cos - v * sin), near[1] - (u * sin + v * cos)
    leaf = lay(canvas, species, centre, length, angle, light=rng.uniform(0.9, 1.5))
    if leaf is not None:
        afflict(leaf, condition, near)
        leaf.paint(0.3)


def _develop(canvas: Canvas, width: int, height: int) -> Image.Image:
    """Light and camera: exposure, colour temperature, uneven light, a vignette, blur and noise."""
    rng, window, rgb = canvas.rng, canvas.all(), canvas.rgb
    warm = rng.gauss(0, 0.045)
    exposure = rng.uniform(0.8, 1.18)
    lean = rng.gauss(0, 0.14), rng.gauss(0, 0.14)
    light = 1 + np.float32(lean[0]) * window.x + np.float32(lean[1]) * window.y
    if rng.random() < 0.5:
        light = light - np.float32(rng.uniform(0.1, 0.5)) * (window.x**2 + window.y**2)
    if rng.random() < 0.2:  # the photographer's or a plant's shadow over a part
        patch = np.clip((canvas.noise(window, rng.uniform(1, 2)) - 0.5) * 8, 0, 1)
        light = light * (1 - np.float32(rng.uniform(0.15, 0.4)) * patch)
    rgb *= light * np.float32(exposure)
    rgb *= planes((1 + warm, 1 + rng.gauss(0, 0.012), 1 - warm))
    noise = abs(rng.gauss(0, 1.5)) + 0.5
    if (canvas.width, canvas.height) == (width, height):
        rgb += canvas.grain(window) * np.float32(noise / 255)
        image = Image.fromarray(canvas.pixels())
    else:
        image = Image.fromarray(canvas.pixels()).resize((width, height), Image.Resampling.BICUBIC)
        grain = Image.frombytes("L", image.size, canvas.generator.bytes(width * height))
        image = Image.blend(image, Image.merge("RGB", (grain, grain, grain)), min(0.04, noise / 74))
    blur = abs(rng.gauss(0, 0.0022)) * min(image.size)
    return image.filter(ImageFilter.GaussianBlur(blur)) if blur > 0.3 else image
