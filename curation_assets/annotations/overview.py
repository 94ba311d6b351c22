"""What there is: of each source how much it says, and where sources disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from curation_assets.annotations.record import KEY, labels_of, read_rows
from curation_assets.annotations.standing import conflicts, in_order
from curation_assets.lake.table import LakeTable

_READ = [*KEY, "values", "split", "content_sha256", "annotated_at"]


@dataclass
class SourceField:
    """What a source says of one field.

    Attributes:
        images: with a row.
        labels: images with each label, the most first.
        splits: images in each split.
        boxes: how many there are.
        waiting: rows whose image is gone or has another content; they don't count, and are not counted here.
        annotated_at: of the newest row.
    """

    source: str
    field: str
    images: int
    labels: dict[str, int]
    splits: dict[str, int]
    boxes: int
    waiting: int
    annotated_at: datetime | None


def overview(directory: LakeTable, annotations: LakeTable, order: Sequence[str]) -> list[SourceField]:
    """Of each source, the first that counts before others, and field, what it says."""
    rows = read_rows(annotations, columns=_READ).join(_boxes(annotations), on=KEY, how="left")
    here = rows.join(images_of(directory), on=["relative_path", "content_sha256"], how="semi")
    found = []
    for source in in_order(rows["source"].unique().to_list(), order):
        for field in sorted(rows.filter(pl.col("source") == source)["field"].unique()):
            every = rows.filter(pl.col("source").eq(source) & pl.col("field").eq(field))
            mine = here.filter(pl.col("source").eq(source) & pl.col("field").eq(field))
            counts = labels_of(mine)["label"].value_counts().sort("count", "label", descending=[True, False])
            splits = mine["split"].drop_nulls().value_counts().sort("count", "split", descending=[True, False])
            newest = every["annotated_at"].max()
            found.append(
                SourceField(
                    source,
                    field,
                    len(mine),
                    dict(counts.iter_rows()),
                    dict(splits.iter_rows()),
                    int(mine["boxes"].sum()),
                    len(every) - len(mine),
                    newest if isinstance(newest, datetime) else None,
                )
            )
    return found


def disagreements(directory: LakeTable, annotations: LakeTable) -> pl.DataFrame:
    """Where sources disagree: as :func:`~curation_assets.annotations.standing.conflicts` gives it."""
    rows = read_rows(annotations, columns=[*KEY, "values", "content_sha256"])
    return conflicts(rows, images_of(directory))


def images_of(directory: LakeTable) -> pl.DataFrame:
    """``relative_path`` and ``content_sha256`` of all images."""
    return directory.latest().read(["relative_path", "content_sha256"]).drop("_file")


def _boxes(annotations: LakeTable) -> pl.DataFrame:
    """How many boxes each row has: they are large, and only counted."""
    if not annotations.exists():
        return pl.DataFrame(schema=dict.fromkeys(KEY, pl.String) | {"boxes": pl.UInt32})
    scanned = annotations.latest().scan([*KEY, "boxes"])
    return scanned.select(*KEY, pl.col("boxes").list.len()).collect(engine="streaming").unique(KEY, keep="first")
