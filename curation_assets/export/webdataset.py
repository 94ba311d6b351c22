"""WebDataset: tar files, in which all that begins alike is one sample: the image, its class, and what else is known."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from io import BytesIO
from typing import IO, Any, ClassVar

import polars as pl

from curation_assets.export.folders import told_rare
from curation_assets.export.names import ENDINGS, folder_names
from curation_assets.export.protocol import Content, Folder, Image, images_have
from curation_assets.export.rewriting import as_format, shown_turned
from curation_assets.export.shards import in_shards
from curation_assets.export.staging import new_file

_CLASSES = "classes.json"
_OF_SAMPLE = ("relative_path", "content_sha256", "labels", "split", "width", "height", "orientation", "boxes")


class WebDataset:
    """``train-00000-of-00012.tar``, with ``<hash>.jpg``, ``<hash>.cls`` and ``<hash>.json`` of each image.

    ``.cls`` is the number of its class in ``classes.json``, where it has one label. Sizes and boxes of ``.json`` are of
    the upright image; its ``orientation`` is what the reader, which shows the stored one, has to turn it by.
    """

    name: ClassVar[str] = "webdataset"
    suffix: ClassVar[str | None] = None
    is_sharded: ClassVar[bool] = True
    has_images: ClassVar[bool] = True

    def check(self, content: Content) -> list[str]:  # noqa: D102
        folder_names(content.sides, "side")
        turned = content.rows.select(shown_turned().sum()).item() if not content.options.upright else 0
        told = f"images that EXIF turns: {turned:,}, which readers show as they are stored; --upright turns them"
        notes = [told] if turned else []
        if several := int((content.rows["labels"].list.len() > 1).sum()):
            notes.append(f"{images_have(several)} several labels: they are in .json, and there is no .cls")
        return [*notes, *told_rare(content)]

    def plan(self, content: Content) -> pl.DataFrame:  # noqa: D102
        turned = shown_turned() & (not content.options.upright)
        return in_shards(content, ".tar").with_columns(is_turned=turned)

    def shard(self, out: IO[bytes], content: Content, images: Iterator[Image]) -> None:  # noqa: D102
        numbers = {label: at for at, label in enumerate(content.classes)}
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for image in images:
                row = image.row
                # Equal bytes may lie at several paths; a key may hold no dot, at which the reader cuts.
                key = f"{row['content_sha256'][:32]}-{row['row']:06}"
                _add(tar, f"{key}.{_ending(row, upright=content.options.upright)}", image.data)
                if len(row["labels"]) == 1:
                    _add(tar, f"{key}.cls", str(numbers[row["labels"][0]]).encode())
                facts = {name: row[name] for name in _OF_SAMPLE}
                facts["orientation"] = row["orientation"] if row["is_turned"] else 1
                _add(tar, f"{key}.json", json.dumps(facts, ensure_ascii=False, sort_keys=True).encode())

    def finish(self, content: Content, folder: Folder) -> None:  # noqa: D102
        shards: dict[str, list[str]] = {}
        for split, file in content.rows.select("split", "file").unique(maintain_order=True).iter_rows():
            shards.setdefault(split or "train", []).append(file)
        about = {"classes": content.classes, "shards": shards}
        with new_file(folder.path(_CLASSES)) as out:
            out.write(json.dumps(about, indent=2, ensure_ascii=False).encode() + b"\n")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """A member that is the same whenever and by whomever it is written."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, BytesIO(data))


def _ending(row: dict[str, Any], *, upright: bool) -> str:
    """By content: it is how the reader knows what decodes it."""
    kind = row["format"]
    if upright:
        kind = pl.DataFrame([row], {"format": pl.String, "orientation": pl.Int32}).select(as_format()).item()
    return ENDINGS[kind][0] if kind in ENDINGS else row["relative_path"].rpartition(".")[2].lower()
