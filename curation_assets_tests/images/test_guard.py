"""What one file may cost: work that takes long is ended, wherever it is asked for, and memory is bounded."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from curation_assets.images import guard
from curation_assets.images.decode import BIG_PIXELS, Picture
from curation_assets.images.errors import ImageError
from curation_assets.images.guard import DecodeOptions, with_picture
from curation_assets.images.preview import jpeg_of
from curation_assets_tests.images.test_decode import encoded, four_corners
from curation_assets_tests.processes import run_script

TIFF = encoded(Image.new("F", (96, 64)), "TIFF")  # a raster: worked at in another process
OPTIONS = DecodeOptions()


@pytest.fixture(autouse=True)
def no_idle_processes() -> None:
    guard._end_idle()


# Called in the other process, so they are of this module.
def process_of(picture: Picture) -> int:
    return os.getpid()


def never_ends(picture: Picture) -> None:
    """What no thread can be called back from."""
    import ctypes

    ctypes.PyDLL(None).usleep(10**9)  # holds the interpreter's lock all the while


def dies(picture: Picture) -> None:
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)


def takes(picture: Picture, size: int) -> int:
    return len(bytearray(size))


def fails(picture: Picture) -> None:
    raise ImageError("corrupt", "as said")


def width_of(picture: Picture) -> int:
    return picture.width


def prints(picture: Picture) -> str:
    print("a library's chatter", flush=True)
    return picture.format


def test_a_quick_picture_is_worked_at_here_and_another_elsewhere() -> None:
    assert with_picture(process_of, encoded(four_corners(), "JPEG"), OPTIONS) == os.getpid()
    assert with_picture(process_of, encoded(four_corners(), "PNG"), OPTIONS) == os.getpid()
    other = with_picture(process_of, TIFF, OPTIONS)
    assert other != os.getpid()
    assert with_picture(process_of, TIFF, OPTIONS) == other, "it is kept for the next one"


def test_what_it_returns_raises_and_prints_arrives() -> None:
    assert with_picture(prints, TIFF, OPTIONS) == "TIFF"
    for _ in range(2):
        with pytest.raises(ImageError, match="as said") as refused:
            with_picture(fails, TIFF, OPTIONS)
        assert refused.value.status == "corrupt"
    with pytest.raises(ImageError, match="96 x 64 pixels") as refused:
        with_picture(prints, TIFF, DecodeOptions(max_pixels=100))
    assert (refused.value.status, refused.value.size) == ("too_large", (96, 64))
    first = with_picture(process_of, TIFF, OPTIONS)
    assert first == with_picture(process_of, TIFF, OPTIONS), "an image's error costs no process"


def test_work_that_takes_too_long_is_ended_and_the_next_goes_on() -> None:
    started = time.monotonic()
    with pytest.raises(ImageError, match=r"takes longer than 1 seconds \(CURATION_DECODE_SECONDS\)") as refused:
        with_picture(never_ends, TIFF, DecodeOptions(seconds=1))
    assert time.monotonic() - started < 10
    assert refused.value.status == "unreadable"
    assert with_picture(prints, TIFF, OPTIONS) == "TIFF"


def test_a_decoder_that_dies_costs_its_file_alone() -> None:
    with pytest.raises(ImageError, match=r"its decoder died \(signal 11\)") as refused:
        with_picture(dies, TIFF, OPTIONS)
    assert refused.value.status == "unreadable"
    assert with_picture(prints, TIFF, OPTIONS) == "TIFF"


def test_a_process_serves_pictures_that_it_has_memory_for() -> None:
    first = with_picture(process_of, TIFF, DecodeOptions(max_pixels=1_000_000))
    assert with_picture(process_of, TIFF, OPTIONS) == first, "at least what is read by default"
    larger = with_picture(process_of, TIFF, DecodeOptions(max_pixels=400_000_000))
    assert larger != first
    assert with_picture(process_of, TIFF, DecodeOptions(max_pixels=300_000_000)) == larger


def test_threads_share_the_processes_and_each_gets_its_own_answer() -> None:
    files = [encoded(Image.new("F", (10 + number, 7)), "TIFF") for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        widths = list(pool.map(lambda data: with_picture(width_of, data, OPTIONS), files))
    assert widths == [10 + number for number in range(40)]
    assert len(guard._idle) <= 4


def test_a_fork_knows_nothing_of_its_parents_processes() -> None:
    parents = with_picture(process_of, TIFF, OPTIONS)
    script_read, script_write = os.pipe()
    child = os.fork()
    if not child:
        os.write(script_write, str(len(guard._idle)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(script_read, 8) == b"0"
    assert with_picture(process_of, TIFF, OPTIONS) == parents


def test_memory_is_bounded() -> None:
    with pytest.raises(ImageError, match="not enough memory") as refused:
        with_picture(takes, TIFF, OPTIONS, 64 * 2**30)
    assert refused.value.status == "unreadable"


def test_work_that_nobody_waits_for_any_longer_is_ended() -> None:
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(with_picture, never_ends, TIFF, OPTIONS, stop=stop)
        time.sleep(1)
        stop.set()
        started = time.monotonic()
        with pytest.raises(ImageError, match="not waited for"):
            future.result(20)
        assert time.monotonic() - started < 5


def test_a_process_whose_parent_was_killed_ends_itself(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(TIFF)
    script = """
import sys
from pathlib import Path
from curation_assets.images.guard import DecodeOptions, with_picture
from curation_assets_tests.images.test_guard import process_of
print(with_picture(process_of, Path(sys.argv[1]).read_bytes(), DecodeOptions()), flush=True)
sys.stdin.read()
"""
    asked = [sys.executable, "-c", script, str(tmp_path / "a.tif")]
    with subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.1)


def big(kind: str) -> bytes:
    """A picture a little over ``BIG_PIXELS``."""
    width, height = 8192, BIG_PIXELS // 8192 + 100
    if kind == "raster of five bands":
        from io import BytesIO

        out = BytesIO()
        cube = np.ones((height, width, 5), np.uint16)
        tifffile.imwrite(
            out, cube, photometric="minisblack", tile=(256, 256), compression="zlib", planarconfig="contig"
        )
        return out.getvalue()
    mode, format, save = {
        "JPEG": ("RGB", "JPEG", {}),
        "progressive JPEG": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
        "PNG": ("RGB", "PNG", {"compress_level": 1}),
        "transparent PNG": ("RGBA", "PNG", {"compress_level": 1}),
        "transparent palette": ("P", "PNG", {"transparency": 5}),
        "WebP": ("RGB", "WEBP", {"method": 0}),
        "GIF": ("P", "GIF", {}),
        "transparent TIFF": ("RGBA", "TIFF", {"compression": "tiff_lzw"}),
    }[kind]
    return encoded(Image.new(mode, (width, height)), format, **save)


KINDS = ["JPEG", "progressive JPEG", "PNG", "transparent PNG", "transparent palette", "WebP", "GIF", "transparent TIFF"]


@pytest.mark.parametrize("kind", [*KINDS, "raster of five bands"])
def test_a_large_picture_takes_at_most_sixteen_bytes_a_pixel(kind: str, tmp_path: Path) -> None:
    """As docs/limits.md says: 3.2 GB for the largest that is read by default, one at a time."""
    (tmp_path / "image").write_bytes(data := big(kind))
    script = """
import sys
from pathlib import Path
from curation_assets.images.decode import open_image
from curation_assets.images.preview import jpeg_of
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
data = Path(sys.argv[1]).read_bytes()
before = peak()
picture = open_image(data, 10**9)
jpeg_of(picture, 384, 80)
print((peak() - before - 2 * len(data)) / picture.width / picture.height)
"""
    done = run_script(script, str(tmp_path / "image"))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 17
    assert len(data) < 40 * 2**20


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from curation_assets.images import decode

    at_once, most, lock = 0, 0, threading.Lock()
    really = decode._to_srgb

    def watched(picture: Picture, image: Image.Image) -> Image.Image:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.2)
        with lock:
            at_once -= 1
        return really(picture, image)

    monkeypatch.setattr(decode, "_to_srgb", watched)
    data = big("progressive JPEG")
    pictures = [decode.open_image(data, 10**9) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(lambda picture: jpeg_of(picture, 384, 80), pictures))) == 1
    assert most == 1, "although each is decoded at an eighth of its size"
