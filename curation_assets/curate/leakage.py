"""Leakage: which images of different splits show the same photograph or scene. Pure functions over frames.

Counted is every pair of images across splits, of each kind; a pair that is of two kinds counts as the first of
``KINDS``. The members of a group are pairs all of them, so groups are counted by their sizes and never multiplied out:
a still camera's twenty thousand frames on two sides are a hundred million pairs. Listed is each image with its nearest.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from curation_assets.curate.duplicates.groups import KINDS as KINDS
from curation_assets.curate.duplicates.groups import Words

NEAREST = 20  # across, of an image
TEST_NAMES = ("test", "testing", "holdout")  # what a score is measured on gives way last
_CLEANER = ("val", "valid", "validation", "dev")
_TRAINED_ON = ("train", "training")
_PAIR = ["first", "second"]
_COUNTED = pl.Schema({"kind": pl.String, "split": pl.String, "other_split": pl.String, "pairs": pl.Int64})
_LISTED = pl.Schema(
    {
        "relative_path": pl.String,
        "other": pl.String,
        "other_split": pl.String,
        "kind": pl.String,
        "similarity": pl.Float32,
    }
)


@dataclass(frozen=True)
class Leakage:
    """What lies on two sides.

    Attributes:
        splits: images in each, the cleanest first: of a pair across, the image of the later one gives way.
        counts: ``kind``, ``split``, ``other_split`` (the later one), ``pairs`` of images; every pair counts once.
        images: that have a pair across: ``relative_path``, ``split``, ``label``, ``kind`` (the gravest), ``others`` (in
            how many pairs) and ``gives_way``; sorted by path.
        nearest: of each, up to ``NEAREST`` across: ``relative_path``, ``other``, ``other_split``, ``kind``,
            ``similarity`` (null where a third stands between them); the gravest and likest first.
    """

    splits: dict[str, int]
    counts: pl.DataFrame
    images: pl.DataFrame
    nearest: pl.DataFrame

    @property
    def pairs(self) -> int:
        """How many in all; 0: nothing leaks."""
        return int(self.counts["pairs"].sum())


def leaks(images: pl.DataFrame, groups: pl.DataFrame, pairs: pl.DataFrame, words: Words) -> Leakage:
    """Find every pair across splits.

    Args:
        images: ``relative_path``, ``content_sha256``, ``split`` and ``label`` (null: not known), one an image.
        groups: ``kind``, ``group_id``, ``content_sha256``, ``similarity`` of the rows of the table of groups.
        pairs: ``first``, ``second``, ``kind``, ``similarity`` of the table of pairs.
        words: of people.
    """
    ranks = _ranks(images)
    held = images.group_by(content="content_sha256", split="split").agg(number=pl.len().cast(pl.Int64))
    near_of = _members(groups, "near")
    units = held.select("content").unique().join(near_of, on="content", how="left")
    units = units.select("content", unit=pl.coalesce("group_id", "content"))
    burst_of = _members(groups, "burst").join(_units(groups, near_of), on="content", how="left")
    burst_of = burst_of.select(burst="group_id", unit="unit").unique("unit")
    held = held.join(units, on="content").join(burst_of, on="unit", how="left")
    known = _known(pairs, words, held)
    near = known.filter((pl.col("kind") == "near") & ~pl.col("same_unit"))
    burst = known.filter((pl.col("kind") == "burst") & ~pl.col("same_unit") & ~pl.col("same_burst"))
    partners = pl.concat(
        [
            _within(held, by="content", apart=None, kind="exact"),
            _within(held, by="unit", apart="content", kind="near"),
            _between(held, near, "near"),
            _within(held.drop_nulls("burst"), by="burst", apart="unit", kind="burst"),
            _between(held, near.filter("same_burst"), "burst", sign=-1),
            _between(held, burst, "burst"),
        ]
    )
    partners = partners.group_by("kind", "content", "split", "other_split").agg(pl.col("partners").sum())
    partners = partners.filter(pl.col("partners") > 0).join(
        held.select("content", "split", "number"), on=["content", "split"]
    )
    counted = partners.filter(_rank("split", ranks) < _rank("other_split", ranks))
    counts = counted.group_by("kind", "split", "other_split").agg(pairs=(pl.col("partners") * pl.col("number")).sum())
    counts = counts.sort(_order("kind"), _rank("split", ranks), _rank("other_split", ranks)).select(_COUNTED.names())
    found = _images(images, partners, ranks)
    nearest = _nearest(images, found, held, known.filter((pl.col("kind") == "near") | ~pl.col("same_unit")))
    sizes = dict(images["split"].value_counts().iter_rows())
    return Leakage({split: sizes[split] for split in ranks}, counts.cast(_COUNTED), found, nearest)


def _ranks(images: pl.DataFrame) -> dict[str, int]:
    """Splits, the cleanest first; of equals the smaller one, as less is lost on the other side."""
    known = {name: rank for rank, names in ((0, TEST_NAMES), (1, _CLEANER), (3, _TRAINED_ON)) for name in names}
    sizes = dict(images["split"].value_counts().iter_rows())
    ordered = sorted(sizes, key=lambda split: (known.get(split.lower(), 2), sizes[split], split))
    return {split: rank for rank, split in enumerate(ordered)}


def _rank(column: str, ranks: dict[str, int]) -> pl.Expr:
    return pl.col(column).replace_strict(ranks, return_dtype=pl.Int32)


def _order(column: str) -> pl.Expr:
    return pl.col(column).replace_strict({kind: place for place, kind in enumerate(KINDS)}, return_dtype=pl.Int32)


def _members(groups: pl.DataFrame, kind: str) -> pl.DataFrame:
    """``content``, ``group_id``: a content is in one group of a kind."""
    rows = groups.filter(pl.col("kind") == kind).select("group_id", content="content_sha256")
    return rows.sort("content", "group_id").unique("content", keep="first", maintain_order=True)


def _units(groups: pl.DataFrame, near_of: pl.DataFrame) -> pl.DataFrame:
    """``content``, ``unit`` of all contents in groups: a near group is one photograph, and so is any other content."""
    contents = groups.select(content="content_sha256").unique()
    return contents.join(near_of, on="content", how="left").select("content", unit=pl.coalesce("group_id", "content"))


def _known(pairs: pl.DataFrame, words: Words, held: pl.DataFrame) -> pl.DataFrame:
    """Near and burst pairs: ``first``, ``second``, ``kind``, ``similarity``, and which groups tell of them already."""
    said = words.same.select(*_PAIR, kind=pl.lit("near"), similarity=pl.lit(None, pl.Float32))
    every = pl.concat([said, pairs.select(*_PAIR, "kind", pl.col("similarity").cast(pl.Float32))])
    every = every.unique(_PAIR, keep="first", maintain_order=True).join(words.different, on=_PAIR, how="anti")
    of = held.select("content", "unit", "burst").unique("content")
    for side in _PAIR:
        told = of.select(pl.col("content").alias(side), pl.exclude("content").name.suffix(f"_{side}"))
        every = every.join(told, on=side)
    same_burst = (pl.col("burst_first") == pl.col("burst_second")).fill_null(value=False)
    same_unit = pl.col("unit_first") == pl.col("unit_second")
    return every.select(*_PAIR, "kind", "similarity", same_unit=same_unit, same_burst=same_burst)


def _within(held: pl.DataFrame, by: str, apart: str | None, kind: str) -> pl.DataFrame:
    """Of each content and split the images of other splits in what it is in, without what is one with it otherwise.

    Args:
        by: what brings contents together.
        apart: within that, what another kind tells of already.
    """
    keyed = held.select(pl.col(by).alias("_by"), pl.col(apart or by).alias("_apart"), "content", "split", "number")
    whole = keyed.group_by("_by", other_split="split").agg(pl.col("number").sum())
    # Only what lies on two sides is joined: nearly nothing does.
    whole = whole.filter(pl.len().over("_by") > 1)
    found = keyed.drop("number").join(whole, on="_by").filter(pl.col("split") != pl.col("other_split"))
    if apart is not None:
        own = keyed.group_by("_by", "_apart", other_split="split").agg(own=pl.col("number").sum())
        found = found.join(own, on=["_by", "_apart", "other_split"], how="left")
        found = found.with_columns(pl.col("number") - pl.col("own").fill_null(0))
    return found.select("content", "split", "other_split", kind=pl.lit(kind), partners=pl.col("number").cast(pl.Int64))


def _between(held: pl.DataFrame, pairs: pl.DataFrame, kind: str, sign: int = 1) -> pl.DataFrame:
    """Of each content and split the images of other splits that pairs bring."""
    sides = held.select("content", "split", "number")
    both = pl.concat([pairs.select(content=a, other=b) for a, b in (_PAIR, _PAIR[::-1])])
    found = both.join(sides.drop("number"), on="content").join(
        sides.rename({"content": "other", "split": "other_split"}), on="other"
    )
    found = found.filter(pl.col("split") != pl.col("other_split"))
    return found.select("content", "split", "other_split", kind=pl.lit(kind), partners=sign * pl.col("number"))


def _images(images: pl.DataFrame, partners: pl.DataFrame, ranks: dict[str, int]) -> pl.DataFrame:
    cleaner = _rank("other_split", ranks) < _rank("split", ranks)
    of_each = partners.group_by("content", "split").agg(
        kind=pl.col("kind").sort_by(_order("kind")).first(),
        others=pl.col("partners").sum(),
        gives_way=cleaner.any(),
    )
    found = images.rename({"content_sha256": "content"}).join(of_each, on=["content", "split"])
    columns = ["relative_path", "split", "label", "kind", "others", "gives_way", "content"]
    return found.select(columns).sort("relative_path")


def _nearest(images: pl.DataFrame, found: pl.DataFrame, held: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Of each image with a pair across, the nearest across."""
    asking = found.select("content", "split").unique()
    of_pairs = pl.concat([known.select("kind", "similarity", content=a, other=b) for a, b in (_PAIR, _PAIR[::-1])])
    leaking = held.join(asking, on=["content", "split"], how="semi")
    ways = [
        asking.with_columns(other="content", kind=pl.lit("exact"), similarity=pl.lit(1.0)),
        of_pairs.join(asking, on="content"),
        _fellows(leaking, "unit", "content", "near"),
        _fellows(leaking.drop_nulls("burst"), "burst", "unit", "burst"),
    ]
    columns = ["content", "split", "other", "kind"]
    every = pl.concat([way.select(*columns, pl.col("similarity").cast(pl.Float32)) for way in ways])
    every = every.join(held.select(other="content", other_split="split"), on="other")
    every = every.filter(pl.col("split") != pl.col("other_split"))
    every = every.unique(["content", "split", "other", "other_split"], keep="first", maintain_order=True)
    every = _first(every, ["content", "split"], "other")
    paths = images.select(other_path="relative_path", other="content_sha256", other_split="split").sort("other_path")
    paths = paths.group_by("other", "other_split", maintain_order=True).head(NEAREST)
    listed = found.select("relative_path", "content", "split").join(every, on=["content", "split"])
    listed = listed.join(paths, on=["other", "other_split"]).drop("other").rename({"other_path": "other"})
    return _first(listed, ["relative_path"], "other").select(_LISTED.names()).cast(_LISTED)


def _fellows(leaking: pl.DataFrame, by: str, apart: str, kind: str) -> pl.DataFrame:
    """Of each content some that it is in a group with: in a dense part no pair of the table may tell of them."""
    keyed = leaking.select(pl.col(by).alias("_by"), pl.col(apart).alias("_apart"), "content", "split")
    some = keyed.sort("_by", "split", "content").group_by("_by", "split", maintain_order=True).head(NEAREST + 1)
    some = some.select("_by", other_apart="_apart", other="content", other_split="split")
    both = keyed.join(some, on="_by")
    both = both.filter((pl.col("split") != pl.col("other_split")) & (pl.col("_apart") != pl.col("other_apart")))
    return both.select("content", "split", "other", kind=pl.lit(kind), similarity=pl.lit(None, pl.Float32))


def _first(rows: pl.DataFrame, of: list[str], last: str) -> pl.DataFrame:
    """The gravest and likest of each."""
    order = [*of, _order("kind"), "similarity", last]
    descending = [False] * (len(of) + 1) + [True, False]
    ordered = rows.sort(order, descending=descending, nulls_last=True, maintain_order=True)
    return ordered.group_by(of, maintain_order=True).head(NEAREST)
