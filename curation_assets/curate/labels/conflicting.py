"""One photograph, two labels: pure functions over frames.

Images show one photograph where their bytes are equal, where their contents are a near pair, or where both are in one
near group, whose members are pairs all of them. Every such pair whose labels of a field differ is a conflict. Pairs
within a group are counted by its sizes and never multiplied out: ten thousand copies of each of two labels are a
hundred million of them. Named are at most ``EVIDENCE`` of each image.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from curation_assets.curate.duplicates.groups import Words

EVIDENCE = 20  # images that are named, of an image
# Of images in the order of their place within their label, so many hold for each label EVIDENCE of other labels, or
# all that there are: who has a place of EVIDENCE or more comes after everybody's first EVIDENCE.
_POOL = 2 * EVIDENCE
_PAIR = ["first", "second"]
_HELD = ["field", "content", "key"]
_FOUND: dict[str, Any] = {
    "relative_path": pl.String,
    "content_sha256": pl.String,
    "field": pl.String,
    "given": pl.String,
    "suggested": pl.String,
    "number": pl.Int64,
    "evidence": pl.List(pl.String),
    "nearest": pl.String,
    "nearest_given": pl.String,
    "is_copy": pl.Boolean,
}
FOUND = pl.Schema(_FOUND)


def conflicting(labels: pl.DataFrame, groups: pl.DataFrame, pairs: pl.DataFrame, words: Words) -> pl.DataFrame:
    """Find every image that shows a photograph which another image has with another label.

    Args:
        labels: ``relative_path``, ``content_sha256``, ``field``, ``key`` (equal where labels are) and ``given`` (the
            labels as a text); one an image and field.
        groups: ``kind``, ``group_id``, ``content_sha256`` of the rows of the table of groups.
        pairs: ``first``, ``second``, ``kind``, ``similarity`` of the table of pairs.
        words: of people.

    Returns:
        Rows of ``FOUND``, sorted by path and field: ``number`` of images with another label; ``evidence``, their paths:
        equal bytes first, then the likest, then others of the group; ``nearest`` of them with what it is labelled, and
        whether it is a copy of the same bytes; ``suggested``, the label that most images of the photograph have, if
        one does and it is another.
    """
    images = labels.rename({"content_sha256": "content"}).select("relative_path", "content", "field", "key", "given")
    near = _near(pairs, words, images["content"].unique())
    of_group = groups.filter(pl.col("kind") == "near").select("group_id", content="content_sha256")
    of_group = of_group.sort("content", "group_id").unique("content", keep="first", maintain_order=True)
    # Nothing is said of what has neither a copy nor a near one, which is nearly everything.
    shared = images.select("content", "relative_path").unique().group_by("content").len().filter(pl.col("len") > 1)
    others = [shared["content"], of_group["content"], near["first"], near["second"]]
    images = images.filter(pl.col("content").is_in(pl.concat(others).unique().implode()))
    if not len(images):
        return FOUND.to_frame()
    images = images.join(of_group, on="content", how="left")
    images = images.with_columns(unit=pl.coalesce("group_id", "content")).drop("group_id")
    held = images.group_by(_HELD).agg(pl.col("unit").first(), number=pl.len().cast(pl.Int64))
    across = _across(near, held)
    counted = held.join(_counts(held, across), on=_HELD).filter(pl.col("others") > 0)
    if not len(counted):
        return FOUND.to_frame()
    evidence = _evidence(images, counted, across)
    found = images.join(counted.select(*_HELD, "others"), on=_HELD).join(evidence, on=_HELD, how="left")
    found = found.join(_suggestions(images), on=["field", "unit"], how="left")
    differs = pl.col("most_key") != pl.col("key")
    return (
        found.with_columns(content_sha256="content", number="others", suggested=pl.when(differs).then("most_given"))
        .select(FOUND.names())
        .cast(FOUND)
        .sort("relative_path", "field")
    )


def _near(pairs: pl.DataFrame, words: Words, contents: pl.Series) -> pl.DataFrame:
    """Near pairs of some contents: ``first``, ``second``, ``similarity`` (null: a person said so)."""
    told = pairs.filter(pl.col("kind") == "near").select(*_PAIR, pl.col("similarity").cast(pl.Float32))
    said = words.same.select(*_PAIR, similarity=pl.lit(None, pl.Float32))
    every = pl.concat([told, said]).unique(_PAIR, keep="first", maintain_order=True)
    both = pl.all_horizontal(pl.col(side).is_in(contents.implode()) for side in _PAIR)
    return every.filter(both).join(words.different, on=_PAIR, how="anti")


def _across(near: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """Of each content and label the near contents: ``_HELD``, ``other``, ``similarity``, ``same_unit``."""
    both = pl.concat([near.select("similarity", content=a, other=b) for a, b in (_PAIR, _PAIR[::-1])])
    units = held.select(other="content", field="field", other_unit="unit").unique()
    found = held.select(*_HELD, "unit").join(both, on="content").join(units, on=["other", "field"])
    return found.select(*_HELD, "other", "similarity", same_unit=pl.col("unit") == pl.col("other_unit"))


def _counts(held: pl.DataFrame, across: pl.DataFrame) -> pl.DataFrame:
    """Of each content and label how many images of the photograph have another: ``_HELD``, ``others``."""
    number = pl.col("number")
    in_unit = held.select(*_HELD, others=number.sum().over("field", "unit") - number.sum().over("field", "unit", "key"))
    whole = held.group_by("field", other="content").agg(number.sum())
    same = held.select("field", "key", other="content", same="number")
    apart = across.filter(~pl.col("same_unit")).join(whole, on=["field", "other"])
    apart = apart.join(same, on=["field", "key", "other"], how="left")
    apart = apart.select(*_HELD, others=number - pl.col("same").fill_null(0))
    return pl.concat([in_unit, apart]).group_by(_HELD).agg(pl.col("others").sum())


def _evidence(images: pl.DataFrame, counted: pl.DataFrame, across: pl.DataFrame) -> pl.DataFrame:
    """Of each content and label the nearest images with another: ``_HELD``, ``evidence`` and what the first is."""
    asking = counted.select(*_HELD, "unit")
    # Of the near contents with another label the likest few, before their images are named.
    pairs = across.join(asking.select(_HELD), on=_HELD, how="semi")
    keys = images.select("field", other="content", other_key="key").unique()
    told = pairs.join(keys, on=["field", "other"]).filter(pl.col("other_key") != pl.col("key"))
    told = told.select(*_HELD, "other", "similarity").unique()
    told = told.sort(*_HELD, "similarity", "other", descending=[False] * 3 + [True, False], nulls_last=True)
    told = told.group_by(_HELD, maintain_order=True).head(EVIDENCE)
    of_content = _pool(images, "content")
    one = pl.lit(1.0, pl.Float32)
    ways = [
        (asking.with_columns(other="content"), of_content.rename({"content": "other"}), "other", one, 0),
        (told, of_content.rename({"content": "other"}), "other", pl.col("similarity"), 1),
        (asking, _pool(images, "unit"), "unit", pl.lit(None, pl.Float32), 2),
    ]
    found = []
    for asked, pool, by, similarity, rank in ways:
        both = asked.join(pool, on=["field", by]).filter(pl.col("other_key") != pl.col("key"))
        found.append(both.select(*_HELD, "path", "other_given", similarity=similarity, rank=pl.lit(rank, pl.Int8)))
    every = pl.concat(found)
    order = [*_HELD, "rank", "similarity", "path"]
    every = every.sort(order, descending=[False] * 4 + [True, False], nulls_last=True)
    every = every.unique([*_HELD, "path"], keep="first", maintain_order=True)
    return every.group_by(_HELD, maintain_order=True).agg(
        evidence=pl.col("path").head(EVIDENCE),
        nearest=pl.col("path").first(),
        nearest_given=pl.col("other_given").first(),
        is_copy=pl.col("rank").first() == 0,
    )


def _pool(images: pl.DataFrame, by: str) -> pl.DataFrame:
    """Of each content or group some images, of which every label finds enough with another (see ``_POOL``)."""
    of = ["field", by]
    places = images.sort(*of, "key", "relative_path").with_columns(place=pl.int_range(pl.len()).over(*of, "key"))
    some = places.sort(*of, "place", "key").group_by(of, maintain_order=True).head(_POOL)
    return some.select(*of, path="relative_path", other_key="key", other_given="given")


def _suggestions(images: pl.DataFrame) -> pl.DataFrame:
    """The label that more images of a photograph have than any other: ``field``, ``unit``, ``most_key``, its text."""
    of = ["field", "unit"]
    counts = images.group_by(*of, "key").agg(pl.col("given").first(), number=pl.len())
    most = counts.filter(pl.col("number") == pl.col("number").max().over(of)).filter(pl.len().over(of) == 1)
    return most.select(*of, most_key="key", most_given="given")
