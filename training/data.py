"""Pictures for training as tensors, kept in a cache folder so that a second start takes seconds."""

from __future__ import annotations

import hashlib
import inspect
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from curation_assets.demo.render import render
from curation_assets.demo.scenes import SCENES
from training.photographs import Photograph, gradient_hash, photographs, split

EDGE = 160  # pixels of the shortest edge as stored: views are cut from it
_LONGEST = 2  # times the shortest edge; the rest of a longer picture is cut off evenly
RENDERED_SEED, HELD_OUT_SEED = "train", "held out"


@dataclass
class Pictures:
    """Pictures and what they show.

    Attributes:
        pixels: of each, (3, height, width) uint8, shortest edge ``EDGE``.
        labels: classes of each.
    """

    pixels: list[torch.Tensor]
    labels: list[tuple[str, ...]]


def real_pictures(folder: Path, cache: Path) -> Pictures:
    """The real photographs to train on; the held-out ones are never decoded to more than their hash."""
    found = photographs(folder)
    key = _digest(*(photo.sha256 for photo in found))
    hashes = np.stack(_cached(cache / f"hashes-{key}.pt", lambda: _parallel(_hash_of, found)))
    train, _ = split(found, hashes)
    chosen = [found[index] for index in train]
    key = _digest(EDGE, _LONGEST, *(photo.sha256 for photo in chosen))
    pixels = _cached(cache / f"real-{key}.pt", lambda: _parallel(_pixels_of, chosen))
    return Pictures([torch.from_numpy(p) for p in pixels], [photo.labels for photo in chosen])


def rendered_pictures(per_scene: int, cache: Path, seed: str = RENDERED_SEED) -> Pictures:
    """Drawn pictures of every scene."""
    wanted = [(scene, index) for scene in SCENES for index in range(per_scene)]
    drawing = sorted(Path(inspect.getfile(render)).parent.glob("*.py"))
    key = _digest(EDGE, _LONGEST, seed, per_scene, *(path.read_text() for path in drawing))
    pixels = _cached(cache / f"rendered-{key}.pt", lambda: _parallel(partial(_render, seed), wanted))
    return Pictures([torch.from_numpy(p) for p in pixels], [(scene,) for scene, _ in wanted])


def rendered_image(scene: str, index: int, seed: str) -> Image.Image:
    """One drawn picture; the same arguments draw the same one."""
    rng = random.Random(f"{seed} {scene} {index}")
    width, height = rng.choice([(200, 200), (220, 176), (176, 220), (256, 192)])
    return render(scene, rng, (width, height))


def _render(seed: str, wanted: tuple[str, int]) -> NDArray[np.uint8]:
    return _stored(rendered_image(*wanted, seed))


def _hash_of(photo: Photograph) -> NDArray[np.bool_]:
    return gradient_hash(photo.image())


def _pixels_of(photo: Photograph) -> NDArray[np.uint8]:
    return _stored(photo.image())


def _stored(image: Image.Image) -> NDArray[np.uint8]:
    scale = EDGE / min(image.size)
    width, height = (max(EDGE, round(side * scale)) for side in image.size)
    left, top = max(0, width - _LONGEST * EDGE) // 2, max(0, height - _LONGEST * EDGE) // 2
    box = (left / scale, top / scale, image.width - left / scale, image.height - top / scale)
    size = (width - 2 * left, height - 2 * top)
    resized = image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def _parallel(work: Callable[..., NDArray], items: Sequence[object]) -> list[NDArray]:
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return list(pool.map(work, items, chunksize=32))


def _digest(*parts: object) -> str:
    """Names a cache by everything it was made from."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


def _cached(file: Path, make: Callable[[], list[NDArray]]) -> list[NDArray]:
    if file.is_file():
        kept: list[NDArray] = torch.load(file, weights_only=False)
        return kept
    made = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    staged = file.with_suffix(".tmp")
    torch.save(made, staged)
    staged.replace(file)
    return made
