"""Samples that measure a kind of problem: drawn once, looked at in their own order, and what was found in them."""

from __future__ import annotations

import random
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from curation_assets.curate.problems import KINDS, OF_PICTURE
from curation_assets.decisions.kinds import KEEP, REMOVE, UNSURE
from curation_assets.decisions.standing import Decisions, in_force
from curation_assets.errors import CurationError
from curation_assets.lake import hive
from curation_assets.lake.appending import append_rows
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.schemas import SAMPLES
from curation_assets.lake.table import LakeTable
from curation_assets.review.calibration import SIZES, Band, agreement, draw
from curation_assets.review.problem_queue import IS_OF_PICTURE, ProblemQueue, of_pictures

_SCHEMA = pl.Schema(SAMPLES.arrow_schema.remove_metadata())
_BAND = ["band", "first", "last", "flagged", "images"]


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

    def said(self, decisions: Decisions) -> pl.DataFrame:
        """The rows with ``decided``: what people say of each picture now; null where nobody did."""
        return self.rows.join(of_pictures(decisions), on="content_sha256", how="left", maintain_order="left")

    def bands(self, decisions: Decisions) -> list[Band]:
        """The bands, the worst first, with what was found in each."""
        rows = self.said(decisions)
        told = rows.group_by(_BAND).agg(
            drawn=pl.len(),
            right=(pl.col("decided") == REMOVE).sum(),
            wrong=(pl.col("decided") == KEEP).sum(),
            unsure=(pl.col("decided") == UNSURE).sum(),
        )
        return [Band(**row) for row in told.sort("band").drop("band").iter_rows(named=True)]

    def agreement(self, rows: pl.DataFrame) -> tuple[int, float] | None:
        """How many of the pictures several people judged, and how often two of them said the same.

        Args:
            rows: all of the table of decisions.
        """
        judged = rows.filter(
            in_force(rows)
            & IS_OF_PICTURE
            & pl.col("undoes").is_null()
            & pl.col("content_sha256").is_in(self.rows["content_sha256"].implode())
        ).unique(["content_sha256", "decided_by"], keep="last", maintain_order=True)
        return agreement(judged.group_by("content_sha256").agg("kind")["kind"].to_list())


def draw_sample(table: LakeTable, queue: ProblemQueue, threshold: float, size: int, by: str) -> Sample:
    """Draw from a queue, and write down what was drawn, in one commit; creates the table where there is none.

    Args:
        threshold: the line.
        size: images of a band.
        by: who asks for it.

    Raises:
        CurationError: the kind isn't told of pictures themselves, there is nothing to draw from, or the table can't be
            written.
    """
    kind = queue.kind
    if kind.told_by not in OF_PICTURE:
        raise CurationError(f"{kind.name} can't be measured by keeping and removing pictures")
    if size not in SIZES:
        raise CurationError(f"{size} images a band: choose among {', '.join(map(str, SIZES))}")
    sample_id = f"{time.time_ns():016x}{secrets.token_hex(8)}"
    bands = draw(queue.rows["at"].to_numpy(), queue.count(threshold), size, sample_id)
    if not bands:
        raise CurationError(f"no image can be judged by {kind.scale}")
    chosen = [
        (at, band.first, band.last, band.flagged, band.images, place)
        for at, band in enumerate(bands)
        for place in band.places
    ]
    random.Random(sample_id).shuffle(chosen)  # whoever looks doesn't know of which band it is
    places = pl.DataFrame(chosen, [*_BAND, "_at"], orient="row")
    rows = queue.rows.with_row_index("_at").select(pl.col("_at").cast(pl.Int64), *queue.rows.columns)
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
