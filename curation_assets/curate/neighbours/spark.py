"""Lists of neighbours on Spark: each task compares a stripe of the nodes with all, and the driver puts them together.

What a list holds is a function of the vectors alone, so it is what one machine finds. Where there is an approximate
index, a task looks its stripe up in that: its lists are the cells of a coarse quantiser.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation_assets.curate.neighbours import approximate_lists, exact_lists
from curation_assets.curate.neighbours.vectors import Ids, NodeVectors
from curation_assets.errors import CurationError
from curation_assets.lake.storage import LocalStorage, SharedFiles
from curation_assets.progress import Advance, LogProgress, Progress
from curation_assets.search.index import IndexInfo, SearchIndex
from curation_assets.spark.job import SparkJob
from curation_assets.spark.units import Task, run_units

_STRIPE = 4096  # nodes of a task


class SparkLists(SparkJob):
    """Finds lists on the executors of a Spark session; from so many nodes on."""

    def of_all(
        self, index: SearchIndex, vectors: NodeVectors, width: int, scratch: Path, progress: Progress, *, is_exact: bool
    ) -> Ids:
        """(nodes, width) keys of every node, nearest first, as ``exact_lists.of_all`` or nearly so.

        Args:
            index: a stored one.
            scratch: folder that the executors see under the same path.

        Raises:
            CurationError: an executor doesn't see the index, or the job failed.
        """
        assert index.path is not None
        number = len(vectors)
        positions = scratch / f"{uuid.uuid4().hex}.positions.npy"
        progress.start("neighbours", number)
        np.save(positions, vectors.positions)
        try:
            units = [
                StripeUnit(index.path, index.info, positions, start, min(start + _STRIPE, number), width, is_exact)
                for start in range(0, number, _STRIPE)
            ]
            files = SharedFiles(LocalStorage(scratch), ".")
            return np.concatenate(run_units(self._session(), files, units, Advance(progress, number)))
        finally:
            positions.unlink(missing_ok=True)


@dataclass(frozen=True)
class StripeUnit:
    """A stripe of the nodes, for an executor."""

    path: Path
    info: IndexInfo
    positions: Path
    start: int
    stop: int
    width: int
    is_exact: bool

    def carry_out(self, task: Task) -> Ids:  # noqa: ARG002
        """Their lists, on whichever executor."""
        index = SearchIndex.open(self.path)
        if index is None or index.info != self.info:
            raise CurationError(f"search index {self.path} was changed meanwhile; run again")
        vectors = NodeVectors(index.segments, np.load(self.positions))
        rows = np.arange(self.start, self.stop, dtype=np.int64)
        if self.is_exact:
            return exact_lists.of_some(vectors, rows, self.width)
        assert index.approximate is not None
        positions = index.info.positions
        return approximate_lists.of_some(vectors, index.approximate, positions, rows, self.width, LogProgress())
