"""What the table of pairs tells of two images beside each other: how that was found, and what was done to one."""

from __future__ import annotations

from typing import Any

import polars as pl

from curation_assets.curate.duplicates.overview import described
from curation_assets.lake.table import LakeTable

_TOLD = ["first", "second", "method", "transform"]
BYTES = "bytes"  # what tells of images of one content


def with_pairs(rows: pl.DataFrame, one: str, other: str, pairs: LakeTable) -> pl.DataFrame:
    """Rows with ``method`` and ``transform`` of the pair that two contents are; null where they are none.

    Args:
        one, other: columns of the contents.
    """
    ends = {"first": pl.min_horizontal(one, other), "second": pl.max_horizontal(one, other)}
    asked = rows.with_columns(**ends)
    if pairs.exists():
        contents = pl.concat([asked["first"], asked["second"]]).drop_nulls().unique().implode()
        where = pl.col("first").is_in(contents) & pl.col("second").is_in(contents)
        found = pairs.latest().read(_TOLD, where=where).drop("_file")
    else:
        found = pl.DataFrame(schema=pl.Schema(pairs.spec.arrow_schema)).select(_TOLD)
    asked = asked.join(
        found.unique(["first", "second"], keep="last"), on=["first", "second"], how="left", maintain_order="left"
    )
    same = pl.when(pl.col(one) == pl.col(other)).then(pl.lit(BYTES))
    return asked.with_columns(method=pl.coalesce(same, "method")).drop("first", "second")


def how(row: dict[str, Any], one: str, other: str) -> str | None:
    """What was done to one of two to get the other, in words; null where nothing tells.

    Args:
        row: of :func:`with_pairs`.
        one, other: columns of the contents: of the first what it is told of, of the second what stands for it.
    """
    transform = row["transform"]
    if row["method"] == BYTES:
        return "the same bytes"
    if transform is None or transform["x"] is None:
        return None
    return described(transform, keeper_is_first=row[other] < row[one])
