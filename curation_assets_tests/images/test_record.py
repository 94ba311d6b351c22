from __future__ import annotations

import base64
import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from curation_assets.images import source
from curation_assets.images.listing import ListedFile
from curation_assets.images.preview import PREVIEW_SIDE
from curation_assets.images.record import ImageRecord, ReadLimits, read_record
from curation_assets.images.source import LocalTree
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.images.test_decode import (
    FORMATS_WITH_EXIF,
    NEEDS_AVIF,
    ROW_AND_COLUMN,
    assert_same,
    encoded,
    four_corners,
    png_header,
    stored_as,
    tiff_header,
    with_orientation,
)

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of broken EXIF blocks
STATUSES = {"ok", "corrupt", "unsupported", "too_large", "unreadable"}


def read(root: Path, data: bytes, name: str = "maize/a.jpg", **limits: Any) -> ImageRecord:
    """Write a file and read it as it was listed."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return read_listed(root, name, **limits)


def read_listed(root: Path, name: str, **limits: Any) -> ImageRecord:
    status = (root / name).stat()
    size = status.st_size
    return read_record(
        LocalTree(root), ListedFile(name, size, status.st_mtime_ns, status.st_ctime_ns), ReadLimits(**limits)
    )


def preview_of(record: ImageRecord) -> Image.Image:
    assert record.preview is not None
    image = Image.open(BytesIO(record.preview))
    image.load()
    assert image.format == "JPEG"
    assert max(image.size) <= PREVIEW_SIDE
    assert not image.getexif()
    return image


def test_one_read_gives_every_fact(images: Path) -> None:
    data = jpeg(1, (64, 48))
    record = read(images, data)
    path = images / "maize" / "a.jpg"
    status = path.stat()
    assert (record.file_path, record.relative_path, record.file_name) == (str(path), "maize/a.jpg", "a.jpg")
    assert (record.size_bytes, record.mtime_ns) == (len(data), status.st_mtime_ns)
    assert record.content_sha256 == hashlib.sha256(data).hexdigest()
    assert record.image_base64 == base64.b64encode(data).decode()
    assert (record.format, record.width, record.height, record.mode) == ("JPEG", 64, 48, "RGB")
    assert (record.status, record.error) == ("ok", None)
    assert abs((record.modified_at - datetime.fromtimestamp(status.st_mtime, UTC)).total_seconds()) < 1e-5
    assert abs((record.created_at - datetime.fromtimestamp(status.st_ctime, UTC)).total_seconds()) < 1e-5


def test_the_file_itself_is_left_out_when_images_are_not_stored(images: Path) -> None:
    record = read(images, jpeg(), store_images=False)
    assert record.image_base64 is None
    assert record.status == "ok"
    assert record.preview is not None
    assert record.content_sha256 == hashlib.sha256(jpeg()).hexdigest()


@pytest.mark.parametrize(("format", "save"), FORMATS_WITH_EXIF)
@pytest.mark.parametrize("orientation", ROW_AND_COLUMN)
def test_size_and_preview_are_those_of_the_upright_picture(
    images: Path, orientation: int, format: str, save: dict[str, Any]
) -> None:
    upright = four_corners(1200, 800)
    data = encoded(stored_as(upright, orientation), format, exif=with_orientation(orientation), **save)
    record = read(images, data)
    assert (record.width, record.height, record.orientation or 1) == (1200, 800, orientation)
    assert_same(preview_of(record), four_corners(384, 256), tolerance=10)


@pytest.mark.parametrize("value", [0, 9])
def test_an_invalid_orientation_is_null_and_upright(images: Path, value: int) -> None:
    record = read(images, encoded(four_corners(), "JPEG", exif=with_orientation(value)))
    assert (record.status, record.orientation, record.width, record.height) == ("ok", None, 96, 64)
    assert_same(preview_of(record), four_corners(), tolerance=10)


@pytest.mark.parametrize("block", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0\xff\xff", b"Exif\0\0" + b"\x01" * 60])
def test_a_broken_exif_block_costs_only_its_facts(images: Path, block: bytes) -> None:
    record = read(images, encoded(four_corners(), "JPEG", exif=block))
    facts = (record.orientation, record.captured_at, record.latitude, record.longitude, record.camera)
    assert (record.status, facts) == ("ok", (None,) * 5)


@pytest.mark.parametrize(
    ("size", "preview"),
    [
        ((64, 48), (64, 48)),
        ((384, 384), (384, 384)),
        ((385, 10), (384, 10)),
        ((1000, 500), (384, 192)),
        ((768, 768), (384, 384)),
        ((4000, 3000), (384, 288)),
        ((1, 1), (1, 1)),
        ((1, 5000), (1, 384)),
        ((5000, 1), (384, 1)),
        ((1, 65_000), (1, 384)),
        ((65_000, 3), (384, 1)),
    ],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_preview_keeps_the_shape_and_its_longest_side_is_bounded(
    images: Path, size: tuple[int, int], preview: tuple[int, int], format: str
) -> None:
    record = read(images, encoded(Image.new("RGB", size, (10, 120, 40)), format))
    assert (record.status, record.width, record.height) == ("ok", *size)
    assert preview_of(record).size == preview


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.jpg", "PNG"),
        ("a.PNG", "JPEG"),
        ("a.gif", "WEBP"),
        ("a.jpg", "MPO"),
        pytest.param("a.jpeg", "AVIF", marks=NEEDS_AVIF),
    ],
)
def test_a_misleading_name_does_not_matter(images: Path, name: str, format: str) -> None:
    save = {"save_all": True, "append_images": [four_corners()]} if format == "MPO" else {}
    record = read(images, encoded(four_corners(), format, **save), name)
    assert (record.status, record.format, record.error) == ("ok", format, None)


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"", "corrupt", "the file is empty"),
        (b"<!DOCTYPE html><p>404", "unsupported", "not an image: the file begins with b'<!DOCTYPE html><'"),
        (jpeg(0, (640, 480))[:4000], "corrupt", "broken pixel data: image file is truncated"),
        (encoded(four_corners(), "PNG")[:100], "corrupt", "broken pixel data"),
        (encoded(four_corners(), "PPM"), "unsupported", "PPM images are not supported"),
        (encoded(four_corners(), "ICO"), "unsupported", "ICO images are not supported"),
        (
            png_header(100_000, 100_000),
            "too_large",
            "100000 x 100000 pixels = 10,000,000,000; the limit is 200,000,000",
        ),
        (png_header(0, 10), "corrupt", "broken header: 0 x 10 pixels"),
    ],
    ids=["empty", "HTML", "truncated JPEG", "truncated PNG", "PPM", "ICO", "bomb", "no pixels"],
)
def test_a_bad_file_is_a_row_with_its_reason(images: Path, data: bytes, status: str, reason: str) -> None:
    record = read(images, data)
    assert record.status == status
    assert record.error is not None
    assert reason in record.error
    assert "\n" not in record.error
    assert (record.image_base64, record.preview) == (None, None)
    assert record.content_sha256 == hashlib.sha256(data).hexdigest()
    assert (record.size_bytes, record.file_name) == (len(data), "a.jpg")


def test_a_bomb_says_its_size_so_that_a_raised_limit_can_admit_it(images: Path) -> None:
    record = read(images, encoded(four_corners(), "PNG"), max_pixels=6143)
    assert (record.status, record.width, record.height) == ("too_large", 96, 64)
    assert read_listed(images, "maize/a.jpg", max_pixels=6144).status == "ok"


def test_a_claimed_size_beyond_the_tables_integers_is_cut(images: Path) -> None:
    record = read(images, tiff_header(2**32 - 1, 1))
    assert (record.status, record.width, record.height) == ("too_large", 2**31 - 1, 1)


def test_a_file_over_the_size_limit_is_not_read(images: Path) -> None:
    path = images / "a.jpg"
    path.touch()
    os.truncate(path, 2**40)  # sparse: a terabyte that takes no room, and that nothing could read in time
    started = time.monotonic()
    record = read_listed(images, "a.jpg")
    assert time.monotonic() - started < 5
    assert (record.status, record.content_sha256, record.size_bytes) == ("too_large", None, 2**40)
    assert record.error == "1,099,511,627,776 bytes; the limit is 268,435,456 (CURATION_MAX_FILE_BYTES)"


def test_a_file_of_the_limit_itself_is_read(images: Path) -> None:
    data = jpeg()
    assert read(images, data, max_file_bytes=len(data)).status == "ok"
    assert read(images, data, max_file_bytes=len(data) - 1).status == "too_large"


@pytest.mark.timeout(20)
def test_a_pipe_with_an_images_name_is_not_waited_for(images: Path) -> None:
    os.mkfifo(images / "a.jpg")
    record = read_listed(images, "a.jpg")
    assert (record.status, record.error) == ("unreadable", "cannot be read: not a regular file")


def test_a_socket_and_a_folder_with_an_images_name_are_unreadable(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "folder.jpg").mkdir()
    monkeypatch.chdir(images)  # a socket's path may be 108 bytes long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        for name in ("socket.jpg", "folder.jpg"):
            record = read_listed(images, name)
            assert record.status == "unreadable"
            assert record.error.startswith("cannot be read: ")


def _vanished(path: Path) -> None:
    path.unlink()


def _folder_vanished(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("gone.jpg")


@pytest.mark.parametrize("happen", [_vanished, _folder_vanished, _dangling])
def test_a_file_that_vanished_after_the_listing_is_a_row(images: Path, happen: Callable[[Path], None]) -> None:
    path = images / "maize" / "a.jpg"
    path.parent.mkdir()
    path.write_bytes(jpeg())
    happen(path)
    record = read_record(LocalTree(images), ListedFile("maize/a.jpg", 100, 5, 5), ReadLimits())
    assert (record.status, record.size_bytes, record.mtime_ns) == ("unreadable", 100, 5)
    assert record.error == "the file vanished between listing and reading, or is a broken link"


def test_a_circular_link_is_unreadable(images: Path) -> None:
    (images / "a.jpg").symlink_to("a.jpg")
    record = read_record(LocalTree(images), ListedFile("a.jpg", None, None, None), ReadLimits())
    assert (record.status, record.error) == ("unreadable", "cannot be read: Too many levels of symbolic links")
    assert (record.size_bytes, record.created_at, record.modified_at) == (None, None, None)


@pytest.mark.skipif(AS_ROOT, reason="root may read every file")
def test_a_forbidden_file_is_unreadable(images: Path) -> None:
    (images / "a.jpg").write_bytes(jpeg())
    (images / "a.jpg").chmod(0)
    record = read_listed(images, "a.jpg")
    assert (record.status, record.error) == ("unreadable", "cannot be read: Permission denied")


def test_a_file_that_grew_after_the_listing_is_described_as_it_was_read(images: Path) -> None:
    data = jpeg(2, (320, 240))
    record = read(images, data)
    stale = read_record(LocalTree(images), ListedFile("maize/a.jpg", 100, 5, 5), ReadLimits())
    assert stale == record


def test_a_file_that_grows_while_it_is_read_differs_from_its_next_listing(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = images / "a.jpg"
    path.write_bytes(jpeg())
    really_read = source.read_bytes

    def read_then_grow(name: str) -> bytes:
        data = really_read(name)
        with open(name, "ab") as file:
            file.write(b"more")
        return data

    monkeypatch.setattr(source, "read_bytes", read_then_grow)
    record = read_record(LocalTree(images), ListedFile("a.jpg", 5, path.stat().st_mtime_ns, 0), ReadLimits())
    now = path.stat()
    assert (record.size_bytes, record.mtime_ns) != (now.st_size, now.st_mtime_ns)
    assert record.content_sha256 == hashlib.sha256(jpeg()).hexdigest()


def test_a_file_rewritten_at_the_same_size_keeps_the_listed_time(images: Path) -> None:
    path = images / "a.jpg"
    path.write_bytes(jpeg())
    record = read_record(LocalTree(images), ListedFile("a.jpg", len(jpeg()), 12345, 0), ReadLimits())
    assert record.mtime_ns == 12345 != path.stat().st_mtime_ns


@pytest.mark.parametrize("nanoseconds", [-(10**18), 0, 1_600_000_000_123_456_789, 10**19])
def test_any_time_of_a_file_is_held(images: Path, nanoseconds: int) -> None:
    path = images / "a.jpg"
    path.write_bytes(jpeg())
    try:
        os.utime(path, ns=(0, nanoseconds))
    except OSError as error:
        pytest.skip(f"this file system can't hold the time: {error}")
    held = min(path.stat().st_mtime_ns, 2**63 - 1)
    record = read_record(LocalTree(images), ListedFile("a.jpg", None, None, None), ReadLimits())
    assert (record.status, record.mtime_ns) == ("ok", held)
    assert abs(record.modified_at.timestamp() - held / 1e9) < 1e-5


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_bytes_after_the_end_are_kept_and_do_no_harm(images: Path, format: str) -> None:
    data = encoded(four_corners(), format) + b"<motion photo>" * 1000
    record = read(images, data)
    assert (record.status, record.size_bytes) == ("ok", len(data))
    assert base64.b64decode(record.image_base64) == data
    assert_same(preview_of(record), four_corners(), tolerance=10)


def test_the_bytes_of_a_bad_file_are_shown_safely(images: Path) -> None:
    record = read(images, b"\x1b[31m\nnot an image")
    assert record.error.isprintable()


def exif_of(base: dict[int, Any] = {}, detail: dict[int, Any] = {}, gps: dict[int, Any] = {}) -> Image.Exif:  # noqa: B006
    exif = Image.Exif()
    exif.update(base)
    exif.get_ifd(0x8769).update(detail)
    exif.get_ifd(0x8825).update(gps)
    return exif


def with_exif(root: Path, exif: Image.Exif) -> ImageRecord:
    record = read(root, encoded(four_corners(), "JPEG", exif=exif))
    assert record.status == "ok"
    return record


@pytest.mark.parametrize(
    ("base", "detail", "captured"),
    [
        ({}, {0x9003: "2017:08:21 14:05:09"}, datetime(2017, 8, 21, 14, 5, 9, tzinfo=UTC)),
        ({}, {0x9003: "2017:08:21 14:05:09", 0x9011: "+02:00"}, datetime(2017, 8, 21, 12, 5, 9, tzinfo=UTC)),
        ({}, {0x9003: "2017:08:21 14:05:09", 0x9011: "-09:30"}, datetime(2017, 8, 21, 23, 35, 9, tzinfo=UTC)),
        ({}, {0x9003: "2017:08:21 14:05:09", 0x9011: "nonsense"}, datetime(2017, 8, 21, 14, 5, 9, tzinfo=UTC)),
        ({}, {0x9003: "2017:08:21 14:05:09\0"}, datetime(2017, 8, 21, 14, 5, 9, tzinfo=UTC)),
        ({}, {0x9003: "0000:00:00 00:00:00"}, None),
        ({}, {0x9003: "    :  :     :  :  "}, None),
        ({}, {0x9003: "21 August"}, None),
        ({}, {0x9003: "0001:01:01 00:00:00", 0x9011: "+10:00"}, datetime(1, 1, 1, tzinfo=UTC)),
        ({}, {0x9003: "broken", 0x9004: "2018:01:02 03:04:05"}, datetime(2018, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ({0x0132: "2019:01:02 03:04:05"}, {}, None),
        ({0x0132: "2019:01:02 03:04:05", 0x010F: "Kodak"}, {}, datetime(2019, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ({0x0132: "2019:01:02 03:04:05", 0x010F: "Kodak", 0x0131: "GIMP 2.10"}, {}, None),
        ({0x0132: "2019:01:02 03:04:05", 0x010F: "Kodak"}, {0x9003: "    :  :     :  :  "}, None),
        ({0x0132: "2019:01:02 03:04:05"}, {0x9003: "2017:01:01 00:00:00"}, datetime(2017, 1, 1, tzinfo=UTC)),
        ({}, {}, None),
    ],
)
def test_the_capture_time_is_utc(
    images: Path, base: dict[int, str], detail: dict[int, str], captured: datetime | None
) -> None:
    assert with_exif(images, exif_of(base, detail)).captured_at == captured


@pytest.mark.parametrize(
    ("base", "camera"),
    [
        ({0x010F: "Canon", 0x0110: "Canon EOS 5D"}, "Canon EOS 5D"),
        ({0x010F: "SONY", 0x0110: "DSC-W800"}, "SONY DSC-W800"),
        ({0x010F: " Canon \0\0"}, "Canon"),
        ({0x0110: "X100"}, "X100"),
        ({0x010F: "", 0x0110: "  "}, None),
        ({}, None),
    ],
)
def test_the_camera_is_make_and_model(images: Path, base: dict[int, str], camera: str | None) -> None:
    assert with_exif(images, exif_of(base)).camera == camera


def gps(lat_ref: Any, lat: Any, lon_ref: Any, lon: Any) -> dict[int, Any]:
    tags = {1: lat_ref, 2: lat, 3: lon_ref, 4: lon}
    return {tag: value for tag, value in tags.items() if value is not None}


@pytest.mark.parametrize(
    ("lat_ref", "lon_ref", "expected"),
    [
        ("N", "E", (10.51, 20.25)),
        ("S", "E", (-10.51, 20.25)),
        ("N", "W", (10.51, -20.25)),
        ("S", "W", (-10.51, -20.25)),
    ],
)
def test_south_and_west_are_negative(images: Path, lat_ref: str, lon_ref: str, expected: tuple[float, float]) -> None:
    record = with_exif(images, exif_of(gps=gps(lat_ref, (10.0, 30.0, 36.0), lon_ref, (20.0, 15.0, 0.0))))
    assert (record.latitude, record.longitude) == pytest.approx(expected)


ZERO = IFDRational(0, 0)


@pytest.mark.parametrize(
    "tags",
    [
        {0: b"\2\3\0\0"},
        {29: "2017:08:21"},
        gps("N", None, "E", None),
        gps("N", (10.0, 30.0, 0.0), "E", None),
        gps(None, (10.0, 30.0, 0.0), None, (20.0, 0.0, 0.0)),
        gps("N", (ZERO, ZERO, ZERO), "E", (ZERO, ZERO, ZERO)),
        gps("N", (10.0, ZERO, 0.0), "E", (20.0, 0.0, 0.0)),
        gps("N", (90.0, 1.0, 0.0), "E", (20.0, 0.0, 0.0)),
        gps("N", (10.0, 0.0, 0.0), "E", (200.0, 0.0, 0.0)),
        gps("X", (10.0, 0.0, 0.0), "E", (20.0, 0.0, 0.0)),
        gps("N", (1.0,) * 300, "E", (20.0, 0.0, 0.0)),
    ],
)
def test_a_gps_block_without_usable_coordinates_gives_none(images: Path, tags: dict[int, Any]) -> None:
    record = with_exif(images, exif_of(gps=tags))
    assert (record.latitude, record.longitude) == (None, None)


def test_the_equator_is_a_place(images: Path) -> None:
    record = with_exif(images, exif_of(gps=gps("N", (0.0, 0.0, 0.0), "E", (0.0, 0.0, 0.0))))
    assert (record.latitude, record.longitude) == (0.0, 0.0)


def _noise(width: int, height: int) -> Image.Image:
    return Image.frombytes("RGB", (width, height), np.random.default_rng(7).bytes(width * height * 3))


_EXIF = exif_of(
    {0x0112: 6, 0x010F: "SONY"},
    {0x9003: "2017:08:21 14:05:09"},
    gps("S", (10.0, 30.0, 36.0), "W", (20.0, 15.0, 0.0)),
)
_GOOD = [
    encoded(_noise(48, 32), "JPEG", exif=_EXIF),
    encoded(_noise(48, 32), "JPEG", progressive=True),
    encoded(_noise(24, 16), "PNG", exif=_EXIF),
    encoded(_noise(24, 16).quantize(16), "PNG", transparency=3),
    encoded(_noise(24, 16), "WEBP", exif=_EXIF),
    encoded(_noise(24, 16), "GIF", save_all=True, append_images=[_noise(24, 16)]),
    encoded(_noise(24, 16), "TIFF", compression="tiff_lzw", exif=_EXIF),
    encoded(_noise(24, 16), "BMP"),
    encoded(_noise(24, 16), "MPO", save_all=True, append_images=[_noise(24, 16)]),
]
_edit = st.tuples(st.integers(0, 10**6), st.binary(max_size=4), st.integers(0, 4))


def assert_is_a_row(data: bytes) -> ImageRecord:
    with tempfile.TemporaryDirectory() as root:
        record = read(Path(root), data, max_pixels=1_000_000)
    assert record.status in STATUSES
    assert (record.error is None) == (record.status == "ok")
    assert (record.preview is None) == (record.image_base64 is None) == (record.status != "ok")
    assert record.content_sha256 == hashlib.sha256(data).hexdigest()
    if record.status == "ok":
        preview_of(record)
    return record


@given(
    st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"MM\0*", b"BM", b"RIFF"]),
    st.binary(max_size=300),
)
@settings(max_examples=150, deadline=None)
def test_random_bytes_are_always_a_row(magic: bytes, data: bytes) -> None:
    assert_is_a_row(magic + data)


@given(st.sampled_from(_GOOD), st.lists(_edit, min_size=1, max_size=8), st.floats(0.3, 1.5))
@settings(max_examples=200, deadline=None)
def test_randomly_damaged_images_are_always_a_row(good: bytes, edits: list[tuple[int, bytes, int]], cut: float) -> None:
    data = bytearray(good)
    for position, new, old in edits:
        position %= len(data) or 1
        data[position : position + old] = new
    assert_is_a_row(bytes(data[: int(len(data) * cut)]))


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_a_random_exif_block_never_spoils_a_good_picture(block: bytes) -> None:
    record = assert_is_a_row(encoded(four_corners(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08" + block))
    assert record.status == "ok"


@given(st.lists(_edit, min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_a_damaged_exif_block_never_spoils_a_good_picture(edits: list[tuple[int, bytes, int]]) -> None:
    block = bytearray(_EXIF.tobytes())
    for position, new, old in edits:
        position = 6 + position % (len(block) - 6)
        block[position : position + old] = new
    assert assert_is_a_row(encoded(four_corners(), "JPEG", exif=bytes(block))).status == "ok"
