"""What a reason of a change is made of: rows of ``WHY``, by the number of the change."""

from __future__ import annotations

from typing import Any

import polars as pl

from curation_assets.datasets.changes.moments import Moment

AT = "_at"  # number of the change
TAKEN_BACK, NOT_THERE = "taken back", "does not count any more,"
_OF_ID = 12  # digits of a decision's id that are shown
WHY = {
    "why": pl.String,
    "table": pl.String,
    "decision": pl.String,
    "recipe_key": pl.String,
    "threshold": pl.Float64,
}


def cause(rows: pl.DataFrame, why: pl.Expr | str, **facts: pl.Expr | str | None) -> pl.DataFrame:
    """The reason of some rows.

    Args:
        facts: columns of ``WHY``.
    """
    told = {"why": why} | facts
    columns = [pl.lit(one, WHY[name]) if one is None or isinstance(one, str) else one for name, one in told.items()]
    given = dict(zip(told, columns, strict=True))
    return rows.select(AT, **{name: given.get(name, pl.lit(None)).cast(of) for name, of in WHY.items()})


def recipe_cause(rows: pl.DataFrame, key: str, one: Moment, other: Moment, more: pl.Expr | str = "") -> pl.DataFrame:
    """That a key of the recipe is another."""
    said = f"recipe {key} {value_told(one.recipe.get(key))} → {value_told(other.recipe.get(key))}"
    told = pl.lit(said) + (pl.lit(more) if isinstance(more, str) else more)
    return cause(rows, told, recipe_key=key)


def changed_key(one: Moment, other: Moment, *beginnings: str) -> str | None:
    """The first key of a recipe with such a beginning that is another."""
    every = dict.fromkeys([*one.recipe, *other.recipe])
    for beginning in beginnings:
        for key in every:
            if (key == beginning or key.startswith(f"{beginning}.")) and one.recipe.get(key) != other.recipe.get(key):
                return key
    return None


def decision_told(said: str = "") -> pl.Expr:
    """``decision 18ebefcdf83f… remove by ana, 2026-11-20: reason`` of rows with columns of the table of decisions."""
    begins = pl.col("decision_id").str.slice(0, _OF_ID) + pl.lit("…")  # `curation decisions undo` takes that
    what = pl.col("kind") + pl.lit(f" {said}" if said else "")
    value = pl.when(pl.col("value").is_not_null()).then(pl.lit(" ") + pl.col("value")).otherwise(pl.lit(""))
    reason = pl.when(pl.col("reason").is_not_null()).then(pl.lit(": ") + pl.col("reason")).otherwise(pl.lit(""))
    day = pl.col("decided_at").dt.strftime("%Y-%m-%d")
    return pl.concat_str(
        pl.lit("decision "), begins, pl.lit(" "), what, value, pl.lit(" by "), "decided_by", pl.lit(", "), day,
        reason,
    )  # fmt: skip


def of_decision(rows: pl.DataFrame, said: str = "") -> pl.DataFrame:
    """The reason of rows that a decision is joined to.

    Args:
        said: of it: ``TAKEN_BACK``, or ``NOT_THERE`` where the earlier version was made with it and the later without.
    """
    return cause(rows, decision_told(said), table="decisions", decision=pl.col("decision_id"))


def value_told(value: Any) -> str:
    """As TOML has it, but for what isn't there."""
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{new} = {' + '.join(old)}" for new, old in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
