"""Copies of one copy: pairs that no list of candidates had room for, found by a third that both are near to.

Of a photograph that lies there forty times in as many edits, each copy names its nearest two dozen. What they leave out
would part the group; but any two of them share many a third.
"""

from __future__ import annotations

import numpy as np
import polars as pl

MOST_PAIRS = 60  # that one picture is compared in: 30 a picture, as a pair is of two
_MOST_FRIENDS = 32  # near copies of one that are brought together: bounds memory
_EDGES = pl.Schema({"one": pl.Int32, "other": pl.Int32, "similarity": pl.Float32})
_WAYS = (("first", "second"), ("second", "first"))


class NearSoFar:
    """The near pairs that are known while comparing goes on, and what was compared already.

    Args:
        number: of pictures.
        near: ``first``, ``second`` (places of pictures), ``similarity``.
        compared: ``first``, ``second``: what is not to be compared again.
    """

    def __init__(self, number: int, near: pl.DataFrame, compared: pl.DataFrame) -> None:
        self._edges = pl.DataFrame(schema=_EDGES)
        self._compared = compared.select(pl.col("first", "second").cast(pl.Int32))
        self._pairs_of = np.zeros(number, np.int64)
        self._count(self._compared)
        self.add(near)

    def add(self, near: pl.DataFrame) -> None:
        """Near pairs that were found: ``first``, ``second``, ``similarity``."""
        ways = [near.select(one=a, other=b, similarity="similarity").cast(_EDGES) for a, b in _WAYS]
        self._edges = pl.concat([self._edges, *ways])

    def two_steps_apart(self, touched: pl.Series) -> pl.DataFrame:
        """Pairs that were not compared yet, and that a near pair of something touched joins by way of a third.

        They count as compared from then on. Those with the most thirds come first, and no picture is in more than
        ``MOST_PAIRS``.

        Returns:
            ``first`` < ``second``.
        """
        nearest = self._edges.sort("one", "similarity", "other", descending=[False, True, False])
        nearest = nearest.group_by("one", maintain_order=True).head(_MOST_FRIENDS).select("one", "other")
        some = pl.DataFrame({"one": touched.cast(pl.Int32)}).unique()
        ends = nearest.join(some, on="one", how="semi")
        onward = nearest.rename({"one": "other", "other": "end"})
        paths = [
            ends.join(onward, on="other").select(a="one", b="end", by="other"),
            ends.join(ends, on="one").select(a="other", b="other_right", by="one"),
        ]
        low, high = pl.min_horizontal("a", "b").alias("first"), pl.max_horizontal("a", "b").alias("second")
        found = pl.concat(paths).filter(pl.col("a") != pl.col("b")).select(low, high, "by").unique()
        found = found.group_by("first", "second").agg(thirds=pl.len())
        known = self._compared.filter(pl.col("first").is_in(found["first"].unique().implode()))
        found = found.join(known, on=["first", "second"], how="anti").sort(
            "thirds", "first", "second", descending=[True, False, False]
        )
        chosen = self._with_room(found).select("first", "second")
        self._compared = pl.concat([self._compared, chosen])
        self._count(chosen)
        return chosen

    def _with_room(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """Pairs, in their order, as far as either of a pair is not yet in too many."""
        numbered = pairs.with_row_index("pair")
        ends = pl.concat([numbered.select("pair", at=side) for side in ("first", "second")]).sort("pair")
        room = pl.Series(MOST_PAIRS - self._pairs_of).gather(ends["at"])
        full = ends.filter(pl.int_range(pl.len()).over("at") >= room)
        return numbered.join(full, on="pair", how="anti", maintain_order="left")

    def _count(self, pairs: pl.DataFrame) -> None:
        for side in ("first", "second"):
            self._pairs_of += np.bincount(pairs[side].to_numpy(), minlength=len(self._pairs_of))
