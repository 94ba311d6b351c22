"""COCO's object detection: a JSON a side, and the images beside it, as pycocotools and torch's readers have them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any, ClassVar

import polars as pl

from curation_assets.export.boxes import as_stored, check_boxes
from curation_assets.export.folders import in_folders, told_rare
from curation_assets.export.names import folder_names
from curation_assets.export.protocol import Content, Folder, Image
from curation_assets.export.rewriting import is_turned, shown_turned
from curation_assets.export.staging import new_file


class Coco:
    """``images/side/name.jpg`` and ``annotations/instances_side.json``, whose ``file_name`` is within that folder.

    Sizes and boxes are of the picture as it is stored, as its readers don't turn it by EXIF.
    """

    name: ClassVar[str] = "coco"
    suffix: ClassVar[str | None] = None
    is_sharded: ClassVar[bool] = False
    has_images: ClassVar[bool] = True

    def check(self, content: Content) -> list[str]:  # noqa: D102
        folder_names(content.sides, "side")
        notes = check_boxes(content, self.name)
        if lost := sum(_others(row) for row in content.rows["kept_apart"]):
            notes.append(f"{lost:,} annotations of a source, crowds or without a place, are not in it")
        if lost := int(
            (content.rows["kept_apart"].str.contains('"segmentation"', literal=True) & _turns(content.rows)).sum()
        ):
            notes.append(f"masks of {lost:,} images are not in it, as EXIF turns those")
        return [*notes, *told_rare(content)]

    def plan(self, content: Content) -> pl.DataFrame:  # noqa: D102
        return in_folders(content, by_class=False, below="images")

    def shard(self, out: IO[bytes], content: Content, images: Iterator[Image]) -> None:  # noqa: D102
        raise NotImplementedError

    def finish(self, content: Content, folder: Folder) -> None:  # noqa: D102
        sides = folder_names(content.sides, "side")
        numbers = {name: at for at, name in enumerate(content.box_classes, 1)}
        for split, name in [*sides.items(), (None, "")]:
            rows = content.rows.filter(pl.col("split").eq_missing(split))
            if len(rows):
                of_side = f"images/{name}/" if name else "images/"
                with new_file(folder.path(f"annotations/instances{f'_{name}' if name else ''}.json")) as out:
                    _write(out, content, rows, of_side, numbers)


def _write(out: IO[bytes], content: Content, rows: pl.DataFrame, below: str, numbers: dict[str, int]) -> None:
    """One document, image by image."""
    licence = content.card.get("licence")
    about = {
        "info": {"description": content.name, "version": str(content.version)},
        "licenses": [{"id": 1, "name": licence, "url": ""}] if licence else [],
        "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()],
    }
    out.write(_text(about)[:-1].encode() + b',\n"images":[')
    stored = as_stored(rows, upright=content.options.upright)
    turns = _turns(rows).to_list()
    stays = rows.select(shown_turned() & (not content.options.upright)).to_series().to_list()
    for number, row in enumerate(stored.iter_rows(named=True), 1):
        image: dict[str, Any] = {
            "id": number,
            "file_name": row["file"].removeprefix(below),
            "width": row["width"],
            "height": row["height"],
            "relative_path": row["relative_path"],
            "content_sha256": row["content_sha256"],
            "labels": row["labels"],
        }
        image |= {"boxes_in": "stored"} if stays[number - 1] else {}
        out.write(f"{',' if number > 1 else ''}\n{_text(image | ({'license': 1} if licence else {}))}".encode())
    out.write(b'\n],\n"annotations":[')
    at = 0
    for number, row in enumerate(stored.iter_rows(named=True), 1):
        beside = _beside(row) if not turns[number - 1] else {}
        for place, box in enumerate(row["boxes"]):
            at += 1
            annotation = {
                "id": at,
                "image_id": number,
                "category_id": numbers[box["label"]],
                "bbox": [_number(box[name]) for name in ("x", "y", "width", "height")],
                "area": _number(box["width"] * box["height"]),
                "iscrowd": 0,
            } | beside.get(place, {})
            out.write(f"{',' if at > 1 else ''}\n{_text(annotation)}".encode())
    out.write(b"\n]}\n")


def _beside(row: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """What a source in this format had beside each box: its mask and the mask's area."""
    kept = json.loads(row["kept_apart"]) if row["kept_apart"] else {}
    boxes = kept.get("boxes", ()) if kept.get("format") == "coco" else ()
    if len(boxes) != len(row["boxes"]):
        return {}
    wanted = ("segmentation", "area")
    return {at: {name: box[name] for name in wanted if name in box} for at, box in enumerate(boxes)}


def _others(kept_apart: str | None) -> int:
    kept = json.loads(kept_apart) if kept_apart else {}
    return len(kept.get("others", ())) if kept.get("format") == "coco" else 0


def _turns(rows: pl.DataFrame) -> pl.Series:
    """Which images EXIF turns."""
    return rows.select(is_turned()).to_series()


def _number(value: float) -> float:
    """Without ``.0``."""
    return int(value) if float(value).is_integer() else value


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
