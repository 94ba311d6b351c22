"""The real photographs: which there are, what each shows, and which are never trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation_assets.images.decode import open_image, orientation_of, upright_rgb
from training.captions import real_class

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "crop_photos"
MAX_PIXELS = 200_000_000
_NEAR = 6  # bits of 256 in which the gradient hashes of two files of one picture may differ


@dataclass(frozen=True)
class Photograph:
    """One distinct content.

    Attributes:
        path: its first file by name.
        labels: classes, as in ``training.captions``: several where copies lie in several folders.
        sha256: hash of the file.
    """

    path: Path
    labels: tuple[str, ...]
    sha256: str

    @property
    def held_out(self) -> bool:
        """Every fifth content, by its hash: all copies of a file are on one side."""
        return int(self.sha256[:8], 16) % 5 == 0

    def image(self) -> Image.Image:
        """The picture, upright RGB, as the pipeline decodes it."""
        opened = open_image(self.path.read_bytes(), MAX_PIXELS)
        return upright_rgb(opened, orientation_of(opened))


def photographs(folder: Path = FOLDER) -> list[Photograph]:
    """Every distinct content under a folder whose class is known, sorted by hash."""
    found: dict[str, Photograph] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        label = real_class(path.relative_to(folder).as_posix())
        if label is not None:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            known = found.setdefault(digest, Photograph(path, (), digest))
            found[digest] = replace(known, labels=tuple(sorted({*known.labels, label})))
    return [found[digest] for digest in sorted(found)]


def split(found: Sequence[Photograph], hashes: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Which photographs to train on, and which are held out.

    A photograph that looks almost like a held-out one (the same picture at another size or compression) is in
    neither: trained on, it would give the held-out one away.

    Args:
        found: n photographs.
        hashes: (n, 256), their gradient hashes.

    Returns:
        Indices to train on, indices held out.
    """
    held_out = [index for index, photo in enumerate(found) if photo.held_out]
    secret = hashes[held_out]
    rest = [index for index, photo in enumerate(found) if not photo.held_out]
    return [index for index in rest if (secret != hashes[index]).sum(axis=1).min() > _NEAR], held_out


def gradient_hash(image: Image.Image) -> NDArray[np.bool_]:
    """(256,) bits: whether brightness rises between neighbours of a 17 x 16 thumbnail."""
    values = np.asarray(image.convert("L").resize((17, 16)), np.int16)
    return (values[:, 1:] > values[:, :-1]).ravel()
