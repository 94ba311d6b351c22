"""The table of groups brought in line with pairs, images and what people said: written when something differs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from curation_assets.annotations.record import read_rows
from curation_assets.curate.duplicates.groups import KINDS, Words, group_rows
from curation_assets.curate.duplicates.rows import merge_files, replace_rows
from curation_assets.decisions.standing import Decisions
from curation_assets.lake import hive
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.schemas import GROUPS
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress

_FACTS = ["relative_path", "content_sha256", "size_bytes", "width", "height", "captured_at", "modified_at", "status"]
_READ = list(GROUPS.arrow_schema.names)
_KEY = list(GROUPS.key)


@dataclass
class Grouping:
    """What bringing the groups in line did.

    Attributes:
        groups: kind → how many there are now.
        images: kind → images in them.
        changed: rows that are new or other than before, and rows that went.
        version: of the table of groups.
        directory_version: of the table of images that they are groups of.
    """

    groups: dict[str, int] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    changed: int = 0
    commits: int = 0
    version: int = -1
    directory_version: int = -1
    seconds: float = 0.0


def bring_groups_in_line(
    directory: LakeTable,
    pairs: LakeTable,
    quality: LakeTable,
    annotations: LakeTable,
    groups: LakeTable,
    decisions: Decisions,
    order: Sequence[str],
    progress: Progress,
) -> Grouping:
    """Form the groups, and write them if they are not those of the table.

    Args:
        decisions: what people said of images.
        order: of the criteria of keepers.

    Raises:
        CurationError: a table can't be read or written.
    """
    started = time.perf_counter()
    result = Grouping()

    def work(change: Rewrite) -> None:
        images = directory.latest()
        rows, changed = formed(images, pairs.latest(), quality, annotations, change.base, decisions, order)
        result.directory_version = images.version
        result.groups = {kind: rows.filter(pl.col("kind") == kind)["group_id"].n_unique() for kind in KINDS}
        result.images = {kind: int((rows["kind"] == kind).sum()) for kind in KINDS}
        result.changed = len(changed)
        if not len(changed):
            return
        new = rows.join(changed, on=_KEY, how="semi", maintain_order="left")
        broken = [file for file, _ in change.base.broken()]
        result.commits += replace_rows(change, _KEY, changed, new, leaving=broken)
        result.commits += merge_files(change)

    result.version = rewrite(groups, hive.WHOLE, work, info={"job": "groups"}, progress=progress).version
    result.seconds = time.perf_counter() - started
    return result


def formed(
    directory: Snapshot,
    pairs: Snapshot,
    quality: LakeTable,
    annotations: LakeTable,
    groups: Snapshot,
    decisions: Decisions,
    order: Sequence[str],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of the groups as they should be; and keys of those that are new, other than before, gone or doubled."""
    images = ranking_facts(directory, quality, annotations, decided(decisions))
    found = pairs.read(["first", "second", "kind", "similarity", "method"])
    before = groups.read(_READ).select(_READ)
    words = Words(decisions.same_pairs(), decisions.different_pairs())
    rows = group_rows(images, found, words, order, before, datetime.now(UTC))
    differing = rows.join(before, on=_READ, how="anti", nulls_equal=True).select(_KEY)
    gone = before.join(rows, on=_KEY, how="anti").select(_KEY)
    doubled = before.filter(pl.struct(_KEY).is_duplicated()).select(_KEY)  # by another writer
    return rows, pl.concat([differing, gone, doubled]).unique()


def decided(decisions: Decisions) -> pl.DataFrame:
    """What people said of images: ``relative_path`` (null: wherever the content lies), ``content_sha256``, ``decided``.

    Who was chosen to be kept comes first, the last chosen before others; who was to be removed comes last.
    """
    columns = ["relative_path", "content_sha256"]
    chosen = decisions.keepers().select(*columns, decided=2 + pl.int_range(pl.len()))
    kept = decisions.kept_duplicates().select(*columns, decided=pl.lit(1))
    spare = decisions.removed_duplicates().select(*columns, decided=pl.lit(-1))
    bad = decisions.removed().select(
        pl.lit(None, pl.String).alias("relative_path"), "content_sha256", decided=pl.lit(-2)
    )
    return pl.concat([frame.cast({"decided": pl.Int32}) for frame in (chosen, kept, spare, bad)])


def ranking_facts(directory: Snapshot, quality: LakeTable, annotations: LakeTable, said: pl.DataFrame) -> pl.DataFrame:
    """Every usable image: ``relative_path``, ``content_sha256`` and the columns of ``keepers.CRITERIA``.

    Args:
        said: of :func:`decided`.
    """
    rows = directory.read(_FACTS)
    rows = rows.filter(pl.col("status") == "ok").drop("_file", "status").unique("relative_path", keep="first")
    sharp = pl.DataFrame(schema={"content_sha256": pl.String, "sharpness": pl.Float32})
    if quality.exists():
        sharp = quality.latest().read(["content_sha256", "sharpness"]).drop("_file")
    rows = rows.join(sharp.unique("content_sha256", keep="first"), on="content_sha256", how="left")
    of_path = said.drop_nulls("relative_path").unique(["relative_path", "content_sha256"], keep="first")
    of_content = said.filter(pl.col("relative_path").is_null()).select("content_sha256", of_all="decided")
    rows = rows.join(of_path, on=["relative_path", "content_sha256"], how="left")
    rows = rows.join(of_content.unique("content_sha256"), on="content_sha256", how="left")
    of_image = ["relative_path", "content_sha256"]
    labelled = read_rows(annotations, pl.col("values").is_not_null(), of_image).unique()
    rows = rows.join(labelled.with_columns(annotated=pl.lit(1, pl.Int32)), on=of_image, how="left")
    pixels = pl.col("width").cast(pl.Int64) * pl.col("height")
    return rows.select(
        "relative_path",
        "content_sha256",
        "sharpness",
        decided=pl.coalesce("decided", "of_all", pl.lit(0)),
        annotated=pl.col("annotated").fill_null(0),
        pixels=pixels,
        bytes_a_pixel=pl.col("size_bytes") / pixels,
        taken_at=pl.coalesce("captured_at", "modified_at"),
    )
