"""Which images of a folder lack a vector, which vectors can be copied, and which rows have to go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed.vectors import KEY, MODEL_COLUMNS, is_current
from curation_assets.lake import layout
from curation_assets.lake.snapshot import DataFile, Snapshot, TableReader, partitions_in_parts

# Columns that an embeddings row takes over from the directory table.
CARRIED = ("file_path", "relative_path", "file_name", "size_bytes", "created_at", "content_sha256", "pixels_as")
_OTHERS = [column for column in CARRIED if column not in KEY]
MERGED_BYTES = 128 * 2**20


@dataclass
class EmbedPlan:
    """What an embedding run of one folder has to do.

    Attributes:
        pending: rows without a vector of this model version: ``CARRIED`` and ``_file``, the file of the directory
            table that holds the image. The same content may stand in several rows.
        rewrite: files of the embeddings table with rows that go or change.
        keep: their rows that stay: ``relative_path``, ``model_version`` and the other ``CARRIED`` values of now.
        removed: how many rows go because their image changed or vanished.
        current: how many rows already have their vector.
    """

    pending: pl.DataFrame
    rewrite: list[DataFile]
    keep: pl.DataFrame
    removed: int
    current: int


@dataclass(frozen=True)
class Work:
    """A folder's plan together with where its vectors come from; an engine carries it out.

    Attributes:
        directory: reads the directory table; ``embeddings`` the embeddings table.
        plan: what has to go, stay and be made.
        copies: pending rows whose content has a vector, with ``_file_from`` and ``relative_path_from`` of it.
        sources: the files that those name.
        todo: one pending row of each content that has none anywhere yet, in the order they are stored.
    """

    folder: str
    model: RegisteredModel
    directory: TableReader
    embeddings: TableReader
    plan: EmbedPlan
    copies: pl.DataFrame
    sources: dict[str, DataFile]
    todo: pl.DataFrame

    @property
    def moves_rows(self) -> bool:
        """Whether rows have to go, change or be copied before or without any encoding."""
        return bool(self.plan.rewrite) or len(self.copies) > 0


def plan_embed(directory: Snapshot, embeddings: Snapshot, folder: str, model: RegisteredModel) -> EmbedPlan:
    """Compare a folder's two tables, small columns only.

    A row of the embeddings table is good if its image still stands in the directory table with the same content, of
    which the same picture is made, and its vector is not another model's under the number of this version (a registry
    made anew counts from 1 again); where only a path, name or time differs, the row is written anew with its vector
    kept.
    """
    images, matched = _compare(directory, embeddings, model, [folder])
    touched = set(matched.filter(pl.col("_gone") | pl.col("_differs"))["_file"].to_list())
    keep = matched.filter(~pl.col("_gone") & pl.col("_file").is_in(list(touched)))
    has_vector = matched.filter(~pl.col("_gone") & is_current(model))
    return EmbedPlan(
        pending=images.join(has_vector, on="relative_path", how="anti"),
        rewrite=[file for file in embeddings.files(folder) if file.path in touched],
        keep=keep.select(*KEY, "model_version", *(pl.col(f"{c}_now").alias(c) for c in _OTHERS)),
        removed=int(matched["_gone"].sum()),
        current=len(has_vector),
    )


def folders_behind(directory: Snapshot, embeddings: Snapshot, model: RegisteredModel) -> list[str]:
    """Folders for which :func:`plan_embed` would find something to do, sorted."""
    behind: set[str] = set()
    for folders in partitions_in_parts(directory, embeddings):
        images, matched = _compare(directory, embeddings, model, folders)
        has_vector = matched.filter(~pl.col("_gone") & is_current(model))
        behind.update(images.join(has_vector, on=["folder", "relative_path"], how="anti")["folder"])
        behind.update(matched.filter(pl.col("_gone") | pl.col("_differs"))["folder"])
    return sorted(behind)


def _compare(
    directory: Snapshot, embeddings: Snapshot, model: RegisteredModel, folders: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Usable images; and rows of the embeddings table, with what their image's row holds now (``…_now``)."""
    columns = [*CARRIED, "folder"]
    images = directory.read([*columns, "status"], files=directory.files_of(folders))
    images = images.filter(pl.col("status") == "ok").drop("status")
    rows = embeddings.read([*columns, *MODEL_COLUMNS], files=embeddings.files_of(folders))
    now = images.select("folder", *KEY, *(pl.col(c).alias(f"{c}_now") for c in _OTHERS))
    matched = rows.join(now, on=["folder", *KEY], how="left", maintain_order="left")
    differs = pl.any_horizontal(pl.col(c).ne_missing(pl.col(f"{c}_now")) for c in _OTHERS)
    usurped = (pl.col("model_version") == model.version) & ~is_current(model)
    other_picture = pl.col("pixels_as").ne_missing(pl.col("pixels_as_now"))
    gone = pl.col("file_path_now").is_null() | usurped | other_picture
    return images, matched.with_columns(_gone=gone, _differs=differs)


def merges(files: Iterable[DataFile]) -> list[list[DataFile]]:
    """Small files of a folder to join, each list of at most ``MERGED_BYTES``; none while they are few."""
    small = layout.small_files(files)
    if len(small) <= layout.SMALL_FILES:
        return []
    bins: list[list[DataFile]] = [[]]
    held = 0
    for file in small:
        if bins[-1] and held + file.size_bytes > MERGED_BYTES:
            bins.append([])
            held = 0
        bins[-1].append(file)
        held += file.size_bytes
    return [files for files in bins if len(files) > 1]
