"""Which label images had when a version was made, and where it came from."""

from __future__ import annotations

import polars as pl

from curation_assets.annotations.columns import counting_labels
from curation_assets.annotations.formats.folders import compiled_pattern
from curation_assets.annotations.standing import DECIDED, INHERITED
from curation_assets.datasets.changes.causes import AT, cause, changed_key, of_decision, recipe_cause
from curation_assets.datasets.changes.moments import Moment
from curation_assets.decisions.kinds import RELABEL
from curation_assets.decisions.record import read_decisions

DECISION = ("decision_id", "decided_at", "decided_by", "kind", "value", "reason")
_KEY = ["relative_path", "content_sha256"]


def labels_at(moment: Moment, paths: pl.Series) -> pl.DataFrame:
    """The labels of some images before a recipe merges any.

    Returns:
        ``relative_path``, ``values`` (several as ``miner, rust``; null: none), ``table`` that says it, ``source`` of
        the annotations, ``confidence`` of a prediction, and the columns of ``DECISION`` where a person said it.

    Raises:
        CurationError: a table can't be read any more.
    """
    recipe, tables = moment.recipe, moment.tables
    where = pl.col("relative_path").is_in(paths.unique().implode())
    images = tables.directory.latest().read(_KEY, where=where).select(_KEY).unique("relative_path")
    nothing = {
        "values": pl.lit(None, pl.String),
        "table": pl.lit(None, pl.String),
        "source": pl.lit(None, pl.String),
        "confidence": pl.lit(None, pl.Float32),
    }
    found = images.with_columns(**nothing)
    if (pattern := recipe.get("labels.path")) is not None:
        expression, names = compiled_pattern(pattern)
        part = images["relative_path"].str.extract_groups(expression).struct.unnest().to_series(names.index("class"))
        found = found.with_columns(values=part, table=pl.lit("directory"))
    elif recipe.get("labels.zero_shot"):
        texts = tables.zero_shot_labels.latest().read([*_KEY, "label"], where=where & _of_model(moment))
        found = found.drop("values").join(texts.select(*_KEY, values="label"), on=_KEY, how="left")
        found = found.with_columns(table=pl.lit("zero_shot_labels"))
    elif (field := recipe.get("labels.field")) is not None:
        counting = counting_labels(tables.annotations, tables.decisions, tables.pairs, moment.order, images)
        counting = counting.filter((pl.col("field") == field) & pl.col("values").is_not_null())
        of_field = counting.select(*_KEY, values=pl.col("values").list.sort().list.join(", "), source="source")
        found = found.drop("values", "source").join(of_field, on=_KEY, how="left")
        is_decided = pl.col("source").is_in([DECIDED, INHERITED])
        found = found.with_columns(table=pl.when(is_decided).then(pl.lit("decisions")).otherwise(pl.lit("annotations")))
        if (least := recipe.get("labels.predictions")) is not None:
            found = _with_predictions(found, moment, field, least, where)
    return _with_decisions(found, moment).drop("content_sha256").unique("relative_path", keep="first")


def labels_cause(rows: pl.DataFrame, one: Moment, other: Moment) -> pl.DataFrame:
    """Where the labels of images come from in both versions, and what is otherwise."""
    if not len(rows):
        return cause(rows, "")
    if (key := changed_key(one, other, "labels.field", "labels.path", "labels.zero_shot")) is not None:
        return recipe_cause(rows, key, one, other)
    if ("labels" in one.recipe) != ("labels" in other.recipe):  # no table of labels at all
        return recipe_cause(rows, "labels", one, other)
    was, now = (labels_at(moment, rows["relative_path"]) for moment in (one, other))
    both = rows.join(was, on="relative_path", how="left").join(now, on="relative_path", how="left", suffix="_now")
    told = []
    if (key := changed_key(one, other, "labels.predictions")) is not None:
        sure = pl.coalesce("confidence", "confidence_now")
        by_it = both.filter(pl.col("confidence").is_null() != pl.col("confidence_now").is_null())
        more = pl.lit(" (its confidence ") + sure.round_sig_figs(3).cast(pl.String) + pl.lit(")")
        told.append(recipe_cause(by_it, key, one, other, more))
    otherwise = both.filter(pl.col("values").ne_missing(pl.col("values_now")))
    told.append(of_decision(otherwise.filter(pl.col("decision_id_now").is_not_null()).select(
        AT, **{name: f"{name}_now" for name in DECISION}
    )))  # fmt: skip
    said = pl.col("values_now")
    says = pl.concat_str(
        pl.col("table_now"), pl.lit(": labelled "), said,
        pl.coalesce(pl.lit(", ") + pl.col("confidence_now").round_sig_figs(3).cast(pl.String), pl.lit("")),
        pl.coalesce(pl.lit(" by ") + pl.col("source_now"), pl.lit("")),
    )  # fmt: skip
    told.append(cause(otherwise.filter(said.is_not_null()), says, table=pl.col("table_now")))
    silent = otherwise.filter(said.is_null())
    no_more = pl.concat_str(
        pl.col("table"), pl.lit(": not labelled "), "values", pl.lit(" any more"),
        pl.coalesce(pl.lit(" by ") + pl.col("source"), pl.lit("")),
    )  # fmt: skip
    told.append(cause(silent, no_more, table=pl.col("table")))
    if (
        key := changed_key(one, other, "labels.drop", "labels.merge", "labels.unlabelled", "labels.several")
    ) is not None:
        told.append(recipe_cause(both, key, one, other))
    return pl.concat(told)


def _of_model(moment: Moment) -> pl.Expr:
    name, version = moment.model
    return (pl.col("model_name") == name) & (pl.col("model_version") == version)


def _with_predictions(found: pl.DataFrame, moment: Moment, field: str, least: float, where: pl.Expr) -> pl.DataFrame:
    """Predictions where there is no label and they are sure enough."""
    its = where & (pl.col("field") == field) & _of_model(moment)
    said = moment.tables.predictions.latest().read([*_KEY, "predicted", "confidence"], where=its)
    said = said.filter(pl.col("confidence") >= least).select(*_KEY, "predicted", _sure="confidence")
    found = found.join(said.unique(_KEY, keep="first"), on=_KEY, how="left")
    by_it = pl.col("values").is_null() & pl.col("predicted").is_not_null()
    return found.with_columns(
        values=pl.when(by_it).then("predicted").otherwise("values"),
        table=pl.when(by_it).then(pl.lit("predictions")).otherwise("table"),
        confidence=pl.when(by_it).then("_sure"),
    ).drop("predicted", "_sure")


def _with_decisions(found: pl.DataFrame, moment: Moment) -> pl.DataFrame:
    """The decision that gave each label that a person gave to the very picture."""
    said = read_decisions(moment.tables.decisions).rows
    field = pl.lit(moment.recipe.get("labels.field"), pl.String)
    given = said.filter((pl.col("kind") == RELABEL) & (pl.col("field") == field)).select("content_sha256", *DECISION)
    joined = found.join(given, on="content_sha256", how="left")
    mine = pl.col("source") == DECIDED
    return joined.with_columns(pl.when(mine).then(name).alias(name) for name in DECISION)
