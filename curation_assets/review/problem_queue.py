"""Images of one kind of problem, the worst first, with what people said of them: counted at any threshold at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.curate.problems import KINDS, Kind, turning_points
from curation_assets.decisions.kinds import KEEP, QUALITY, REMOVE, UNSURE
from curation_assets.decisions.standing import Decisions

BINS = 60  # of the histogram
_WORSE = 0.1  # of a score, from which on a decision on it is another question
_SHOWN = ["relative_path", "content_sha256"]
# Rows of the table of decisions that say something of the picture itself.
IS_OF_PICTURE = pl.col("kind").is_in([KEEP, REMOVE, UNSURE]) & (pl.col("field") == QUALITY)


@dataclass(frozen=True)
class Histogram:
    """How turning points are spread.

    Attributes:
        edges: (bins + 1), ascending.
        counts: (bins) images; what lies outside of the edges is in the first or last.
    """

    edges: list[float]
    counts: list[int]


@dataclass(frozen=True)
class ProblemQueue:
    """All images that a threshold could name, the worst first, equals by path.

    Attributes:
        rows: ``relative_path``, ``content_sha256``, ``score`` (as the kind's scale has it), ``at`` (the threshold at
            which it begins to be one).
        measured: images.
    """

    kind: Kind
    rows: pl.DataFrame
    measured: int

    @cached_property
    def _at(self) -> NDArray[np.float64]:
        """Ascending."""
        at: NDArray[np.float64] = self.rows["at"].to_numpy()
        return at if self.kind.is_low else at[::-1]

    def count(self, threshold: float) -> int:
        """How many images a threshold names, whatever people said of them."""
        if self.kind.is_low:
            return int(np.searchsorted(self._at, threshold, "left"))
        if self.kind.is_counted:
            return len(self._at) - int(np.searchsorted(self._at, threshold, "left"))
        return len(self._at) - int(np.searchsorted(self._at, threshold, "right"))

    @cached_property
    def histogram(self) -> Histogram:
        """Of all, where one tells anything."""
        if not len(self._at):
            return Histogram([], [])
        low, high = np.quantile(self._at, [0.005, 0.995])
        low, high = min(low, self.kind.default), max(high, self.kind.default)
        edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
        counts, _ = np.histogram(np.clip(self._at, edges[0], edges[-1]), edges)
        return Histogram(edges.tolist(), counts.tolist())

    def answers(self, decisions: Decisions, first: int | None = None) -> pl.DataFrame:
        """What people said of each row's picture.

        Args:
            first: of so many rows, the worst ones; None: of all.

        Returns:
            A row each: ``decided`` (``keep``, ``remove``, ``unsure``; null: nothing), and ``is_open``: whether nobody
            said anything, or the score was better by a tenth when it was said, which is another question by now.
        """
        shown = pl.col("shown").str
        is_of_kind = shown.json_path_match("$.problem") == self.kind.name
        told = pl.when(is_of_kind).then(shown.json_path_match("$.score"))  # else what was known when it was said
        then = pl.coalesce(told, shown.json_path_match(f"$.scores.{self.kind.name}")).cast(pl.Float64, strict=False)
        said = decisions.rows.filter(IS_OF_PICTURE).select("content_sha256", decided="kind", then=then)
        rows = self.rows if first is None else self.rows.head(first)
        rows = rows.join(said, on="content_sha256", how="left", maintain_order="left")
        worse = pl.col("then") - pl.col("score") if self.kind.is_low else pl.col("score") - pl.col("then")
        is_another = (worse > _WORSE * pl.col("then").abs()).fill_null(value=False)
        return rows.select("decided", is_open=pl.col("decided").is_null() | is_another)


def of_pictures(decisions: Decisions) -> pl.DataFrame:
    """What people say of pictures themselves: ``content_sha256``, ``decided`` (``keep``, ``remove``, ``unsure``)."""
    return decisions.rows.filter(IS_OF_PICTURE).select("content_sha256", decided="kind")


def said_of_pictures(decisions: Decisions) -> dict[str, str]:
    """The same by content."""
    return dict(of_pictures(decisions).iter_rows())


def problem_queue(rows: pl.DataFrame, kind: str) -> ProblemQueue:
    """The queue of a kind.

    Args:
        rows: of the whole lake, as :func:`~curation_assets.curate.overview.measured_rows` gives them, judged by any
            thresholds.
    """
    told = KINDS[kind]
    found = rows.select(*_SHOWN, score=pl.col(f"{kind}_score").cast(pl.Float64), at=turning_points(rows, kind))
    found = found.filter(pl.col("at").is_finite() & pl.col("score").is_finite())
    order = ["at", "relative_path"]
    return ProblemQueue(told, found.sort(order, descending=[not told.is_low, False]), len(rows))
