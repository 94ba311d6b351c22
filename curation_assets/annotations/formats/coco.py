"""COCO's JSON of object detection: boxes; what else an annotation has is kept apart, as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curation_assets.annotations.formats.documents import json_text, number_of, read_json
from curation_assets.annotations.said import Faults, Said, said_frame
from curation_assets.errors import CurationError

_OF_IMAGE = ("file_name", "width", "height", "boxes_in")  # the rest of an image is kept apart
_LISTS = ("images", "annotations", "categories")


def read_coco(path: Path, field: str) -> Said:
    """What a COCO file says: every image that it lists, with the names of its categories and their boxes.

    An annotation with ``iscrowd`` marks many things at once and one without ``bbox`` has no place: their labels count,
    they are kept apart, and no box is made of them. An image without annotations has none of the things.

    Args:
        field: of the categories.

    Raises:
        CurationError: it can't be read, or is no such file.
    """
    document = read_json(path)
    if not isinstance(document, dict) or not all(isinstance(document.get(name), list) for name in _LISTS):
        raise CurationError(f"{path} is no COCO file: it needs the lists {', '.join(_LISTS)}")
    faults = Faults(str(path))
    names = _names(document["categories"], faults)
    images = _images(document["images"], faults)
    boxes: dict[Any, list[dict[str, Any]]] = {key: [] for key in images}
    values: dict[Any, dict[str, None]] = {key: {} for key in images}
    boxed: dict[Any, list[Any]] = {key: [] for key in images}  # beside each box
    unboxed: dict[Any, list[Any]] = {key: [] for key in images}
    known: set[Any] = set()
    crowds = 0
    for at, one in enumerate(document["annotations"]):
        if (fault := _fault(one, at, known, images, names)) is not None:
            faults.add(fault)
            continue
        known.add(one["id"])
        image, label = one["image_id"], names[one["category_id"]]
        values[image][label] = None
        rest = {name: value for name, value in one.items() if name not in ("image_id", "bbox")}
        if one.get("iscrowd") or one.get("bbox") is None:
            crowds += 1
            unboxed[image].append(rest | ({"bbox": one["bbox"]} if one.get("bbox") is not None else {}))
            continue
        x, y, width, height = map(float, one["bbox"])
        boxes[image].append({"label": label, "x": x, "y": y, "width": width, "height": height})
        boxed[image].append(rest)
    places = list(images)
    rows: dict[str, list[Any]] = {
        "name": [image["file_name"] for image in images.values()],
        "field": [field] * len(images),
        "values": [list(labels) for labels in values.values()],
        "boxes": list(boxes.values()),
        "kept_apart": [
            json_text(
                {
                    "format": "coco",
                    "image": {name: value for name, value in image.items() if name not in _OF_IMAGE},
                    "boxes": boxed[key],
                    "others": unboxed[key],
                }
            )
            for key, image in images.items()
        ],
        "stated_width": [image.get("width") for image in images.values()],
        "stated_height": [image.get("height") for image in images.values()],
        "is_stored": [True if image.get("boxes_in") == "stored" else None for image in images.values()],
    }
    notes = [f"{crowds:,} annotations are crowds or have no bbox: kept apart, without a box"] if crowds else []
    if left := [name for name in document if name not in _LISTS and document[name]]:
        notes.append(f"{', '.join(left)} of the file are of no image, and not taken over")
    if any(set(each) - {"id", "name"} for each in document["categories"] if isinstance(each, dict)):
        notes.append("of the categories only the names and ids are taken over")
    return Said(said_frame(rows), lambda row: f"image {places[row]!r}", faults, notes=notes)


def _names(categories: list[Any], faults: Faults) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for at, one in enumerate(categories):
        key, name = (one.get("id"), one.get("name")) if isinstance(one, dict) else (None, None)
        if not _is_id(key) or not isinstance(name, str) or not name.strip():
            faults.add(f"categories[{at}]: it needs an id and a name")
        elif key in found:
            faults.add(f"categories[{at}]: the id {key!r} is there twice")
        else:
            found[key] = name
    return found


def _images(images: list[Any], faults: Faults) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for at, one in enumerate(images):
        key, name = (one.get("id"), one.get("file_name")) if isinstance(one, dict) else (None, None)
        sizes = [one.get("width"), one.get("height")] if isinstance(one, dict) else []
        if not _is_id(key) or not isinstance(name, str) or not name:
            faults.add(f"images[{at}]: it needs an id and a file_name")
        elif key in found:
            faults.add(f"images[{at}]: the id {key!r} is there twice, for {found[key]['file_name']} and {name}")
        elif not all(each is None or (isinstance(each, int) and each > 0) for each in sizes):
            faults.add(
                f"images[{at}]: width and height of {name} are whole numbers of pixels, not {sizes[0]!r}, {sizes[1]!r}"
            )
        else:
            found[key] = one
    return found


def _fault(one: Any, at: int, known: set[Any], images: dict[Any, Any], names: dict[Any, str]) -> str | None:
    place = f"annotations[{at}]"
    if not isinstance(one, dict) or not _is_id(one.get("id")):
        return f"{place}: it needs an id"
    if one["id"] in known:
        return f"{place}: the id {one['id']!r} is there twice"
    place = f"annotation {one['id']!r}"
    if not _is_id(one.get("image_id")) or one["image_id"] not in images:
        return f"{place}: there is no image with the id {one.get('image_id')!r}"
    if not _is_id(one.get("category_id")) or one["category_id"] not in names:
        return f"{place}: there is no category with the id {one.get('category_id')!r}"
    box = one.get("bbox")
    if box is not None and (not isinstance(box, list) or len(box) != 4 or not all(map(number_of, box))):
        return f"{place}: bbox {box!r} is not four numbers: x, y, width, height"
    return None


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)
