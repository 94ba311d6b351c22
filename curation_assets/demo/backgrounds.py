"""What lies behind the subject of a photograph."""

from __future__ import annotations

import math

import numpy as np

from curation_assets.demo.texture import Canvas, Colour, Sheet, planes, tint, vary


def background(canvas: Canvas, kind: str) -> None:
    """Fill the canvas.

    Args:
        kind: ``paper``, ``white``, ``black``, ``plain``, ``soil``, ``hand``, ``sky``, ``foliage`` or ``wood``.
    """
    _KINDS[kind](canvas)


def soil(canvas: Canvas, colour: Colour | None = None) -> None:
    """Bare earth with crumbs."""
    rng, window = canvas.rng, canvas.all()
    base = colour or rng.choice(((0.42, 0.31, 0.22), (0.33, 0.26, 0.2), (0.52, 0.43, 0.33), (0.45, 0.29, 0.19)))
    light = 0.72 + 0.4 * canvas.clouds(window, rng.uniform(3, 6)) + 0.1 * canvas.grain(window)
    crumbs = (canvas.noise(window, 34) + canvas.noise(window, 75) + 0.6 * canvas.noise(window, 150)) / 2.6
    light *= 0.72 + 0.5 * np.clip((crumbs - 0.32) * 2.6, 0, 1)
    canvas.rgb[:] = tint(light, vary(rng, base))


def foliage(canvas: Canvas, sharp: bool = False) -> None:
    """Leaves out of focus, or in focus."""
    rng = canvas.rng
    canvas.rgb[:] = planes(vary(rng, (0.1, 0.2, 0.08), 0.03))
    window = canvas.all()
    if not sharp:
        for cells in (2.5, 5):
            patch = np.clip((canvas.clouds(window, cells, 2) - 0.38) * 2.5, 0, 1)
            canvas.blend(window, patch * 0.75, vary(rng, (0.3, 0.46, 0.16), 0.1))
        bright = np.clip((canvas.clouds(window, 3.5, 2) - 0.6) * 4, 0, 1)
        canvas.blend(window, bright * 0.6, vary(rng, (0.68, 0.78, 0.45)))
        return
    sheet = Sheet(canvas)
    for layer in range(3):
        for _ in range(46):
            x, y = rng.uniform(-1.05, 1.05) * canvas.right, rng.uniform(-1.1, 1.1) * canvas.bottom
            leaf(sheet, x, y, rng.uniform(0.1, 0.2), rng.uniform(0, math.tau), 0.35 + 0.32 * layer)
    sheet.done()


def leaf(sheet: Sheet, x: float, y: float, length: float, angle: float, light: float) -> None:
    """One small leaf with a midrib."""
    rng = sheet.canvas.rng
    tip = x + length * math.cos(angle), y + length * math.sin(angle)
    green = vary(rng, (0.22 * light, 0.5 * light, 0.14 * light), 0.05)
    bend = rng.uniform(-0.12, 0.12)
    sheet.blade((x, y), tip, length * 0.26, green, bend)
    rib = vary(rng, (0.4 * light, 0.66 * light, 0.3 * light), 0.02)
    sheet.blade((x, y), tip, length * 0.02, rib, bend)


def _paper(canvas: Canvas) -> None:
    rng, window = canvas.rng, canvas.all()
    light = 1 + rng.uniform(-0.2, 0.2) * window.x + rng.uniform(-0.2, 0.2) * window.y + 0.015 * canvas.grain(window)
    base = vary(rng, rng.choice(((0.86, 0.85, 0.83), (0.78, 0.76, 0.78), (0.88, 0.84, 0.8))), 0.03)
    canvas.rgb[:] = tint(light, base)


def _white(canvas: Canvas) -> None:
    canvas.rgb[:] = canvas.rng.uniform(0.95, 1.0)


def _black(canvas: Canvas) -> None:
    canvas.rgb[:] = canvas.rng.uniform(0.01, 0.07)


def _plain(canvas: Canvas) -> None:
    rng, window = canvas.rng, canvas.all()
    base = rng.choice(((0.9, 0.75, 0.2), (0.55, 0.7, 0.8), (0.75, 0.75, 0.72), (0.35, 0.4, 0.45), (0.85, 0.7, 0.6)))
    light = 1 + rng.uniform(-0.25, 0.25) * window.x + rng.uniform(-0.25, 0.25) * window.y
    canvas.rgb[:] = tint(light, vary(rng, base))


def _hand(canvas: Canvas) -> None:
    """A palm and fingers out of focus before a blurred field."""
    foliage(canvas)
    rng, window = canvas.rng, canvas.all()
    skin = rng.choice(((0.82, 0.62, 0.5), (0.62, 0.43, 0.31), (0.42, 0.28, 0.2), (0.72, 0.52, 0.4)))
    angle = rng.uniform(-0.5, 0.5)
    across = window.x * math.cos(angle) + window.y * math.sin(angle)
    down = window.y * math.cos(angle) - window.x * math.sin(angle)
    for finger in range(4):
        middle, top = -0.27 + finger * 0.18, (-0.2, -0.36, -0.4, -0.28)[finger]
        reach = np.maximum(np.abs(across - middle) - 0.065, (top - down) * 0.6)
        tone = vary(rng, skin, 0.03)
        canvas.blend(window, np.clip(0.5 - reach * 18, 0, 1), tone)
    palm = np.maximum(np.abs(across) - 0.36, 0.12 - down)
    canvas.blend(window, np.clip(0.5 - palm * 14, 0, 1), vary(rng, skin, 0.03))
    canvas.shade(window, 0.85 + 0.3 * canvas.noise(window, 3))


def _sky(canvas: Canvas) -> None:
    rng, window = canvas.rng, canvas.all()
    top, low = (
        vary(rng, c, 0.03)
        for c in rng.choice((((0.3, 0.52, 0.82), (0.75, 0.85, 0.94)), ((0.72, 0.76, 0.8), (0.86, 0.88, 0.9))))
    )
    canvas.rgb[:] = planes(top)
    canvas.blend(window, np.clip(window.y / (2 * canvas.bottom) + 0.5, 0, 1), low)
    clouds = np.clip((canvas.clouds(window, 2.5) - 0.52) * 4, 0, 1)
    canvas.blend(window, clouds * rng.uniform(0.2, 0.9), (0.96, 0.96, 0.97))


def _wood(canvas: Canvas) -> None:
    rng, window = canvas.rng, canvas.all()
    base = vary(rng, rng.choice(((0.55, 0.37, 0.22), (0.72, 0.55, 0.36), (0.4, 0.27, 0.18))))
    upright = rng.random() < 0.5
    cells = (3.0, 14.0) if upright else (45.0, 1 / 14)
    grain = canvas.noise(window, *cells) * 0.6 + canvas.noise(window, cells[0] * 2, cells[1]) * 0.4
    along = window.x if upright else window.y
    seam = np.abs((along * 3.1 + rng.random()) % 1 - 0.5)
    light = (0.7 + 0.5 * grain) * np.clip(0.45 + seam * 40, 0.45, 1)
    canvas.rgb[:] = tint(light, base)


_KINDS = {
    "paper": _paper,
    "white": _white,
    "black": _black,
    "plain": _plain,
    "soil": soil,
    "hand": _hand,
    "sky": _sky,
    "foliage": foliage,
    "wood": _wood,
}
