"""Fruit: shaded bodies on a table, in the hand of light, or in a tree."""

from __future__ import annotations

import math

import numpy as np

from curation_assets.demo.backgrounds import background, foliage
from curation_assets.demo.texture import Canvas, Colour, Point, overlay, tint, vary

RED, GREEN, ORANGE, TOMATO = (0.72, 0.08, 0.09), (0.55, 0.7, 0.18), (0.95, 0.52, 0.06), (0.84, 0.13, 0.07)
BANANA, PURPLE, LEAF = (0.95, 0.8, 0.16), (0.26, 0.1, 0.3), (0.18, 0.4, 0.1)
LIGHT = (-0.42, -0.55, 0.72)


def draw_fruit(canvas: Canvas, species: str, condition: str) -> None:
    """Draw fruit of a species; ``condition`` is ``tree``, or empty for fruit lying somewhere."""
    if condition == "tree":
        _in_tree(canvas, species)
        return
    rng = canvas.rng
    kinds = ("white", "white", "white", "wood", "black", "plain") if species != "tomato" else ("white", "wood", "plain")
    background(canvas, rng.choice(kinds))
    if species in _ARRANGED:
        _ARRANGED[species](canvas)
    else:
        _pile(canvas, species)


def _pile(canvas: Canvas, species: str) -> None:
    rng = canvas.rng
    count = rng.choice((1, 1, 1, 2, 2, 3, 4, 6))
    for x, y, radius in _places(canvas, count, 0.36 if count == 1 else 0.5 / math.sqrt(count) * 0.8):
        if species != "tomato" and rng.random() < 0.22:
            cut(canvas, species, x, y, radius)
        else:
            ball(canvas, species, x, y, radius)


def _places(canvas: Canvas, count: int, radius: float) -> list[tuple[float, float, float]]:
    """Positions that hardly overlap, those further back first."""
    rng = canvas.rng
    placed: list[tuple[float, float, float]] = []
    for _ in range(count):
        r = radius * rng.uniform(0.85, 1.1)
        best = max(
            (
                (rng.uniform(-1, 1) * max(0.03, canvas.right - r), rng.uniform(-1, 1) * max(0.03, canvas.bottom - r))
                for _ in range(14)
            ),
            key=lambda p: min((math.hypot(p[0] - q[0], p[1] - q[1]) for q in placed), default=-math.hypot(*p)),
        )
        placed.append((*best, r))
    return sorted(placed, key=lambda p: p[1])


def _mixed(canvas: Canvas) -> None:
    rng = canvas.rng
    kinds = ["apple", "orange", "banana", *rng.choices(("apple", "orange"), k=rng.randint(0, 2))]
    rng.shuffle(kinds)
    places = _places(canvas, len(kinds), 0.21 if len(kinds) < 5 else 0.18)
    for kind, (x, y, radius) in zip(kinds, places, strict=True):
        if kind == "banana":
            banana(canvas, (x, y), radius * 1.7, rng.uniform(0, math.tau))
        elif rng.random() < 0.15:
            cut(canvas, kind, x, y, radius)
        else:
            ball(canvas, kind, x, y, radius)


def _bananas(canvas: Canvas) -> None:
    rng = canvas.rng
    angle, count = rng.uniform(0, math.tau), rng.choice((1, 1, 1, 2, 3, 4))
    size = rng.uniform(0.42, 0.56)
    for index in range(count):
        off = (index - (count - 1) / 2) * 0.13
        point = (-off * math.sin(angle) * 1.1, off * math.cos(angle) * 1.1)
        banana(canvas, point, size * (0.8 if count > 2 else 1), angle + off * 0.9)


def _grapes(canvas: Canvas) -> None:
    rng = canvas.rng
    colour = rng.choice((PURPLE, PURPLE, (0.35, 0.07, 0.16), (0.62, 0.72, 0.3)))
    radius, berries = 0.068 * rng.uniform(0.9, 1.15), []
    for row in range(8):
        wide = (3.4, 4.6, 5.0, 4.6, 3.8, 3.0, 2.0, 1.0)[row]
        for k in range(round(wide)):
            x = (k - (round(wide) - 1) / 2) * radius * 1.65
            berries.append(
                (x + rng.uniform(-0.3, 0.3) * radius, -0.4 + row * radius * 1.5 + rng.uniform(-0.3, 0.3) * radius)
            )
    shift, tilt = (rng.uniform(-0.1, 0.1), rng.uniform(-0.04, 0.06)), rng.uniform(-0.35, 0.35)
    turned = [
        (x * math.cos(tilt) - y * math.sin(tilt) + shift[0], x * math.sin(tilt) + y * math.cos(tilt) + shift[1])
        for x, y in berries
    ]
    if rng.random() < 0.7:
        _leaf_on(canvas, turned[1], 0.26, rng.uniform(-0.8, 0.2))
    _stem(canvas, turned[1], 0.16, -math.pi / 2 + tilt, 0.022)
    for x, y in rng.sample(turned, len(turned)):
        sphere(canvas, x, y, radius * rng.uniform(0.92, 1.08), vary(rng, colour, 0.05), bloom=0.25, shadow=0.0)


_ARRANGED = {"banana": _bananas, "grapes": _grapes, "mixed_fruit": _mixed}


def _in_tree(canvas: Canvas, species: str) -> None:
    rng = canvas.rng
    foliage(canvas, sharp=True)
    places = _places(canvas, rng.randint(3, 7), rng.uniform(0.1, 0.16))
    for x, y, radius in places:
        ball(canvas, species, x, y, radius, hanging=True)
    for x, y, radius in places:
        for _ in range(rng.randint(1, 2)):
            angle = rng.uniform(0.2, 2.9)
            _leaf_on(canvas, (x - radius * math.cos(angle) * 1.3, y - radius * 1.3), radius * 1.5, angle)


def ball(canvas: Canvas, species: str, x: float, y: float, radius: float, hanging: bool = False) -> None:
    """A whole apple, orange or tomato."""
    rng = canvas.rng
    if species == "orange":
        sphere(canvas, x, y, radius, vary(rng, ORANGE, 0.04), dimples=0.16, shadow=0 if hanging else 0.5)
        if rng.random() < 0.6:
            star(
                canvas,
                x + rng.uniform(-0.3, 0.3) * radius,
                y - radius * rng.uniform(0.5, 0.8),
                radius * 0.13,
                (0.3, 0.42, 0.14),
                5,
            )
        if rng.random() < 0.35 and not hanging:
            _leaf_on(canvas, (x, y - radius * 0.85), radius * 0.9, rng.uniform(-1, 0.3))
    elif species == "tomato":
        sphere(canvas, x, y, radius, vary(rng, TOMATO, 0.04), flat=rng.uniform(0.8, 0.95), gloss=0.9, shadow=0.5)
        star(
            canvas,
            x + rng.uniform(-0.2, 0.2) * radius,
            y - radius * rng.uniform(0.35, 0.65),
            radius * 0.62,
            (0.2, 0.42, 0.12),
            6,
        )
    else:
        base = rng.choice((RED, RED, RED, (0.8, 0.2, 0.13), GREEN))
        sphere(
            canvas,
            x,
            y,
            radius,
            vary(rng, base, 0.04),
            streaks=0.25,
            dent=True,
            gloss=0.6,
            shadow=0 if hanging else 0.5,
        )
        _stem(canvas, (x, y - radius * 0.72), radius * 0.5, -math.pi / 2 + rng.uniform(-0.4, 0.4), radius * 0.075)
        if rng.random() < 0.4:
            _leaf_on(canvas, (x, y - radius * 0.95), radius * 0.9, rng.uniform(-0.9, 0.1))


def sphere(
    canvas: Canvas,
    x: float,
    y: float,
    radius: float,
    colour: Colour,
    *,
    flat: float = 0.97,
    gloss: float = 0.5,
    dimples: float = 0.0,
    streaks: float = 0.0,
    dent: bool = False,
    bloom: float = 0.0,
    shadow: float = 0.5,
) -> None:
    """A shaded round body.

    Args:
        flat: height as a share of the width.
        gloss: strength of the highlight.
        dimples: depth of an orange's peel.
        streaks: strength of an apple's streaks and of the yellow towards its stalk.
        dent: a hollow where the stalk is.
        bloom: strength of a grape's waxy cover.
        shadow: strength of the shadow on what it lies on.
    """
    rng = canvas.rng
    if shadow:
        under = canvas.window(x + radius * 0.1, y + radius * 0.9, radius * 1.5, radius * 0.5)
        if under is not None:
            away = np.hypot(
                (under.x - np.float32(x + radius * 0.1)) / (radius * 1.15),
                (under.y - np.float32(y + radius * 0.86)) / (radius * 0.32),
            )
            canvas.shade(under, 1 - np.float32(shadow) * np.clip(1.15 - away, 0, 1))
    window = canvas.window(x, y, radius * 1.05)
    if window is None:
        return
    nx = (window.x - np.float32(x)) / np.float32(radius)
    ny = (window.y - np.float32(y)) / np.float32(radius * flat)
    square = nx * nx + ny * ny
    outline = np.float32(1.0)
    if dent:  # broader above, hollow at the stalk
        square = square * (1 + 0.1 * ny) + 0.2 * np.exp(-((nx / 0.33) ** 2)) * (ny < -0.4) * np.clip(-ny - 0.4, 0, 1)
    edge = (outline - np.sqrt(square)) * np.float32(radius)
    nz = np.sqrt(np.clip(1 - square, 0, 1))
    lit = np.clip(nx * LIGHT[0] + ny * LIGHT[1] + nz * LIGHT[2], 0, 1)
    tone = 0.38 + 0.72 * lit
    if dimples:
        tone = tone + np.float32(dimples) * (canvas.noise(window, 9 / radius) - 0.5) * (0.4 + nz)
    body = tint(tone, colour)
    if streaks:
        turn = np.arctan2(nx, 1.25 + ny)
        lines = np.interp(turn, np.linspace(-1.6, 1.6, 90), canvas.generator.random(90)).astype(np.float32)
        pale = np.clip((lines - 0.45) * 2, 0, 1) * np.float32(streaks) + 0.35 * np.clip(-ny - 0.62, 0, 1) * 2
        patch = np.clip((canvas.noise(window, 1.6 / radius) - 0.6) * 4, 0, 1) * np.float32(rng.choice((0, 0.3, 0.7)))
        overlay(body, np.maximum(pale, patch), tint(tone, (0.86, 0.68, 0.26)))
        hollow = np.clip(1 - np.hypot(nx / 0.3, (ny + 0.78) / 0.16), 0, 1)
        body *= 1 - 0.75 * hollow
    if bloom:
        overlay(body, np.float32(bloom) * canvas.noise(window, 1.5 / radius) * (0.3 + lit), (0.62, 0.62, 0.75))
    shine = np.clip(1 - np.hypot(nx + 0.34, ny + 0.42) / 0.34, 0, 1) ** 2 * np.float32(gloss * rng.uniform(0.5, 1.1))
    overlay(body, shine, (1.0, 1.0, 1.0))
    canvas.blend(window, canvas.inside(edge), body)


def banana(canvas: Canvas, centre: Point, size: float, angle: float) -> None:
    """A banana as a tapering arc, ``size`` being half its length."""
    rng = canvas.rng
    window = canvas.window(*centre, size * 1.25)
    if window is None:
        return
    cos, sin = math.cos(angle), math.sin(angle)
    dx, dy = window.x - np.float32(centre[0]), window.y - np.float32(centre[1])
    u, v = (dx * cos + dy * sin) / np.float32(size), (dy * cos - dx * sin) / np.float32(size)
    ring = 1.1
    turn, radius = np.arctan2(u, v + np.float32(ring * 0.85)), np.hypot(u, v + np.float32(ring * 0.85))
    part = np.abs(turn) / 0.92
    half = np.float32(0.2 * rng.uniform(0.9, 1.1)) * np.sqrt(np.clip(1 - part**3.2, 0, 1)) * (1 - 0.25 * part)
    stalk = (turn > 0.8) & (turn < 1.1)
    half = np.maximum(half, np.where(stalk, np.float32(0.05), -1))
    off = (radius - np.float32(ring)) / np.maximum(half, 1e-3)
    edge = (half - np.abs(radius - np.float32(ring))) * np.float32(size)
    cover = canvas.inside(edge)
    canvas.shadow(window, cover, 0.35, 0.05, (0.02, 0.05))
    base = vary(rng, rng.choice((BANANA, BANANA, (0.86, 0.78, 0.2))), 0.04)
    ridge = np.clip(1 - np.abs(off + 0.3) * 7, 0, 1) + np.clip(1 - np.abs(off - 0.35) * 7, 0, 1)
    up = -off * np.float32(cos)  # towards the light from above
    tone = 0.84 + 0.26 * up - 0.1 * off * off - 0.1 * ridge + 0.12 * (canvas.noise(window, 3 / size) - 0.5)
    body = tint(tone, base)
    ends = np.clip((part - 0.9) * 12, 0, 1) * np.where(turn > 0, 0.55, 1)
    overlay(body, ends, (0.22, 0.16, 0.07))
    green = np.clip(turn - 0.62, 0, 0.35) * np.float32(2 * rng.random())
    overlay(body, green, (0.5, 0.6, 0.15))
    if rng.random() < 0.5:
        spots = np.clip((canvas.noise(window, 11 / size) - 0.8) * 14, 0, 1) * 0.7
        overlay(body, spots, (0.32, 0.2, 0.08))
    canvas.blend(window, cover, body)


def cut(canvas: Canvas, species: str, x: float, y: float, radius: float) -> None:
    """Half an orange or an apple with its cut face towards the camera."""
    rng = canvas.rng
    skin = vary(rng, ORANGE if species == "orange" else RED, 0.04)
    sphere(canvas, x, y, radius, skin, gloss=0.0)
    window = canvas.window(x, y, radius)
    if window is None:
        return
    dx, dy = (window.x - np.float32(x)) / np.float32(radius), (window.y - np.float32(y)) / np.float32(radius)
    away = np.hypot(dx, dy)
    turn0 = rng.uniform(0, math.tau)
    if species == "orange":
        pith, flesh = (0.97, 0.9, 0.72), vary(rng, (0.98, 0.62, 0.1), 0.03)
        canvas.blend(window, canvas.inside((0.93 - away) * np.float32(radius)), pith)
        turn = (np.arctan2(dy, dx) + np.float32(turn0)) * np.float32(10 / math.tau)
        wall = np.abs(turn - np.floor(turn) - 0.5) * away
        segment = np.clip((away * 0.46 - wall - 0.0) * 20 - 0.2, 0, 1) * np.clip((0.86 - away) * 24, 0, 1)
        segment *= np.clip((away - 0.1) * 20, 0, 1)
        juicy = tint(0.85 + 0.3 * canvas.noise(window, 9 / radius), flesh)
        canvas.blend(window, segment, juicy)
    else:
        white = tint(0.97 - 0.1 * canvas.noise(window, 4 / radius), (1.0, 0.95, 0.76))
        canvas.blend(window, canvas.inside((0.93 - away) * np.float32(radius)), white)
        core = np.clip((0.3 - np.hypot(dx * 1.3, dy)) * 8, 0, 1)
        canvas.blend(window, core * 0.4, (0.8, 0.74, 0.45))
        for side in (-1, 1):
            pip = np.hypot((dx - side * 0.1) / 0.045, (dy - 0.02) / 0.1)
            canvas.blend(window, np.clip((1 - pip) * 4, 0, 1), (0.25, 0.12, 0.06))


def star(canvas: Canvas, x: float, y: float, radius: float, colour: Colour, points: int) -> None:
    """The green star at the stalk of a tomato or an orange."""
    rng = canvas.rng
    window = canvas.window(x, y, radius * 1.1)
    if window is None:
        return
    start, rays = rng.uniform(0, math.tau), []
    for k in range(points):
        angle = start + k * math.tau / points
        tip = (x + radius * math.cos(angle), y + radius * 0.6 * math.sin(angle))
        side = (radius * 0.2 * math.cos(angle + 1.6), radius * 0.14 * math.sin(angle + 1.6))
        rays.append([(x + side[0], y + side[1]), tip, (x - side[0], y - side[1])])
    canvas.blend(window, canvas.draw_mask(window, polygons=rays, discs=[(x, y, radius * 0.2)]), vary(rng, colour, 0.04))


def _stem(canvas: Canvas, foot: Point, length: float, angle: float, width: float) -> None:
    rng = canvas.rng
    top = foot[0] + length * math.cos(angle), foot[1] + length * math.sin(angle)
    window = canvas.window((foot[0] + top[0]) / 2, (foot[1] + top[1]) / 2, length)
    if window is not None:
        middle = (foot[0] + top[0]) / 2 + length * 0.06, (foot[1] + top[1]) / 2
        canvas.blend(
            window, canvas.draw_mask(window, strokes=[((foot, middle, top), width)]), vary(rng, (0.32, 0.22, 0.1), 0.04)
        )


def _leaf_on(canvas: Canvas, foot: Point, length: float, angle: float) -> None:
    rng = canvas.rng
    middle = foot[0] + length / 2 * math.cos(angle), foot[1] + length / 2 * math.sin(angle)
    window = canvas.window(*middle, length * 0.62)
    if window is None:
        return
    cos, sin = math.cos(angle), math.sin(angle)
    dx, dy = window.x - np.float32(foot[0]), window.y - np.float32(foot[1])
    u, v = (dx * cos + dy * sin) / np.float32(length), (dy * cos - dx * sin) / np.float32(length)
    half = 0.95 * np.clip(u, 0, 1) * np.clip(1 - u, 0, 1)
    tone = 0.95 + np.sign(v) * np.float32(0.1) + 0.3 * (canvas.noise(window, 4 / length) - 0.5)
    body = tint(tone, vary(rng, LEAF, 0.05))
    overlay(body, np.clip(1 - np.abs(v) / 0.02, 0, 1), (0.5, 0.62, 0.3))
    canvas.blend(window, canvas.inside((half - np.abs(v)) * np.float32(length)), body)
