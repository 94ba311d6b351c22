"""Which images may be mined: each that may not has the first reason that holds."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from curation_assets.curate.duplicates.groups import Words
from curation_assets.curate.leakage import TEST_NAMES, leaks
from curation_assets.datasets.versions import checked_version
from curation_assets.lake.table import LakeTable

NOT_ASKED, NO_VECTOR, NOT_EXAMINED, REMOVED = "does not meet the conditions", "no vector", "not examined", "removed"
TEST, FAILED, LABELLED, COPY = "test", "failed", "labelled", "copy"
_ROW = ["relative_path", "content_sha256"]
_FREE = "free"  # the side of what isn't held, in looking for what shows the same as that


def like(reason: str) -> str:
    """The reason of an image that shows the same as one that is left aside."""
    return f"shows the same as {reason}"


def in_test(datasets: LakeTable, splits: pl.DataFrame) -> pl.DataFrame:
    """Images that lie on a test side of any version, or that annotations say are test: path and content.

    Args:
        splits: ``relative_path``, ``content_sha256`` and ``split`` of annotations, as they count.
    """
    tested = pl.col("split").str.to_lowercase().is_in(TEST_NAMES)
    parts = [splits.filter(tested).select(_ROW)]
    if datasets.exists():
        rows = datasets.latest().read([*_ROW, "split"], where=pl.col("kept") & tested)
        parts.append(rows.select(_ROW))
    return pl.concat(parts).unique()


def kept_by(datasets: LakeTable, named: Sequence[tuple[str, int | None]]) -> dict[str, pl.DataFrame]:
    """What versions keep: ``leaves@2`` → path and content.

    Args:
        named: dataset and version; None: the newest.

    Raises:
        CurationError: there is no such dataset or version.
    """
    found = {}
    for dataset, version in named:
        number = checked_version(datasets, dataset, version)
        rows = datasets.latest().read(_ROW, dataset, where=(pl.col("version") == number) & pl.col("kept"))
        found[f"{dataset}@{number}"] = rows.select(_ROW)
    return found


def set_aside(images: pl.DataFrame, which: pl.Expr, reason: str | pl.Expr) -> pl.DataFrame:
    """Give images that have no reason yet, and for which something holds, a reason."""
    told = pl.lit(reason) if isinstance(reason, str) else reason
    holds = pl.col("reason").is_null() & which.fill_null(value=False)
    return images.with_columns(reason=pl.when(holds).then(told).otherwise("reason"))


def set_aside_with_kin(
    images: pl.DataFrame, held: pl.DataFrame, reason: str, groups: pl.DataFrame, pairs: pl.DataFrame, words: Words
) -> pl.DataFrame:
    """The same of images whose content is held, and of what shows the same photograph or scene as one of them.

    Args:
        images: of the lake, with ``reason``.
        held: path and content of images, in the lake or not.
        groups, pairs: rows of the tables.
        words: of people on pairs.
    """
    contents = held["content_sha256"].unique()
    images = set_aside(images, pl.col("content_sha256").is_in(contents.implode()), reason)
    free = images.filter(pl.col("reason").is_null())
    if not len(free) or not len(contents):
        return images
    sides = pl.concat(
        [
            free.select(*_ROW, split=pl.lit(_FREE)),
            held.unique("content_sha256", keep="any").select(*_ROW, split=pl.lit("held")),
        ]
    ).with_columns(label=pl.lit(None, pl.String))
    kin = leaks(sides, groups, pairs, words).images.filter(pl.col("split") == _FREE)["relative_path"]
    return set_aside(images, pl.col("relative_path").is_in(kin.implode()), like(reason))
