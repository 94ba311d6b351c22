"""Options that several commands take, and what they mean: settings, the pipeline, keys of images."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation_assets.commands.output import err
from curation_assets.errors import CurationError
from curation_assets.images.names import text_from_path
from curation_assets.stores.address import UNMOUNTED, StoreAddress, is_address
from curation_assets.stores.volumes import VolumeAddress, without_mark

if TYPE_CHECKING:
    import polars as pl

    from curation_assets.pipeline import Pipeline
    from curation_assets.search.filters import Filter
    from curation_assets.settings import Settings

ImagesOption = Annotated[
    str | None, typer.Option("--images", help="Tree of image folders, on a disk or in a store [CURATION_IMAGES_ROOT].")
]
LakeOption = Annotated[
    str | None, typer.Option("--lake", help="Where the tables lie, a folder or in a store [CURATION_LAKE_ROOT].")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print a machine-readable summary.")]
FolderOption = Annotated[
    list[str] | None, typer.Option("--folder", help="Only this folder and what is below it; repeatable.")
]
FoldersOption = Annotated[
    list[str] | None,
    typer.Option("--folders", help="Only this folder (relative to the root) and what is below it; repeatable."),
]
NameOption = Annotated[str | None, typer.Option("--name", help="Part of the path.")]
CameraOption = Annotated[str | None, typer.Option("--camera", help="Part of make and model.")]
_EVERYTHING = 10**9  # images
_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
FromOption = Annotated[datetime | None, typer.Option("--from", formats=_DATES, help="Captured then or later (UTC).")]
ToOption = Annotated[datetime | None, typer.Option("--to", formats=_DATES, help="Captured before then (UTC).")]
MinSideOption = Annotated[int | None, typer.Option("--min-side", help="Pixels of the shorter side.")]
GpsOption = Annotated[bool | None, typer.Option("--gps/--no-gps", help="Only images that say where, or don't.")]
WhereOption = Annotated[
    str | None, typer.Option("--where", help="A condition in SQL: \"width > 1000 AND camera LIKE 'DJI%'\".")
]
ModelOption = Annotated[
    str | None, typer.Option("--model-version", help="Search with another version than the champion.")
]
AsOfOption = Annotated[int | None, typer.Option("--as-of", help="Version of the embeddings table to search as of.")]


def settings_of(images: str | None, lake: str | None, **given: Any) -> Settings:
    """Settings, with what is given on the command line before them; None is not given.

    Paths are taken from the working directory, as a shell user means them.
    """
    from curation_assets.settings import load_settings

    paths = {"images_root": images, "lake_root": lake}
    absolute = {k: _absolute(v) for k, v in paths.items() if v is not None}
    return load_settings(**absolute, **{k: v for k, v in given.items() if v is not None})


def _absolute(place: str) -> Path | str:
    return place if is_address(place) else Path(os.path.abspath(os.path.expanduser(place)))


def place_of(option: str, text: str) -> Path | StoreAddress:
    """What an option names: a file or folder, from the working directory, or something in a store.

    Raises:
        CurationError: it is no address.
    """
    if not is_address(text):
        return Path(os.path.abspath(text))
    try:
        return VolumeAddress.parse(text) if text.startswith(UNMOUNTED) else StoreAddress.parse(text)
    except ValueError as error:
        raise CurationError(f"{option}: {error}") from None


def pipeline_of(settings: Settings) -> Pipeline:
    """The pipeline, whose modules are imported only now: ``--help`` needs none of them."""
    from curation_assets.pipeline import Pipeline

    return Pipeline(settings)


def texts_of(folders: list[str] | None) -> list[str] | None:
    """Folders as the tables name them."""
    return None if folders is None else [text_from_path(folder) for folder in folders]


def filter_of(**conditions: Any) -> Filter:
    """The conditions that are given; None is not given."""
    from curation_assets.search.filters import make_filter

    return make_filter(**conditions)


def meeting(pipeline: Pipeline, rows: pl.DataFrame, chosen: Filter) -> pl.DataFrame:
    """Rows with ``relative_path`` of images that meet conditions; that is asked of the index, as in a search."""
    if not chosen:
        return rows
    found = pipeline.searcher.search((), _EVERYTHING, filter=chosen)
    if found.behind:
        err.print(f"note: {found.behind}", markup=False, soft_wrap=True)
    return rows.join(found.rows.select("relative_path"), on="relative_path", how="semi", maintain_order="left")


def folder_of(given: str, root: str) -> str:
    """The name of a folder as the tables have it, of the ways in which a shell may write it."""
    given = without_mark(given)
    if is_address(given):
        return given.rstrip("/").removeprefix(root).lstrip("/") or "."
    path = os.path.normpath(given) if given else "."
    inside = path == root or path.startswith(root + os.sep)
    return text_from_path(os.path.relpath(path, root) if inside else path)


def folders_of(pipeline: Pipeline, given: list[str]) -> list[str]:
    """The image folders of the tables that names stand for: each itself, and all below it.

    Raises:
        CurationError: a name stands for none.
    """
    from curation_assets.images.walk import is_within

    tables = [table for table in pipeline.tables.there if table.spec.partition_column == "folder"]
    known = {folder for table in tables for folder in table.latest().folders}
    found: dict[str, None] = {}
    for name in (folder_of(each, str(pipeline.settings.images_root)) for each in given):
        below = sorted(folder for folder in known if is_within(folder, name))
        if not below:
            raise CurationError(f"no image folder {name!r} in {pipeline.tables.directory.path}; `curation run` adds it")
        found |= dict.fromkeys(below)
    return list(found)


def keys_of(settings: Settings, file: str) -> list[str]:
    """Keys that an argument may mean: as given, and the path on disk made relative to the root."""
    file = without_mark(file)
    keys = [text_from_path(file)]
    if isinstance(settings.images_root, StoreAddress):
        below = settings.images_root.below(file)
        return keys if below is None else [below]
    absolute = os.path.abspath(file)
    root = str(settings.images_root)
    if absolute.startswith(root + os.sep):
        keys.append(text_from_path(os.path.relpath(absolute, root)))
    real, real_root = os.path.realpath(file), os.path.realpath(root)
    if real.startswith(real_root + os.sep):  # through a link, to where the file really lies
        keys.append(text_from_path(os.path.relpath(real, real_root)))
    return list(dict.fromkeys(keys))
