"""Questions about labels that people have answered, and what counts of labels beside the predictions."""

from __future__ import annotations

import polars as pl

from curation_assets.annotations.standing import DECIDED, INHERITED
from curation_assets.decisions.kinds import QUALITY, UNSURE
from curation_assets.decisions.standing import Decisions

_OF = ["relative_path", "content_sha256", "field"]


def by_person(counts: pl.DataFrame) -> pl.DataFrame:
    """Path, content and field of labels that a person gave, also to a near copy.

    Args:
        counts: what counts of labels, with the ``source`` of each.
    """
    return counts.filter(pl.col("source").is_in([DECIDED, INHERITED])).select(_OF)


def unsure_of(decisions: Decisions) -> pl.DataFrame:
    """Content and field of labels of which a person can't tell."""
    unsure = decisions.rows.filter((pl.col("kind") == UNSURE) & (pl.col("field") != QUALITY))
    return unsure.select("content_sha256", "field").unique()


def without_answered(rows: pl.DataFrame, counts: pl.DataFrame, decisions: Decisions) -> pl.DataFrame:
    """Rows whose label no person gave, was unsure of, or kept the picture of; in their order.

    Args:
        rows: with path, content and field.
        counts: as of :func:`by_person`.
    """
    rows = rows.join(by_person(counts), on=_OF, how="anti", maintain_order="left")
    rows = rows.join(unsure_of(decisions), on=["content_sha256", "field"], how="anti", maintain_order="left")
    return rows.join(decisions.kept(), on="content_sha256", how="anti", maintain_order="left")
