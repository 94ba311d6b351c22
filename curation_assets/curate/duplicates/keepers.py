"""Which image of a group to keep: an explicit ranking, and the criterion that decided."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from curation_assets.errors import CurationError

# Criterion → the column of what is known of an image, whether more of it is better, and what the rule is called.
CRITERIA: dict[str, tuple[str, bool, str]] = {
    "decided": ("decided", True, "a person's word"),
    "annotated": ("annotated", True, "annotated"),
    "pixels": ("pixels", True, "more pixels"),
    "compression": ("bytes_a_pixel", True, "less compressed"),
    "sharpness": ("sharpness", True, "sharper"),
    "earliest": ("taken_at", False, "earlier"),
    "path": ("relative_path", False, "first path"),
}
ORDER = tuple(CRITERIA)


def check_order(names: Sequence[str]) -> tuple[str, ...]:
    """An order of criteria; the path decides at last, whether it is named or not.

    Raises:
        CurationError: one is unknown or named twice.
    """
    for name in names:
        if name not in CRITERIA:
            raise CurationError(f"no criterion {name!r}: choose among {', '.join(CRITERIA)}")
    if len(set(names)) < len(names):
        raise CurationError(f"a criterion is named twice in {', '.join(names)}")
    return tuple(names) if "path" in names else (*names, "path")


def ranked(images: pl.DataFrame, order: Sequence[str]) -> pl.DataFrame:
    """Images of groups, the best of each group first, with the criterion that decided.

    Args:
        images: ``group`` and the columns of ``CRITERIA``; null is worse than anything.

    Returns:
        The same rows, sorted by ``group`` and rank, with ``keeper`` (path of the first), ``is_keeper`` and ``rule``: of
        what the keeper was preferred to this image for; of the keeper, to the second.
    """
    columns = [CRITERIA[name][0] for name in order]
    descending = [CRITERIA[name][1] for name in order]
    rows = images.sort("group", *columns, descending=[False, *descending], nulls_last=True)
    first = [pl.col(column).first().over("group").alias(f"_{column}") for column in columns]
    second = [pl.col(column).get(1, null_on_oob=True).over("group").alias(f"__{column}") for column in columns]
    rows = rows.with_columns(
        *first,
        *second,
        keeper=pl.col("relative_path").first().over("group"),
        _rank=pl.int_range(pl.len()).over("group"),
    )
    is_keeper = pl.col("_rank") == 0
    rule = pl.lit(CRITERIA["path"][2])
    for name in reversed(order):
        column, _, called = CRITERIA[name]
        other = pl.when(is_keeper).then(pl.col(f"__{column}")).otherwise(pl.col(column))
        rule = pl.when(other.ne_missing(pl.col(f"_{column}"))).then(pl.lit(called)).otherwise(rule)
    hidden = [f"_{column}" for column in columns] + [f"__{column}" for column in columns] + ["_rank"]
    return rows.with_columns(is_keeper=is_keeper, rule=rule).drop(hidden)
