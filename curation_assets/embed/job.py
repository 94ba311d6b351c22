"""The embedding job of one folder: plan, let an engine carry it out, commit what it finishes, tidy up.

The engine decides where images are encoded and how much is finished at a time; what is planned and how it is
committed is the same for every engine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from curation_assets.clip.registry import RegisteredModel
from curation_assets.embed.known import KnownContents, plan_work
from curation_assets.embed.plan import Work, merges
from curation_assets.embed.result import EmbedPiece, EmbedResult
from curation_assets.embed.vectors import is_current
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.snapshot import DataFile, Snapshot
from curation_assets.lake.staging import PartitionWriter, StagedFile
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress


class Engine(Protocol):
    """Where images are encoded."""

    def carry_out(self, work: Work, writer: PartitionWriter, progress: Progress) -> Iterator[EmbedPiece]:
        """Do the work piece by piece; a piece is committed before the next one is asked for.

        Raises:
            CurationError: it can't be done here.
        """

    def merge(self, work: Work, writer: PartitionWriter, bins: Sequence[Sequence[DataFile]]) -> list[StagedFile]:
        """Join each list of files of the embeddings table into one."""


def embed_folder(
    directory: LakeTable,
    embeddings: LakeTable,
    folder: str,
    model: RegisteredModel,
    engine: Engine,
    progress: Progress,
    earlier: Snapshot | None = None,
    known: KnownContents | None = None,
) -> EmbedResult:
    """Bring a folder's embeddings in line with its images, for one model version.

    Args:
        engine: asked to encode only what has no vector anywhere yet.
        earlier: an older snapshot of the embeddings, whose vectors may be copied too: an image that moved from one
            folder to another may have left the first one's rows already.
        known: contents of ``model``; given again for the next folder, it reads only what has been added since.

    Raises:
        CurationError: a table can't be read or written, or an image can't be encoded here.
    """
    started = time.monotonic()
    result = EmbedResult(folder)
    job = _Job(directory, engine, progress, result, earlier, known or KnownContents(model))
    info = {"job": "embed", "folder": folder, "model_version": model.version}
    made = rewrite(embeddings, folder, job.bring_up_to_date, info=info, progress=progress)
    result.rows = len(made.read(["relative_path"], folder, where=is_current(model)))
    result.version = made.version
    result.seconds = time.monotonic() - started
    return result


@dataclass
class _Job:
    directory: LakeTable
    engine: Engine
    progress: Progress
    result: EmbedResult
    earlier: Snapshot | None
    known: KnownContents

    def bring_up_to_date(self, rows: Rewrite) -> Snapshot:
        work = plan_work(self.directory.latest(), rows.base, self.result.folder, self.known, self.earlier)
        self.result.current = work.plan.current
        unusable: dict[str, str] = {}
        if work.moves_rows or len(work.todo):
            with closing(self.engine.carry_out(work, rows.writer, self.progress)) as pieces:  # type: ignore[type-var]
                for piece in pieces:
                    with piece.stages.timed("write"):
                        self._commit(rows, piece.add, piece.remove)
                    self.result.take(piece)
                    unusable |= piece.unusable
        contents = work.plan.pending.select("relative_path", "content_sha256").sort("relative_path").iter_rows()
        self.result.failed = [(path, unusable[sha256]) for path, sha256 in contents if sha256 in unusable]
        if bins := merges(rows.base.files(self.result.folder)):
            merged = self.engine.merge(work, rows.writer, bins)
            self._commit(rows, merged, [file for files in bins for file in files], data_change=False)
        return rows.base

    def _commit(self, rows: Rewrite, add: list[StagedFile], remove: list[DataFile], data_change: bool = True) -> None:
        before = rows.commits
        rows.commit(add, remove, data_change=data_change)
        self.result.commits += rows.commits - before
