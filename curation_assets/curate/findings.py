"""What other tables than that of quality tell of an image, as columns that problems are judged by."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

import polars as pl

from curation_assets.curate.problems import (
    BOXES,
    CONFLICTING,
    DISTANCE,
    LABEL_QUALITY,
    MISLABELLED,
    OTHERWISE,
)
from curation_assets.embed.vectors import KEY
from curation_assets.lake.table import LakeTable


class Findings(Protocol):
    """Columns of :data:`~curation_assets.curate.problems.FURTHER`, joined to images when they are judged."""

    def version(self) -> Hashable | None:
        """Changes when what it tells does; None while it tells nothing."""

    def read(self) -> pl.DataFrame:
        """``relative_path``, ``content_sha256`` and its columns, one an image.

        Raises:
            CurationError: a table can't be read.
        """


class OutlierScores:
    """How far images lie from the others."""

    def __init__(self, scores: LakeTable) -> None:
        self._scores = scores

    def version(self) -> Hashable | None:
        """That of the table of scores."""
        newest = self._scores.newest_version()
        return None if newest < 0 else newest

    def read(self) -> pl.DataFrame:
        """The distances."""
        found = self._scores.latest().read([*KEY, "outlier_score"]).drop("_file").unique(KEY, keep="first")
        return found.rename({"outlier_score": DISTANCE})


class IssuesOfLabels:
    """What speaks against labels and boxes, of all fields, but for what a person answered and is asked anew."""

    def __init__(self, label_issues: LakeTable) -> None:
        self._issues = label_issues

    def version(self) -> Hashable | None:
        """That of the table of label issues."""
        newest = self._issues.newest_version()
        return None if newest < 0 else newest

    def read(self) -> pl.DataFrame:
        """The lowest quality of a label, and how much speaks against others."""
        columns = [*KEY, "kind", "label_quality", "number", "asked_again"]
        rows = self._issues.latest().read(columns, where=pl.col("asked_again").is_null()).drop("_file")
        kind, number = pl.col("kind"), pl.col("number").cast(pl.Int64)

        def counted(which: pl.Expr) -> pl.Expr:
            return pl.when(which.any()).then(number.filter(which).sum())

        return rows.group_by(KEY).agg(
            pl.col("label_quality").filter(kind == MISLABELLED).min().alias(LABEL_QUALITY),
            counted(kind == CONFLICTING).alias(OTHERWISE),
            counted(kind.str.starts_with("box_")).alias(BOXES),
        )
