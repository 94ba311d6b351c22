"""The embedding job of some folders: plan, let an engine carry it out, commit what it finishes, tidy up.

The engine decides where images are encoded and how much is finished at a time; what is planned and how it is
committed is the same for every engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed.known import KnownContents, plan_work
from curation_assets.embed.plan import Work, merges
from curation_assets.embed.result import EmbedPiece, EmbedResult
from curation_assets.embed.vectors import is_current
from curation_assets.lake.rewrite import Rewrite, rewrite_each
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


def embed_folders(
    directory: LakeTable,
    embeddings: LakeTable,
    folders: Sequence[str],
    model: RegisteredModel,
    engine: Engine,
    progress: Progress,
    earlier: Snapshot | None = None,
    known: KnownContents | None = None,
    repair: bool = False,
) -> list[EmbedResult]:
    """Bring the embeddings of some folders in line with their images, for one model version.

    Several folders share their commits, as small ones cost little else.

    Args:
        engine: asked to encode only what has no vector anywhere yet.
        earlier: an older snapshot of the embeddings, whose vectors may be copied too: an image that moved from one
            folder to another may have left the first one's rows already.
        known: contents of ``model``; given again for the next folders, it reads only what has been added since.
        repair: replace data files of the embeddings that can't be read; otherwise a folder with one is left as it is.

    Returns:
        What was done to each.

    Raises:
        CurationError: a table can't be read or written, or an image can't be encoded here; what was finished stays.
    """
    job = _Job(directory, engine, progress, earlier, known or KnownContents(model), embeddings, repair)
    images = directory.latest()
    sizes = {folder: images.bytes(folder) for folder in folders}
    results = {folder: EmbedResult(folder) for folder in folders}
    place = {folder: number for number, folder in enumerate(folders, 1)}

    def work(rows: Rewrite, folder: str) -> None:
        progress.step("embed", place[folder], len(folders))
        job.bring_up_to_date(rows, results[folder])

    info = {"job": "embed", "model_version": model.version}
    for group in rewrite_each(embeddings, folders, sizes, work, info=info, progress=progress):
        made = group.snapshot
        current = made.read(["folder"], files=made.files_of(group.partitions), where=is_current(model))
        for (folder,), rows in current.group_by("folder"):
            results[str(folder)].rows = len(rows)
        for folder, seconds in group.seconds.items():
            results[folder].version, results[folder].seconds = made.version, seconds
            results[folder].broken = group.broken.get(folder)
    return list(results.values())


def embed_folder(
    directory: LakeTable, embeddings: LakeTable, folder: str, *arguments: Any, **options: Any
) -> EmbedResult:
    """:func:`embed_folders` of one folder."""
    (result,) = embed_folders(directory, embeddings, [folder], *arguments, **options)
    return result.checked()


@dataclass
class _Job:
    directory: LakeTable
    engine: Engine
    progress: Progress
    earlier: Snapshot | None
    known: KnownContents
    embeddings: LakeTable
    repair: bool

    @cached_property
    def removed(self) -> Snapshot:
        """What left the embeddings lately: a folder that comes back costs no encoding."""
        return self.embeddings.removed_lately()

    def bring_up_to_date(self, rows: Rewrite, result: EmbedResult) -> None:
        writer = rows.writers[result.folder]
        images = self.directory.latest()
        result.directory_version = images.version
        if self.repair and (broken := rows.base.broken(result.folder)):
            result.lost |= {file.path: reason for file, reason in broken}
            result.commits += rows.commit([], [file for file, _ in broken])
        work = plan_work(images, rows.base, result.folder, self.known, self.earlier, lambda: self.removed)
        images.refuse_broken(result.folder)
        rows.base.refuse_broken(result.folder)
        result.current = work.plan.current
        unusable: dict[str, str] = {}
        if work.moves_rows or len(work.todo):
            with closing(self.engine.carry_out(work, writer, self.progress)) as pieces:  # type: ignore[type-var]
                for piece in pieces:
                    with piece.stages.timed("write"):
                        result.commits += rows.commit(piece.add, piece.remove)
                    result.take(piece)
                    unusable |= piece.unusable
        contents = work.plan.pending.select("relative_path", "content_sha256").sort("relative_path").iter_rows()
        result.failed = [(path, unusable[sha256]) for path, sha256 in contents if sha256 in unusable]
        if bins := merges(rows.base.files(result.folder)):
            merged = self.engine.merge(work, writer, bins)
            small = [file for files in bins for file in files]
            result.commits += rows.commit(merged, small, data_change=False)
