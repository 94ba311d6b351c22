from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from curation_assets.images.decode import FORMATS, open_image, orientation_of, upright_rgb, upright_size
from curation_assets.images.errors import ImageError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of broken EXIF blocks
LIMIT = 50_000_000
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
NEEDS_AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow can't read AVIF")

# EXIF's own definition: where the stored 0th row and 0th column lie in the upright picture.
ROW_AND_COLUMN = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def encoded(image: Image.Image, format: str, **save: Any) -> bytes:
    out = BytesIO()
    image.save(out, format, **save)
    return out.getvalue()


def four_corners(width: int = 96, height: int = 64) -> Image.Image:
    """Red, green, blue and white quarters: no turn or mirroring of it is itself."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(WHITE, (width // 2, height // 2, width, height))
    return image


def stored_as(upright: Image.Image, orientation: int) -> Image.Image:
    """What a camera held in that orientation stores of an upright picture, from EXIF's definition alone."""
    pixels = np.asarray(upright)
    row, column = ROW_AND_COLUMN[orientation]
    if row in ("left", "right"):
        pixels = pixels.swapaxes(0, 1)
    if row in ("bottom", "right"):
        pixels = pixels[::-1]
    if column in ("bottom", "right"):
        pixels = pixels[:, ::-1]
    return Image.fromarray(np.ascontiguousarray(pixels))


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def decode(data: bytes, at_least: tuple[int, int] | None = None) -> Image.Image:
    image = open_image(data, LIMIT)
    return upright_rgb(image, orientation_of(image), at_least)


def assert_same(image: Image.Image, expected: Image.Image, tolerance: int = 0) -> None:
    """Same size, and the same colours but near the edges that a lossy format blurs."""
    assert image.mode == "RGB"
    assert image.size == expected.size
    difference = np.abs(np.asarray(image, np.int16) - np.asarray(expected, np.int16)).max(axis=2)
    if tolerance:
        for y, x in ((y, x) for y in (1, 3) for x in (1, 3)):
            assert difference[difference.shape[0] * y // 4, difference.shape[1] * x // 4] <= tolerance
    else:
        assert difference.max() == 0


def painted(mode: str, color: Any) -> Image.Image:
    return Image.new(mode, (8, 6), color)


def _palette(transparent: bool) -> Image.Image:
    image = Image.new("P", (8, 6), 1)
    image.putpalette([*RED, *BLUE])
    if transparent:
        image.info["transparency"] = 1
    return image


def _adobe_ycbcr(color: tuple[int, int, int]) -> bytes:
    return encoded(Image.new("RGB", (8, 6), color).convert("YCbCr"), "JPEG", quality=95)


def _i16(value: int, big_endian: bool = False) -> Image.Image:
    order = ">u2" if big_endian else "<u2"
    pixels = np.full((6, 8), value, order)
    return Image.frombytes("I;16B" if big_endian else "I;16", (8, 6), pixels.tobytes())


@pytest.mark.parametrize(
    ("data", "mode", "color"),
    [
        (encoded(painted("1", 1), "PNG"), "1", WHITE),
        (encoded(painted("1", 0), "TIFF", compression="group4"), "1", BLACK),
        (encoded(painted("L", 77), "PNG"), "L", (77, 77, 77)),
        (encoded(painted("L", 77), "PNG", transparency=77), "L", WHITE),
        (encoded(painted("LA", (100, 255)), "PNG"), "LA", (100, 100, 100)),
        (encoded(painted("LA", (100, 0)), "PNG"), "LA", WHITE),
        (encoded(_palette(False), "PNG"), "P", BLUE),
        (encoded(_palette(True), "PNG"), "P", WHITE),
        (encoded(_palette(False), "GIF"), "P", BLUE),
        (encoded(_palette(True), "GIF", transparency=1), "P", WHITE),
        (encoded(painted("RGB", (1, 2, 3)), "PNG"), "RGB", (1, 2, 3)),
        (encoded(painted("RGB", (1, 2, 3)), "PNG", transparency=(1, 2, 3)), "RGB", WHITE),
        (encoded(painted("RGB", (1, 2, 3)), "PNG", transparency=(9, 9, 9)), "RGB", (1, 2, 3)),
        (encoded(painted("RGB", (1, 2, 3)), "BMP"), "RGB", (1, 2, 3)),
        (encoded(painted("RGBA", (255, 0, 0, 255)), "PNG"), "RGBA", RED),
        (encoded(painted("RGBA", (255, 0, 0, 0)), "PNG"), "RGBA", WHITE),
        (encoded(painted("RGBA", (255, 0, 0, 128)), "PNG"), "RGBA", (255, 127, 127)),
        (encoded(painted("RGBA", (255, 0, 0, 0)), "WEBP", lossless=True, exact=True), "RGBA", WHITE),
        (encoded(painted("CMYK", (0, 255, 255, 0)), "TIFF"), "CMYK", RED),
        (encoded(painted("YCbCr", (255, 128, 128)), "TIFF"), "YCbCr", WHITE),
        (encoded(_i16(0xABCD), "PNG"), "I;16", (0xAB,) * 3),
        (encoded(_i16(0xABCD), "TIFF"), "I;16", (0xAB,) * 3),
        (encoded(_i16(0xABCD, big_endian=True), "TIFF"), "I;16B", (0xAB,) * 3),
        (encoded(_i16(0xFFFF), "PNG"), "I;16", WHITE),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_mode_becomes_rgb_and_transparency_white(data: bytes, mode: str, color: tuple[int, int, int]) -> None:
    assert open_image(data, LIMIT).mode == mode
    assert_same(decode(data), Image.new("RGB", (8, 6), color))


@pytest.mark.parametrize(
    ("data", "color"),
    [
        (encoded(painted("CMYK", (0, 255, 255, 0)), "JPEG", quality=95), RED),
        (_adobe_ycbcr(GREEN), GREEN),
        (encoded(painted("L", 77), "JPEG"), (77, 77, 77)),
        (encoded(painted("LAB", (255, 128, 128)), "TIFF"), WHITE),
    ],
    ids=["CMYK JPEG", "YCbCr JPEG", "L JPEG", "LAB TIFF"],
)
def test_modes_that_are_computed_become_nearly_the_same_rgb(data: bytes, color: tuple[int, int, int]) -> None:
    assert_same(decode(data), Image.new("RGB", (8, 6), color), tolerance=4)


@pytest.mark.parametrize(("mode", "dtype"), [("I", np.int32), ("F", np.float32)])
def test_wide_integers_and_floats_are_scaled_to_their_own_range(mode: str, dtype: Any) -> None:
    values = np.array([[-1000, 0], [500, 1000]], dtype)
    image = decode(encoded(Image.frombytes(mode, (2, 2), values.tobytes()), "TIFF"))
    assert np.abs(np.asarray(image)[..., 0].astype(int) - [[0, 127], [191, 255]]).max() <= 1


@pytest.mark.parametrize(("mode", "dtype"), [("I", np.int32), ("F", np.float32)])
def test_an_image_of_one_value_is_no_division_by_zero(mode: str, dtype: Any) -> None:
    image = decode(encoded(Image.frombytes(mode, (2, 2), np.full((2, 2), 7, dtype).tobytes()), "TIFF"))
    assert image.getcolors() == [(4, BLACK)]


@pytest.mark.parametrize(
    ("format", "save"),
    [
        ("MPO", {"quality": 95}),
        ("GIF", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("PNG", {}),
        pytest.param("AVIF", {"quality": 95}, marks=NEEDS_AVIF),
    ],
)
def test_the_first_of_several_frames_is_taken(format: str, save: dict[str, Any]) -> None:
    frames = [Image.new("RGB", (64, 48), color) for color in (RED, GREEN, BLUE)]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **save)
    assert Image.open(BytesIO(data)).n_frames == 3
    assert_same(decode(data), frames[0], tolerance=6)


FORMATS_WITH_EXIF = [
    ("JPEG", {"quality": 95}),
    ("PNG", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("MPO", {"quality": 95}),
    pytest.param("AVIF", {"quality": 95}, marks=NEEDS_AVIF),
]


@pytest.mark.parametrize(("format", "save"), FORMATS_WITH_EXIF)
@pytest.mark.parametrize("orientation", ROW_AND_COLUMN)
def test_every_orientation_is_turned_upright(orientation: int, format: str, save: dict[str, Any]) -> None:
    stored = stored_as(four_corners(), orientation)
    data = encoded(stored, format, exif=with_orientation(orientation), **save)
    image = open_image(data, LIMIT)
    assert (orientation_of(image) or 1) == orientation
    assert upright_size(image, orientation_of(image)) == (96, 64)
    assert_same(decode(data), four_corners(), tolerance=8)


def test_the_orientations_of_the_test_picture_all_differ() -> None:
    assert len({stored_as(four_corners(64, 64), orientation).tobytes() for orientation in ROW_AND_COLUMN}) == 8


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_an_invalid_orientation_counts_as_upright(value: int, format: str) -> None:
    exif = with_orientation(value)
    data = encoded(four_corners(), format, exif=exif)
    assert orientation_of(open_image(data, LIMIT)) is None
    assert_same(decode(data), four_corners(), tolerance=8)


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0",
        b"Exif\0\0XX*\0\x08\0\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40,
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\xff\xff\xff\xff\0\0\0\0",
        b"garbage",
    ],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_broken_exif_block_leaves_the_picture_good(block: bytes, format: str) -> None:
    data = encoded(four_corners(), format, exif=block)
    assert orientation_of(open_image(data, LIMIT)) is None
    assert_same(decode(data), four_corners(), tolerance=8)


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size() -> None:
    data = encoded(four_corners(1600, 1200), "JPEG")
    small = decode(data, at_least=(200, 150))
    assert small.size == (200, 150)
    assert_same(small, four_corners(200, 150), tolerance=8)
    assert decode(data, at_least=(201, 150)).size == (400, 300)
    assert decode(data).size == (1600, 1200)


@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_a_fraction_is_turned_upright_too(orientation: int) -> None:
    stored = stored_as(four_corners(1600, 1200), orientation)
    data = encoded(stored, "JPEG", exif=with_orientation(orientation))
    small = decode(data, at_least=(stored.width // 8, stored.height // 8))
    assert_same(small, four_corners(200, 150), tolerance=8)


def test_a_format_without_scaled_decoding_is_decoded_in_full() -> None:
    assert decode(encoded(four_corners(800, 600), "PNG"), at_least=(100, 75)).size == (800, 600)


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"", "corrupt", "the file is empty"),
        (b"<html><body>not found</body></html>", "unsupported", "not an image: the file begins with b'<html><body>not"),
        (b"\0" * 100, "unsupported", "not an image"),
        (b"\xff\xd8\xff", "corrupt", "the file ends after 3 bytes"),
        (encoded(four_corners(), "PPM"), "unsupported", "PPM images are not supported"),
        (encoded(four_corners(), "ICO"), "unsupported", "ICO images are not supported"),
        (encoded(four_corners(), "JPEG2000"), "unsupported", "JPEG2000 images are not supported"),
        (encoded(four_corners(), "PDF"), "unsupported", "not an image"),
    ],
    ids=["empty", "HTML", "zeros", "start of a JPEG", "PPM", "ICO", "JPEG2000", "PDF"],
)
def test_what_is_no_usable_image_is_refused_with_a_reason(data: bytes, status: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as refused:
        open_image(data, LIMIT)
    assert refused.value.status == status


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_pixels_are_corrupt(format: str, share: float) -> None:
    noise = Image.frombytes("RGB", (96, 64), np.random.default_rng(1).bytes(96 * 64 * 3))
    data = encoded(noise, format)
    with pytest.raises(ImageError) as refused:
        decode(data[: int(len(data) * share)])
    assert refused.value.status == "corrupt"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_bytes_after_the_end_do_no_harm(format: str) -> None:
    data = encoded(four_corners(), format)
    assert_same(decode(data + b"trailing" * 1000), decode(data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")


def tiff_header(width: int, height: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (279, 4, 8)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("make", [png_header, tiff_header])
@pytest.mark.parametrize("size", [(100_000, 100_000), (2**31 - 1, 2**31 - 1), (1, LIMIT + 1)])
def test_a_bomb_is_refused_without_decoding(
    make: Callable[[int, int], bytes], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(self: ImageFile.ImageFile) -> None:
        raise AssertionError("the bomb went off")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    with pytest.raises(ImageError, match=r"pixels = .*the limit is 50,000,000 \(CURATION_MAX_PIXELS\)") as refused:
        open_image(make(*size), LIMIT)
    assert refused.value.status == "too_large"
    assert refused.value.size == size


def test_the_limit_itself_is_allowed() -> None:
    data = encoded(four_corners(100, 50), "PNG")
    assert open_image(data, 5000).size == (100, 50)
    with pytest.raises(ImageError):
        open_image(data, 4999)


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", pytest.param("AVIF", marks=NEEDS_AVIF)]
)
def test_a_format_is_known_by_its_content(format: str) -> None:
    assert format in FORMATS
    assert open_image(encoded(four_corners(), format), LIMIT).format == format
