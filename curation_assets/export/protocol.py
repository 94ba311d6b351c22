"""What a format of exports is, and what it is given: the one seam between the job and the formats.

A format says what it can hold (:meth:`Format.check`), where each image goes (:meth:`Format.plan`), and what stands
beside the images (:meth:`Format.finish`). It knows neither tables nor where bytes come from, and formats don't know
each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, ClassVar, Literal, Protocol

import polars as pl

from curation_assets.errors import CurationError
from curation_assets.images.names import printable

Link = Literal["copy", "hard", "symlink"]
LINKS: tuple[Link, ...] = ("copy", "hard", "symlink")
BOX = pl.Struct({name: pl.String if name == "label" else pl.Float64 for name in ("label", "x", "y", "width", "height")})
# What is known of each image that is exported, sorted by path. Width, height and boxes are in pixels of the upright
# image; `kept_apart` is the JSON of what else the boxes' source said; `orientation` is what EXIF says of the stored
# image; null where it isn't known.
_COLUMNS: dict[str, Any] = {
    "relative_path": pl.String,
    "content_sha256": pl.String,
    "labels": pl.List(pl.String),
    "split": pl.String,
    "width": pl.Int32,
    "height": pl.Int32,
    "orientation": pl.Int32,
    "format": pl.String,
    "size_bytes": pl.Int64,
    "boxes": pl.List(BOX),
    "kept_apart": pl.String,
    "data_file": pl.String,
}
IMAGES = pl.Schema(_COLUMNS)
# What the job adds: where the image lies in the export (a file of its own, or a shard and the number in it), of how
# many bytes, and their SHA-256: another than the content's where it was written anew.
PLACES = {"file": pl.String, "row": pl.Int64}
WRITTEN = {"bytes": pl.Int64, "sha256": pl.String}


@dataclass(frozen=True)
class Options:
    """What may be done to the bytes.

    Attributes:
        link: how a file that is as it is on disk comes into the export.
        upright: images that EXIF turns are decoded, turned and encoded anew.
        strip_metadata: nothing but pixels and colour profile is written.
    """

    link: Link = "copy"
    upright: bool = False
    strip_metadata: bool = False

    @property
    def rewrites(self) -> bool:
        """Whether bytes may become others."""
        return self.upright or self.strip_metadata


@dataclass(frozen=True)
class Content:
    """A version of a dataset, and what is asked for of it.

    Attributes:
        manifest: of the version.
        rows: of ``IMAGES``, of the kept ones.
        version_rows: all rows of the version, also those of what is left out, as ``versions.read_version`` gives them.
        card: what people said of the data: licence, sources, citation, limits.
        notes: what a person should know of it.
    """

    dataset: str
    version: int
    manifest: Mapping[str, Any]
    rows: pl.DataFrame
    version_rows: pl.DataFrame
    options: Options = field(default_factory=Options)
    card: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def name(self) -> str:
        """``leaves@2``."""
        return f"{self.dataset}@{self.version}"

    @cached_property
    def classes(self) -> list[str]:
        """All labels, sorted: the number of a class is its place here."""
        labels = self.rows["labels"].explode(keep_nulls=False, empty_as_null=False).unique()
        return sorted(labels.drop_nulls())

    @cached_property
    def sides(self) -> list[str]:
        """Of the split, as it is usual; empty without."""
        found = self.rows["split"].drop_nulls().unique()
        usual = {"train": 0, "val": 1, "test": 2}
        return sorted(found, key=lambda side: (usual.get(side, 3), len(side), side))

    @cached_property
    def box_classes(self) -> list[str]:
        """All labels of boxes, sorted."""
        boxes = self.rows["boxes"].explode(keep_nulls=False, empty_as_null=False)
        return sorted(boxes.struct.field("label").drop_nulls().unique())

    @cached_property
    def is_several(self) -> bool:
        """Whether an image has several labels."""
        return bool((self.rows["labels"].list.len() > 1).any())

    @cached_property
    def has_boxes(self) -> bool:
        """Whether an image has a box."""
        return bool((self.rows["boxes"].list.len() > 0).any())


@dataclass(frozen=True)
class Image:
    """An image as it is written.

    Attributes:
        row: of ``IMAGES`` and ``PLACES``.
        data: of the file: as it was scanned, unless ``Options.rewrites``.
    """

    row: dict[str, Any]
    data: bytes


class Folder(Protocol):
    """Where an export is being written: nothing of it stands under its final name yet."""

    def path(self, name: str) -> Path:
        """Place of a further file, whose folders are there; a format that is one file writes ``ONLY_FILE``."""


class Format(Protocol):
    """A format.

    Attributes:
        name: as ``--to`` has it.
        suffix: of a format that is one file, with its dot: ``.csv``; None: it is a folder.
        is_sharded: whether a file holds many images, written by :meth:`shard`; else every image is a file.
        has_images: whether bytes are written.
    """

    name: ClassVar[str]
    suffix: ClassVar[str | None]
    is_sharded: ClassVar[bool]
    has_images: ClassVar[bool]

    def check(self, content: Content) -> list[str]:
        """Before anything is written: what the format can't hold.

        Returns:
            What is lost, a line each, for people: boxes in a format that holds none, say.

        Raises:
            CurationError: a label, path or option that it can't hold, naming an image.
        """

    def plan(self, content: Content) -> pl.DataFrame:
        """Where each image goes: the rows with ``PLACES``, those of a file one after the other.

        It is a function of the rows alone, so that a killed export goes on from the files that are whole.
        """

    def shard(self, out: IO[bytes], content: Content, images: Iterator[Image]) -> None:
        """Write a file of many images; only of a format that is sharded. Images come once, in the plan's order."""

    def finish(self, content: Content, folder: Folder) -> None:
        """Write what stands beside the images.

        Args:
            content: its rows have ``PLACES`` and, where bytes were written, ``WRITTEN``.
        """


def refuse_several(content: Content, name: str) -> None:
    """Of a format that holds one label an image.

    Raises:
        CurationError: one has several.
    """
    several = content.rows.filter(pl.col("labels").list.len() > 1)
    if len(several):
        labels = ", ".join(printable(label) for label in several["labels"][0])
        raise CurationError(
            f"{name} holds one label an image, and {images_have(len(several))} several, for example "
            f"{printable(several['relative_path'][0])}: {labels}; leave them out by labels.several, or choose a "
            "format that holds several, hf-imagefolder for example"
        )


def refuse_unlabelled(content: Content, name: str) -> None:
    """Of a format that has no place for an image without a label, beside others.

    Raises:
        CurationError: one has none, and others have.
    """
    without = content.rows.filter(pl.col("labels").list.len() == 0)
    if len(without) and len(without) < len(content.rows):
        raise CurationError(
            f"{name} has a folder for each class, and {images_have(len(without))} no label, for example "
            f"{printable(without['relative_path'][0])}; leave them out by labels.unlabelled, or choose another format"
        )


def told_boxes(content: Content, name: str) -> list[str]:
    """What is lost of boxes in a format that holds none."""
    number = int((content.rows["boxes"].list.len() > 0).sum())
    return [f"{name} holds no boxes: those of {number:,} image{'s' * (number != 1)} are not in it"] if number else []


def images_have(number: int) -> str:
    """``an image has``, or ``12 images have``."""
    return "an image has" if number == 1 else f"{number:,} images have"
