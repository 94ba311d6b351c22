"""What is wrong with a leaf: the symptoms, painted on a leaf that is laid out."""

from __future__ import annotations

import math

import numpy as np

from curation_assets.demo.leaves import Leaf
from curation_assets.demo.texture import Colour, Field, Point, overlay, tint, unit, vary

BROWN, DARK, TAN = (0.36, 0.22, 0.11), (0.13, 0.09, 0.06), (0.68, 0.56, 0.36)
YELLOW, ORANGE, RED_BROWN = (0.74, 0.68, 0.16), (0.85, 0.45, 0.08), (0.5, 0.22, 0.08)


def afflict(leaf: Leaf, condition: str, near: Point | None = None) -> None:
    """Paint the symptoms of a condition.

    Args:
        leaf: laid out, not painted.
        condition: of a scene in ``scenes.SCENES``.
        near: where the one lesion of a close-up lies, canvas units; None spreads symptoms over the leaf.
            Only for the diseases of coffee.
    """
    if condition in _AT_A_POINT:
        _AT_A_POINT[condition](leaf, near)
    elif condition != "healthy":
        _ANYWHERE[condition](leaf)


def _lay(leaf: Leaf, part: tuple[slice, slice], cover: Field, colour: Colour | Field) -> None:
    overlay(leaf.colour[:, *part], cover, colour)


def _grainy(leaf: Leaf, part: tuple[slice, slice], colour: Colour, strength: float, cells: float) -> Field:
    rows, columns = (
        slice(s.start + o.start, s.stop + o.start)
        for s, o in zip(part, (leaf.window.rows, leaf.window.columns), strict=True)
    )
    window = type(leaf.window)(rows, columns, leaf.window.x[:, part[1]], leaf.window.y[part[0]])
    tone = 1 + strength * 2 * (leaf.canvas.clouds(window, cells, 3) - 0.5) + 0.06 * leaf.canvas.grain(window)
    return tint(tone, colour)


def _ring(away: Field, rim: float, soft: float) -> Field:
    """1 well inside ``rim`` radii, 0 outside, falling over ``soft`` radii."""
    return unit((rim - away) / soft + 0.5)


def _rust(leaf: Leaf, near: Point | None) -> None:
    rng = leaf.rng
    if near is not None:
        for index in range(rng.choice((1, 1, 2, 3))):
            point = near if index == 0 else (near[0] + rng.uniform(-0.35, 0.35), near[1] + rng.uniform(-0.35, 0.35))
            found = leaf.distance(point, rng.uniform(0.13, 0.3) * (1 if index == 0 else 0.6), 0.3, 2.2)
            if found is None:
                continue
            part, away = found
            _lay(leaf, part, _ring(away, 1.15, 0.9) * 0.85, vary(rng, (0.72, 0.7, 0.2)))
            powder = _grainy(leaf, part, vary(rng, (0.88, 0.58, 0.12), 0.06), 0.5, 40)
            _lay(leaf, part, _ring(away, 0.72, 0.5) * 0.95, powder)
            if rng.random() < 0.4:
                _lay(
                    leaf,
                    part,
                    _ring(away, 0.4, 0.3) * 0.85,
                    _grainy(leaf, part, vary(rng, (0.45, 0.27, 0.12)), 0.9, 45),
                )
        return
    small = {"wheat": 0.45, "maize": 0.8}.get(leaf.species, 1.0) * leaf.length
    pustules = [(*leaf.somewhere(0.06), small * rng.uniform(0.006, 0.016)) for _ in range(rng.randint(24, 90))]
    if leaf.species == "coffee":
        pustules = [(x, y, r * 2.1) for x, y, r in pustules[: rng.randint(10, 34)]]
    canvas, window = leaf.canvas, leaf.window
    if leaf.species in ("wheat", "maize"):  # pustules of grasses are oblong and lie along the veins
        dx, dy = math.cos(leaf.angle) * 1.3, math.sin(leaf.angle) * 1.3
        pustules = [(x + k * r * dx, y + k * r * dy, r * 0.8) for x, y, r in pustules for k in (-1, 0, 1)]
    usual = leaf.length * (0.02 if leaf.species == "coffee" else 0.01)
    halo = canvas.draw_mask(window, discs=[(x, y, r * 1.9) for x, y, r in pustules], soft=usual * 0.8)
    core = canvas.draw_mask(window, discs=pustules, soft=usual * 0.12)
    everything = slice(0, leaf.window.shape[0]), slice(0, leaf.window.shape[1])
    _lay(leaf, everything, halo * 0.8, vary(rng, YELLOW))
    orange = vary(rng, ORANGE if leaf.species != "maize" else (0.74, 0.33, 0.07))
    _lay(leaf, everything, core * 0.95, _grainy(leaf, everything, orange, 0.35, 30))


def _miner(leaf: Leaf, near: Point | None) -> None:
    rng = leaf.rng
    blotches = [near] if near is not None else [leaf.somewhere(0.22) for _ in range(rng.randint(1, 3))]
    if near is not None and rng.random() < 0.3:
        blotches.append((near[0] + rng.uniform(-0.3, 0.3), near[1] + rng.uniform(-0.3, 0.3)))
    for point in blotches:
        radius = rng.uniform(0.18, 0.34) if near is not None else leaf.length * rng.uniform(0.05, 0.09)
        found = leaf.distance(point, radius, 0.45)
        if found is None:
            continue
        part, away = found
        rim, dead = (
            vary(rng, (0.3, 0.19, 0.1)),
            vary(rng, rng.choice(((0.52, 0.37, 0.2), (0.62, 0.5, 0.34), (0.44, 0.29, 0.15)))),
        )
        _lay(leaf, part, _ring(away, 1.08, 0.3) * 0.5, vary(rng, (0.5, 0.52, 0.16)))
        body = _grainy(leaf, part, dead, 0.45, 4 / radius)
        body *= 1 + np.float32(0.1) * np.sin(away * np.float32(rng.uniform(14, 24)))
        _lay(leaf, part, _ring(away, 0.98, 0.09), rim)
        _lay(leaf, part, _ring(away, 0.84, 0.22), body)
    tunnels = rng.randint(1, 3) if near is None else rng.choice((0, 0, 1))
    strokes = []
    for _ in range(tunnels):
        x, y = leaf.somewhere(0.3) if near is None else near
        step = (leaf.length if near is None else 1.6) * 0.022
        heading, line = rng.uniform(0, math.tau), []
        for _ in range(34):
            line.append((x, y))
            heading += rng.gauss(0, 0.5)
            x, y = x + step * math.cos(heading), y + step * math.sin(heading)
        wide = step * rng.uniform(0.6, 0.9)
        strokes += [(line[k : k + 2], wide * (0.4 + 0.6 * k / 34)) for k in range(33)]
    if strokes:
        everything = slice(0, leaf.window.shape[0]), slice(0, leaf.window.shape[1])
        _lay(leaf, everything, leaf.canvas.draw_mask(leaf.window, strokes=strokes) * 0.85, vary(rng, (0.74, 0.7, 0.5)))


def _phoma(leaf: Leaf, near: Point | None) -> None:
    rng = leaf.rng
    points = (
        [near]
        if near is not None
        else [
            leaf.at(rng.uniform(0.15, 0.95), rng.choice((-1, 1)) * rng.uniform(0.8, 1))
            for _ in range(rng.randint(1, 2))
        ]
    )
    for point in points:
        radius = rng.uniform(0.24, 0.5) if near is not None else leaf.length * rng.uniform(0.1, 0.17)
        found = leaf.distance(point, radius, 0.4)
        if found is None:
            continue
        part, away = found
        _lay(leaf, part, _ring(away, 1.1, 0.25) * 0.6, vary(rng, (0.4, 0.4, 0.14)))
        dark = vary(rng, rng.choice((DARK, (0.19, 0.12, 0.09), (0.16, 0.16, 0.13))), 0.05)
        _lay(leaf, part, _ring(away, 1.0, 0.1), _grainy(leaf, part, dark, 0.4, 5 / radius))
        if rng.random() < 0.4:
            holes = np.zeros(leaf.window.shape, np.float32)
            holes[part] = np.clip((rng.uniform(0.2, 0.55) - away) * radius * leaf.canvas.unit + 0.5, 0, 1)
            leaf.holes = holes if leaf.holes is None else np.maximum(leaf.holes, holes)


def _cercospora(leaf: Leaf, near: Point | None) -> None:
    rng = leaf.rng
    points = [near] if near is not None else [leaf.somewhere(0.12) for _ in range(rng.randint(5, 13))]
    for point in points:
        radius = rng.uniform(0.14, 0.26) if near is not None else leaf.length * rng.uniform(0.022, 0.04)
        found = leaf.distance(point, radius, 0.14, 2.3)
        if found is None:
            continue
        part, away = found
        _lay(leaf, part, _ring(away, 1.35, 0.8) * 0.8, vary(rng, YELLOW))
        brown = vary(rng, rng.choice((BROWN, (0.42, 0.24, 0.12), (0.3, 0.16, 0.1))))
        _lay(leaf, part, _ring(away, 0.95, 0.16), _grainy(leaf, part, brown, 0.4, 5 / radius))
        if rng.random() < 0.85:
            pale = vary(rng, rng.choice(((0.85, 0.82, 0.76), (0.7, 0.62, 0.5), (0.78, 0.74, 0.68))))
            _lay(leaf, part, _ring(away, rng.uniform(0.32, 0.5), 0.22) * 0.95, pale)


def _mildew(leaf: Leaf) -> None:
    rng = leaf.rng
    for _ in range(rng.randint(6, 11)):
        found = leaf.distance(leaf.somewhere(0.12), leaf.length * rng.uniform(0.06, 0.13), 0.55)
        if found is None:
            continue
        part, away = found
        _lay(
            leaf,
            part,
            _ring(away, 0.85, 0.7) * rng.uniform(0.75, 0.95),
            _grainy(leaf, part, (0.9, 0.91, 0.88), 0.12, 25),
        )


def _blight(leaf: Leaf) -> None:
    rng = leaf.rng
    if leaf.species == "maize":  # cigar-shaped, along the leaf, tan with a darker rim
        for _ in range(rng.randint(3, 6)):
            at, off, long = rng.uniform(0.12, 0.88), rng.uniform(-0.6, 0.6), rng.uniform(0.06, 0.13)
            away = np.hypot((leaf.along - at) / long, (leaf.across - off) / rng.uniform(0.32, 0.5))
            away += 0.25 * (leaf.canvas.clouds(leaf.window, 12 / leaf.length, 2) - 0.5)
            everything = slice(0, away.shape[0]), slice(0, away.shape[1])
            _lay(leaf, everything, _ring(away, 1.0, 0.15), vary(rng, (0.4, 0.28, 0.13)))
            _lay(leaf, everything, _ring(away, 0.75, 0.25), vary(rng, (0.72, 0.6, 0.4), 0.04))
        return
    for _ in range(rng.randint(2, 4)):
        edge = leaf.at(rng.uniform(0.25, 1.0), rng.choice((-1, 1)) * rng.uniform(0.5, 1))
        found = leaf.distance(edge, leaf.length * rng.uniform(0.12, 0.24), 0.55)
        if found is None:
            continue
        part, away = found
        _lay(leaf, part, _ring(away, 1.15, 0.45) * 0.7, vary(rng, (0.62, 0.6, 0.2)))
        _lay(leaf, part, _ring(away, 0.92, 0.14), _grainy(leaf, part, vary(rng, (0.3, 0.19, 0.1)), 0.4, 14))


def _chlorosis(leaf: Leaf) -> None:
    rng = leaf.rng
    how = np.clip((leaf.canvas.clouds(leaf.window, 3 / leaf.length, 2) - 0.2) * 2.2, 0.45, 1)
    everything = slice(0, how.shape[0]), slice(0, how.shape[1])
    tone = _grainy(leaf, everything, vary(rng, (0.86, 0.8, 0.22), 0.03), 0.12, 8 / leaf.length)
    green = np.clip(leaf.veins * 1.3, 0, 0.8) if leaf.species != "banana" else leaf.veins * 0.2
    _lay(leaf, everything, how * (1 - green), tone)


def _sigatoka(leaf: Leaf) -> None:
    """Dark streaks along the side veins in yellowing tissue."""
    rng = leaf.rng
    window = leaf.window
    everything = slice(0, window.shape[0]), slice(0, window.shape[1])
    yellow = np.clip((leaf.canvas.clouds(window, 4 / leaf.length, 2) - 0.42) * 4, 0, 1) * 0.8
    _lay(leaf, everything, yellow, vary(rng, (0.72, 0.66, 0.2)))
    c, s = math.cos(leaf.angle + math.pi / 2), math.sin(leaf.angle + math.pi / 2)
    streaks = []
    for _ in range(rng.randint(60, 110)):
        x, y = leaf.somewhere(0.05)
        long, wide = leaf.length * rng.uniform(0.012, 0.035), leaf.length * rng.uniform(0.004, 0.01)
        streaks.append(([(x - c * long, y - s * long), (x + c * long, y + s * long)], wide))
    _lay(
        leaf,
        everything,
        leaf.canvas.draw_mask(window, strokes=streaks, soft=0.002 * leaf.length) * 0.9,
        vary(rng, (0.2, 0.12, 0.06)),
    )


def _holes(leaf: Leaf) -> None:
    rng = leaf.rng
    gone, rim = np.zeros(leaf.window.shape, np.float32), np.zeros(leaf.window.shape, np.float32)
    for _ in range(rng.randint(9, 20)):
        radius = leaf.length * rng.uniform(0.02, 0.055)
        found = leaf.distance(leaf.somewhere(0.08), radius, 0.5)
        if found is None:
            continue
        part, away = found
        gone[part] = np.maximum(gone[part], np.clip((0.9 - away) * radius * leaf.canvas.unit + 0.5, 0, 1))
        rim[part] = np.maximum(rim[part], _ring(away, 1.15, 0.3))
    _lay(leaf, (slice(0, rim.shape[0]), slice(0, rim.shape[1])), rim * 0.6, vary(rng, (0.6, 0.58, 0.34)))
    leaf.holes = gone


_AT_A_POINT = {"rust": _rust, "leaf_miner": _miner, "phoma": _phoma, "cercospora": _cercospora}
_ANYWHERE = {
    "powdery_mildew": _mildew,
    "blight": _blight,
    "yellowing": _chlorosis,
    "sigatoka": _sigatoka,
    "caterpillar_holes": _holes,
}
