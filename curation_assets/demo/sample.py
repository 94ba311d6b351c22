"""A small field trial in pictures: some three hundred photographs in folders, with the dirt that real folders have."""

from __future__ import annotations

import itertools
import math
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from PIL import Image, ImageFilter, ImageOps

from curation_assets.demo.render import render
from curation_assets.progress import LogProgress, Progress

_FOLDERS: dict[str, tuple[str, ...]] = {
    "coffee/plot_03/healthy": ("coffee_healthy",),
    "coffee/plot_03/rust": ("coffee_rust",),
    "coffee/plot_07/leaf_miner": ("coffee_leaf_miner",),
    "coffee/plot_07/leaf_spots": ("coffee_cercospora", "coffee_phoma"),
    "maize/leaf_scoring": ("maize_healthy", "maize_rust", "maize_blight"),
    "maize/rows_june": ("maize_rows",),
    "wheat/block_b/flag_leaves": ("wheat_healthy", "wheat_rust"),
    "wheat/block_b/ripening": ("wheat_field",),
    "rice/paddy_1": ("rice_paddy", "rice_weeds"),
    "vineyard/row 12": ("grape_healthy", "grape_powdery_mildew", "grapes"),
    "vegetables/tomato": ("tomato_healthy", "tomato_blight", "tomato_yellowing", "tomato"),
    "vegetables/brassica": ("cabbage_healthy", "cabbage_caterpillar_holes", "cauliflower_weeds"),
    "weeding/before_hoeing": ("row_weeds", "soil_seedlings"),
    "orchard/trees": ("apple_tree", "orange_tree"),
    "orchard/harvest": ("apple", "orange", "banana", "mixed_fruit"),
    "from phones/été": ("sunflower_field", "bean_healthy", "bean_rust", "banana_healthy", "banana_sigatoka"),
}
_SIZES = ((800, 600), (600, 800), (640, 480), (480, 640), (512, 512), (720, 480))
# make, model, file name
_CAMERAS = (
    ("Canon", "Canon EOS 250D", "IMG_{:04}.JPG"),
    ("samsung", "SM-G991B", "20240612_{:06}.jpg"),
    ("Google", "Pixel 7", "PXL_{:04}.jpeg"),
    ("NIKON CORPORATION", "NIKON D3500", "DSC_{:04}.jpg"),
)
_STORED = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
_GUST, _CELLS = 0.01, 12  # how far things move, of the picture; along a side, parts that move by themselves
_MAKE, _MODEL, _ORIENTATION, _EXIF, _GPS, _TAKEN = 0x010F, 0x0110, 0x0112, 0x8769, 0x8825, 0x9003


@dataclass(frozen=True)
class _Photograph:
    folder: str
    scene: str
    index: int
    seed: str


def write_sample(root: Path, photographs: int = 300, seed: int = 7, progress: Progress | None = None) -> int:
    """Write the sample tree unless ``root`` exists; all or nothing.

    Args:
        root: images root to make.
        photographs: how many to draw, spread over the folders; at least one goes to each. Dirt comes on top.
        seed: the same seed draws the same photographs.
        progress: told how far it is.

    Returns:
        Number of files written, those that are no photographs included; 0 if the tree was there.
    """
    if root.exists():
        return 0
    progress = progress or LogProgress()
    root.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=".sample-", dir=root.parent))
    try:
        _draw_all(staged, list(_plan(photographs, seed)), progress)
        _add_dirt(staged)
        _add_doubles(staged)
        _add_wrong_labels(staged)
        staged.chmod(0o755)
        staged.rename(root)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return sum(len(files) for _, _, files in os.walk(root))


def _plan(photographs: int, seed: int) -> Iterator[_Photograph]:
    folders = list(_FOLDERS.items())
    for number, (folder, scenes) in enumerate(folders):
        count = max(1, photographs // len(folders) + (number < photographs % len(folders)))
        for index in range(count):
            yield _Photograph(folder, scenes[index % len(scenes)], index, f"{seed} {folder} {index}")


def _draw_all(root: Path, plan: list[_Photograph], progress: Progress) -> None:
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True)
    progress.start("draw sample photographs", len(plan))
    # NumPy and Pillow compute without the interpreter's lock, so threads are enough.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        pending: list[Future[None]] = [pool.submit(_draw, root, photograph) for photograph in plan]
        try:
            for done in as_completed(pending):
                done.result()
                progress.advance(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _draw(root: Path, photograph: _Photograph) -> None:
    rng = random.Random(photograph.seed)
    image = render(photograph.scene, rng, rng.choice(_SIZES))
    make, model, name = rng.choice(_CAMERAS)
    exif = Image.Exif()
    if rng.random() < 0.85:  # the others were sent by a messenger, which drops it
        exif[_MAKE], exif[_MODEL] = make, model
        day = datetime(2024, 6, 3) + timedelta(days=rng.randrange(90), seconds=rng.randrange(6 * 3600, 19 * 3600))
        exif.get_ifd(_EXIF)[_TAKEN] = day.strftime("%Y:%m:%d %H:%M:%S")
        if rng.random() < 0.6:
            exif.get_ifd(_GPS).update(_position(rng))
    orientation = rng.choices((1, 6, 8, 3), (88, 6, 4, 2))[0]
    if orientation != 1:
        exif[_ORIENTATION] = orientation
        image = _as_stored(image, orientation)
    # The index keeps names apart, the chance part makes them look like a camera's.
    number = photograph.index * 13 + rng.randrange(13) + 400
    image.save(root / photograph.folder / name.format(number), "JPEG", quality=rng.randint(80, 93), exif=exif)


def _as_stored(upright: Image.Image, orientation: int) -> Image.Image:
    """The pixels as a camera held that way stores them."""
    turn = _STORED[orientation]
    return upright if turn is None else upright.transpose(turn)


def _position(rng: random.Random) -> dict[int, object]:
    """GPS tags somewhere on a trial station in the south of Brazil."""

    def degrees(value: float) -> tuple[float, float, float]:
        minutes = (value % 1) * 60
        return float(int(value)), float(int(minutes)), round((minutes % 1) * 60, 2)

    return {
        1: "S",
        2: degrees(20.75 + rng.uniform(0, 0.01)),
        3: "W",
        4: degrees(42.87 + rng.uniform(0, 0.01)),
    }


def _add_dirt(root: Path) -> None:
    """What real folders hold besides photographs."""
    rust = sorted((root / "coffee/plot_03/rust").iterdir())
    healthy, inbox, harvest = root / "coffee/plot_03/healthy", root / "from phones/été", root / "orchard/harvest"
    first, in_focus = rust[0].read_bytes(), max(healthy.iterdir())
    (rust[0].parent / "transfer_broke_off.jpg").write_bytes(first[: len(first) // 3])
    (healthy / "IMG_0399.JPG").touch()
    (healthy / "leaf (1).jpg").write_text("<!DOCTYPE html><html><title>404 Not Found</title></html>\n")
    (inbox / "WhatsApp copy.jpg").write_bytes(first)
    with Image.open(rust[-1]) as photo:
        smaller = photo.convert("RGB")
        smaller.thumbnail((400, 400))
        smaller.save(rust[-1].with_name(rust[-1].stem + "_small.jpg"), quality=70)
    with Image.open(in_focus) as photo:
        sharp = ImageOps.exif_transpose(photo).convert("RGB")
        out_of_focus = sharp.filter(ImageFilter.GaussianBlur(max(sharp.size) * 0.015))
        out_of_focus.save(healthy / "out of focus.jpg", quality=88)
    rng = random.Random(1)
    night = render("tomato", rng, (640, 480)).point(lambda value: round(value * 0.15))
    night.save(root / "vegetables/tomato/after sunset.jpg", quality=88)
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    held_sideways = _as_stored(render("coffee_healthy", rng, (480, 640)), 6)
    held_sideways.save(healthy / "rotated in camera.jpg", quality=88, exif=exif)
    render("apple", rng, (400, 300)).save(harvest / "screenshot.png")
    (harvest / "weights.csv").write_text("crate,kg\n1,18.4\n2,17.9\n")
    (root / "maize/leaf_scoring/scores.csv").write_text("file,score\nDSC_0412.jpg,3\n")
    (root / "wheat/block_b/ripening/Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(508))
    (inbox / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(100))
    (inbox / "._IMG_0412.jpg").write_bytes(b"\0\5\x16\7" + bytes(120))


def _add_doubles(root: Path) -> None:
    """The same photograph once more, edited; and a scene that was taken three times within seconds, in the wind."""
    for folder, name in (("orchard/harvest", "mirrored"), ("rice/paddy_1", "cropped")):
        with Image.open(min((root / folder).glob("*.[jJ][pP]*"))) as photo:
            upright = ImageOps.exif_transpose(photo).convert("RGB")
        if name == "mirrored":
            edited = ImageOps.mirror(upright)
        else:
            wide, high = upright.size
            edited = upright.crop((wide // 20, high // 8, wide // 20 + wide * 17 // 20, high // 8 + high * 17 // 20))
        edited.save(root / folder / f"{name}.jpg", quality=85)
    field = render("maize_rows", random.Random(5), (900, 680))
    for shot in range(3):
        exif = Image.Exif()
        exif[_MAKE], exif[_MODEL] = _CAMERAS[0][:2]
        taken = datetime(2024, 6, 20, 10, 41, 7) + timedelta(seconds=2 * shot)
        exif.get_ifd(_EXIF)[_TAKEN] = taken.strftime("%Y:%m:%d %H:%M:%S")
        moved = in_the_wind(field, 1.5 * shot).crop((40, 40, 860, 640))
        moved.save(root / "maize/rows_june" / f"IMG_{901 + shot:04}.JPG", quality=90, exif=exif)


def _add_wrong_labels(root: Path) -> None:
    """A leaf in the folder of another class, and a photograph that lies in the folders of two."""
    plots, exif = root / "coffee", Image.Exif()
    exif[_MAKE], exif[_MODEL] = _CAMERAS[3][:2]
    rusty = render("coffee_rust", random.Random(8), (640, 480))
    rusty.save(plots / "plot_03/healthy/DSC_0977.jpg", quality=88, exif=exif)
    with Image.open(min((plots / "plot_07/leaf_miner").iterdir())) as photo:
        sent = ImageOps.exif_transpose(photo).convert("RGB")
    sent.save(plots / "plot_07/leaf_spots/IMG-20240614-WA0003.jpg", quality=72)


def in_the_wind(image: Image.Image, phase: float) -> Image.Image:
    """A picture of which every part has moved a little, each elsewhere."""
    wide, high = image.size

    def from_where(x: float, y: float) -> tuple[float, float]:
        across = math.sin(6.2 * y / high + phase + x / wide)
        down = math.cos(5.4 * x / wide + 1.3 * phase + y / high)
        return x + _GUST * wide * across, y + _GUST * high * down

    mesh = []
    for column, row in itertools.product(range(_CELLS), repeat=2):
        left, right = (round(edge * wide / _CELLS) for edge in (column, column + 1))
        top, bottom = (round(edge * high / _CELLS) for edge in (row, row + 1))
        corners = ((left, top), (left, bottom), (right, bottom), (right, top))
        mesh.append(((left, top, right, bottom), tuple(v for corner in corners for v in from_where(*corner))))
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BICUBIC)
