"""The one way in which rows change: lock → plan on a snapshot → stage → commit; plan anew if somebody was faster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from curation_assets.lake import hive
from curation_assets.lake.snapshot import DataFile, Snapshot
from curation_assets.lake.staging import PartitionWriter, StagedFile
from curation_assets.lake.table import LakeTable, PartitionChangedError
from curation_assets.progress import Progress

Result = TypeVar("Result")


@dataclass
class Rewrite:
    """One try to change some partitions of a table, whose writers nobody else has.

    Attributes:
        base: the snapshot to plan on; after a commit, the one that it made.
        writers: stage files, by partition.
        commits: how many landed in this try.
    """

    table: LakeTable
    base: Snapshot
    writers: dict[str, PartitionWriter]
    info: dict[str, Any]
    commits: int = 0

    @property
    def writer(self) -> PartitionWriter:
        """The one writer of a rewrite of one partition."""
        (writer,) = self.writers.values()
        return writer

    def commit(self, add: Iterable[StagedFile], remove: Iterable[DataFile], *, data_change: bool = True) -> None:
        """Let staged files join and files of the table leave, in one version; nothing to do commits nothing.

        Args:
            data_change: False where the rows stay the same and are only laid out anew.

        Raises:
            PartitionChangedError: the plan doesn't hold any more. What was staged for it is discarded; let it pass.
        """
        add, remove = list(add), list(remove)
        if not add and not remove:
            return
        try:
            self.base = self.table.replace(
                list(self.writers), self.base, add=add, remove=remove, info=self.info, data_change=data_change
            )
        except PartitionChangedError:
            for file in add:
                self.writers[file.partition].discard(file)
            raise
        self.commits += 1


def rewrite(
    table: LakeTable,
    partitions: str | Sequence[str],
    work: Callable[[Rewrite], Result],
    *,
    info: dict[str, Any],
    progress: Progress | None = None,
) -> Result:
    """Change some partitions of a table, alone, however often it takes.

    Args:
        partitions: values of the partition column, or one; ``hive.WHOLE`` for a table without.
        work: plans on ``Rewrite.base``, stages with ``Rewrite.writer`` and commits with ``Rewrite.commit``, perhaps
            piece by piece. It is called again from its beginning where a commit found that another process, one that
            doesn't ask for the lock, had changed a partition: what it committed until then is in the new ``base``.
        info: written to each commit in the log.
        progress: is told when another process is waited for or was faster.

    Returns:
        What ``work`` returns.

    Raises:
        CurationError: the table can't be read or written.
    """
    chosen = (
        [partitions] if isinstance(partitions, str) else sorted(set(partitions))
    )  # one order: no two wait in a ring
    with ExitStack() as stack:
        on_wait = progress.note if progress is not None else None
        writers = {each: stack.enter_context(table.writer(each, on_wait)) for each in chosen}
        while True:
            try:
                return work(Rewrite(table, table.latest(), writers, info))
            except PartitionChangedError:
                if progress is not None:
                    name = ", ".join(chosen) if chosen != [hive.WHOLE] else table.path.name
                    progress.note(f"{name}: another process changed the table; planning anew")
