"""Fields: rows, stands and weeds, from a person's height or from above."""

from __future__ import annotations

import math

import numpy as np

from curation_assets.demo.backgrounds import background, leaf, soil
from curation_assets.demo.texture import Canvas, Colour, Sheet, mix, tint, vary


def draw_field(canvas: Canvas, name: str) -> None:
    """Draw the field scene of that name."""
    _FIELDS[name](canvas)


class _Ground:
    """A flat field seen from a person's height: ground positions → canvas.

    ``aside`` is in camera heights to the right of the view, ``ahead`` in camera heights away.
    """

    def __init__(self, canvas: Canvas) -> None:
        rng = canvas.rng
        self.horizon = canvas.bottom * rng.uniform(-0.62, -0.3)
        self.vanish = rng.uniform(-0.5, 0.5) * canvas.right
        self.nearest = 1 / (canvas.bottom - self.horizon) * 0.8
        self.canvas = canvas

    def at(self, aside: float, ahead: float) -> tuple[float, float, float]:
        """Canvas position of a point on the ground, and the size of one camera height there."""
        size = 1 / ahead
        return self.vanish + aside * size, self.horizon + size * 0.9, size


def _land(canvas: Canvas, colour: Colour) -> _Ground:
    """Sky above, ground below the horizon."""
    rng, ground, window = canvas.rng, _Ground(canvas), canvas.all()
    earth = Canvas(canvas.width, canvas.height, rng)
    soil(earth, colour)
    background(canvas, "sky")
    below = np.clip((window.y - np.float32(ground.horizon)) * canvas.unit + 0.5, 0, 1) + 0 * window.x
    canvas.blend(window, below, earth.rgb)
    if rng.random() < 0.7:  # a line of trees
        trees = canvas.noise(window, 6)[:1] * np.float32(rng.uniform(0.03, 0.09))
        line = np.clip((window.y - np.float32(ground.horizon) + trees) * canvas.unit, 0, 1) * (1 - below)
        canvas.blend(window, line, vary(rng, (0.2, 0.28, 0.18), 0.04))
    return ground


def _depths(near: float, far: float, count: int) -> list[float]:
    """Distances from far to near, evenly spread over the picture rather than the ground."""
    return [1 / (1 / far + (1 / near - 1 / far) * k / (count - 1)) for k in range(count)]


def _haze(colour: Colour, ahead: float) -> Colour:
    return mix(colour, (0.62, 0.7, 0.72), min(0.45, ahead / 45))


def _maize_rows(canvas: Canvas) -> None:
    rng = canvas.rng
    ground, sheet = _land(canvas, rng.choice(((0.44, 0.33, 0.23), (0.5, 0.4, 0.3)))), Sheet(canvas)
    gap, tall = rng.uniform(0.75, 1.1), rng.uniform(0.45, 0.95)
    green = vary(rng, (0.27, 0.5, 0.14), 0.05)
    for ahead in _depths(ground.nearest, 16, 26):
        for row in range(-int(8 + ahead), int(9 + ahead)):
            x, y, size = ground.at((row + 0.5) * gap + rng.uniform(-0.05, 0.05), ahead)
            if abs(x) > canvas.right + size * 0.5:
                continue
            height = tall * size * rng.uniform(0.85, 1.15)
            tone = _haze(vary(rng, green, 0.05), ahead)
            if ahead > 7:
                sheet.blade((x, y), (x + rng.uniform(-0.2, 0.2) * height, y - height), height * 0.3, tone)
                continue
            sheet.line(((x, y), (x, y - height * 0.8)), 0.035 * size, mix(tone, (0.4, 0.55, 0.25), 0.4))
            for k in range(7):
                side = -1 if k % 2 else 1
                foot = y - height * (0.12 + 0.1 * k)
                reach = height * rng.uniform(0.35, 0.6) * (1 - 0.05 * k)
                tip = x + side * reach, foot - height * rng.uniform(-0.05, 0.35)
                sheet.blade((x, foot), tip, height * 0.05, vary(rng, tone, 0.07), -side * rng.uniform(0.1, 0.3))
            sheet.blade((x, y - height * 0.7), (x, y - height * 1.05), height * 0.04, tone)
    sheet.done()


def _wheat_field(canvas: Canvas) -> None:
    rng = canvas.rng
    ground = _land(canvas, (0.66, 0.52, 0.24))
    sheet = Sheet(canvas)
    gold = vary(rng, rng.choice(((0.83, 0.66, 0.3), (0.76, 0.58, 0.26), (0.86, 0.72, 0.4))), 0.03)
    for ahead in _depths(ground.nearest, 14, 18):
        size = 1 / ahead
        steps = int(min(60, canvas.right * 2 / (0.035 * size) + 2))
        for _ in range(steps):
            x = rng.uniform(-1.05, 1.05) * canvas.right
            y = ground.horizon + size * 0.9 + rng.uniform(-0.05, 0.05) * size
            height, tone = size * rng.uniform(0.3, 0.42), _haze(vary(rng, gold, 0.09), ahead)
            lean = rng.uniform(-0.12, 0.16) * height
            top = x + lean, y - height
            sheet.line(((x, y), top), 0.008 * size, mix(tone, (0.62, 0.54, 0.24), 0.5))
            ear = top[0] + lean * 0.5 + rng.uniform(-0.02, 0.04) * size, top[1] - 0.14 * size
            sheet.blade(top, ear, 0.024 * size, tone)
            if ahead < 4:
                for awn in (-0.05, 0.0, 0.05):
                    sheet.line(
                        (top, (ear[0] + awn * size, ear[1] - 0.06 * size)), 0.003 * size, mix(tone, (1, 0.95, 0.7), 0.3)
                    )
    sheet.done()


def _rice_paddy(canvas: Canvas) -> None:
    rng = canvas.rng
    ground, window = _land(canvas, (0.35, 0.32, 0.27)), canvas.all()
    water = vary(rng, rng.choice(((0.55, 0.66, 0.76), (0.62, 0.64, 0.62), (0.45, 0.55, 0.6))), 0.04)
    ripple = 0.8 + 0.25 * canvas.noise(window, 26, 0.15) + 0.2 * canvas.noise(window, 3)
    below = np.clip((window.y - np.float32(ground.horizon)) * canvas.unit + 0.5, 0, 1) + 0 * window.x
    canvas.blend(window, below * rng.uniform(0.8, 0.95), tint(ripple, water))
    sheet = Sheet(canvas)
    green, gap = vary(rng, (0.36, 0.6, 0.18), 0.05), rng.uniform(0.45, 0.65)
    for ahead in _depths(ground.nearest, 13, 20):
        for row in range(-int(10 + ahead * 1.6), int(11 + ahead * 1.6)):
            x, y, size = ground.at((row + 0.5) * gap + rng.uniform(-0.05, 0.05), ahead)
            if abs(x) > canvas.right + 0.1:
                continue
            height, tone = size * rng.uniform(0.22, 0.34), _haze(vary(rng, green, 0.05), ahead)
            for _ in range(9 if ahead < 5 else 3):
                lean = rng.uniform(-0.45, 0.45) * height
                shade = vary(rng, tone, 0.07)
                sheet.blade(
                    (x, y), (x + lean * 0.8, y + height * 0.55), 0.014 * size, mix(shade, (0.4, 0.5, 0.48), 0.6)
                )
                sheet.blade((x, y), (x + lean, y - height), 0.017 * size, shade, rng.uniform(-0.15, 0.15))
    sheet.done()


def _tuft(sheet: Sheet, x: float, y: float, reach: float, colour: Colour, blades: int) -> None:
    """Grass from above: thin blades in all directions."""
    rng = sheet.canvas.rng
    for _ in range(blades):
        angle, long = rng.uniform(0, math.tau), reach * rng.uniform(0.45, 1.0)
        tip = x + long * math.cos(angle), y + long * math.sin(angle)
        sheet.blade((x, y), tip, reach * 0.045, vary(rng, colour, 0.09), rng.uniform(-0.15, 0.15))


def _rosette(sheet: Sheet, x: float, y: float, reach: float, colour: Colour, leaves: int, broad: float) -> None:
    """A broad-leaved plant from above."""
    rng = sheet.canvas.rng
    start = rng.uniform(0, math.tau)
    for ring, share in ((1.0, leaves), (0.55, max(3, leaves // 2))):
        for k in range(share):
            angle, long = (
                start + ring + k * math.tau / share + rng.uniform(-0.25, 0.25),
                reach * ring * rng.uniform(0.8, 1.1),
            )
            tip = x + long * math.cos(angle), y + long * math.sin(angle)
            tone = vary(rng, mix(colour, (0.75, 0.85, 0.5), 0.25 * (1 - ring)), 0.06)
            bend = rng.uniform(-0.1, 0.1)
            sheet.blade((x, y), tip, long * broad, mix(tone, (0, 0, 0), 0.3), bend)
            sheet.blade((x, y), tip, long * broad * 0.86, tone, bend)
            sheet.blade(
                (x, y),
                (x + (tip[0] - x) * 0.95, y + (tip[1] - y) * 0.95),
                long * 0.03,
                mix(tone, (0.9, 0.95, 0.8), 0.45),
                bend,
            )


def _rice_weeds(canvas: Canvas) -> None:
    """Grassy weeds in wet grey mud, from above."""
    rng, window = canvas.rng, canvas.all()
    base = vary(rng, (0.56, 0.54, 0.53), 0.05)
    mud = 0.82 + 0.3 * canvas.clouds(window, 2.5) + 0.03 * canvas.grain(window)
    canvas.rgb[:] = tint(mud, base)
    wet = np.clip((canvas.noise(window, 2) - 0.6) * 4, 0, 1)
    canvas.blend(window, wet * 0.5, (0.72, 0.73, 0.75))
    sheet = Sheet(canvas)
    for _ in range(rng.randint(9, 20)):
        x, y = rng.uniform(-1, 1) * canvas.right, rng.uniform(-1, 1) * canvas.bottom
        green = vary(rng, rng.choice(((0.36, 0.7, 0.28), (0.42, 0.74, 0.36), (0.3, 0.6, 0.25))), 0.05)
        if rng.random() < 0.75:
            _tuft(sheet, x, y, rng.uniform(0.14, 0.34), green, rng.randint(7, 16))
        else:
            _rosette(sheet, x, y, rng.uniform(0.05, 0.1), green, 4, 0.3)
    sheet.done()


def _row_weeds(canvas: Canvas) -> None:
    """Crop rows from above with weeds between them."""
    rng = canvas.rng
    soil(canvas)
    sheet = Sheet(canvas)
    gap, tilt, start = rng.uniform(0.38, 0.52), rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2)
    upright = rng.random() < 0.6
    crop = vary(rng, (0.28, 0.55, 0.16), 0.04)

    def place(aside: float, along: float) -> tuple[float, float]:
        x, y = aside + tilt * along, along
        return (x, y) if upright else (y, x)

    reach = max(canvas.right, canvas.bottom) * 1.1
    for _ in range(rng.randint(16, 34)):
        row = rng.randint(-3, 2)
        x, y = place(start + (row + 0.5 + rng.uniform(-0.26, 0.26)) * gap, rng.uniform(-reach, reach))
        weed = vary(
            rng, rng.choice(((0.5, 0.62, 0.22), (0.22, 0.42, 0.16), (0.42, 0.5, 0.28), (0.45, 0.36, 0.22))), 0.06
        )
        if rng.random() < 0.5:
            _tuft(sheet, x, y, rng.uniform(0.05, 0.12), weed, rng.randint(8, 16))
        else:
            _rosette(sheet, x, y, rng.uniform(0.03, 0.07), weed, rng.randint(4, 7), 0.22)
    for row in range(-4, 5):
        along = -reach
        while along < reach:
            along += rng.uniform(0.12, 0.16)
            x, y = place(start + row * gap + rng.uniform(-0.012, 0.012), along)
            if abs(x) < canvas.right + 0.13 and abs(y) < canvas.bottom + 0.13:
                _rosette(sheet, x, y, rng.uniform(0.1, 0.13), crop, 6, 0.3)
    sheet.done()


def _seedlings(canvas: Canvas) -> None:
    """Bare soil with rows of seedlings of two leaves."""
    rng = canvas.rng
    soil(canvas)
    sheet = Sheet(canvas)
    gap, tilt, start, upright = (
        rng.uniform(0.3, 0.5),
        rng.uniform(-0.25, 0.25),
        rng.uniform(-0.2, 0.2),
        rng.random() < 0.5,
    )
    green, step = vary(rng, (0.42, 0.66, 0.22), 0.05), rng.uniform(0.11, 0.2)
    reach = max(canvas.right, canvas.bottom) * 1.1
    for row in range(-5, 6):
        along = -reach + rng.uniform(0, step)
        while along < reach:
            along += step * rng.uniform(0.8, 1.3)
            if rng.random() < 0.12:
                continue
            x, y = start + row * gap + tilt * along, along
            x, y = (x, y) if upright else (y, x)
            angle, size = rng.uniform(0, math.tau), rng.uniform(0.03, 0.05)
            sheet.disc(x + 0.008, y + 0.012, size * 0.8, vary(rng, (0.2, 0.15, 0.1), 0.02), 0.6)
            for side in (0, math.pi):
                leaf(sheet, x, y, size * rng.uniform(0.9, 1.2), angle + side + rng.uniform(-0.3, 0.3), 1.25)
            sheet.disc(x, y, size * 0.16, green)
    sheet.done()


def _cauliflower_weeds(canvas: Canvas) -> None:
    """A cauliflower plant from above among weeds."""
    rng = canvas.rng
    soil(canvas, rng.choice(((0.5, 0.42, 0.33), (0.4, 0.36, 0.3), (0.42, 0.46, 0.42), (0.5, 0.46, 0.3))))
    sheet = Sheet(canvas)
    weed = vary(rng, rng.choice(((0.5, 0.62, 0.14), (0.36, 0.55, 0.4), (0.38, 0.55, 0.2))), 0.05)
    thick = rng.choice((60, 140, 300))
    for _ in range(thick):
        x, y = rng.uniform(-1, 1) * canvas.right, rng.uniform(-1, 1) * canvas.bottom
        for _ in range(rng.randint(2, 4)):
            angle = rng.uniform(0, math.tau)
            sheet.disc(
                x + 0.014 * math.cos(angle),
                y + 0.014 * math.sin(angle),
                rng.uniform(0.008, 0.018),
                vary(rng, weed, 0.1),
                0.8,
            )
    for _ in range(thick // 20):
        _tuft(sheet, rng.uniform(-1, 1) * canvas.right, rng.uniform(-1, 1) * canvas.bottom, 0.07, weed, 7)
    plants = rng.choice((1, 1, 1, 2))
    for index in range(plants):
        off = 0.0 if plants == 1 else (index - 0.5) * canvas.bottom * 1.1
        x, y = rng.uniform(-0.2, 0.2), off + rng.uniform(-0.1, 0.1)
        blue = vary(rng, rng.choice(((0.42, 0.62, 0.46), (0.4, 0.66, 0.58), (0.48, 0.62, 0.34))), 0.04)
        size = rng.uniform(0.22, 0.38) * (1 if plants == 1 else 0.8)
        _rosette(sheet, x, y, size, blue, rng.randint(5, 8), 0.3)
        if rng.random() < 0.2:
            for _ in range(40):
                a, r = rng.uniform(0, math.tau), size * 0.28 * math.sqrt(rng.random())
                sheet.disc(x + r * math.cos(a), y + r * math.sin(a), size * 0.05, vary(rng, (0.93, 0.91, 0.8), 0.04))
    sheet.done()


def _sunflower_field(canvas: Canvas) -> None:
    rng = canvas.rng
    ground = _land(canvas, (0.2, 0.34, 0.12))
    sheet = Sheet(canvas)
    for ahead in _depths(max(1.0, ground.nearest * 1.1), 12, 13):
        size = 1 / ahead
        for _ in range(int(min(40, canvas.right * 2 / (0.42 * size) + 1))):
            x = rng.uniform(-1.05, 1.05) * canvas.right
            y = ground.horizon + size * rng.uniform(0.25, 0.7)
            for _ in range(3):
                leaf(sheet, x, y + 0.25 * size, 0.3 * size, rng.uniform(0.2, 2.9), 0.8)
            sheet.line(((x, y), (x, y + 0.8 * size)), 0.03 * size, vary(rng, (0.3, 0.5, 0.18), 0.03))
            yellow, radius = _haze(vary(rng, (0.96, 0.76, 0.08), 0.04), ahead), size * rng.uniform(0.17, 0.23)
            petals = 15 if ahead < 4 else 0
            if not petals:
                sheet.disc(x, y, radius * 0.9, yellow)
            for k in range(petals):
                angle = (k + rng.uniform(-0.2, 0.2)) * math.tau / petals
                tip = x + radius * math.cos(angle), y + radius * math.sin(angle)
                sheet.blade((x, y), tip, radius * 0.17, vary(rng, yellow, 0.06))
            sheet.disc(x, y, radius * 0.48, _haze(vary(rng, (0.26, 0.15, 0.06), 0.03), ahead))
            sheet.disc(x, y, radius * 0.26, _haze(vary(rng, (0.36, 0.25, 0.08), 0.03), ahead))
    sheet.done()


_FIELDS = {
    "maize_rows": _maize_rows,
    "wheat_field": _wheat_field,
    "rice_paddy": _rice_paddy,
    "rice_weeds": _rice_weeds,
    "row_weeds": _row_weeds,
    "soil_seedlings": _seedlings,
    "cauliflower_weeds": _cauliflower_weeds,
    "sunflower_field": _sunflower_field,
}
