"""What a file is by its first bytes, whatever its name: read, named and refused, or no image."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image, features

from curation_assets.images.decode import open_image
from curation_assets.images.errors import ImageError
from curation_assets_tests.images.test_decode import encoded, four_corners

LIMIT = 10**8
FILES = {
    "JPEG": encoded(four_corners(), "JPEG"),
    "PNG": encoded(four_corners(), "PNG"),
    "WEBP": encoded(four_corners(), "WEBP"),
    "GIF": encoded(four_corners(), "GIF"),
    "BMP": encoded(four_corners(), "BMP"),
    "TIFF": encoded(four_corners(), "TIFF"),
}
if features.check("avif"):
    FILES["AVIF"] = encoded(four_corners(), "AVIF")


def refusal(data: bytes) -> ImageError:
    with pytest.raises(ImageError) as refused:
        open_image(data, LIMIT)
    return refused.value


@pytest.mark.parametrize("format", FILES)
def test_a_file_cut_anywhere_within_its_header_is_corrupt(format: str) -> None:
    whole = FILES[format]
    shortest = {"AVIF": 12, "BMP": 2}.get(format, 2)
    for length in (*range(shortest, 40), 60):
        try:
            open_image(whole[:length], LIMIT)
            status = "a header"
        except ImageError as error:
            status = error.status
        assert status in ("corrupt", "a header"), f"{length} bytes"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n", "git lfs pull"),
        (b"/annex/objects/SHA256E-s123--0123.jpg\n", "git annex get"),
        (b"../../.git/annex/objects/Xw/1m/SHA256E-s1--0.jpg/SHA256E-s1--0.jpg", "git annex get"),
        (b"../photos/IMG_0001.jpg", "symbolic link"),
        (b"outs:\n- md5: 0123\n  path: a.jpg\n", "dvc pull"),
        (b"bplist00\xd3\x01\x02NSURLNameKey_IMG_1.jpg", "iCloud placeholder"),
        (b'{"url": "https://drive", "doc_id": "1x", "email": "a"}', "Google Drive"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "Canon raw photograph (CR3); develop it"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(64), "Canon raw photograph (CR2); develop it"),
        (b"FUJIFILMCCD-RAW 0201", "Fujifilm raw photograph"),
        (b"IIRO\x08\0\0\0" + bytes(64), "Olympus raw photograph"),
        (b"IIU\0\x18\0\0\0" + bytes(64), "Panasonic raw photograph"),
        (b"8BPS\0\1" + bytes(20), "Photoshop"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"  \n<!DOCTYPE html><html>404</html>", "a web page"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"PK\3\4" + bytes(30), "an archive"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "a video"),
        (b"SIMPLE  =                    T", "FITS images are not supported"),
        (b"BMW is no bitmap, though it begins like one", "not an image"),
        (bytes(5000), "every byte is zero"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_else_bears_an_images_name_is_named(data: bytes, what: str) -> None:
    error = refusal(data)
    assert error.status == "unsupported"
    assert what in str(error)
    assert "\n" not in str(error)


def test_a_png_whose_line_ends_a_transfer_changed_is_corrupt() -> None:
    error = refusal(FILES["PNG"].replace(b"\r\n", b"\n"))
    assert (error.status, "transfer as text" in str(error)) == ("corrupt", True)


def test_a_tail_of_zeros_is_said_and_the_image_kept() -> None:
    for format in ("WEBP", "AVIF"):
        if format not in FILES:
            continue
        noise = Image.effect_noise((256, 256), 80).convert("RGB")
        whole = encoded(noise, format)
        assert open_image(whole, LIMIT).remarks == []
        cut = whole[: len(whole) * 3 // 4] + bytes(len(whole) - len(whole) * 3 // 4)
        assert "bytes of the file are zero" in open_image(cut, LIMIT).remarks[0]


def test_zeros_that_pad_metadata_are_no_hole_in_the_picture() -> None:
    exif = Image.Exif()
    exif[0xEA1C] = bytes(5000)  # as some programs for viewing leave them
    for format in ("WEBP", "AVIF"):
        if format in FILES:
            assert open_image(encoded(four_corners(), format, exif=exif), LIMIT).remarks == []
    noise = Image.effect_noise((512, 512), 80).convert("RGB")
    whole = encoded(noise, "WEBP", exif=exif, quality=95)
    hole = whole[:20_000] + bytes(2000) + whole[22_000:]
    assert "only zeros from byte" in open_image(hole, LIMIT).remarks[0]


def test_a_format_is_known_whatever_bytes_follow_it() -> None:
    out = BytesIO()
    four_corners().save(out, "BMP")
    assert open_image(out.getvalue(), LIMIT).format == "BMP"
