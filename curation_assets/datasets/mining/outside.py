"""Image files that are in no lake: their vectors, and which images of the lake show the same photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.curate.duplicates.crowds import frame_agreement
from curation_assets.curate.duplicates.judging import Thresholds, is_near
from curation_assets.curate.duplicates.pictures import Pictures
from curation_assets.curate.duplicates.squares import square
from curation_assets.curate.duplicates.verification import verify
from curation_assets.images.decode import Picture, orientation_of, upright_size
from curation_assets.images.guard import DecodeOptions, with_picture
from curation_assets.images.preview import PREVIEW_SIDE, jpeg_of
from curation_assets.search.index import SearchIndex

_NEAREST = 20  # contents that are compared: among so many a crop's original is, in 97 of 100 cases
_MORE = 4  # times as many images, as some of them are copies


@dataclass(frozen=True, eq=False)
class Outside:
    """An image file.

    Attributes:
        vector: (dimension,) float32, unit length.
        square: (SIDE, SIDE) grey levels, as pictures of the lake are compared by.
        pixels: width and height, upright.
    """

    vector: NDArray[np.float32]
    square: NDArray[np.uint8]
    pixels: tuple[int, int]


def outside(data: bytes, vector: NDArray[np.float32], decode: DecodeOptions) -> Outside:
    """What is known of an image's bytes.

    Raises:
        ImageError: they can't be used.
    """
    preview, pixels = with_picture(_drawn, data, decode)
    return Outside(vector, square(preview), pixels)


def _drawn(picture: Picture) -> tuple[bytes, tuple[int, int]]:
    return jpeg_of(picture, PREVIEW_SIDE, 80), upright_size(picture, orientation_of(picture))


def shown_in_lake(
    files: Sequence[Outside], index: SearchIndex, pictures: Pictures, sizes: pl.DataFrame, limits: Thresholds
) -> list[str]:
    """Contents of the lake that show the same photograph as one of some files: near by its vector, and on the pixels.

    Args:
        pictures: of the contents of the lake.
        sizes: ``content_sha256``, ``width`` and ``height``.
    """
    keys = pictures.keys.with_row_index("picture").filter(pl.col("error").is_null())
    known = keys.unique("content_sha256", keep="last").join(sizes.unique("content_sha256"), on="content_sha256")
    found: set[str] = set()
    for file in files:
        rows, _ = index.nearest(file.vector[None], _NEAREST * _MORE)
        contents = index.rows["content_sha256"].gather(rows[0]).unique(maintain_order=True).head(_NEAREST)
        asked = contents.to_frame().join(known, on="content_sha256", maintain_order="left")
        if not len(asked):
            continue
        theirs = pictures.squares(asked["picture"].to_numpy().astype(np.int64))
        own = np.repeat(file.square[None], len(asked), axis=0)
        pixels = asked.select("width", "height").to_numpy().astype(np.float32)
        verdicts = verify(own, theirs, np.tile(np.array(file.pixels, np.float32), (len(asked), 1)), pixels)
        same = is_near(verdicts, limits) | (frame_agreement(own, theirs) >= limits.near)
        found.update(asked["content_sha256"].filter(pl.Series(same)).to_list())
    return sorted(found)
