"""Plain folders: a side, in it a folder for each class, in it the images, as torch's ``ImageFolder`` reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, ClassVar

import polars as pl

from curation_assets.export.names import file_names, folder_names
from curation_assets.export.protocol import (
    Content,
    Folder,
    Image,
    refuse_several,
    refuse_unlabelled,
    told_boxes,
)
from curation_assets.export.rewriting import as_format


class Folders:
    """``side/class/name.jpg``; without sides or labels that level is absent."""

    name: ClassVar[str] = "folders"
    suffix: ClassVar[str | None] = None
    is_sharded: ClassVar[bool] = False
    has_images: ClassVar[bool] = True

    def check(self, content: Content) -> list[str]:  # noqa: D102
        refuse_several(content, self.name)
        refuse_unlabelled(content, self.name)
        folder_names(content.classes, "label")
        folder_names(content.sides, "side")
        return [*told_boxes(content, self.name), *told_rare(content)]

    def plan(self, content: Content) -> pl.DataFrame:  # noqa: D102
        return in_folders(content, by_class=True)

    def shard(self, out: IO[bytes], content: Content, images: Iterator[Image]) -> None:  # noqa: D102
        raise NotImplementedError

    def finish(self, content: Content, folder: Folder) -> None:
        """Nothing: the list of the export has what folders don't say."""


def in_folders(
    content: Content, *, by_class: bool, without_sides: str = "", below: str = "", own_stem: bool = False
) -> pl.DataFrame:
    """Rows of images with ``PLACES``: a file each, in a folder of their side and, perhaps, of their class.

    Args:
        without_sides: folder of a version that has no sides.
        below: folder that those of the sides are in.
        own_stem: no two names of a folder are alike but for their endings.
    """
    sides, classes = folder_names(content.sides, "side"), folder_names(content.classes, "label")
    rows = content.rows.sort("split", pl.col("labels").list.first(), "relative_path")
    folders = []
    for split, labels in rows.select("split", "labels").iter_rows():
        parts = [below, sides[split] if split is not None else without_sides]
        parts += [classes[labels[0]]] if by_class and labels else []
        folders.append("/".join(part for part in parts if part))
    formats = rows.select(as_format() if content.options.upright else pl.col("format")).to_series()
    names = file_names(folders, rows["relative_path"].to_list(), formats.to_list(), own_stem=own_stem)
    return rows.with_columns(file=pl.Series(names, dtype=pl.String), row=pl.lit(None, pl.Int64))


def told_rare(content: Content) -> list[str]:
    """Images of formats that few readers open."""
    rare = content.rows.filter(pl.col("format").is_in(["HEIF", "AVIF", "JXL"]))
    kinds = ", ".join(sorted(rare["format"].unique()))
    return [f"{len(rare):,} images are {kinds}, which many readers don't open"] if len(rare) else []
