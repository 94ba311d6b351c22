"""Samples that measure a kind of problem: drawn once, looked at in their own order, and what was found in them."""

from __future__ import annotations

import random
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from curation_assets.curate.labels.questions import IS_OF_LABEL, ISSUES
from curation_assets.curate.problems import CONFLICTING, KINDS, MISLABELLED
from curation_assets.decisions.kinds import KEEP, REMOVE, UNSURE
from curation_assets.decisions.standing import in_force, standing
from curation_assets.errors import CurationError
from curation_assets.lake import hive
from curation_assets.lake.appending import append_rows
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.schemas import SAMPLES
from curation_assets.lake.table import LakeTable
from curation_assets.review.calibration import SIZES, Band, agreement, draw
from curation_assets.review.label_queue import is_apart
from curation_assets.review.problem_queue import IS_OF_PICTURE, ProblemQueue

_SCHEMA = pl.Schema(SAMPLES.arrow_schema.remove_metadata())
_IMAGE = ["relative_path", "content_sha256"]
_QUEUED, _OF_LABEL = [*_IMAGE, "at"], ["field", "given", "other_sha256"]
_BAND = ["band", "first", "last", "flagged", "images"]
MARK = "$.sample"  # of what was shown: the sample that was looked at when it was said


@dataclass(frozen=True)
class Sample:
    """What was drawn.

    Attributes:
        threshold: the line, when it was drawn.
        rows: of the table, in the order in which they are to be looked at.
    """

    sample_id: str
    kind: str
    created_at: datetime
    created_by: str
    threshold: float
    rows: pl.DataFrame

    def said(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with ``decided``: ``remove`` (it has the problem), ``keep``, ``unsure``; null where nobody said.

        Only what was said while this sample was looked at counts (``shown`` names it). Whatever else people decide they
        chose themselves, and nothing follows from it for the images that nobody looked at.

        A label has it when people gave another one (or, where it conflicts, any one), and hasn't when they gave the
        same (or said that the one image that it conflicts with is another photograph).

        Args:
            rows: all of the table of decisions.
        """
        decisions = standing(self._said_here(rows))
        if self.kind not in ISSUES:
            said = decisions.rows.filter(IS_OF_PICTURE).select("content_sha256", decided="kind")
            return self.rows.join(said, on="content_sha256", how="left", maintain_order="left")
        labels = decisions.rows.filter(IS_OF_LABEL).select("content_sha256", "field", "kind", "value")
        drawn = self.rows.drop("kind").join(labels, on=["content_sha256", "field"], how="left", maintain_order="left")
        is_one = pl.col("value") != pl.col("given").fill_null("") if self.kind == MISLABELLED else pl.lit(value=True)
        decided = (
            pl.when(pl.col("kind") == UNSURE)
            .then(pl.lit(UNSURE))
            .when(is_one)
            .then(pl.lit(REMOVE))
            .otherwise(pl.lit(KEEP))
        )
        decided = pl.when(pl.col("kind").is_not_null()).then(decided)
        if self.kind == CONFLICTING:
            decided = pl.when(is_apart(drawn, decisions)).then(pl.lit(KEEP)).otherwise(decided)
        return drawn.select(*self.rows.drop("kind").columns, kind=pl.lit(self.kind), decided=decided)

    def _said_here(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of the table of decisions that were said of this sample, and all that take some back."""
        takes_back, shown = pl.col("undoes").is_not_null(), pl.col("shown").str
        rows = rows.filter(takes_back | shown.contains(self.sample_id, literal=True).fill_null(value=False))  # quick
        return rows.filter(takes_back | (shown.json_path_match(MARK) == self.sample_id).fill_null(value=False))

    def bands(self, rows: pl.DataFrame, there: pl.DataFrame | None = None) -> list[Band]:
        """The bands, the worst first, with what was found in each.

        Args:
            rows: all of the table of decisions.
            there: ``relative_path`` and ``content_sha256`` of the images that can be looked at; None: all.
        """
        said = self.said(rows).with_columns(is_there=pl.lit(value=True))
        if there is not None:
            known = there.select(_IMAGE).filter(pl.col("content_sha256").is_in(said["content_sha256"].implode()))
            known = known.unique().with_columns(is_there=pl.lit(value=True))
            said = said.drop("is_there").join(known, on=_IMAGE, how="left", maintain_order="left")
        told = said.group_by(_BAND).agg(
            drawn=pl.len(),
            right=(pl.col("decided") == REMOVE).sum(),
            wrong=(pl.col("decided") == KEEP).sum(),
            unsure=(pl.col("decided") == UNSURE).sum(),
            gone=(pl.col("decided").is_null() & pl.col("is_there").is_null()).sum(),
        )
        return [Band(**row) for row in told.sort("band").drop("band").iter_rows(named=True)]

    def agreement(self, rows: pl.DataFrame) -> tuple[int, float] | None:
        """How many of the pictures, or labels, several people judged, and how often two of them said the same.

        Args:
            rows: all of the table of decisions.
        """
        of = ["content_sha256", "field"] if self.kind in ISSUES else ["content_sha256"]
        here = self._said_here(rows)
        is_answer = IS_OF_LABEL if self.kind in ISSUES else IS_OF_PICTURE
        judged = here.filter(in_force(here) & is_answer & pl.col("undoes").is_null()).join(
            self.rows.select(of).unique(), on=of, how="semi"
        )
        judged = judged.unique([*of, "decided_by"], keep="last", maintain_order=True)
        answers = judged.group_by(of).agg(said=pl.coalesce("value", "kind"))
        return agreement(answers["said"].to_list())


def draw_sample(table: LakeTable, queue: ProblemQueue, threshold: float, size: int, by: str) -> Sample:
    """Draw from a queue, and write down what was drawn, in one commit; creates the table where there is none.

    Args:
        queue: of labels its rows have ``field``, ``given`` and ``other_sha256`` too.
        threshold: the line.
        size: images of a band.
        by: who asks for it.

    Raises:
        CurationError: there is nothing to draw from, or the table can't be written.
    """
    kind, rows = queue.kind, queue.rows
    if size not in SIZES:
        raise CurationError(f"{size} images a band: choose among {', '.join(map(str, SIZES))}")
    sample_id = f"{time.time_ns():016x}{secrets.token_hex(8)}"
    at, flagged = rows["at"].to_numpy(), queue.count(threshold)
    bands = draw(at, flagged, size, sample_id, line=threshold, is_low=kind.is_low)
    if not bands:
        raise CurationError(f"no image can be judged by {kind.scale}")
    chosen = [
        (at, band.first, band.last, band.flagged, band.images, place)
        for at, band in enumerate(bands)
        for place in band.places
    ]
    random.Random(sample_id).shuffle(chosen)  # whoever looks doesn't know of which band it is
    places = pl.DataFrame(chosen, [*_BAND, "_at"], orient="row")
    of_label = [pl.col(name) if name in rows.columns else pl.lit(None, pl.String).alias(name) for name in _OF_LABEL]
    rows = rows.with_row_index("_at").select(pl.col("_at").cast(pl.Int64), *_QUEUED, *of_label)
    made = (
        places.join(rows, on="_at", how="left", maintain_order="left")
        .with_row_index("place")
        .with_columns(
            sample_id=pl.lit(sample_id),
            kind=pl.lit(kind.name),
            created_at=pl.lit(datetime.now(UTC)),
            created_by=pl.lit(by),
            threshold=pl.lit(threshold),
        )
        .select(_SCHEMA.names())
        .cast(_SCHEMA)
    )

    def work(change: Rewrite) -> None:
        append_rows(change, made)

    table.create()
    rewrite(table, hive.WHOLE, work, info={"job": "sample", "kind": kind.name})
    return _sample(made)


def read_samples(table: LakeTable) -> list[Sample]:
    """All of them, the latest first.

    Raises:
        CurationError: the table can't be read.
    """
    if not table.exists():
        return []
    rows = table.latest().read(_SCHEMA.names()).drop("_file").cast(_SCHEMA).unique(list(SAMPLES.key), keep="first")
    parts = rows.sort("sample_id", "place", descending=[True, False]).group_by("sample_id", maintain_order=True)
    return [_sample(part) for _, part in parts if part["kind"][0] in KINDS]


def _sample(rows: pl.DataFrame) -> Sample:
    first = rows.row(0, named=True)
    names = ("sample_id", "kind", "created_at", "created_by", "threshold")
    return Sample(**{name: first[name] for name in names}, rows=rows)
