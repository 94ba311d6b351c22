"""Where annotations come from: a format, its files or pattern, and how they are to be read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from curation_assets.annotations.fields import check_field
from curation_assets.annotations.said import DEFAULT_FIELD, Said
from curation_assets.annotations.standing import DECIDED, INHERITED
from curation_assets.errors import CurationError
from curation_assets.lake.snapshot import Snapshot

Format = Literal["folders", "csv", "parquet", "coco", "yolo", "label-studio"]
FORMATS: tuple[str, ...] = get_args(Format)
_NAME = re.compile(r"[^\s,][^,\n]{0,199}")


class Source(BaseModel):
    """A source of annotations, as the command or the setting names it.

    Attributes:
        source: its name; unset: the file's name, or ``folders``.
        format: ``folders``, ``csv``, ``parquet``, ``coco``, ``yolo`` or ``label-studio``; None: only its place in the
            order is named, and whoever likes imports it.
        path: file or folder; of all formats but ``folders``.
        pattern: of paths, of ``folders``.
        field: columns that are fields (csv, parquet), or what the labels of the file are of.
        separator: between several values in a cell, of csv and parquet.
        split: of all images that the file names, where it doesn't say it.
        annotator: of a Label Studio export with several: whose words.
        orientation: ``stored`` where boxes are of pictures that EXIF's orientation has not turned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    source: str = ""
    format: Format | None = Field(None, alias="from")
    path: Path | None = None
    pattern: str | None = None
    field: tuple[str, ...] = ()
    separator: str | None = Field(None, min_length=1)
    split: str | None = Field(None, min_length=1)
    annotator: str | None = Field(None, min_length=1)
    orientation: Literal["upright", "stored"] = "upright"

    @field_validator("field", mode="before")
    @classmethod
    def _one_is_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("field")
    @classmethod
    def _can_be_named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(check_field(name) for name in value)
        except CurationError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _whole(self) -> Source:
        if self.format == "folders" and (self.pattern is None or self.path is not None):
            raise ValueError("folders take a pattern of paths, for example {class}/*, and no file")
        if self.format not in (None, "folders") and (self.path is None or self.pattern is not None):
            raise ValueError(f"{self.format} takes a file, and no pattern")
        if self.format is None and not self.source:
            raise ValueError(f"say what it is from: {', '.join(FORMATS)}")
        for name, of in (("separator", ("csv", "parquet")), ("annotator", ("label-studio",))):
            if getattr(self, name) is not None and self.format not in of:
                raise ValueError(f"{name} is of {' and '.join(of)}")
        if len(self.field) > 1 and self.format not in ("csv", "parquet"):
            raise ValueError("several fields are of csv and parquet")
        if not _NAME.fullmatch(self.name) or self.name in (DECIDED, INHERITED):
            raise ValueError(f"a source can't be called {self.name!r}")
        return self

    @property
    def name(self) -> str:
        """What it is called in the table."""
        return self.source or (self.path.name if self.path is not None else "folders")


def make_source(**given: Any) -> Source:
    """A source of what a user wrote; None is not given.

    Raises:
        CurationError: it is not whole, or something of it can't be used.
    """
    try:
        return Source(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        told = [
            f"{'.'.join(map(str, problem['loc'])).replace('format', 'from')}: " * bool(problem["loc"])
            + problem["msg"].removeprefix("Value error, ")
            for problem in error.errors()
        ]
        raise CurationError(f"source of annotations: {'; '.join(told)}") from None


def read_source(source: Source, directory: Snapshot) -> Said:
    """What a source says.

    Raises:
        CurationError: a file of it can't be read.
        OSError: the system says so.
    """
    said = _read(source, directory)
    if source.split is not None:
        said.rows = said.rows.with_columns(split=pl.col("split").fill_null(source.split))
    return said


def _read(source: Source, directory: Snapshot) -> Said:
    field = source.field[0] if source.field else DEFAULT_FIELD
    if source.format == "folders":
        from curation_assets.annotations.formats.folders import read_folders

        return read_folders(directory, str(source.pattern), field)
    if source.path is None:
        raise CurationError(f"source {source.name!r} names no file")
    if source.format in ("csv", "parquet"):
        from curation_assets.annotations.formats import tables

        read = tables.read_csv if source.format == "csv" else tables.read_parquet
        return read(source.path, source.field, source.separator)
    if source.format == "coco":
        from curation_assets.annotations.formats.coco import read_coco

        return read_coco(source.path, field)
    if source.format == "yolo":
        from curation_assets.annotations.formats.yolo import read_yolo

        return read_yolo(source.path, field)
    from curation_assets.annotations.formats.label_studio import read_label_studio

    return read_label_studio(source.path, source.field, field, source.annotator)
