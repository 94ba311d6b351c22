"""Why an image came, went, moved or was relabelled from one version to another.

Told by what both were made of: two recipes, and the tables as of both. Each question below is asked of all the images
that no earlier one told of. Where a table's history is vacuumed, that stands in place of the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from curation_assets.datasets.changes.causes import AT, cause, changed_key, recipe_cause
from curation_assets.datasets.changes.labelling import labels_cause
from curation_assets.datasets.changes.leaving import Leaving, left_and_kept
from curation_assets.datasets.changes.moments import Moment
from curation_assets.datasets.comparing import CAME, MOVED, RELABELLED, REPLACED, WENT
from curation_assets.errors import CurationError

_NOT_TOLD = "not told by the tables"
Asked = Callable[[pl.DataFrame], pl.DataFrame]


def explained(changes: pl.DataFrame, one: Moment, other: Moment) -> pl.DataFrame:
    """Say why.

    Args:
        changes: of :func:`~curation_assets.datasets.comparing.changes`.
        one, other: what the earlier and the later version were made of.

    Returns:
        The same rows, and ``why`` in a few words; with it, as they have a part, the ``table``, the id of the
        ``decision``, the ``recipe_key`` and the ``threshold``.
    """
    rows = changes.with_row_index(AT)
    found: list[pl.DataFrame] = []
    for change, left, kept in ((CAME, one, other), (WENT, other, one)):
        some = left_and_kept(rows.filter(pl.col("change") == change), is_back=change == CAME)
        found += _asked(some, Leaving(left, kept, is_back=change == CAME).questions)
    moved = rows.filter(pl.col("change") == MOVED)
    found += _asked(moved, [lambda some: _of_line(some, one, other), lambda some: _of_split(some, one, other)])
    relabelled = rows.filter(pl.col("change") == RELABELLED)
    found += _asked(relabelled, [lambda some: labels_cause(some, one, other)])
    replaced = rows.filter(pl.col("change") == REPLACED)
    found.append(cause(replaced, "directory: its file has other bytes", table="directory"))
    told = pl.concat(found)
    return rows.join(told, on=AT, how="left", maintain_order="left").drop(AT)


def reason_in_short() -> pl.Expr:
    """Of a change that was explained a key of the recipe, or a table."""
    return pl.coalesce(pl.lit("recipe ") + pl.col("recipe_key"), "table", pl.col("why").str.split(":").list.first())


def by_reason(changes: pl.DataFrame) -> pl.DataFrame:
    """How many ``images`` there are of each ``change`` and reason, ``by``."""
    counts = changes.group_by("change", by=reason_in_short()).agg(images=pl.len())
    return counts.sort("change", "images", "by", descending=[False, True, False])


def _asked(rows: pl.DataFrame, questions: Sequence[Asked]) -> list[pl.DataFrame]:
    """What the first question that knows says of each row; where none does, why the tables don't tell."""
    found, gone = [], None
    for question in questions:
        if not len(rows):
            break
        try:
            told = question(rows).unique(AT, keep="first", maintain_order=True)
        except CurationError as error:  # its history is vacuumed; others may tell all the same
            gone = gone or str(error)
            continue
        found.append(told)
        rows = rows.join(told, on=AT, how="anti")
    found.append(cause(rows, _NOT_TOLD if gone is None else f"history: {gone}"))
    return found


def _of_line(rows: pl.DataFrame, one: Moment, other: Moment) -> pl.DataFrame:
    if one.dataset != other.dataset:
        return cause(rows, "split: of another dataset")
    if one.line == other.line:
        return cause(rows.clear(), "")
    return cause(rows, f"--fresh: a new line began with version {max(one.line, other.line)}")


def _of_split(rows: pl.DataFrame, one: Moment, other: Moment) -> pl.DataFrame:
    if (key := changed_key(one, other, "split")) is not None:
        return recipe_cause(rows, key, one, other)
    return cause(rows, "split: laid out for other images, as no version holds it")
