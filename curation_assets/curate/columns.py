"""What curation knows of an image, as columns that join an index: for conditions, orders, pages and exports."""

from __future__ import annotations

from collections.abc import Hashable

import polars as pl
import pyarrow as pa

from curation_assets.curate.measuring import MEASURED
from curation_assets.curate.overview import as_decided, judged_rows
from curation_assets.curate.problems import KINDS, Thresholds, problem_names
from curation_assets.lake.schemas import Column
from curation_assets.lake.table import LakeTable
from curation_assets.search.attachments import TableSource
from curation_assets.search.filters import PROBLEMS
from curation_assets.search.index import SearchIndex

QUALITY_COLUMNS = (*MEASURED, "aspect_ratio")


def quality_source(quality: LakeTable) -> TableSource:
    """Scores of the quality table."""
    return TableSource(quality, {name: name for name in QUALITY_COLUMNS})


class ProblemSource:
    """The verdicts: ``problems``, as ``blurry, dark``; null where there is none, or it is kept by a person's word."""

    is_shown = True
    columns = (Column(PROBLEMS, pa.string(), f"of {', '.join(KINDS)}"),)

    def __init__(self, quality: LakeTable, limits: Thresholds, decisions: LakeTable) -> None:
        self._quality = quality
        self._decisions = decisions
        self._limits = limits

    def version(self, index: SearchIndex) -> Hashable | None:  # noqa: ARG002
        """The newest ones of the quality table and of the decisions."""
        newest = self._quality.newest_version()
        return None if newest < 0 else (newest, self._decisions.newest_version())

    def read(self, index: SearchIndex) -> pl.DataFrame:  # noqa: ARG002
        """Pictures that have a problem."""
        rows = as_decided(judged_rows(self._quality, self._limits, self._decisions))
        found = rows.select("relative_path", "content_sha256").with_columns(problem_names(rows))
        return found.drop_nulls(PROBLEMS)
