"""Measuring on Spark: executors read the directory table and stage rows, the driver commits once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from curation_assets.curate.measuring import Measured, measure_groups
from curation_assets.embed.reader import RowGroup
from curation_assets.images.guard import DecodeOptions
from curation_assets.images.source import ImageSource
from curation_assets.lake.snapshot import TableReader
from curation_assets.lake.staging import PartitionWriter, StagedFile
from curation_assets.progress import Advance, Progress
from curation_assets.spark.job import SparkJob
from curation_assets.spark.units import Task, run_units

_Piece = tuple[list[StagedFile], Measured]


class SparkMeasuring(SparkJob):
    """Measures on the executors of a Spark session; from so many images of a folder on."""

    def carry_out(
        self,
        table: TableReader,
        groups: Iterable[RowGroup],
        source: ImageSource,
        writer: PartitionWriter,
        options: DecodeOptions,
        added: pl.DataFrame | None,
        progress: Progress,
    ) -> Iterator[_Piece]:
        """Staged files and what measuring them did, a row group at a time, after all are done."""
        units = [MeasuringUnit(table, group, source, writer, options, added) for group in groups]
        advance = Advance(progress, sum(len(unit.group.rows) for unit in units))
        yield from run_units(self._session(), writer.shared, units, advance)


@dataclass(frozen=True)
class MeasuringUnit:
    """A row group, for an executor."""

    table: TableReader
    group: RowGroup
    source: ImageSource
    writer: PartitionWriter
    options: DecodeOptions
    added: pl.DataFrame | None

    def carry_out(self, task: Task) -> _Piece:
        """Measure its images and stage their rows; on whichever executor."""
        with self.writer.file() as stage:
            done = measure_groups(
                self.table, [self.group], self.source, stage, self.options, task.cores, lambda _: None, self.added
            )
        return stage.files, done
