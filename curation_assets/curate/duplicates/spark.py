"""Comparing on Spark: executors read the pictures and judge candidates, the driver commits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from curation_assets.curate.duplicates.judging import Candidates, Judge, in_threads
from curation_assets.curate.duplicates.pictures import open_pictures
from curation_assets.curate.duplicates.verification import AT_ONCE
from curation_assets.lake.staging import PartitionWriter
from curation_assets.progress import Advance, Progress
from curation_assets.spark.job import SparkJob
from curation_assets.spark.units import Task, run_units

_A_TASK = 8192  # candidates: half a minute of a core
_A_JOB = 128 * _A_TASK  # what a kill can cost


class SparkVerification(SparkJob):
    """Judges candidates on the executors of a Spark session; from so many candidates on."""

    def carry_out(
        self, judge: Judge, candidates: Candidates, writer: PartitionWriter, progress: Progress
    ) -> Iterator[tuple[int, pl.DataFrame]]:
        """Judge candidates, in their order: how many more were judged, and the rows of those that are pairs."""
        for begin in range(0, len(candidates), _A_JOB):
            starts = range(begin, min(begin + _A_JOB, len(candidates)), _A_TASK)
            units = (JudgingUnit(judge, candidates.part(start, _A_TASK)) for start in starts)
            done = run_units(self._session(), writer.shared, units, Advance(progress, 0))
            for start, rows in zip(starts, done, strict=True):
                yield min(_A_TASK, len(candidates) - start), rows


@dataclass(frozen=True)
class JudgingUnit:
    """Some candidates, for an executor."""

    judge: Judge
    some: pl.DataFrame

    def carry_out(self, task: Task) -> pl.DataFrame:
        """Judge them, on whichever executor."""
        parts = (self.some.slice(start, AT_ONCE) for start in range(0, len(self.some), AT_ONCE))
        judged = in_threads(self.judge, open_pictures(self.judge.place), parts, task.cores)
        return pl.concat([rows for _, rows in judged])
