"""PNGs: the chunks that make the picture decide, and nothing else in the file does."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from curation_assets.images.decode import Picture, open_image, orientation_of, upright_rgb
from curation_assets.images.errors import ImageError
from curation_assets.images.exif import read_exif
from curation_assets_tests.images.test_decode import encoded, four_corners, with_orientation

LIMIT = 200_000_000
NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 400, 3), np.uint8))
DATA = encoded(NOISE, "PNG")


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) if crc is None else crc)
    )


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    at = 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], at, at + 12 + length
        at += 12 + length


def with_chunk(data: bytes, added: bytes, before: bytes = b"IDAT") -> bytes:
    at = next(at for kind, at, _ in chunks(data) if kind == before)
    return data[:at] + added + data[at:]


def read(data: bytes) -> tuple[Picture, np.ndarray[Any, Any]]:
    picture = open_image(data, LIMIT)
    return picture, np.asarray(upright_rgb(picture, orientation_of(picture)))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("mode", ["RGB", "P", "L"])
def test_one_wrong_bit_in_the_pixels_is_corrupt(mode: str, share: float) -> None:
    damaged = bytearray(encoded(NOISE.convert(mode), "PNG"))
    damaged[int(len(damaged) * share)] ^= 0x10
    with pytest.raises(ImageError, match=r"broken pixel data: the CRC of a chunk \((IDAT|PLTE)\) is wrong") as refused:
        read(bytes(damaged))
    assert refused.value.status == "corrupt"


@pytest.mark.parametrize("length", range(0, len(DATA) - 16, 20_011))
def test_one_that_is_cut_within_its_pixels_is_corrupt(length: int) -> None:
    with pytest.raises(ImageError) as refused:
        read(DATA[: max(2, length)])
    assert refused.value.status == "corrupt"


def test_one_that_lacks_its_last_chunk_alone_is_whole() -> None:
    picture, pixels = read(DATA[:-12])
    assert (picture.remarks, np.array_equal(pixels, np.asarray(NOISE))) == ([], True)


@pytest.mark.parametrize(
    ("added", "before"),
    [
        (chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(3_000_000))), b"IDAT"),
        (chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(bytes(90_000_000))), b"IDAT"),
        (chunk(b"tEXt", b"Comment\0" + b"a" * 2_000_000), b"IDAT"),
        (chunk(b"tEXt", b"\xff\xfe\0" * 10), b"IDAT"),
        (chunk(b"pHYs", struct.pack(">IIB", 1, 1, 0), crc=1), b"IDAT"),
        (chunk(b"tIME", b"\0", crc=2), b"IDAT"),
        (chunk(b"pHYs", b""), b"IDAT"),
        (chunk(b"gAMA", b"\0\0"), b"IDAT"),
        (chunk(b"cHRM", b"x"), b"IDAT"),
        (chunk(b"eXIf", b"garbage"), b"IDAT"),
        (chunk(b"zTXt", b"broken\0\0not deflated"), b"IDAT"),
        (chunk(b"tEXt", b"Raw profile type exif\0\nexif\n4\nzz"), b"IEND"),
        (chunk(b"prVt", b"private" * 1000), b"IEND"),
        (chunk(b"acTL", b"\0" * 8), b"IDAT"),
    ],
    ids=lambda value: value[4:8].decode() if len(value) > 4 else "",
)
def test_metadata_whatever_it_is_leaves_the_picture_good(added: bytes, before: bytes) -> None:
    picture, pixels = read(with_chunk(DATA, added, before))
    assert np.array_equal(pixels, np.asarray(NOISE))
    assert picture.remarks == []


@pytest.mark.parametrize(
    "added",
    [
        chunk(b"iCCP", b"odd\0\0" + zlib.compress(b"no profile")),
        chunk(b"iCCP", b"odd\0\0not deflated"),
        chunk(b"iCCP", b"\0"),
        chunk(b"iCCP", b"odd\0\0" + zlib.compress(bytes(64)), crc=7),
        chunk(b"iCCP", b"large\0\0" + zlib.compress(bytes(40_000_000))),
    ],
    ids=["no profile", "not deflated", "nothing", "wrong CRC", "large"],
)
def test_a_broken_profile_leaves_the_picture_good_and_is_said(added: bytes) -> None:
    picture, pixels = read(with_chunk(DATA, added))
    assert np.array_equal(pixels, np.asarray(NOISE))
    assert picture.remarks == ["its colour profile is damaged (taken as sRGB)"]


def test_metadata_is_read_wherever_it_stands() -> None:
    exif = with_orientation(6)
    exif.get_ifd(0x8769)[0x9003] = "2020:02:03 04:05:06"
    block = exif.tobytes()
    lines = f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    for added in (
        chunk(b"eXIf", block[6:]),
        chunk(b"tEXt", b"Raw profile type exif\0" + lines),
        chunk(b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(lines)),
    ):
        for before in (b"IDAT", b"IEND"):
            picture, _ = read(with_chunk(encoded(four_corners(), "PNG"), added, before))
            assert orientation_of(picture) == 6
            assert read_exif(picture.exif).captured_at is not None
    xmp = chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="8"/>')
    assert orientation_of(open_image(with_chunk(DATA, xmp, b"IEND"), LIMIT)) == 8


def test_an_animated_one_is_its_first_frame() -> None:
    data = encoded(four_corners(), "PNG", save_all=True, append_images=[Image.new("RGB", (96, 64))])
    assert np.array_equal(read(data)[1], np.asarray(four_corners()))


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_twelve_bits_in_sixteen_are_neither_black_nor_flat(bands: int) -> None:
    ramp = np.linspace(0, 4095, 96, dtype=np.uint16)[None, :, None].repeat(72, 0).repeat(bands, 2)
    if bands in (2, 4):
        ramp[..., -1] = 65535
    picture, pixels = read(imagecodecs.png_encode(ramp[..., 0] if bands == 1 else ramp))
    assert picture.size == (96, 72)
    assert len(np.unique(pixels[..., 0])) >= 90
    assert (pixels[0, 0, 0], pixels[0, -1, 0]) == (0, 255)


def test_sixteen_bits_of_colour_keep_their_high_byte() -> None:
    samples = np.random.default_rng(2).integers(0, 65535, (60, 80, 3), np.uint16)
    assert np.abs(read(imagecodecs.png_encode(samples))[1].astype(int) - (samples >> 8)).max() <= 1


@pytest.mark.parametrize("size", [(50_000_000, 1), (1, 50_000_000), (199_000_000, 1)])
def test_a_line_of_pixels_is_refused_by_its_side(size: tuple[int, int]) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="a side has at most 1,000,000") as refused:
        open_image(data, LIMIT)
    assert (refused.value.status, refused.value.size) == ("too_large", size)


def test_millions_of_chunks_are_refused_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(ImageError, match="more than 200,000 chunks"):
        open_image(with_chunk(DATA, chunk(b"tEXt", b"a\0") * 1_000_000), LIMIT)
    assert time.monotonic() - started < 10
