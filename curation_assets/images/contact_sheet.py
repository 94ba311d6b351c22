"""Several previews side by side as one small JPEG, for places where people would rather look than read."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from PIL import Image

_GAP = 4


def contact_sheet(previews: Sequence[bytes], height: int = 120) -> bytes:
    """Lay previews out in one row.

    Args:
        previews: JPEG bytes, as in the directory table's ``preview``; at least one.
        height: of the row, pixels; widths follow, a panorama's at most 3 times the height.

    Returns:
        JPEG bytes.
    """
    tiles = []
    for preview in previews:
        with Image.open(BytesIO(preview)) as image:
            tile = image.convert("RGB")
        tile.thumbnail((height * 3, height))
        tiles.append(tile)
    sheet = Image.new("RGB", (sum(t.width + _GAP for t in tiles) - _GAP, height), (255, 255, 255))
    left = 0
    for tile in tiles:
        sheet.paste(tile, (left, (height - tile.height) // 2))
        left += tile.width + _GAP
    out = BytesIO()
    sheet.save(out, "JPEG", quality=75)
    return out.getvalue()
