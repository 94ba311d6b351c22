"""Which decisions count now, of all that were ever made: pure functions over rows of the table.

A decision answers a question. Of the decisions on one question the last one counts, unless it was taken back; then the
one before it does. A row that takes another back is taken back in the same way, which brings the other into force
again. Questions:

- is the picture good enough? ``keep``, ``remove``, ``unsure`` of ``quality``: of a content;
- is this path wanted beside its copies? ``keep``, ``remove`` of ``duplicate``, ``keeper``: of a path and content;
- what is its label? ``relabel`` and ``unsure``, by field: of a content;
- has it some tag? ``tag``, ``untag``, by tag: of a content;
- do two show the same? ``same``, ``different``: of two contents in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from curation_assets.decisions.kinds import (
    DIFFERENT,
    DUPLICATE,
    KEEP,
    KEEPER,
    PAIRED,
    QUALITY,
    RELABEL,
    REMOVE,
    SAME,
    TAG,
    TAGGING,
    UNSURE,
)
from curation_assets.lake.schemas import DECISIONS

SCHEMA = pl.Schema(pa.schema(DECISIONS.arrow_schema))
COLUMNS = DECISIONS.arrow_schema.names
_ORDER = ["decided_at", "decision_id"]  # equal times: the later id


@dataclass(frozen=True)
class Decisions:
    """Decisions that count now, as the curation of images asks for them.

    Attributes:
        rows: of the table, one a question, the earliest first.
    """

    rows: pl.DataFrame

    def same_pairs(self) -> pl.DataFrame:
        """Contents that show the same: ``first`` < ``second``, once each."""
        return self._pairs(SAME)

    def different_pairs(self) -> pl.DataFrame:
        """Contents that don't: ``first`` < ``second``, once each."""
        return self._pairs(DIFFERENT)

    def keepers(self) -> pl.DataFrame:
        """Images that are to stand for their copies: ``relative_path``, ``content_sha256``, ``decided_at``.

        Of a group with several, ``decided_at`` tells the last; rows are in that order.
        """
        return self._of(KEEPER).select("relative_path", "content_sha256", "decided_at")

    def removed(self) -> pl.DataFrame:
        """Pictures that are not wanted wherever they lie: ``content_sha256``, ``reason``."""
        return self._of(REMOVE, QUALITY).select("content_sha256", "reason")

    def kept(self) -> pl.DataFrame:
        """Pictures that are good enough whatever their scores: ``content_sha256``, ``reason``."""
        return self._of(KEEP, QUALITY).select("content_sha256", "reason")

    def removed_duplicates(self) -> pl.DataFrame:
        """Images that are not wanted, as there are copies: ``relative_path``, ``content_sha256``, ``reason``."""
        return self._of(REMOVE, DUPLICATE).select("relative_path", "content_sha256", "reason")

    def kept_duplicates(self) -> pl.DataFrame:
        """Images that are wanted though there are copies: ``relative_path``, ``content_sha256``, ``reason``."""
        return self._of(KEEP, DUPLICATE).select("relative_path", "content_sha256", "reason")

    def relabelled(self) -> pl.DataFrame:
        """Labels that people gave: ``content_sha256``, ``field``, ``value``."""
        return self._of(RELABEL).select("content_sha256", "field", "value")

    def tagged(self) -> pl.DataFrame:
        """Tags that pictures have: ``content_sha256``, ``tag``, by tag."""
        return self._of(TAG).select("content_sha256", tag="value").sort("tag", "content_sha256")

    def of_image(self, relative_path: str, content: str | None) -> pl.DataFrame:
        """Those that are about an image; what is about one path only counts for that path."""
        is_its = (pl.col("content_sha256") == content) | (pl.col("other_sha256") == content)
        return self.rows.filter(is_its & (~_is_of_path() | (pl.col("relative_path") == relative_path)))

    def _of(self, kind: str, field: str | None = None) -> pl.DataFrame:
        found = self.rows.filter(pl.col("kind") == kind)
        return found if field is None else found.filter(pl.col("field") == field)

    def _pairs(self, kind: str) -> pl.DataFrame:
        return self._of(kind).select(first=_first(), second=_second())


def in_force(rows: pl.DataFrame) -> pl.Series:
    """Of each row whether it was not taken back, or was and that was taken back in turn."""
    undoing = rows.filter(pl.col("undoes").is_not_null()).sort(_ORDER, descending=True)
    undone: set[str] = set()
    # Whoever takes a row back comes after it, so from the last to the first each is known when it is reached.
    for decision, undoes in undoing.select("decision_id", "undoes").iter_rows():
        if decision not in undone:
            undone.add(undoes)
    return ~rows["decision_id"].is_in(pl.Series(sorted(undone), dtype=pl.String).implode())


def standing(rows: pl.DataFrame) -> Decisions:
    """What counts now.

    Args:
        rows: all of the table, in any order.
    """
    decisions = rows.filter(in_force(rows) & pl.col("undoes").is_null()).sort(_ORDER)
    return Decisions(
        decisions.unique(
            pl.struct(expression.alias(name) for name, expression in QUESTION.items()), keep="last", maintain_order=True
        )
    )


def _is_of_path() -> pl.Expr:
    kind, field = pl.col("kind"), pl.col("field")
    return (kind == KEEPER) | (kind.is_in([KEEP, REMOVE]) & (field == DUPLICATE)).fill_null(value=False)


def _question() -> pl.Expr:
    kind, field = pl.col("kind"), pl.col("field")
    is_label = (kind == RELABEL) | ((kind == UNSURE) & (field != QUALITY))
    return (
        pl.when(is_label)
        .then(pl.lit("label ") + field)
        .when(kind.is_in(TAGGING))
        .then(pl.lit("tag ") + pl.col("value"))
        .when(kind.is_in(PAIRED))
        .then(pl.lit("pair"))
        .when(_is_of_path())
        .then(pl.lit(DUPLICATE))
        .otherwise(pl.lit(QUALITY))
    )


def _first() -> pl.Expr:
    return pl.min_horizontal("content_sha256", "other_sha256")  # of one alone: that one


def _second() -> pl.Expr:
    return pl.when(pl.col("other_sha256").is_not_null()).then(pl.max_horizontal("content_sha256", "other_sha256"))


# What a row answers: rows that are equal in these answer one question.
QUESTION = {
    "about": _question(),
    "path": pl.when(_is_of_path()).then(pl.col("relative_path")),
    "first": _first(),
    "second": _second(),
}
