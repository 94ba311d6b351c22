"""YOLO: images, a text file of boxes beside each, and ``data.yaml``, as Ultralytics' reader has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, ClassVar

import polars as pl

from curation_assets.errors import CurationError
from curation_assets.export.boxes import check_boxes, within
from curation_assets.export.folders import in_folders, told_rare
from curation_assets.export.names import folder_names
from curation_assets.export.protocol import Content, Folder, Image
from curation_assets.export.staging import new_file

_KEYS = ("path", "nc", "names", "download", "channels")  # of data.yaml, beside which sides stand
_ALL = "train"  # the folder of a version that has no sides


class Yolo:
    """``images/side/name.jpg`` and ``labels/side/name.txt``: class, centre and size in shares of the image's sides.

    They are of the upright image, as the reader turns it by EXIF. An image without boxes has an empty file.
    """

    name: ClassVar[str] = "yolo"
    suffix: ClassVar[str | None] = None
    is_sharded: ClassVar[bool] = False
    has_images: ClassVar[bool] = True

    def check(self, content: Content) -> list[str]:  # noqa: D102
        folder_names(content.sides, "side")
        for side in content.sides:
            # The reader looks for boxes where the last `images` of a path is `labels`.
            if side in (*_KEYS, "images"):
                raise CurationError(f"yolo can't hold a side called {side!r}: its reader means something else by that")
        notes = check_boxes(content, self.name)
        if content.sides and "val" not in content.sides:
            notes.append("there is no side val, which a training asks for: data.yaml names none")
        if masks := int(content.rows["kept_apart"].str.contains("segmentation|polygons").sum()):
            notes.append(f"masks of {masks:,} images are not in it, the boxes around them are")
        return [*notes, *told_rare(content)]

    def plan(self, content: Content) -> pl.DataFrame:  # noqa: D102
        return in_folders(content, by_class=False, below="images", without_sides=_ALL, own_stem=True)

    def shard(self, out: IO[bytes], content: Content, images: Iterator[Image]) -> None:  # noqa: D102
        raise NotImplementedError

    def finish(self, content: Content, folder: Folder) -> None:  # noqa: D102
        classes = content.box_classes
        numbers = {name: at for at, name in enumerate(classes)}
        columns = ["file", "width", "height", "boxes"]
        for file, width, height, boxes in content.rows.select(columns).iter_rows():
            lines = []
            for label, x, y, across, down in within(boxes, width, height):
                shares = ((x + across / 2) / width, (y + down / 2) / height, across / width, down / height)
                lines.append(f"{numbers[label]} {' '.join(f'{share:.9g}' for share in shares)}\n")
            stem = file.removeprefix("images/").rpartition(".")[0]
            with new_file(folder.path(f"labels/{stem}.txt")) as out:
                out.write("".join(lines).encode())
        sides = folder_names(content.sides, "side") or {_ALL: _ALL}
        told = [f"{_quoted(side)}: {_quoted(f'images/{name}')}\n" for side, name in sides.items()]
        names = [f"  {at}: {_quoted(name)}\n" for name, at in numbers.items()]
        with new_file(folder.path("data.yaml")) as out:
            out.write(f"# {content.name}\n{''.join(told)}nc: {len(classes)}\nnames:\n{''.join(names)}".encode())


def _quoted(text: str) -> str:
    """A scalar of YAML 1.2, whatever is in it."""
    kept = (char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08X}" for char in text)
    return f'"{"".join(kept)}"'
