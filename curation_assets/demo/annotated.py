"""What is said of the sample's photographs: classes by their folders, splits drawn by chance; and a recipe."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import polars as pl

from curation_assets.files import write_whole
from curation_assets.images.listing import list_folders

RECIPE = "leaves.toml"
_SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def sources(splits: Path) -> list[dict[str, Any]]:
    """The sources of annotations, as ``ANNOTATIONS`` has them.

    Args:
        splits: file of :func:`write_splits`.
    """
    return [
        {"source": "folders", "from": "folders", "pattern": "coffee/*/{class}/*"},
        {"source": "splits", "from": "csv", "path": str(splits)},
    ]


def write_recipe(folder: Path) -> Path:
    """Put the recipe of the sample's dataset into a folder, unless it is there; its file."""
    target = folder / RECIPE
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(target, (Path(__file__).parent / RECIPE).read_bytes())
    return target


def write_splits(root: Path, file: Path) -> None:
    """Draw a split for every image file of a tree, unless the file is there.

    One by one, as it is often done: so copies and bursts come to lie on two sides.
    """
    if file.exists():
        return
    rng = random.Random(3)
    paths = sorted(path for folder in list_folders(root).folders.values() for path in folder.files["relative_path"])
    drawn = rng.choices(list(_SHARES), list(_SHARES.values()), k=len(paths))
    write_whole(file, pl.DataFrame({"relative_path": paths, "split": drawn}).write_csv().encode())
