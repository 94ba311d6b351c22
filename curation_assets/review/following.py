"""What is brought in line after people decided: groups and their keepers, and what speaks against labels."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from curation_assets.decisions import kinds
from curation_assets.decisions.record import Row
from curation_assets.errors import attempted
from curation_assets.lake.table import LakeTable
from curation_assets.pipeline import Pipeline
from curation_assets.progress import Progress

_AT_ONCE = 100_000  # annotations whose issues are found in some two seconds
_OF_LABELS = (kinds.RELABEL, kinds.UNSURE, kinds.SAME, kinds.DIFFERENT)


def follow_decisions(pipeline: Pipeline, rows: Sequence[Row], progress: Progress) -> str | None:
    """Let groups and keepers follow, where there are any, and label issues where decisions have a part in them.

    Of very many annotations label issues would take as long as a person does not wait for one decision: ``problems``
    says that they are behind.

    Args:
        rows: that were added to the table of decisions.

    Returns:
        Why the label issues could not be brought in line; None where they are, or are left.

    Raises:
        CurationError: a table of groups can't be read or written.
    """
    rows = [row for row in rows if row["kind"] not in kinds.TAGGING]  # nothing follows from those
    if not rows:
        return None
    tables = pipeline.tables
    if tables.groups.exists() and _concern_groups(rows, tables.groups):
        pipeline.group(progress)
    if not any(row["kind"] in _OF_LABELS and row["field"] != kinds.QUALITY for row in rows):
        return None
    are_there = tables.label_issues.exists() and tables.annotations.exists()
    if not are_there or tables.annotations.latest().rows() > _AT_ONCE:
        return None
    return attempted(lambda: pipeline.find_label_issues(progress))[1]


def _concern_groups(rows: Sequence[Row], groups: LakeTable) -> bool:
    """Whether groups may be others by decisions: those on pictures that are in none change nothing of them."""
    contents = [row["content_sha256"] for row in rows]
    if any(row["field"] != kinds.QUALITY for row in rows):
        return True
    in_groups = groups.latest().read(["content_sha256"], where=pl.col("content_sha256").is_in(contents))
    return len(in_groups) > 0
