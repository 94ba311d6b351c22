"""YOLO's label files: a line an object, beside images in folders of splits, with a ``data.yaml`` or a list of names."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation_assets.annotations.formats.documents import json_text, read_yaml
from curation_assets.annotations.said import Faults, Said, said_frame
from curation_assets.errors import CurationError, explained
from curation_assets.images.names import text_from_path

_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}  # keys of data.yaml, names of folders
_NAMES_FILES = ("classes.txt", "obj.names")
_NO_LABELS = {*_NAMES_FILES, "train.txt", "val.txt", "valid.txt", "test.txt", "readme.txt", "notes.txt"}


@dataclass(frozen=True)
class _LabelFile:
    """A label file; ``names`` of its image without the ending, the longer first."""

    path: Path
    names: tuple[str, str]
    split: str | None


def read_yolo(path: Path, field: str) -> Said:
    """What label files say: those of the folders that ``data.yaml`` names, else all below a folder.

    A line is ``class x y width height``, in shares of the image's sides, or ``class x1 y1 x2 y2 …``, a polygon, which
    is kept apart beside the box around it. An empty file says that there is nothing; an image without one is not
    spoken of.

    Args:
        path: ``data.yaml``, or a folder with it or with ``classes.txt``.
        field: of the classes.

    Raises:
        CurationError: there are no names, or no label files.
    """
    if path.is_dir():
        there = [path / name for name in ("data.yaml", "data.yml", "dataset.yaml", *_NAMES_FILES)]
        found = next((file for file in there if file.is_file()), None)
        if found is None:
            raise CurationError(f"{path}: no data.yaml and no classes.txt, so the classes have no names")
        path = found
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    if not is_yaml and path.name not in _NAMES_FILES and path.suffix != ".names":
        raise CurationError(f"{path}: give data.yaml, {' or '.join(_NAMES_FILES)}, or the folder of one")
    if is_yaml:
        names, files = _of_yaml(path)
    else:
        with explained(UnicodeDecodeError, lambda reason: f"{path} can't be read: {reason}"):
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        names = {at: line.strip() for at, line in enumerate(lines) if line.strip()}
        files = list(_below(path.parent, path.parent, None))
    if not files:
        raise CurationError(f"{path}: there are no label files (.txt) in the folders that it names")
    faults = Faults(str(path.parent))
    rows: dict[str, list[Any]] = {
        name: [] for name in ("name", "other_name", "field", "values", "split", "boxes", "kept_apart")
    }
    for file in files:
        boxes, polygons = _read(file.path, names, faults, path.parent)
        rows["name"].append(file.names[0])
        rows["other_name"].append(file.names[1])
        rows["field"].append(field)
        rows["values"].append(list(dict.fromkeys(box["label"] for box in boxes)))
        rows["split"].append(file.split)
        rows["boxes"].append(boxes)
        apart = {"format": "yolo", "polygons": polygons} if any(each is not None for each in polygons) else None
        rows["kept_apart"].append(None if apart is None else json_text(apart))
    places = [os.path.relpath(file.path, path.parent) for file in files]
    number = sum(text is not None for text in rows["kept_apart"])
    notes = [f"polygons of {number:,} files are kept apart, beside the boxes around them"] if number else []
    return Said(said_frame(rows), lambda row: places[row], faults, "shares", is_stem=True, notes=notes)


def _of_yaml(path: Path) -> tuple[dict[int, str], list[_LabelFile]]:
    said = read_yaml(path)
    given = said.get("names") if isinstance(said, dict) else None
    if isinstance(given, list):
        given = dict(enumerate(given))
    if not isinstance(given, dict) or not given or not all(isinstance(key, int) for key in given):
        raise CurationError(f"{path}: names is a list of classes, or numbers and names")
    root = path.parent
    if isinstance(said.get("path"), str):
        root = Path(os.path.normpath(root / said["path"]))
        if not root.is_dir():  # it often names a place of another machine
            root = path.parent
    files: dict[Path, _LabelFile] = {}
    for key, split in _SPLITS.items():
        for place in _list(said.get(key)):
            folder = Path(os.path.normpath(root / str(place)))
            if not folder.is_dir() and str(place).startswith("../"):  # as one service writes it, from a folder below
                folder = Path(os.path.normpath(root / str(place)[3:]))
            if folder.suffix == ".txt" or not _labels_of(folder).is_dir():
                raise CurationError(f"{path}: {key} is {str(place)!r}, and there is no folder {_labels_of(folder)}")
            files |= {file.path: file for file in _below(_labels_of(folder), root, split)}
    return {key: str(name) for key, name in given.items()}, list(files.values())


def _list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _labels_of(images: Path) -> Path:
    """Folder of the labels of a folder of images: the last ``images`` in its path is ``labels``."""
    parts = list(images.parts)
    for at in range(len(parts) - 1, -1, -1):
        if parts[at] == "images":
            return Path(*parts[:at], "labels", *parts[at + 1 :])
    return images


def _below(folder: Path, root: Path, split: str | None) -> Iterator[_LabelFile]:
    """Label files in a folder and below, in order."""
    for above, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if not name.endswith(".txt") or name.lower() in _NO_LABELS:
                continue
            file = Path(above, name)
            stem = text_from_path(os.path.relpath(file, root))[: -len(".txt")].split("/")
            parts = ["images" if part == "labels" else part for part in stem]
            of = split or next((_SPLITS[part] for part in stem[:-1] if part in _SPLITS), None)
            yield _LabelFile(file, ("/".join(parts), stem[-1]), of)


def _read(
    path: Path, names: dict[int, str], faults: Faults, root: Path
) -> tuple[list[dict[str, Any]], list[list[float] | None]]:
    """Boxes of a label file, and beside each its polygon."""
    boxes: list[dict[str, Any]] = []
    polygons: list[list[float] | None] = []
    place = os.path.relpath(path, root)
    try:
        lines = path.read_text().splitlines()
    except (UnicodeDecodeError, OSError) as error:
        faults.add(f"{place}: it can't be read: {getattr(error, 'strerror', None) or 'no text'}")
        return boxes, polygons
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts:
            continue
        at = f"{place}, line {number}"
        try:
            told = float(parts[0])
            values = [float(part) for part in parts[1:]]
        except ValueError:
            faults.add(f"{at}: {line.strip()[:60]!r} is not numbers")
            continue
        if not told.is_integer() or int(told) not in names:
            faults.add(f"{at}: there is no class {parts[0]}; the names go to {max(names)}")
        elif not all(map(math.isfinite, values)):
            faults.add(f"{at}: {line.strip()[:60]!r} is not numbers")
        elif len(values) == 5:
            faults.add(f"{at}: six numbers are a prediction with its confidence, and no annotation")
        elif len(values) < 4 or (len(values) > 4 and (len(values) % 2 or len(values) < 6)):
            faults.add(f"{at}: {len(parts)} numbers are neither a box (5) nor a polygon")
        else:
            is_box = len(values) == 4
            x, y, width, height = values if is_box else _around(values)
            label = names[int(told)]
            boxes.append({"label": label, "x": x - width / 2, "y": y - height / 2, "width": width, "height": height})
            polygons.append(None if is_box else values)
    return boxes, polygons


def _around(polygon: list[float]) -> tuple[float, float, float, float]:
    xs, ys = polygon[::2], polygon[1::2]
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys)
