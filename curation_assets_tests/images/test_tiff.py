"""Rasters: many bands, many bits, floats, places without a value, tiles, planes and BigTIFF."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from curation_assets.images.decode import Picture, decoded_size, open_image, upright_rgb
from curation_assets.images.errors import ImageError
from curation_assets_tests.images.test_decode import encoded

LIMIT = 200_000_000
RAMP = np.linspace(0, 1, 96)[None, :].repeat(72, 0)


def raster(samples: np.ndarray[Any, Any], **options: Any) -> bytes:
    out = BytesIO()
    options.setdefault("photometric", "minisblack")
    tifffile.imwrite(out, samples, **options)
    return out.getvalue()


def read(data: bytes, bands: tuple[int, ...] | None = None) -> tuple[Picture, np.ndarray[Any, Any]]:
    picture = open_image(data, LIMIT, bands)
    return picture, np.asarray(upright_rgb(picture, None))


def assert_ramp(pixels: np.ndarray[Any, Any], falling: bool = False) -> None:
    line = pixels[40, :, 0].astype(int)
    assert len(np.unique(line)) >= 90
    assert (np.diff(line[::-1] if falling else line) >= 0).all()
    assert (line.min(), line.max()) == (0, 255)


@pytest.mark.parametrize(
    ("type", "top"),
    [
        *((np.uint16, top) for top in (1023, 4095, 16383, 65535)),
        (np.int16, 4095),
        (np.int32, 70_000),
        (np.uint32, 70_000),
        (np.float32, 0.9),
        (np.float64, 1e5),
        (np.float16, 3.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("inverted", [False, True])
def test_any_depth_goes_from_dark_to_light_or_back_as_its_tag_says(type: Any, top: float, inverted: bool) -> None:
    data = raster((RAMP * top).astype(type), photometric="miniswhite" if inverted else "minisblack")
    picture, pixels = read(data)
    assert picture.format == "TIFF"
    assert_ramp(pixels, falling=inverted)


def test_what_zero_means_holds_for_eight_bits_and_one() -> None:
    flat = np.zeros((8, 8), np.uint8)
    assert read(raster(flat, photometric="miniswhite"))[1].min() == 255
    assert read(raster(flat, photometric="minisblack"))[1].max() == 0
    bilevel = encoded(Image.new("1", (8, 8), 1), "TIFF", compression="group4")
    assert read(bilevel)[1].min() == 255


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, -9999.0, -3.4028234663852886e38, 1e38, -32768.0])
@pytest.mark.parametrize("share", ["one", "a third"])
def test_places_without_a_value_dont_set_the_scale(odd: float, share: str) -> None:
    samples = (RAMP * 1000).astype(np.float32)
    if share == "one":
        samples[3, 4] = odd
    else:
        samples[:24] = odd
    _, pixels = read(raster(samples))
    assert_ramp(pixels)
    assert (pixels[3, 4] == 255).all(), "like what is transparent"


@pytest.mark.parametrize(("type", "tag"), [(np.uint16, "0"), (np.uint16, "7"), (np.int16, "-1"), (np.float32, "77.5")])
def test_a_files_own_number_for_no_value_counts(type: Any, tag: str) -> None:
    samples = (RAMP * 3000 + 1000).astype(type)
    samples[:24] = type(float(tag))
    data = raster(samples, extratags=[(42113, "s", 0, tag, True)])
    assert_ramp(read(data)[1])


def test_the_largest_whole_number_among_small_ones_is_no_value_and_hot_pixels_set_no_scale() -> None:
    samples = (RAMP * 4095).astype(np.uint16)
    samples[:24] = 65535
    assert_ramp(read(raster(samples))[1])
    samples = (RAMP * 4095).astype(np.uint16)
    samples[0, :3] = (60_000, 50_000, 40_000)
    assert_ramp(read(raster(samples))[1])


def test_a_picture_without_any_value_is_white_and_one_of_a_single_value_is_no_division_by_zero() -> None:
    assert read(raster(np.full((9, 9), np.nan, np.float32)))[1].min() == 255
    assert read(raster(np.full((9, 9), 7.5, np.float32)))[1].max() == 0


def multispectral(bands: int, top: int = 4095) -> np.ndarray[Any, Any]:
    """Band n is n tenths of the range."""
    values = np.arange(1, bands + 1) * top // (2 * bands)
    cube = np.broadcast_to(values, (72, 96, bands)).astype(np.uint16).copy()
    cube[:2], cube[2:4] = 0, top  # so that black and white are there
    return cube


@pytest.mark.parametrize(
    ("bands", "chosen"), [(5, (3, 2, 1)), (6, (3, 2, 1)), (8, (5, 3, 2)), (10, (3, 2, 1)), (13, (4, 3, 2))]
)
@pytest.mark.parametrize(
    "layout",
    [
        {"planarconfig": "contig"},
        {"planarconfig": "separate"},
        {"planarconfig": "contig", "tile": (32, 32)},
        {"planarconfig": "separate", "tile": (32, 32), "compression": "zlib", "predictor": True},
        {"planarconfig": "contig", "compression": "lzw"},
        {"planarconfig": "contig", "bigtiff": True, "byteorder": ">"},
        {"planarconfig": "contig", "compression": "zstd", "rowsperstrip": 7},
    ],
    ids=str,
)
def test_many_bands_are_shown_by_red_green_and_blue(
    bands: int, chosen: tuple[int, int, int], layout: dict[str, Any]
) -> None:
    cube = multispectral(bands)
    picture, pixels = read(raster(np.moveaxis(cube, 2, 0) if layout["planarconfig"] == "separate" else cube, **layout))
    assert (picture.size, picture.mode) == ((96, 72), f"{bands} x uint16")
    expected = [int(cube[40, 0, band - 1]) * 255 // 4095 for band in chosen]
    assert np.abs(pixels[40, 50].astype(int) - expected).max() <= 1
    assert (pixels[0, 0].max(), pixels[2, 0].min()) == (0, 255)


def test_bands_are_those_that_the_file_names_or_that_are_asked_for() -> None:
    names = {"Blue": 4, "green": 2, "RED": 0}
    items = "".join(f'<Item name="DESCRIPTION" sample="{at}">{name}</Item>' for name, at in names.items())
    named = (42112, "s", 0, f"<GDALMetadata>{items}</GDALMetadata>", True)
    data = raster(multispectral(5), planarconfig="contig", extratags=[named])
    data = raster(
        multispectral(5),
        planarconfig="contig",
        extratags=[(42112, "s", 0, f"<GDALMetadata>{items}</GDALMetadata>", True)],
    )
    value = [int(v) * 255 // 4095 for v in multispectral(5)[40, 0]]
    assert np.abs(read(data)[1][40, 50].astype(int) - [value[0], value[2], value[4]]).max() <= 1
    assert np.abs(read(data, (5, 4, 1))[1][40, 50].astype(int) - [value[4], value[3], value[0]]).max() <= 1
    picture, pixels = read(data, (9, 8, 7))
    assert picture.remarks == ["CURATION_BANDS=9,8,7 names more bands than its 5: the usual ones are shown"]
    assert np.abs(pixels[40, 50].astype(int) - [value[0], value[2], value[4]]).max() <= 1
    assert len(np.unique(read(data, (2,))[1][40, 50])) == 1, "one band is grey"
    assert picture.pixels_as == "bands 9,8,7"


def test_bands_that_are_asked_for_leave_pictures_of_three_alone() -> None:
    photo = np.full((9, 9, 3), (200, 100, 50), np.uint8)
    picture, pixels = read(raster(photo, photometric="rgb"), (3, 2, 1))
    assert (pixels[0, 0].tolist(), picture.pixels_as) == ([200, 100, 50], None)


@pytest.mark.parametrize("type", [np.uint8, np.uint16])
def test_infrared_that_is_tagged_as_transparency_is_none_and_a_mask_is(type: Any) -> None:
    full = np.iinfo(type).max
    mosaic = np.empty((72, 96, 4), type)
    mosaic[:] = np.array([120, 80, 40, 15]) * (full // 255)
    mosaic[:, 50:, 3] = 90 * (full // 255)
    mosaic[:3, :, :3] = full
    _, pixels = read(raster(mosaic, photometric="rgb", extrasamples=["unassalpha"], planarconfig="contig"))
    assert np.abs(pixels[40, 50].astype(int) - [120, 80, 40]).max() <= 1
    mosaic[..., 3] = full
    mosaic[:, 48:, 3] = 0
    _, pixels = read(raster(mosaic, photometric="rgb", extrasamples=["unassalpha"], planarconfig="contig"))
    assert np.abs(pixels[40, 10].astype(int) - [120, 80, 40]).max() <= 1
    assert pixels[40, 70].tolist() == [255, 255, 255]


def test_strips_that_a_file_leaves_out_hold_no_values() -> None:
    data = raster((RAMP * 1000).astype(np.float32), rowsperstrip=8)
    with tifffile.TiffFile(BytesIO(data)) as tiff:
        counts = tiff.pages.first.tags["StripByteCounts"]
        at = counts.valueoffset
    sparse = bytearray(data)
    sparse[at : at + (4 if counts.dtype == 4 else 2)] = bytes(4 if counts.dtype == 4 else 2)
    _, pixels = read(bytes(sparse))
    assert (pixels[:8] == 255).all()
    assert_ramp(pixels)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_one_that_is_cut_is_corrupt(compression: str | None, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 4095, (200, 200, 5), np.uint16)
    data = raster(noise, planarconfig="contig", compression=compression, rowsperstrip=16)
    with pytest.raises(ImageError) as refused:
        read(data[: int(len(data) * share)])
    assert refused.value.status == "corrupt"


def test_undeveloped_photographs_are_named() -> None:
    thumbnail = np.zeros((12, 16, 3), np.uint8)
    dng = raster(thumbnail, photometric="rgb", extratags=[(50706, "B", 4, bytes([1, 4, 0, 0]), True)])
    sensor = raster(np.zeros((64, 64), np.uint16), photometric="cfa")
    for data, what in ((dng, "a DNG raw photograph"), (sensor, "a raw photograph")):
        with pytest.raises(ImageError, match=f"{what}; develop it") as refused:
            open_image(data, LIMIT)
        assert refused.value.status == "unsupported"


def test_a_large_raster_is_read_in_part_and_looks_alike() -> None:
    ramp = np.linspace(0, 3000, 9000, dtype=np.float32)[None, :].repeat(8000, 0)
    picture = open_image(raster(ramp, compression="zlib", tile=(256, 512)), LIMIT)
    small = upright_rgb(picture, None, (384, 341))
    assert small.size == decoded_size(picture, (384, 341)) == (4500, 4000)
    line = np.asarray(small)[100, :, 0].astype(int)
    assert (np.diff(line) >= 0).all()
    assert (line[0], line[-1]) == (0, 255)


def test_a_jpeg_of_many_scans_within_a_tiff_is_refused_as_one_alone_is() -> None:
    whole = encoded(Image.new("L", (2000, 2000), 90), "JPEG", progressive=True)
    last = whole.rfind(b"\xff\xda")
    many = whole[:-2] + whole[last:-2] * 400 + b"\xff\xd9"
    for data, refused in ((whole, False), (many, True)):
        tags = [(256, 4, 2000), (257, 4, 2000), (258, 3, 8), (259, 3, 7), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
        tags += [(278, 4, 2000), (279, 4, len(data))]
        entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
        body = data + b"\0" * (len(data) % 2)
        file = b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)
        if refused:
            with pytest.raises(ImageError, match="406 JPEG scans in 1 strips or tiles"):
                open_image(file, LIMIT)
        else:
            assert read(file)[1].mean() == 90
