"""JPEGs that are whole, cut, damaged on the way, or dearer than any program makes them."""

from __future__ import annotations

import time
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curation_assets.images.decode import Picture, open_image, upright_rgb
from curation_assets.images.errors import ImageError
from curation_assets_tests.images.test_decode import encoded, four_corners

LIMIT = 200_000_000
KINDS: list[dict[str, Any]] = [
    {"quality": 85},
    {"quality": 85, "progressive": True},
    {"quality": 85, "optimize": True},
    {"quality": 95, "subsampling": 0},
]


def detailed(width: int = 640, height: int = 480) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height))


def read(data: bytes) -> tuple[Picture, np.ndarray[Any, Any]]:
    picture = open_image(data, LIMIT)
    return picture, np.asarray(upright_rgb(picture, None))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_pixels_are_those_of_pillow(kind: dict[str, Any]) -> None:
    for mode in ("RGB", "L", "CMYK"):
        data = encoded(detailed().convert(mode), "JPEG", **kind)
        picture, pixels = read(data)
        assert picture.remarks == []
        with Image.open(BytesIO(data)) as theirs:
            assert np.array_equal(pixels, np.asarray(theirs.convert("RGB")))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_one_that_lacks_its_end_marker_alone_is_whole(kind: dict[str, Any]) -> None:
    data = encoded(detailed(), "JPEG", **kind)
    picture, pixels = read(data[:-2])
    assert picture.remarks == []
    assert np.array_equal(pixels, read(data)[1])


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
def test_one_that_is_cut_is_corrupt_with_an_end_marker_or_without(kind: dict[str, Any], share: float) -> None:
    data = encoded(detailed(), "JPEG", **kind)
    cut = data[: int(len(data) * share)]
    for file in (cut, cut + b"\xff\xd9"):
        with pytest.raises(ImageError, match=r"truncated|before its pixels") as refused:
            read(file)
        assert refused.value.status == "corrupt"


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
        lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2 - 2) + b"\xff\xd9",
        lambda data: data[: len(data) // 2] + bytes(4096) + data[len(data) // 2 + 4096 :],
    ],
    ids=["zeros at the end", "zeros before the end marker", "a hole"],
)
def test_invented_pixels_are_said_or_refused(kind: dict[str, Any], damage: Any) -> None:
    data = damage(encoded(detailed(), "JPEG", **kind))
    try:
        picture, _ = read(data)
        said = picture.remarks[0]
    except ImageError as error:
        said = f"{error.status}: {error}"
    assert said.startswith(("its pixels are partly invented", "corrupt: broken pixel data"))


def test_bytes_after_the_end_and_a_second_picture_say_nothing() -> None:
    data = encoded(detailed(), "JPEG")
    for after in (bytes(10_000), b"trailer", data):
        picture, pixels = read(data + after)
        assert picture.remarks == []
        assert np.array_equal(pixels, read(data)[1])


def repeated(scans: int, size: tuple[int, int]) -> bytes:
    """A grey progressive JPEG with its last scan, an empty one, several hundred times."""
    data = encoded(Image.new("L", size, 90), "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + b"\xff\xd9"


@pytest.mark.parametrize(("scans", "size"), [(400, (3000, 3000)), (40, (14_000, 14_000)), (200_000, (64, 64))])
def test_more_scans_than_any_program_writes_are_refused_at_once(scans: int, size: tuple[int, int]) -> None:
    data = repeated(scans, size)
    started = time.monotonic()
    with pytest.raises(ImageError, match=r"scans of .* pixels, which would take minutes") as refused:
        open_image(data, LIMIT)
    assert time.monotonic() - started < 5
    assert refused.value.status == "unsupported"


def test_the_scans_of_an_ordinary_progressive_jpeg_are_counted() -> None:
    data = encoded(four_corners(), "JPEG", progressive=True)
    assert open_image(data, LIMIT).cost == 96 * 64 * 10
    assert open_image(encoded(four_corners(), "JPEG"), LIMIT).cost == 96 * 64


def test_millions_of_segments_are_refused_at_once() -> None:
    data = encoded(four_corners(), "JPEG")
    started = time.monotonic()
    with pytest.raises(ImageError, match="segments before its pixels"):
        open_image(data[:2] + b"\xff\xfe\0\x02" * 1_000_000 + data[2:], LIMIT)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(("marker", "what"), [(0xC3, "lossless"), (0xC5, "hierarchical")])
def test_kinds_of_jpeg_that_are_not_read_are_named(marker: int, what: str) -> None:
    data = encoded(four_corners(), "JPEG").replace(b"\xff\xc0", bytes([0xFF, marker]), 1)
    with pytest.raises(ImageError, match=what) as refused:
        open_image(data, LIMIT)
    assert refused.value.status == "unsupported"
