"""The Spark engine: a folder's images cut into tasks, encoded and written by the executors, committed as a whole.

The driver plans from small columns and the tables' file lists, and commits. No image and no vector passes through it:
a task opens the directory table's Parquet files, or is given their rows by Spark where the table is read by its name,
keeps one encoder a worker process, and writes its own Parquet file into the embeddings table's folder, where no reader
sees it before the commit. A task that is lost is tried again elsewhere; a job that fails commits nothing, and what its
tasks left is swept.

Images root (where images aren't stored), lake and model have to be reachable by every executor under the same names.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from curation_assets.clip.encoders import Encoders
from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed.local import EncodedBatch, computed_on, encoded_batches, together
from curation_assets.embed.plan import Work
from curation_assets.embed.reader import RowGroup, StoredImage, row_groups, stored_image, stored_images
from curation_assets.embed.result import DeviceUse, EmbedPiece, StageSeconds
from curation_assets.embed.rows import write_merged, write_moved, write_vectors
from curation_assets.errors import CurationError, first_line
from curation_assets.images.source import ImageSource
from curation_assets.lake.snapshot import DataFile, TableReader
from curation_assets.lake.staging import PartitionWriter, StagedFile
from curation_assets.progress import Advance, Progress
from curation_assets.spark.session import slots
from curation_assets.spark.units import RESULT, Handover, Task, carried_out, collect, run_units

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TASK_IMAGES = 8192  # at most: what a lost task repeats, and 25 MB of vectors of 768 numbers in a file
_TASKS_A_SLOT = 3  # so that slots that are done early take from the others
_LEAST_IMAGES = 32  # of a task, whose overhead is a tenth of a second
_WRITE_ROWS = 1024
_NAMED = ("relative_path", "content_sha256", "file_path", "image_base64")
_NOT_FOUND = "its row is not in the directory table that Spark reads by name; try again when both are the same version"


class SparkEngine:
    """Encodes on the executors of a Spark session.

    Args:
        session: gives the session; called only if there is something to do.
        encoders: of the model versions, which each worker process loads for itself.
        source: of images that the directory table doesn't hold.
        table_name: of the directory table in Spark's catalog, to read it by name; None reads its files.
    """

    def __init__(
        self,
        session: Callable[[], SparkSession],
        encoders: Encoders,
        source: ImageSource,
        table_name: str | None = None,
    ) -> None:
        self._session = session
        self._encoders = encoders
        self._source = source
        self._table_name = table_name

    def carry_out(self, work: Work, writer: PartitionWriter, progress: Progress) -> Iterator[EmbedPiece]:
        """Do the work on the executors, all of it in one piece, so that a job that fails changes nothing."""
        done = EmbedPiece(remove=work.plan.rewrite, copied=len(work.copies), removed=work.plan.removed)
        number = len(work.todo)
        if number or len(work.plan.keep) or len(work.copies):  # else files only leave
            progress.start(f"embed {work.folder} on Spark", number)
            spark = self._session()
            done.began = time.monotonic()
            for result in self._results(spark, work, writer, Advance(progress, number)):
                _count(done, result)
        yield done

    def _results(
        self, spark: SparkSession, work: Work, writer: PartitionWriter, advance: Advance
    ) -> Iterator[TaskResult]:
        devices: dict[str, int] = {}  # of each worker process, or set of GPUs
        named = (
            [] if self._table_name is None else self._encoded_by_name(spark, self._table_name, work, writer, advance)
        )
        for result in chain(named, run_units(spark, writer.shared, self._units(spark, work, writer), advance)):
            if result.computed is not None:
                devices[result.worker] = result.computed.devices
                result.computed = replace(result.computed, devices=sum(devices.values()))
            yield result

    def _units(self, spark: SparkSession, work: Work, writer: PartitionWriter) -> Iterator[MoveUnit | EmbedUnit]:
        if len(work.plan.keep) or len(work.copies):
            plan = replace(work.plan, pending=work.plan.pending.clear())  # which moving rows does not need
            yield MoveUnit(replace(work, plan=plan, todo=work.todo.clear()), writer)
        if self._table_name is None and len(work.todo):
            images = -(-len(work.todo) // (_TASKS_A_SLOT * slots(spark)))
            groups = row_groups(work.directory, work.todo, ["size_bytes"])
            for piece in _pieces(groups, max(_LEAST_IMAGES, min(TASK_IMAGES, images))):
                hashes = pl.concat([group.rows["content_sha256"] for group in piece])
                yield EmbedUnit(work.directory, piece, self._target(work, writer, hashes))

    def merge(self, work: Work, writer: PartitionWriter, bins: Sequence[Sequence[DataFile]]) -> list[StagedFile]:
        """Join each list of files of the embeddings table into one, on the executors."""
        units = [MergeUnit(work.embeddings, list(files), writer) for files in bins]
        results = run_units(self._session(), writer.shared, units, lambda _: None)
        return [staged for result in results for staged in result.staged]

    def _encoded_by_name(
        self, spark: SparkSession, name: str, work: Work, writer: PartitionWriter, advance: Advance
    ) -> list[TaskResult]:
        """The same with Spark as the reader: what it needs of the catalog is a table of that name."""
        from pyspark.errors import PySparkException

        if not len(work.todo):
            return []
        todo = dict(work.todo.select("relative_path", "content_sha256").iter_rows())
        handover = Handover(writer.shared)
        unit = handover.put(NamedRows(todo, self._target(work, writer, work.todo["content_sha256"])))
        try:
            frame = spark.table(name)
            wanted = frame.where(frame["folder"] == work.folder).where(frame["status"] == "ok").select(*_NAMED)
        except PySparkException as error:
            raise CurationError(f"Spark can't read {name} by its name: {first_line(error)}") from error

        def carry_out(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            yield carried_out(handover, unit, lambda named: named.carry_out(batches, Task.current()))

        parts: list[TaskResult] = collect(spark, wanted.mapInArrow(carry_out, RESULT), advance)
        handover.delete([unit])
        seen = {sha256 for part in parts for sha256 in part.seen}
        missing = [sha256 for sha256 in todo.values() if sha256 not in seen]
        return [*parts, TaskResult(unusable=dict.fromkeys(missing, _NOT_FOUND))]

    def _target(self, work: Work, writer: PartitionWriter, contents: pl.Series) -> Target:
        rows = work.plan.pending.filter(pl.col("content_sha256").is_in(contents.implode()))
        return Target(rows, work.model, self._encoders, self._source, writer)


@dataclass
class TaskResult:
    """What the driver learns from a task.

    Attributes:
        worker: process or GPU that encoded, by its host; empty where nothing was encoded.
        seen: content hash of each image, with a vector or without; empty where images are read from files.
    """

    staged: list[StagedFile] = field(default_factory=list)
    encoded: int = 0
    rows: int = 0
    bytes: int = 0
    unusable: dict[str, str] = field(default_factory=dict)
    stages: StageSeconds = field(default_factory=StageSeconds)
    computed: DeviceUse | None = None
    worker: str = ""
    seen: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """Where vectors come from and where they go.

    Attributes:
        pending: every row that one of the vectors is for.
        source: of images that the directory table doesn't hold.
    """

    pending: pl.DataFrame
    model: RegisteredModel
    encoders: Encoders
    source: ImageSource
    writer: PartitionWriter

    def encode(self, images: Iterator[StoredImage], task: Task, seen: list[str] | None = None) -> TaskResult:
        """Encode images and write their rows into a file.

        Args:
            seen: content hashes of the images are added to it.
        """
        from curation_assets.clip.encoder import limit_threads

        limit_threads(task.cores)
        encoders = self.encoders
        loaded = encoders.load_all(self.model, task.gpus) if task.gpus else [encoders.load(self.model)]
        computed = computed_on(loaded, len(self.pending))
        worker = ",".join(task.gpus) if task.gpus else f"process {os.getpid()}"
        result = TaskResult(computed=computed, worker=f"{socket.gethostname()}/{worker}")
        batches = encoded_batches(images, loaded, task.cores, encoders.batch_size, encoders.decode)
        with self.writer.file() as stage, batches as finished:
            for chunk in _grouped(finished, _WRITE_ROWS):
                if seen is not None:
                    seen += [*chunk.contents, *chunk.unusable]
                with chunk.stages.timed("write"):
                    if chunk.contents:
                        result.rows += write_vectors(stage, chunk.contents, chunk.vectors, self.pending, self.model)
                result.encoded += len(chunk.contents)
                result.bytes += chunk.bytes
                result.unusable |= chunk.unusable
                result.stages += chunk.stages
        result.staged = stage.files
        return result


@dataclass(frozen=True)
class EmbedUnit:
    """Images of some row groups."""

    directory: TableReader
    groups: list[RowGroup]
    target: Target

    def carry_out(self, task: Task) -> TaskResult:
        """Encode them and write their vectors into one file."""
        return self.target.encode(stored_images(self.directory, self.groups, self.target.source), task)


@dataclass(frozen=True)
class NamedRows:
    """Images among rows of the directory table that Spark reads.

    Attributes:
        todo: content hash of each image that has to be encoded, by its ``relative_path``.
    """

    todo: dict[str, str]
    target: Target

    def carry_out(self, batches: Iterator[pa.RecordBatch], task: Task) -> TaskResult:
        """Encode what is to be encoded of the rows of one task, columns ``_NAMED``."""
        images = self._images(batches)
        first = next(images, None)
        if first is None:
            return TaskResult()
        seen: list[str] = []
        result = self.target.encode(chain([first], images), task, seen)
        result.seen = seen
        return result

    def _images(self, batches: Iterator[pa.RecordBatch]) -> Iterator[StoredImage]:
        for batch in batches:
            names, hashes, paths, images = batch.columns
            small = (names.to_pylist(), hashes.to_pylist(), paths.to_pylist())
            for name, sha256, path, image in zip(*small, images, strict=True):
                if self.todo.get(name) == sha256:
                    yield stored_image(self.target.source, sha256, path, image, 0)


@dataclass(frozen=True)
class MoveUnit:
    """Rows that stay of files that have to go, and copies of known vectors."""

    work: Work
    writer: PartitionWriter

    def carry_out(self, task: Task) -> TaskResult:  # noqa: ARG002
        """Write them into one file."""
        with self.writer.file() as stage:
            write_moved(stage, self.work)
        return TaskResult(staged=stage.files)


@dataclass(frozen=True)
class MergeUnit:
    """Small files to join into one."""

    table: TableReader
    files: list[DataFile]
    writer: PartitionWriter

    def carry_out(self, task: Task) -> TaskResult:  # noqa: ARG002
        """Write their rows into one file."""
        with self.writer.file() as stage:
            write_merged(stage, self.table, self.files)
        return TaskResult(staged=stage.files)


def _pieces(groups: Iterator[RowGroup], images: int) -> Iterator[list[RowGroup]]:
    """Row groups for a task each: neighbours together up to ``images``, larger ones in slices."""
    piece: list[RowGroup] = []
    held = 0
    for group in groups:
        for rows in group.rows.iter_slices(images):
            if held + len(rows) > images and piece:
                yield piece
                piece, held = [], 0
            piece.append(replace(group, rows=rows))
            held += len(rows)
    if piece:
        yield piece


def _grouped(batches: Iterator[EncodedBatch], images: int) -> Iterator[EncodedBatch]:
    waiting: list[EncodedBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(len(of.contents) for of in waiting) >= images:
            yield together(waiting)
            waiting = []
    if waiting:
        yield together(waiting)


def _count(done: EmbedPiece, part: TaskResult) -> None:
    done.add += part.staged
    done.encoded += part.encoded
    done.copied += part.rows - part.encoded
    done.bytes += part.bytes
    done.unusable |= part.unusable
    done.stages += part.stages
    done.computed = part.computed or done.computed
