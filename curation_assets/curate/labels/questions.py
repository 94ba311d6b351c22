"""What people are asked about labels, and when what they answered is another question by now."""

from __future__ import annotations

import polars as pl

from curation_assets.curate.problems import CONFLICTING, MISLABELLED
from curation_assets.decisions.kinds import QUALITY, RELABEL, UNSURE
from curation_assets.decisions.standing import Decisions

ISSUES = (MISLABELLED, CONFLICTING)
TOLD = ["given", "suggested", "label_quality", "number", "evidence"]
# Rows of the table of decisions that say something of a label.
IS_OF_LABEL = (pl.col("kind") == RELABEL) | ((pl.col("kind") == UNSURE) & (pl.col("field") != QUALITY))
_LABEL = ["relative_path", "content_sha256", "field"]
_FALL = 0.5  # of the quality of a label: any new fit moves the small ones that are asked about by a tenth


def likely(limit: float) -> pl.Expr:
    """Rows of the table of label issues that people are asked about.

    Args:
        limit: quality of a label below which it is likely wrong; others are doubted, and not asked about.
    """
    return (pl.col("kind") == CONFLICTING) | ((pl.col("kind") == MISLABELLED) & (pl.col("label_quality") < limit))


def questions(rows: pl.DataFrame) -> pl.DataFrame:
    """One row a label of those rows that :func:`likely` chose, in no order.

    Returns:
        Path, content and field, ``given``, ``suggested``, ``label_quality``, ``number``, ``evidence``, ``reason``, and
        ``issues``, of :data:`ISSUES`. Where both kinds tell something, what a conflict tells comes first.
    """
    rows = rows.unique([*_LABEL, "kind"], keep="first").sort(*_LABEL, pl.col("kind") == MISLABELLED)
    return rows.group_by(_LABEL, maintain_order=True).agg(
        *(pl.col(name).drop_nulls().first() for name in TOLD),
        issues=pl.col("kind"),
        reason=pl.col("reason").str.join("; "),
    )


def are_others(asked: pl.DataFrame, decisions: Decisions) -> pl.Series:
    """Of each question whether a person answered another one: what they were shown is not what it is now.

    It is another question if a label is suggested that wasn't in question, or the label that counts is another one than
    was shown and than they said. Of a label that they kept, or couldn't tell, it is also if its quality fell to less
    than half, it is doubted in another way, or more images conflict with it. A label that was answered without a page
    that shows all this is not asked about again.

    Args:
        asked: of :func:`questions`.
    """
    shown = pl.col("shown").str
    said = decisions.rows.filter(IS_OF_LABEL).select(
        "content_sha256",
        "field",
        "value",
        _issues=shown.json_path_match("$.issues"),
        _given=shown.json_path_match("$.given"),
        _suggested=shown.json_path_match("$.suggested"),
        _quality=shown.json_path_match("$.label_quality").cast(pl.Float64, strict=False),
        _sample=shown.json_path_match("$.sample"),
        _number=shown.json_path_match("$.number").cast(pl.Int64, strict=False),
    )
    both = asked.join(said.drop_nulls("_issues"), on=["content_sha256", "field"], how="left", maintain_order="left")

    def is_new(name: str, *known: str) -> pl.Expr:
        return pl.all_horizontal(pl.col(name).ne_missing(pl.col(one)) for one in known)

    stays = pl.col("value").is_null() | pl.col("value").eq_missing(pl.col("_given"))
    doubts = [pl.col("issues").list.contains(kind) & ~pl.col("_issues").str.contains(f'"{kind}"') for kind in ISSUES]
    doubted = pl.col("_sample").is_null() & pl.any_horizontal(doubts)  # a sample is of one kind, whatever else is there
    fell = pl.col("label_quality") < _FALL * pl.col("_quality")
    is_other = pl.any_horizontal(
        pl.col("suggested").is_not_null() & is_new("suggested", "_suggested", "_given", "value"),
        is_new("given", "_given", "value") & pl.col("given").is_not_null(),
        stays & pl.any_horizontal(doubted, fell, pl.col("number") > pl.col("_number")).fill_null(value=False),
    )
    return both.select(other=pl.col("_issues").is_not_null() & is_other)["other"].fill_null(value=False)
