"""HEIC and JPEG XL, which Pillow doesn't read by itself."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from curation_assets.images import decode as decoding
from curation_assets.images.decode import open_image, orientation_of, upright_rgb, upright_size
from curation_assets.images.errors import ImageError
from curation_assets.images.exif import read_exif
from curation_assets.images.jxl import read_header
from curation_assets_tests.images.test_decode import assert_same, decode, four_corners

LIMIT = 10**8
# Red, green, blue and white quarters and an EXIF block, written once by libheif and x265 (96 x 64, quality 80).
HEIC = (Path(__file__).parent / "four_corners.heic").read_bytes()


def test_a_heic_photograph_is_read() -> None:
    picture = open_image(HEIC, LIMIT)
    assert (picture.format, picture.size, picture.remarks) == ("HEIF", (96, 64), [])
    facts = read_exif(picture.exif)
    assert (facts.camera, str(facts.captured_at)) == ("Example Phone 1", "2024-06-01 10:20:30+00:00")
    assert_same(decode(HEIC), four_corners(), tolerance=8)


def test_without_its_reader_a_heic_photograph_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_READS_HEIF", False)
    with pytest.raises(ImageError, match=r"a HEIC photograph; `pip install 'curation_assets\[heic\]'`") as refused:
        open_image(HEIC, LIMIT)
    assert refused.value.status == "unsupported"


@pytest.mark.parametrize("length", [16, 40, 300, 600, 780])
def test_a_heic_photograph_that_is_cut_is_corrupt(length: int) -> None:
    with pytest.raises(ImageError) as refused:
        decode(HEIC[:length])
    assert refused.value.status == "corrupt"


@pytest.mark.parametrize(
    "size", [(1, 1), (96, 64), (97, 63), (256, 256), (300, 200), (1000, 333), (1600, 900)], ids=str
)
@pytest.mark.parametrize("boxes", [False, True])
def test_a_jpeg_xl_says_its_size_and_is_read(size: tuple[int, int], boxes: bool) -> None:
    pixels = np.asarray(four_corners(*size) if min(size) > 1 else Image.new("RGB", size, (255, 0, 0)))
    data = imagecodecs.jpegxl_encode(pixels, lossless=True, usecontainer=boxes)
    picture = open_image(data, LIMIT)
    assert (picture.format, picture.size) == ("JXL", size)
    assert_same(decode(data), Image.fromarray(pixels))


@pytest.mark.parametrize("bands", [1, 2, 4])
def test_a_jpeg_xl_of_other_bands_and_bits_is_read(bands: int) -> None:
    ramp = np.linspace(0, 4095, 96, dtype=np.uint16)[None, :, None].repeat(64, 0).repeat(bands, 2)
    if bands in (2, 4):
        ramp[..., -1] = 65535
    image = np.asarray(decode(imagecodecs.jpegxl_encode(ramp[..., 0] if bands == 1 else ramp, lossless=True)))
    assert image.shape == (64, 96, 3)
    assert (image[0, 0, 0], image[0, -1, 0]) == (0, 255)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_jpeg_xl_that_is_cut_is_corrupt(share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    data = imagecodecs.jpegxl_encode(noise, lossless=True)
    with pytest.raises(ImageError) as refused:
        decode(data[: int(len(data) * share)])
    assert refused.value.status == "corrupt"


def test_a_large_jpeg_xl_is_refused_by_its_header() -> None:
    data = imagecodecs.jpegxl_encode(np.zeros((300, 400, 3), np.uint8))
    with pytest.raises(ImageError, match=r"400 x 300 pixels = 120,000") as refused:
        open_image(data, 100_000)
    assert refused.value.size == (400, 300)


def test_a_jpeg_xl_made_of_a_jpeg_keeps_its_exif_and_is_turned_once() -> None:
    block = Image.Exif()
    block[0x0112] = 6
    block[0x010F] = "Example"
    stream = imagecodecs.jpegxl_encode(np.asarray(four_corners()), lossless=True, usecontainer=True)
    exif = b"\0\0\0\0" + block.tobytes()[6:]
    data = stream + (len(exif) + 8).to_bytes(4, "big") + b"Exif" + exif
    picture = open_image(data, LIMIT)
    assert read_header(data).exif is not None
    assert read_exif(picture.exif).camera == "Example"
    assert upright_size(picture, orientation_of(picture)) == (96, 64), "the code stream says how it is turned"
    assert_same(upright_rgb(picture, orientation_of(picture)), four_corners())
