"""The one way in which rows change: lock → plan on a snapshot → stage → commit; plan anew if somebody was faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from curation_assets.errors import CurationError
from curation_assets.lake import hive
from curation_assets.lake.broken import BrokenFileError, passing_over
from curation_assets.lake.snapshot import DataFile, Snapshot
from curation_assets.lake.staging import PartitionWriter, StagedFile
from curation_assets.lake.table import LakeTable, PartitionChangedError
from curation_assets.progress import Progress

TOGETHER_BYTES = 64 * 2**20  # of staged files, and seconds since the first: what a kill can cost
TOGETHER_SECONDS = 20.0
_TOGETHER_PARTITIONS = 64  # whose locks are held at once


@dataclass
class Rewrite:
    """One try to change some partitions of a table, whose writers nobody else has.

    A commit costs milliseconds that grow with the table, however little it holds. So what is finished of several
    partitions may wait for each other: ``base`` then shows it already, and its files can be read.

    Attributes:
        base: the snapshot to plan on; after a commit, the one that it made or will make.
        writers: stage files, by partition.
        together: whether commits wait for each other, up to ``TOGETHER_BYTES`` or ``TOGETHER_SECONDS``.
        commits: how many landed in this try.
    """

    table: LakeTable
    base: Snapshot
    writers: dict[str, PartitionWriter]
    info: dict[str, Any]
    together: bool = False
    commits: int = 0
    _landed: Snapshot = field(init=False)
    _add: list[StagedFile] = field(default_factory=list)
    _remove: list[DataFile] = field(default_factory=list)
    _since: float = 0.0

    def __post_init__(self) -> None:
        self._landed = self.base

    @property
    def writer(self) -> PartitionWriter:
        """The one writer of a rewrite of one partition."""
        (writer,) = self.writers.values()
        return writer

    def commit(self, add: Iterable[StagedFile], remove: Iterable[DataFile], *, data_change: bool = True) -> bool:
        """Let staged files join and files of the table leave, in one version; nothing to do commits nothing.

        Args:
            data_change: False where the rows stay the same and are only laid out anew.

        Returns:
            Whether there was something to do.

        Raises:
            PartitionChangedError: the plan doesn't hold any more. What was staged for it is discarded; let it pass.
        """
        add, remove = list(add), list(remove)
        if not add and not remove:
            return False
        if not data_change:
            self.land()
        if not self._add and not self._remove:
            self._since = time.monotonic()
        self._add += add
        self._remove += remove
        if not self.together or not data_change or self._is_due():
            self.land(data_change)
        else:
            added = [DataFile(file.path, file.partition, file.size_bytes, file.rows) for file in add]
            self.base = self.base.after(self.base.version, added, remove)
        return True

    def land(self, data_change: bool = True) -> None:
        """Commit what waits.

        Raises:
            PartitionChangedError: as :meth:`commit`.
        """
        gone = {file.path for file in self._remove}
        short_lived = [file for file in self._add if file.path in gone]
        kept = {file.path for file in self._add}
        add = [file for file in self._add if file.path not in gone]
        remove = [file for file in self._remove if file.path not in kept]
        self._add, self._remove = [], []
        if not add and not remove:
            return
        try:
            self.base = self._landed = self.table.replace(
                self._partitions(add), self._landed, add=add, remove=remove, info=self.info, data_change=data_change
            )
        except PartitionChangedError:
            self._discard(add)
            raise
        finally:
            self._discard(short_lived)
        self.commits += 1

    def drop(self) -> None:
        """Discard what waits."""
        self._discard(self._add)
        self._add, self._remove = [], []

    def _partitions(self, add: Iterable[StagedFile]) -> list[str]:
        """Those whose files must be as they were planned on."""
        if self.table.spec.partition_column is None or hive.WHOLE not in self.writers:
            return list(self.writers)
        return sorted({*self._landed.partitions, *(file.partition for file in add)})

    def _is_due(self) -> bool:
        staged = sum(file.size_bytes for file in self._add)
        return staged >= TOGETHER_BYTES or time.monotonic() - self._since >= TOGETHER_SECONDS

    def _discard(self, files: Iterable[StagedFile]) -> None:
        for file in files:
            next(iter(self.writers.values())).discard(file)  # any does


def rewrite(
    table: LakeTable,
    partitions: str | Sequence[str],
    work: Callable[[Rewrite], object],
    *,
    info: dict[str, Any],
    progress: Progress | None = None,
    together: bool = False,
) -> Snapshot:
    """Change some partitions of a table, alone, however often it takes.

    Args:
        partitions: values of the partition column, or one; ``hive.WHOLE`` for a table without, or for any of those of
            a table whose rows always change in one commit, however many folders they are of.
        work: plans on ``Rewrite.base``, stages with its writers and commits with ``Rewrite.commit``, perhaps piece by
            piece. It is called again from its beginning where a commit found that another process, one that doesn't
            ask for the lock, had changed a partition: what landed until then is in the new ``base``.
        info: written to each commit in the log.
        progress: is told when another process is waited for or was faster.
        together: let what ``work`` commits wait, so that one version takes up several partitions.

    Returns:
        The snapshot that the last commit made, or the one that needed none.

    Raises:
        CurationError: the table can't be read or written.
    """
    # In one order, so that no two wait for each other in a ring.
    chosen = [partitions] if isinstance(partitions, str) else sorted(set(partitions))
    with ExitStack() as stack:
        on_wait = progress.note if progress is not None else None
        # Small partitions come in groups, of which each is done again sooner than asked for.
        is_alone = len(chosen) == 1
        writers = {each: stack.enter_context(table.writer(each, on_wait, by_lease=is_alone)) for each in chosen}
        while True:
            change = Rewrite(table, table.latest(), writers, info, together)
            try:
                work(change)
                change.land()
                return change.base
            except PartitionChangedError:
                if progress is not None:
                    name = ", ".join(chosen) if chosen != [hive.WHOLE] else table.path.name
                    progress.note(f"{name}: another process changed the table; planning anew")
            except BaseException:
                with suppress(
                    PartitionChangedError, CurationError
                ):  # what is finished is kept, whatever ended the rest
                    change.land()
                raise
            finally:
                change.drop()


@dataclass
class GroupRewrite:
    """Partitions that were rewritten together.

    Attributes:
        snapshot: after it.
        seconds: that each partition took, its part of what they share included.
        broken: partitions that were left as they are, as a data file that they need can't be read, and what was said.
    """

    partitions: list[str]
    snapshot: Snapshot
    seconds: dict[str, float]
    broken: dict[str, str]


def rewrite_each(
    table: LakeTable,
    partitions: Sequence[str],
    sizes: Mapping[str, int],
    work: Callable[[Rewrite, str], object],
    *,
    info: dict[str, Any],
    progress: Progress,
) -> Iterator[GroupRewrite]:
    """Rewrite many partitions one after the other, small ones in groups that share locks and commits.

    Args:
        sizes: bytes of each, about; of one that isn't named 0.
        work: brings one partition in line: plans, stages and commits; may be called again, as in :func:`rewrite`.
        info: written to each commit in the log, where ``folder`` says which partitions it was of.

    Raises:
        CurationError: the table can't be read or written; what was finished stays.
    """
    with suppress(CurationError, OSError):  # of the sweep, which nothing depends on
        table.sweep()
    for group in groups(partitions, sizes):
        seconds = dict.fromkeys(group, 0.0)
        broken: dict[str, str] = {}

        def work_on_all(
            change: Rewrite,
            group: list[str] = group,
            seconds: dict[str, float] = seconds,
            broken: dict[str, str] = broken,
        ) -> None:
            for partition in group:
                begun = time.monotonic()
                try:
                    passing_over(lambda partition=partition: work(change, partition))  # type: ignore[misc]
                except BrokenFileError as error:
                    broken[partition] = str(error)
                seconds[partition] += time.monotonic() - begun

        started = time.monotonic()
        name = group[0] if len(group) == 1 else f"{len(group)} folders"
        several = len(group) > 1
        told = info | {"folder": name}
        snapshot = rewrite(table, group, work_on_all, info=told, progress=progress, together=several)
        shared = (time.monotonic() - started - sum(seconds.values())) / len(group)
        yield GroupRewrite(group, snapshot, {each: own + shared for each, own in seconds.items()}, broken)


def groups(partitions: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Cut partitions, in their order, into groups to rewrite together; a large one is on its own.

    Args:
        sizes: bytes of each, about; of one that isn't named 0.
    """
    group: list[str] = []
    held = 0
    for partition in partitions:
        size = sizes.get(partition, 0)
        if group and (len(group) == _TOGETHER_PARTITIONS or held + size > TOGETHER_BYTES):
            yield group
            group, held = [], 0
        group.append(partition)
        held += size
    if group:
        yield group
