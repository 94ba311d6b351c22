"""What reading one picture costs: verdict, facts and preview beside Pillow's own decoding, and memory by kind.

    python -m benchmarks.images [--rounds N] [--save]

Twelve megapixels of each kind, in memory; in each round all kinds are read by both, one after the other. The rival
opens, decodes (a JPEG at the scale that suits, as ours) and shrinks to the preview's size: no facts, no checks, no
colours. The last part reads the largest picture that is admitted by default, each in a process of its own, and gives
the peak of its memory over what it had before. ``--save`` writes ``benchmarks/results/images.md``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from benchmarks import measure
from curation_assets.images.decode import open_image
from curation_assets.images.guard import DecodeOptions, with_picture
from curation_assets.images.preview import PREVIEW_SIDE, preview

MODULE = "benchmarks.images"
SIZE = (4000, 3000)
LARGEST = (14_142, 14_142)  # 200 million pixels
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "JPEG": ("RGB", "JPEG", {"quality": 90}),
    "progressive JPEG": ("RGB", "JPEG", {"quality": 90, "progressive": True}),
    "JPEG with a colour profile": ("RGB", "JPEG", {"quality": 90, "icc_profile": b""}),
    "PNG": ("RGB", "PNG", {"compress_level": 3}),
    "PNG with a colour profile": ("RGB", "PNG", {"compress_level": 3, "icc_profile": b""}),
    "transparent PNG": ("RGBA", "PNG", {"compress_level": 3}),
    "WebP": ("RGB", "WEBP", {"quality": 80, "method": 0}),
    "TIFF (LZW)": ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    "float TIFF, in a process of its own": ("F", "TIFF", {}),
}
MEMORY = """
import sys
from curation_assets.images.decode import open_image
from curation_assets.images.preview import jpeg_of
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
data = sys.stdin.buffer.read()
before = peak()
picture = open_image(data, 10**9)
jpeg_of(picture, 384, 80)
print((peak() - before) / picture.width / picture.height)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="how often each is read (default 7)")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/images.md")
    arguments = parser.parse_args()
    report = _report(_times(arguments.rounds), _memory(), arguments.rounds)
    print(report)
    if arguments.save:
        measure.save(report, "images")


def picture_of(kind: str, size: tuple[int, int], *, flat: bool = False) -> bytes:
    """A file of a kind: detail of photographs' size all over it, or one colour."""
    mode, format, save = KINDS[kind]
    small = np.random.default_rng(0).integers(0, 255, (size[1] // 8, size[0] // 8, 3), np.uint8)
    image = Image.new("RGB", size, (60, 120, 40)) if flat else Image.fromarray(small).resize(size)
    if "icc_profile" in save:
        save = save | {"icc_profile": _other_colours()}
    out = BytesIO()
    image.convert(mode).save(out, format, **save)
    return out.getvalue()


def _other_colours() -> bytes:
    """A profile that moves colours: sRGB's with red and green in each other's place."""
    srgb: bytes = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return srgb.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


def _ours(data: bytes) -> None:
    with_picture(preview, data, DecodeOptions())


def _pillows(data: bytes) -> None:
    image: Image.Image = Image.open(BytesIO(data))
    image.draft(None, (PREVIEW_SIDE, PREVIEW_SIDE * SIZE[1] // SIZE[0]))
    image.load()
    small = image.convert("RGB").resize((PREVIEW_SIDE, PREVIEW_SIDE * SIZE[1] // SIZE[0]), reducing_gap=2.0)
    small.save(BytesIO(), "JPEG", quality=80)


def _times(rounds: int) -> dict[str, tuple[float, float]]:
    """Fastest seconds of each kind, ours and Pillow's."""
    files = {kind: picture_of(kind, SIZE) for kind in KINDS}
    taken: dict[str, tuple[list[float], list[float]]] = {kind: ([], []) for kind in KINDS}
    for number in range(rounds + 1):
        for kind, data in files.items():
            for place, read in enumerate((_ours, _pillows)):
                seconds = _seconds(read, data)
                if number:  # the first starts a process, and fills caches
                    taken[kind][place].append(seconds)
    return {kind: (statistics.median(ours), statistics.median(theirs)) for kind, (ours, theirs) in taken.items()}


def _seconds(read: Callable[[bytes], None], data: bytes) -> float:
    started = time.perf_counter()
    read(data)
    return time.perf_counter() - started


def _memory() -> dict[str, float]:
    """Bytes a pixel that reading takes, of the largest picture of each kind."""
    found = {}
    for kind in (kind for kind in KINDS if "profile" not in kind):
        size = LARGEST if kind != "WebP" else (10_000, 10_000)  # its encoder takes no larger one of one colour
        data = picture_of(kind, size, flat=True)
        assert open_image(data, 10**9).cost > 0
        done = subprocess.run([sys.executable, "-c", MEMORY], input=data, capture_output=True, check=True)
        found[kind] = float(done.stdout)
        print(f"{kind}: {found[kind]:.1f} bytes a pixel", file=sys.stderr)
    return found


def _report(times: dict[str, tuple[float, float]], memory: dict[str, float], rounds: int) -> str:
    rows = []
    for kind, (ours, theirs) in times.items():
        space = f"{memory[kind]:.1f} | {memory[kind] * LARGEST[0] * LARGEST[1] / 1e9:.1f}" if kind in memory else " | "
        rows.append(f"| {kind} | {ours * 1000:.0f} | {theirs * 1000:.0f} | **{ours / theirs:.2f}** | {space} |")
    return "\n".join(
        [
            "# What reading one picture costs",
            "",
            f"{SIZE[0]} x {SIZE[1]} pixels, bytes in memory; medians of {rounds} readings, in turn with Pillow's. Memory: peak "
            "while a picture of 200 million pixels is read, over what the process had before.",
            "",
            "| kind | ms | Pillow's decoding and shrinking, ms | times as long | bytes a pixel | GB at 200 million |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            *measure.circumstances(MODULE, ("pillow", "simplejpeg", "imagecodecs", "tifffile")),
        ]
    )


if __name__ == "__main__":
    main()
