"""The scan on Spark: the driver lists and plans, executors read, decode and write, the driver commits once.

Images root and lake have to be reachable by every executor under the same names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from curation_assets.images.record import ReadLimits
from curation_assets.images.source import ImageSource
from curation_assets.lake.snapshot import TableReader
from curation_assets.lake.staging import PartitionWriter
from curation_assets.progress import Advance, Progress
from curation_assets.scan.plan import ScanPlan, Unit
from curation_assets.scan.result import ScanPiece
from curation_assets.scan.rows import write_unit, written_piece
from curation_assets.spark.job import SparkJob
from curation_assets.spark.units import Task, run_units


class SparkScan(SparkJob):
    """Carries out plans on the executors of a Spark session; from so many files of a folder on."""

    def carry_out(
        self,
        plan: ScanPlan,
        table: TableReader,
        writer: PartitionWriter,
        source: ImageSource,
        limits: ReadLimits,
        progress: Progress,
    ) -> Iterator[ScanPiece]:
        """All units in one piece, so that a job that fails changes nothing.

        Args:
            table: reads the directory table.
            source: of the images.
        """
        units = [ScanUnit(unit, table, writer, source, limits) for unit in plan.units if not unit.drops_only]
        scanned = ScanPiece(remove=[file for unit in plan.units if unit.drops_only for file in unit.replaces])
        for written in run_units(self._session(), writer.shared, units, Advance(progress, plan.to_read)):
            scanned.add += written.add
            scanned.remove += written.remove
            scanned.counts.add(written.counts)
        yield scanned


@dataclass(frozen=True)
class ScanUnit:
    """A unit of the plan, for an executor."""

    unit: Unit
    table: TableReader
    writer: PartitionWriter
    source: ImageSource
    limits: ReadLimits

    def carry_out(self, task: Task) -> ScanPiece:
        """Read, decode and write the unit's rows; on whichever executor."""
        with self.writer.file() as stage:
            counts = write_unit(self.unit, self.table, stage, self.source, self.limits, task.cores, lambda _: None)
        return written_piece(self.unit, stage.files, counts, self.writer)
