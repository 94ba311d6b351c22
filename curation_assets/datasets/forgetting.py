"""Images that have to go for good, out of the published versions that hold them; those say so from then on."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa

from curation_assets.datasets.versions import LIVE, as_manifest, withdrawn_row
from curation_assets.images.names import printable
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.schemas import DATASETS
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress

_ROWS = 65_536


@dataclass(frozen=True)
class Held:
    """What a version of a dataset has of some images.

    Attributes:
        images: that have a row in it.
        kept: of these, in the dataset.
    """

    dataset: str
    version: int
    images: int
    kept: int


def find_held(table: LakeTable, about: pl.Expr) -> list[Held]:
    """Versions that have a row of an image, by dataset and version.

    Args:
        about: which rows are about one of the images.
    """
    if not table.exists():
        return []
    rows = table.latest().read(["dataset", "version", "kept"], where=about & LIVE)
    counts = rows.group_by("dataset", "version").agg(images=pl.len(), kept=pl.col("kept").sum())
    return [Held(*row) for row in counts.sort("dataset", "version").iter_rows()]


def forget_in_versions(
    table: LakeTable,
    about: pl.Expr,
    mentions: pl.Expr,
    paths: Collection[str],
    progress: Progress,
    *,
    now: datetime | None = None,
) -> None:
    """Let rows go, and the witnesses of others that name one; the version's manifest tells how many there were.

    The content's id stays that of what was published. A version of which nothing is left is withdrawn.

    Args:
        about: which rows are about an image that goes.
        mentions: which other rows name one.
        paths: of the images, which go out of what manifests tell.
        now: written to the manifests.

    Raises:
        CurationError: the table can't be read or written.
    """
    at = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def work(change: Rewrite) -> None:
        (dataset,) = change.writers
        change.base.refuse_broken(dataset)
        rows = change.base.read(["version", "published_at"], dataset, where=LIVE)
        goes = change.base.read(["version", "kept"], dataset, where=about & LIVE)
        named = change.base.read(["version"], dataset, where=mentions & ~about)
        told = _manifests(change.base, dataset, goes, paths, at)
        files = {*named["_file"], *rows.filter(pl.col("version").is_in([*told]))["_file"]}
        base = [file for file in change.base.files(dataset) if file.path in files]
        emptied = _emptied(rows, goes)
        with change.writer.file() as stage:
            for batch in change.base.reader.batches(base, _ROWS):
                stage.write(_without(batch, about, mentions, told))
            if emptied:
                marks = [withdrawn_row(*each, "every image of it was forgotten") for each in emptied]
                stage.write(pa.RecordBatch.from_pylist(marks, DATASETS.file_schema.remove_metadata()))
        change.commit(stage.files, base)

    snapshot = table.latest()
    partition_of = {file.path: file.partition for file in snapshot.named_files()}
    hit = snapshot.read(["version"], where=(about & LIVE) | mentions)["_file"].unique()
    for dataset in sorted({partition_of[file] for file in hit}):
        rewrite(table, dataset, work, info={"job": "forget", "dataset": dataset}, progress=progress)


def _manifests(base: Snapshot, dataset: str, goes: pl.DataFrame, paths: Collection[str], at: str) -> dict[int, str]:
    """Version → its manifest, with what of it is forgotten; of the versions that have some of it."""
    found = {}
    for version, images, kept in goes.group_by("version").agg(images=pl.len(), kept=pl.col("kept").sum()).iter_rows():
        facts: dict[str, Any] = json.loads(
            base.read(["manifest"], dataset, where=pl.col("version") == version)["manifest"][0]
        )
        facts |= {name: without_names(facts[name], paths) for name in ("notes", "gate") if name in facts}
        facts["forgotten"] = [*facts.get("forgotten", []), {"at": at, "images": images, "kept": kept}]
        found[version] = as_manifest(facts)
    return found


def without_names(told: Any, paths: Collection[str]) -> Any:
    """What a manifest tells, without names of images."""
    if isinstance(told, dict):
        return {name: without_names(each, paths) for name, each in told.items()}
    if isinstance(told, list):
        return [without_names(each, paths) for each in told]
    if isinstance(told, str):
        for name in (name for name in map(printable, paths) if name in told):
            told = re.sub(rf"(?<![\w/]){re.escape(name)}(?!\.?[\w/])", "an image that was forgotten", told)
    return told


def _emptied(rows: pl.DataFrame, goes: pl.DataFrame) -> list[tuple[int, datetime]]:
    """Versions of which nothing is left, and when they were published."""
    before = rows.group_by("version").agg(pl.len(), pl.col("published_at").first())
    left = before.join(goes.group_by("version").agg(gone=pl.len()), on="version").filter(
        pl.col("len") == pl.col("gone")
    )
    return list(left.sort("version").select("version", "published_at").iter_rows())


def _without(batch: pa.RecordBatch, about: pl.Expr, mentions: pl.Expr, told: dict[int, str]) -> pa.RecordBatch:
    """Rows that stay, without names of those that go, and with their versions' new manifests."""
    names = sorted({*about.meta.root_names(), *mentions.meta.root_names(), "version", "witness", "manifest"})
    frame = pl.DataFrame(batch.select(names))
    new = frame.select(
        stays=~about,
        witness=pl.when(~mentions).then("witness"),
        manifest=pl.coalesce(pl.col("version").replace_strict(told, default=None, return_dtype=pl.String), "manifest"),
    )
    for name in ("witness", "manifest"):
        at = batch.schema.get_field_index(name)
        field = batch.schema.field(at)
        batch = batch.set_column(at, field, new[name].to_arrow().cast(field.type))
    return batch.filter(new["stays"].to_arrow())
