"""Metadata is cut out of files without touching a pixel; what EXIF turns is turned."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image, ImageCms, PngImagePlugin

from curation_assets.errors import CurationError
from curation_assets.export.protocol import Options
from curation_assets.export.rewriting import rewritten, stripped
from curation_assets.images.guard import DecodeOptions
from curation_assets_tests.conftest import jpeg

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SECRET = b"ana was here"


def exif(orientation: int) -> bytes:
    found = Image.Exif()
    found[0x0112] = orientation
    found[0x010F] = SECRET.decode()
    return found.tobytes()


def saved(kind: str, orientation: int, mode: str = "RGB", **options: object) -> bytes:
    out = BytesIO()
    picture = Image.open(BytesIO(jpeg(3, (40, 24)))).convert(mode)
    picture.save(out, kind, exif=exif(orientation), icc_profile=PROFILE, **options)
    return out.getvalue()


def png_text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", SECRET.decode())
    info.add_itxt("XML:com.adobe.xmp", f"<x>{SECRET.decode()}</x>")
    return info


CASES = {
    "baseline": ("JPEG", {"comment": SECRET}),
    "progressive": ("JPEG", {"progressive": True, "xmp": SECRET}),
    "png": ("PNG", {"pnginfo": png_text()}),
    "webp": ("WEBP", {"xmp": SECRET, "lossless": True}),
    "lossy webp": ("WEBP", {"quality": 80}),
}


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("case", CASES)
def test_pixels_profile_and_how_a_picture_lies_are_all_that_stays(case: str, orientation: int) -> None:
    kind, options = CASES[case]
    data = saved(kind, orientation, **options)
    assert SECRET in data
    bare = stripped(data, kind, orientation)
    assert SECRET not in bare
    was, now = Image.open(BytesIO(data)), Image.open(BytesIO(bare))
    assert now.tobytes() == was.tobytes()
    assert now.info["icc_profile"] == PROFILE
    assert dict(now.getexif()) == ({0x0112: 6} if orientation == 6 else {})
    assert stripped(bare, kind, orientation) == bare


def test_a_second_picture_after_the_first_goes_too() -> None:
    first, second = saved("JPEG", 1), saved("JPEG", 1)
    for data in (first + second, first + b"MotionPhoto" + SECRET):
        bare = stripped(data, "MPO", 1)
        assert SECRET not in bare
        assert bare.endswith(b"\xff\xd9")
        assert Image.open(BytesIO(bare)).tobytes() == Image.open(BytesIO(first)).tobytes()


def test_cmyk_and_grey_keep_their_colours() -> None:
    for mode in ("CMYK", "L"):
        data = saved("JPEG", 1, mode)
        bare = stripped(data, "JPEG", 1)
        assert Image.open(BytesIO(bare)).tobytes() == Image.open(BytesIO(data)).tobytes()


def test_an_upright_image_keeps_its_bytes_and_a_turned_one_is_turned() -> None:
    options = Options(upright=True)
    row: dict[str, object] = {"relative_path": "a.jpg", "format": "JPEG", "orientation": 1}
    data = saved("JPEG", 1)
    assert rewritten(data, row, options, DecodeOptions()) is data
    for kind, into in (("JPEG", "JPEG"), ("WEBP", "JPEG"), ("PNG", "PNG")):
        turned = rewritten(saved(kind, 8), row | {"format": kind, "orientation": 8}, options, DecodeOptions())
        image = Image.open(BytesIO(turned))
        assert (image.format, image.size, dict(image.getexif())) == (into, (24, 40), {})
        assert SECRET not in turned


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_file_that_is_cut_is_one_line(kind: str) -> None:
    row: dict[str, object] = {"relative_path": "a.jpg", "format": kind, "orientation": 1}
    data, told = saved(kind, 1), list[str]()
    for cut in range(0, min(len(data) - 12, 3000), 97):
        try:
            rewritten(data[:cut], row, Options(strip_metadata=True), DecodeOptions())
        except CurationError as error:
            told.append(str(error))
    assert told
    assert all(text.startswith("a.jpg can't be stripped of its metadata: ") for text in told)
