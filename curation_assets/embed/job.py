"""The embedding job of one folder: plan, let an engine carry it out, commit what it finishes, tidy up.

The engine decides where images are encoded and how much is finished at a time; what is planned and how it is
committed is the same for every engine.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed.known import KnownContents, plan_work
from curation_assets.embed.plan import Work, is_current, merges
from curation_assets.embed.result import EmbedPiece, EmbedResult
from curation_assets.lake.staging import FolderWriter, StagedFile
from curation_assets.lake.table import DataFile, FolderChangedError, LakeTable, Snapshot
from curation_assets.progress import Progress


class Engine(Protocol):
    """Where images are encoded."""

    def carry_out(self, work: Work, writer: FolderWriter, progress: Progress) -> Iterator[EmbedPiece]:
        """Do the work piece by piece; a piece is committed before the next one is asked for.

        Raises:
            CurationError: it can't be done here.
        """

    def merge(self, work: Work, writer: FolderWriter, bins: Sequence[Sequence[DataFile]]) -> list[StagedFile]:
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
    with embeddings.writer(folder, progress.note) as writer:
        job = _Job(directory, embeddings, engine, progress, writer, result, earlier, known or KnownContents(model))
        while True:
            try:
                base = job.bring_up_to_date()
                break
            except FolderChangedError:
                progress.note(f"{folder}: another process changed the table; planning anew")
    result.rows = len(base.read(["relative_path"], folder, where=is_current(model)))
    result.version = base.version
    result.seconds = time.monotonic() - started
    return result


@dataclass
class _Job:
    directory: LakeTable
    embeddings: LakeTable
    engine: Engine
    progress: Progress
    writer: FolderWriter
    result: EmbedResult
    earlier: Snapshot | None
    known: KnownContents

    def bring_up_to_date(self) -> Snapshot:
        images, base = self.directory.snapshot(), self.embeddings.snapshot()
        work = plan_work(images, base, self.result.folder, self.known, self.earlier)
        self.result.current = work.plan.current
        unusable: dict[str, str] = {}
        if work.moves_rows or len(work.todo):
            with closing(self.engine.carry_out(work, self.writer, self.progress)) as pieces:  # type: ignore[type-var]
                for done in pieces:
                    with done.stages.timed("write"):
                        base = self._commit(base, done.add, done.remove)
                    self.result.take(done)
                    unusable |= done.unusable
        contents = work.plan.pending.select("relative_path", "content_sha256").sort("relative_path").iter_rows()
        self.result.failed = [(path, unusable[sha256]) for path, sha256 in contents if sha256 in unusable]
        bins = merges(base.files(self.result.folder))
        if not bins:
            return base
        merged = self.engine.merge(work, self.writer, bins)
        return self._commit(base, merged, [file for files in bins for file in files], data_change=False)

    def _commit(
        self, base: Snapshot, add: Iterable[StagedFile], remove: Iterable[DataFile], data_change: bool = True
    ) -> Snapshot:
        add, remove = list(add), list(remove)
        if not add and not remove:
            return base
        try:
            base = self.embeddings.replace(
                self.result.folder,
                base,
                add=add,
                remove=remove,
                data_change=data_change,
                info={"job": "embed", "folder": self.result.folder, "model_version": self.known.model.version},
            )
        except FolderChangedError:
            for file in add:
                self.writer.discard(file)
            raise
        self.result.commits += 1
        return base
