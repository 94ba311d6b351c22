"""The local engine: one machine's torch, one folder at a time, committed chunk by chunk.

Reading and decoding run on other threads while the encoder computes. A chunk is committed after ``CHUNK_SECONDS`` or
``CHUNK_IMAGES``, whichever comes first, so a killed run loses at most that much and goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from curation_assets.clip.registry import RegisteredModel
from curation_assets.embed.plan import (
    MERGE_BELOW_BYTES,
    MODEL_COLUMNS,
    SMALL_FILES,
    EmbedPlan,
    is_current,
    known_contents,
    plan_embed,
)
from curation_assets.embed.reader import Prepared, prepared_images
from curation_assets.lake.staging import FolderWriter, ParquetStage, StagedFile
from curation_assets.lake.table import DataFile, FolderChangedError, LakeTable, Snapshot
from curation_assets.progress import Progress

if TYPE_CHECKING:
    from curation_assets.clip.encoder import Encoder

CHUNK_SECONDS = 30.0
CHUNK_IMAGES = 8192
_COPY_ROWS = 1024


@dataclass
class EmbedResult:
    """What an embedding run did to one folder.

    Attributes:
        encoded: images that went through the model.
        copied: rows whose content already had a vector.
        removed: rows that went because their image changed or vanished.
        current: rows that already had their vector.
        failed: ``relative_path`` and reason of images that got none.
        rows: rows of the folder for this model version now.
        device, precision: of the forward pass; empty where nothing was encoded.
    """

    folder: str
    encoded: int = 0
    copied: int = 0
    removed: int = 0
    current: int = 0
    rows: int = 0
    commits: int = 0
    version: int = 0
    seconds: float = 0.0
    device: str = ""
    precision: str = ""
    failed: list[tuple[str, str]] = field(default_factory=list)


def embed_folder(
    directory: LakeTable,
    embeddings: LakeTable,
    folder: str,
    model: RegisteredModel,
    load_encoder: Callable[[], Encoder],
    progress: Progress,
    *,
    threads: int,
    batch_size: int | None = None,
    max_pixels: int = 200_000_000,
    earlier: Snapshot | None = None,
) -> EmbedResult:
    """Bring a folder's embeddings in line with its images, for one model version.

    Args:
        load_encoder: called only if an image has to be encoded; may be called more than once.
        threads: how many decode.
        batch_size: images per forward pass; None takes what suits the device.
        max_pixels: larger images are not decoded.
        earlier: an older snapshot of the embeddings, whose vectors may be copied too: an image that moved from one
            folder to another may have left the first one's rows already.

    Raises:
        CurationError: a table can't be read or written.
    """
    started = time.monotonic()
    result = EmbedResult(folder)
    with embeddings.writer(folder, progress.note) as writer:
        run = _Run(
            directory,
            embeddings,
            model,
            load_encoder,
            progress,
            writer,
            result,
            threads,
            batch_size,
            max_pixels,
            earlier,
        )
        while True:
            try:
                base = run.bring_up_to_date()
                break
            except FolderChangedError:
                progress.note(f"{folder}: another process changed the table; planning anew")
    result.rows = len(base.read(["relative_path"], folder, where=is_current(model)))
    result.version = base.version
    result.seconds = time.monotonic() - started
    return result


@dataclass
class _Run:
    directory: LakeTable
    embeddings: LakeTable
    model: RegisteredModel
    load_encoder: Callable[[], Encoder]
    progress: Progress
    writer: FolderWriter
    result: EmbedResult
    threads: int
    batch_size: int | None
    max_pixels: int
    earlier: Snapshot | None
    unusable: dict[str, str] = field(default_factory=dict)  # content hash: why it got no vector

    def bring_up_to_date(self) -> Snapshot:
        images, base = self.directory.snapshot(), self.embeddings.snapshot()
        plan = plan_embed(images, base, self.result.folder, self.model)
        self.result.current = plan.current
        self.unusable.clear()
        known = known_contents(base, plan.pending, self.model)
        if self.earlier is not None:
            missing = plan.pending.join(known, on="content_sha256", how="anti")
            known = pl.concat([known, known_contents(self.earlier, missing, self.model)])
        base = self._rewrite_and_copy(plan, known, base)
        todo = plan.to_encode(known)
        if len(todo):
            base = self._encode(images, todo, plan.pending, base)
        contents = plan.pending.select("relative_path", "content_sha256").sort("relative_path").iter_rows()
        self.result.failed = [(path, self.unusable[sha256]) for path, sha256 in contents if sha256 in self.unusable]
        return self._merge_small_files(base)

    def _rewrite_and_copy(self, plan: EmbedPlan, known: pl.DataFrame, base: Snapshot) -> Snapshot:
        """One commit: rows whose image is gone leave, moved ones are renamed, known contents get their vector."""
        if not plan.rewrite and not len(known):
            return base
        copies = plan.pending.join(known, on="content_sha256", how="inner", suffix="_from")
        with self.writer.file() as stage:
            for batch in base.batches(plan.rewrite, _COPY_ROWS):
                self._write_kept(stage, batch, plan.keep)
            snapshots = (base,) if self.earlier is None else (self.earlier, base)
            sources = {file.path: file for snapshot in snapshots for file in snapshot.files()}
            for (path,), rows in copies.partition_by("_file_from", as_dict=True).items():
                for batch in base.batches([sources[str(path)]], _COPY_ROWS):
                    self._write_copies(stage, batch, rows)
        base = self._commit(base, [stage.staged] if stage.staged else [], plan.rewrite)
        self.result.removed += plan.removed
        self.result.copied += len(copies)
        return base

    def _write_kept(self, stage: ParquetStage, batch: pa.RecordBatch, keep: pl.DataFrame) -> None:
        rows = pl.DataFrame(pa.Table.from_batches([batch])).select(
            "relative_path", *MODEL_COLUMNS, "embeddings", "embedded_at"
        )
        joined = rows.join(keep, on=["relative_path", "model_version"], how="inner")
        self._write(stage, joined)

    def _write_copies(self, stage: ParquetStage, batch: pa.RecordBatch, rows: pl.DataFrame) -> None:
        vectors = (
            pl.DataFrame(pa.Table.from_batches([batch]))
            .filter(is_current(self.model))
            .select(
                pl.col("relative_path").alias("relative_path_from"),
                *MODEL_COLUMNS,
                "embeddings",
                "embedded_at",
            )
        )
        self._write(stage, vectors.join(rows, on="relative_path_from", how="inner"))

    def _encode(self, images: Snapshot, todo: pl.DataFrame, pending: pl.DataFrame, base: Snapshot) -> Snapshot:
        encoder = self.load_encoder()
        self.result.device, self.result.precision = str(encoder.device), encoder.precision
        size = self.batch_size or encoder.batch_size
        self.progress.start(f"embed {self.result.folder}", len(todo))

        def prepare(data: bytes) -> np.ndarray:
            return encoder.preprocessing.load(data, self.max_pixels)

        ahead = max(2 * size, 4 * self.threads)
        with (
            prepared_images(images, todo, prepare, threads=self.threads, ahead=ahead) as prepared,
            ThreadPoolExecutor(1, "write") as background,
        ):
            chunks = _chunks(_encoded(_batches(prepared, size), encoder, self))
            # The next chunk is computed while the last one is written; commits stay in order.
            waiting = None
            for chunk in chunks:
                if waiting is not None:
                    base = waiting.result()
                waiting = background.submit(self._commit_vectors, chunk, pending, base)
            return waiting.result() if waiting is not None else base

    def _commit_vectors(self, chunk: list[tuple[str, np.ndarray]], pending: pl.DataFrame, base: Snapshot) -> Snapshot:
        """Write a chunk's vectors, once for each row that has the content."""
        vectors = pl.DataFrame(
            {
                "content_sha256": [sha256 for sha256, _ in chunk],
                "embeddings": pl.Series([vector for _, vector in chunk], dtype=pl.List(pl.Float32)),
            }
        ).with_columns(
            model_name=pl.lit(self.model.name),
            model_version=pl.lit(self.model.version),
            model_fingerprint=pl.lit(self.model.fingerprint),
            embedded_at=pl.lit(datetime.now(UTC)),
        )
        rows = pending.join(vectors, on="content_sha256", how="inner", maintain_order="left")
        with self.writer.file() as stage:
            self._write(stage, rows)
        base = self._commit(base, [stage.staged] if stage.staged else [], [])
        self.result.encoded += len(chunk)
        self.result.copied += len(rows) - len(chunk)
        return base

    def _merge_small_files(self, base: Snapshot) -> Snapshot:
        """Join the files of many small chunks and runs into one, so that a folder stays quick to read."""
        small = [file for file in base.files(self.result.folder) if file.size_bytes < MERGE_BELOW_BYTES]
        if len(small) <= SMALL_FILES:
            return base
        with self.writer.file() as stage:
            for batch in base.batches(small, _COPY_ROWS):
                stage.write(batch)
        return self._commit(base, [stage.staged] if stage.staged else [], small, data_change=False)

    def _write(self, stage: ParquetStage, rows: pl.DataFrame) -> None:
        schema = self.embeddings.spec.file_schema
        table = rows.select(schema.names).to_arrow().cast(schema)
        for batch in table.to_batches():
            stage.write(batch)

    def _commit(
        self, base: Snapshot, add: list[StagedFile], remove: list[DataFile], data_change: bool = True
    ) -> Snapshot:
        try:
            base = self.embeddings.replace(
                self.result.folder,
                base,
                add=add,
                remove=remove,
                data_change=data_change,
                info={"job": "embed", "folder": self.result.folder, "model_version": self.model.version},
            )
        except FolderChangedError:
            for file in add:
                self.writer.discard(file)
            raise
        self.result.commits += 1
        return base


def _batches(prepared: Iterator[Prepared], size: int) -> Iterator[list[Prepared]]:
    batch: list[Prepared] = []
    for image in prepared:
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _encoded(batches: Iterator[list[Prepared]], encoder: Encoder, run: _Run) -> Iterator[list[tuple[str, np.ndarray]]]:
    """Content hash and vector of each usable image of a batch; the others are noted as failed."""
    for batch in batches:
        usable = [(image, image.pixels) for image in batch if image.pixels is not None]
        run.unusable |= {image.content_sha256: image.error or "" for image in batch if image.pixels is None}
        vectors = encoder.embed_images(np.stack([pixels for _, pixels in usable])) if usable else np.empty((0, 0))
        out = []
        for (image, _), vector in zip(usable, vectors, strict=True):
            if np.isfinite(vector).all():
                out.append((image.content_sha256, vector))
            else:
                run.unusable[image.content_sha256] = "the model gave a zero or non-finite vector"
        run.progress.advance(len(batch))
        yield out


def _chunks(batches: Iterator[list[tuple[str, np.ndarray]]]) -> Iterator[list[tuple[str, np.ndarray]]]:
    chunk: list[tuple[str, np.ndarray]] = []
    started = time.monotonic()
    for batch in batches:
        chunk += batch
        if len(chunk) >= CHUNK_IMAGES or time.monotonic() - started >= CHUNK_SECONDS:
            if chunk:
                yield chunk
            chunk, started = [], time.monotonic()
    if chunk:
        yield chunk
