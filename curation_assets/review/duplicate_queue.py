"""Groups of duplicates, the largest first, with what people said of them."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from curation_assets.curate.duplicates.overview import KINDS, with_transforms
from curation_assets.decisions.kinds import DIFFERENT, KEEP, KEEPER
from curation_assets.decisions.standing import Decisions
from curation_assets.lake.table import LakeTable
from curation_assets.review.group_answers import members_of, shown_of
from curation_assets.search.filters import lies_below

_GROUP = ["kind", "group_id"]


@dataclass(frozen=True)
class DuplicateQueue:
    """All groups, those of most images first; of one size exact, near, burst.

    Attributes:
        groups: ``kind``, ``group_id``, ``size`` (images), ``start`` (place of its first image in ``images``).
        images: rows of the table of groups with what :func:`~curation_assets.curate.duplicates.overview.how` reads;
            groups in the order of ``groups``, of each the keeper first, then by similarity.
    """

    groups: pl.DataFrame
    images: pl.DataFrame

    def decided(self, decisions: Decisions) -> pl.Series:
        """Of each group what people said: ``keeper``, ``keep`` (of all), ``different`` (of its two); null: nothing.

        A keeper counts for the images that were looked at: with another one in the group nobody has answered yet.
        """
        said = pl.concat([self._with_keeper(decisions), self._all_kept(decisions), self._taken_apart(decisions)])
        return self.groups.join(said.unique(_GROUP, keep="first"), on=_GROUP, how="left", maintain_order="left")["said"]

    def below(self, folder: str) -> pl.Series:
        """Of each group whether an image of it is in a folder or below it."""
        there = self.images.filter(lies_below(folder)).select(_GROUP).unique().with_columns(there=True)
        found = self.groups.join(there, on=_GROUP, how="left", maintain_order="left")["there"]
        return found.fill_null(value=False)

    def _with_keeper(self, decisions: Decisions) -> pl.DataFrame:
        answers = decisions.rows.filter(pl.col("kind") == KEEPER).select("relative_path", "content_sha256", "shown")
        answers = self.images.select(*_GROUP, "relative_path", "content_sha256").join(
            answers, on=["relative_path", "content_sha256"], how="inner"
        )
        looked_at = pl.DataFrame(
            [(number, content) for number, shown in enumerate(answers["shown"]) for content in members_of(shown)],
            schema={"answer": pl.UInt32, "content_sha256": pl.String},
            orient="row",
        )
        sizes = self.groups.select(*_GROUP, "size")
        answers = answers.with_row_index("answer").join(sizes, on=_GROUP, how="left", maintain_order="left")
        # Copies under further names are new too, though their bytes were looked at.
        answers = answers.with_columns(images=pl.Series([_images(shown) for shown in answers["shown"]], dtype=pl.Int64))
        answers = answers.filter(pl.col("images").is_null() | (pl.col("images") >= pl.col("size")))
        needed = answers.select("answer", *_GROUP).join(self.images.select(*_GROUP, "content_sha256"), on=_GROUP)
        missing = needed.join(looked_at, on=["answer", "content_sha256"], how="anti")
        return _said(answers.filter(~pl.col("answer").is_in(missing["answer"].implode())), KEEPER)

    def _all_kept(self, decisions: Decisions) -> pl.DataFrame:
        key = ["relative_path", "content_sha256"]
        others = self.images.join(decisions.kept_duplicates(), on=key, how="anti")
        return _said(self.groups.join(others, on=_GROUP, how="anti"), KEEP)

    def _taken_apart(self, decisions: Decisions) -> pl.DataFrame:
        """Groups of two that are two photographs: they are there until groups are formed anew."""
        of_two = self.groups.filter(pl.col("size") == 2).select(_GROUP)
        pairs = self.images.join(of_two, on=_GROUP, how="semi").group_by(_GROUP)
        ends = pairs.agg(first=pl.col("content_sha256").min(), second=pl.col("content_sha256").max())
        return _said(ends.join(decisions.different_pairs(), on=["first", "second"], how="semi"), DIFFERENT)


def duplicate_queue(rows: pl.DataFrame, pairs: LakeTable) -> DuplicateQueue:
    """The queue.

    Args:
        rows: of the table of groups.
        pairs: table of pairs.
    """
    order = pl.Enum(KINDS)
    images = with_transforms(rows, pairs).with_columns(
        _size=pl.len().over(_GROUP).cast(pl.Int64), _order=pl.col("kind").cast(order)
    )
    images = images.sort(
        ["_size", "_order", "group_id", "is_keeper", "similarity", "relative_path"],
        descending=[True, False, False, True, True, False],
        nulls_last=True,
    )
    groups = images.group_by(_GROUP, maintain_order=True).agg(size=pl.col("_size").first())
    groups = groups.with_columns(start=pl.col("size").cum_sum() - pl.col("size"))
    return DuplicateQueue(groups, images.drop("_size", "_order"))


def _said(groups: pl.DataFrame, word: str) -> pl.DataFrame:
    return groups.select(*_GROUP, said=pl.lit(word))


def _images(text: str | None) -> int | None:
    images = shown_of(text).get("images")
    return images if isinstance(images, int) and abs(images) < 2**31 else None
