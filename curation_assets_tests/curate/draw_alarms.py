"""Draw the pictures of docs/curation.md: ``python -m curation_assets_tests.curate.draw_alarms``.

Prints what each is taken for, and writes ``docs/images/quality-*.jpg``.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
from PIL import Image

from curation_assets.curate.problems import judged, problem_names, thresholds
from curation_assets_tests.curate import drawn

TARGET = Path(__file__).parents[2] / "docs" / "images"
SHOWN = (200, 150)


def sheets() -> dict[str, list[Image.Image]]:
    """Found; not found, and rightly; and what is judged wrongly."""
    plain = drawn.texture()
    return {
        "found": [
            drawn.blurred(drawn.shallow_depth(), 0.01),
            drawn.moved(plain, 24),
            drawn.gained(plain, 0.25),
            drawn.gained(drawn.shallow_depth(), 4),
            drawn.gained(drawn.shallow_depth(), 1, added=120),
        ],
        "passed": [draw() for draw in drawn.FALSE_ALARMS.values()],
        "wrong": [drawn.moved(plain, 36), drawn.blurred(drawn.uniform_leaf(), 0.01), drawn.mist()],
    }


def main() -> None:
    """Draw, print, write."""
    for name, images in sheets().items():
        rows = [judged(pl.DataFrame([drawn.measured(image)]), thresholds()) for image in images]
        print(name, [(problem_names(row)[0], row["sharpness"][0], row["exposure"][0]) for row in rows])
        sheet = Image.new("RGB", ((SHOWN[0] + 6) * len(images) - 6, SHOWN[1]), (205, 205, 205))
        for number, image in enumerate(images):
            small = image.copy()
            small.thumbnail(SHOWN)
            left = number * (SHOWN[0] + 6) + (SHOWN[0] - small.width) // 2
            sheet.paste(small, (left, (SHOWN[1] - small.height) // 2))
        sheet.save(TARGET / f"quality-{name}.jpg", quality=75)


if __name__ == "__main__":
    main()
