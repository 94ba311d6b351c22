"""Colours as a profile defines them become sRGB, or the row says why not."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from curation_assets.images.decode import Picture, open_image, orientation_of, upright_rgb
from curation_assets_tests.images.test_decode import encoded

LIMIT = 10**8
# Primaries in the profile connection space (D50), each a column of the matrix to XYZ: Apple's Display P3, Adobe RGB.
DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
ADOBE_RGB = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))


def matrix_profile(primaries: tuple[tuple[float, float, float], ...], gamma: float) -> bytes:
    """A display profile of three primaries and a gamma, after ISO 15076-1 (version 2)."""

    def s15(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(values: tuple[float, float, float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(s15, values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz((0.9642, 1.0, 0.8249))}
    tags |= {name: xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s12s4s", size, b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ", bytes(12), b"acsp")
    head += bytes(28) + b"".join(map(s15, (0.9642, 1.0, 0.8249)))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def read(data: bytes) -> tuple[Picture, np.ndarray[Any, Any]]:
    picture = open_image(data, LIMIT)
    return picture, np.asarray(upright_rgb(picture, orientation_of(picture)))


def expected(colour: tuple[int, int, int], primaries: tuple[tuple[float, float, float], ...], gamma: float) -> Any:
    """The same colour in sRGB, computed from the definitions (IEC 61966-2-1)."""
    linear = (np.array(colour) / 255) ** gamma
    d50 = np.array(primaries).T @ linear
    to_srgb = np.array(  # the inverse of sRGB's own primaries at D50
        [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]
    )
    value = np.clip(to_srgb @ d50, 0, 1)
    return 255 * np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(("primaries", "gamma"), [(DISPLAY_P3, 2.2), (ADOBE_RGB, 2.19921875)])
@pytest.mark.parametrize(
    ("format", "save"),
    [("JPEG", {"quality": 100, "subsampling": 0}), ("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})],
)
def test_a_wide_gamut_is_converted(primaries: Any, gamma: float, format: str, save: dict[str, Any]) -> None:
    for colour in ((180, 90, 60), (60, 160, 70), (128, 128, 128), (255, 255, 255)):
        profile = matrix_profile(primaries, gamma)
        picture, pixels = read(encoded(Image.new("RGB", (16, 16), colour), format, icc_profile=profile, **save))
        assert (picture.remarks, picture.pixels_as) == ([], "profile")
        assert np.abs(pixels[8, 8] - expected(colour, primaries, gamma)).max() <= 3


def test_srgb_under_any_name_changes_no_pixel() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture, pixels = read(encoded(noise, "PNG", icc_profile=profile))
    assert (picture.remarks, picture.pixels_as) == ([], None)
    assert np.array_equal(pixels, np.asarray(noise))


def test_transparency_and_turning_go_together_with_a_profile() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGBA", (20, 10), (180, 90, 60, 255))
    image.paste((0, 0, 0, 0), (0, 0, 10, 10))
    profile = matrix_profile(ADOBE_RGB, 2.2)
    _, pixels = read(encoded(image, "PNG", icc_profile=profile, exif=exif))
    assert pixels.shape == (20, 10, 3)
    assert pixels[2, 5].tolist() == [255, 255, 255]
    assert np.abs(pixels[18, 5] - expected((180, 90, 60), ADOBE_RGB, 2.2)).max() <= 3


@pytest.mark.parametrize(
    ("mode", "profile", "remark"),
    [
        ("RGB", b"garbage", "its colour profile is damaged (taken as sRGB)"),
        ("RGB", matrix_profile(ADOBE_RGB, 2.2)[:200], "its colour profile is damaged (taken as sRGB)"),
        ("L", matrix_profile(ADOBE_RGB, 2.2), None),
        ("CMYK", matrix_profile(ADOBE_RGB, 2.2), "its colour profile is for RGB pictures, and it is CMYK"),
    ],
)
def test_a_profile_that_cant_be_followed_is_said(mode: str, profile: bytes, remark: str | None) -> None:
    image = Image.new(mode, (16, 16), 77 if mode == "L" else (10, 20, 30, 40)[: len(mode)])
    picture, pixels = read(encoded(image, "JPEG", icc_profile=profile, quality=95))
    if remark is not None:
        assert remark in picture.remarks[0]
        assert np.abs(pixels[8, 8].astype(int) - np.asarray(image.convert("RGB"))[8, 8]).max() <= 3
    assert pixels.shape == (16, 16, 3)


def test_an_opened_profile_is_reused() -> None:
    data = encoded(Image.new("RGB", (16, 16), (9, 200, 9)), "PNG", icc_profile=matrix_profile(DISPLAY_P3, 2.2))
    first, second = read(data)[1], read(BytesIO(data).read())[1]
    assert np.array_equal(first, second)
