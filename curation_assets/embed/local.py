"""The local engine: one machine's torch, one folder at a time, finished chunk by chunk.

On a CPU every core is a lane that decodes a batch and then encodes it with one thread of its own: no core waits for
another at the end of each matrix product, and decoding needs no share of the cores set aside for it. On GPUs the
cores decode, and two lanes a GPU copy to it and compute, so that one's copies run beside the other's kernels. Either
way a thread reads ahead, and the caller's thread writes and commits while the lanes go on.

A chunk is finished after ``CHUNK_SECONDS`` or ``CHUNK_IMAGES``, whichever comes first, so a killed run loses at most
that much and goes on from there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curation_assets.embed.lanes import in_lanes, read_ahead
from curation_assets.embed.plan import Work
from curation_assets.embed.reader import Batch, StoredImage, in_batches, joined, prepared, row_groups, stored_images
from curation_assets.embed.result import DeviceUse, EmbedPiece, StageSeconds
from curation_assets.embed.rows import finite, write_merged, write_moved, write_vectors
from curation_assets.images.guard import DEFAULT_OPTIONS, DecodeOptions
from curation_assets.images.source import ImageSource
from curation_assets.lake.snapshot import DataFile
from curation_assets.lake.staging import PartitionWriter, StagedFile
from curation_assets.progress import Progress

if TYPE_CHECKING:
    from curation_assets.clip.encoder import Encoder
    from curation_assets.clip.encoders import Encoders

CHUNK_SECONDS = 30.0
CHUNK_IMAGES = 8192
_CPU_BATCH = 8  # measured: more images at once fall out of a core's cache, fewer multiply badly
_DECODE_BATCH = 16  # images a thread decodes at a time for a GPU
_LANES_A_GPU = 2
_WORTH_MEASURING = 1e12  # operations: some seconds of a CPU, beside which it is nothing to see what it could do
_FINISHED_AHEAD = 64  # batches of vectors that may wait while a chunk is committed


class LocalEngine:
    """Encodes on this machine; use it for one folder at a time.

    Args:
        encoders: of the model versions; one is loaded only if an image has to be encoded.
        source: of images that the directory table doesn't hold.
        threads: how many decode, and on a CPU also encode.
    """

    def __init__(self, encoders: Encoders, source: ImageSource, *, threads: int) -> None:
        self._encoders = encoders
        self._source = source
        self._threads = threads

    def carry_out(self, work: Work, writer: PartitionWriter, progress: Progress) -> Iterator[EmbedPiece]:
        """Do the work here: first all that needs no encoder, then chunk by chunk."""
        if work.moves_rows:
            with writer.file() as stage:
                write_moved(stage, work)
            yield EmbedPiece(
                add=stage.files,
                remove=work.plan.rewrite,
                copied=len(work.copies),
                removed=work.plan.removed,
            )
        if len(work.todo):
            encoders = self._encoders
            loaded = encoders.load_all(work.model)
            computed = computed_on(loaded, len(work.todo))
            progress.start(f"embed {work.folder}", len(work.todo))
            images = stored_images(work.directory, row_groups(work.directory, work.todo, ["size_bytes"]), self._source)
            limits = encoders.batch_size, encoders.decode, len(work.todo)
            with encoded_batches(images, loaded, self._threads, *limits) as batches:
                for chunk in chunks(batches, progress):
                    yield self._finished(chunk, work, writer, computed)

    def merge(self, work: Work, writer: PartitionWriter, bins: Sequence[Sequence[DataFile]]) -> list[StagedFile]:
        """Join each list of files of the embeddings table into one."""
        staged = []
        for files in bins:
            with writer.file() as stage:
                write_merged(stage, work.embeddings, files)
            staged += stage.files
        return staged

    def _finished(self, chunk: EncodedBatch, work: Work, writer: PartitionWriter, computed: DeviceUse) -> EmbedPiece:
        rows, staged = 0, []
        with chunk.stages.timed("write"):
            if chunk.contents:
                with writer.file() as stage:
                    rows = write_vectors(stage, chunk.contents, chunk.vectors, work.plan.pending, work.model)
                staged = stage.files
        return EmbedPiece(
            add=staged,
            encoded=len(chunk.contents),
            copied=rows - len(chunk.contents),
            unusable=chunk.unusable,
            bytes=chunk.bytes,
            began=chunk.began,
            stages=chunk.stages,
            computed=computed,
        )


@dataclass
class EncodedBatch:
    """Images that went through the model.

    Attributes:
        contents: content hash of each vector.
        vectors: (n, dimension) float32.
        unusable: content hash and reason of images that have none.
        bytes: of the files of all of them.
        began: ``time.monotonic()`` when the first of a chunk was asked for.
    """

    contents: list[str]
    vectors: NDArray[np.float32]
    unusable: dict[str, str]
    bytes: int
    stages: StageSeconds
    began: float = 0.0

    @property
    def images(self) -> int:
        """With a vector and without."""
        return len(self.contents) + len(self.unusable)


@contextmanager
def encoded_batches(
    images: Iterator[StoredImage],
    encoders: Sequence[Encoder],
    threads: int,
    batch_size: int | None = None,
    options: DecodeOptions = DEFAULT_OPTIONS,
    number: int | None = None,
) -> Iterator[Iterator[EncodedBatch]]:
    """Images → vectors, in the images' order, the stages beside one another.

    Args:
        encoders: one for each device.
        threads: how many decode, and on a CPU also encode.
        batch_size: images per forward pass; None takes what suits the device.
        options: how images are decoded.
        number: of images, where it is known: for a single batch threads cost more than they give.

    Yields:
        Iterator over encoded batches; taking from it must go on for work to go on.
    """
    first, stop = encoders[0], threading.Event()

    def decode(batch: list[StoredImage]) -> Batch:
        return prepared(batch, first.preprocessing, options, stop)

    if not _is_gpu(first):

        def lane(batch: list[StoredImage]) -> EncodedBatch:
            return encoded(first, decode(batch))

        size = batch_size or _CPU_BATCH
        if number is not None and number <= size:
            yield map(lane, in_batches(images, size))
            return
        with (
            read_ahead(in_batches(images, size), threads) as read,
            cpu_lanes(threads) as limited,
            in_lanes(read, [limited(lane)] * threads, _FINISHED_AHEAD + threads) as done,
            _set_at_end(stop),
        ):  # before the lanes are waited for
            yield done
    else:
        size = batch_size or first.batch_size
        lanes = [_on_own_stream(encoder) for encoder in encoders for _ in range(_LANES_A_GPU)]
        with (
            read_ahead(in_batches(images, _DECODE_BATCH), threads) as read,
            in_lanes(read, [decode] * threads, threads + 2 * size // _DECODE_BATCH) as decoded,
            in_lanes(joined(decoded, size), lanes, _FINISHED_AHEAD + len(lanes)) as done,
            _set_at_end(stop),
        ):  # before the lanes are waited for
            yield done


@contextmanager
def _set_at_end(event: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        event.set()


def encoded(encoder: Encoder, batch: Batch) -> EncodedBatch:
    """Run a batch through the model."""
    contents, unusable = batch.contents, batch.unusable
    vectors = np.empty((0, 0), np.float32)
    if contents:
        with batch.stages.timed("forward"):
            vectors = encoder.embed_images(batch.pixels)
        usable = finite(vectors)
        if not usable.all():
            reason = "the model gave a zero or non-finite vector"
            unusable = unusable | {sha256: reason for sha256, good in zip(contents, usable, strict=True) if not good}
            contents = [sha256 for sha256, good in zip(contents, usable, strict=True) if good]
            vectors = vectors[usable]
    return EncodedBatch(contents, vectors, unusable, batch.bytes, batch.stages)


def computed_on(encoders: Sequence[Encoder], images: int) -> DeviceUse:
    """What the encoders are and could do; loads their image towers.

    Args:
        images: that they are to encode: of few, measuring a CPU would take longer than they do.
    """
    from curation_assets.clip.compute import device_limit

    for encoder in encoders:
        encoder.load_vision()
    first = encoders[0]
    is_worth_it = _is_gpu(first) or images * first.image_flops >= _WORTH_MEASURING
    limit = device_limit(str(first.device), first.precision) if is_worth_it else None
    return DeviceUse(str(first.device), len(encoders), first.precision, first.image_flops, limit)


Lane = Callable[[list[StoredImage]], EncodedBatch]


@contextmanager
def cpu_lanes(lanes: int) -> Iterator[Callable[[Lane], Lane]]:
    """Give each of some threads its share of the cores for forward passes; what torch took before is put back.

    Yields:
        Function that makes a lane keep to its share.
    """
    from curation_assets.clip.encoder import limit_threads, number_of_threads

    before = number_of_threads()
    share = max(1, before // lanes)

    def limited(lane: Lane) -> Lane:
        def work(batch: list[StoredImage]) -> EncodedBatch:
            limit_threads(share)  # of this thread; cheap where it is so already
            return lane(batch)

        return work

    try:
        yield limited
    finally:
        limit_threads(before)


def _is_gpu(encoder: Encoder) -> bool:
    return str(encoder.device.type) != "cpu"


def _on_own_stream(encoder: Encoder) -> Callable[[Batch], EncodedBatch]:
    import torch

    stream = torch.cuda.Stream(encoder.device)

    def work(batch: Batch) -> EncodedBatch:
        with torch.cuda.stream(stream):
            return encoded(encoder, batch)

    return work


def chunks(batches: Iterator[EncodedBatch], progress: Progress) -> Iterator[EncodedBatch]:
    """Join batches to what one commit takes."""
    waiting: list[EncodedBatch] = []
    number, started = 0, time.monotonic()
    for batch in batches:
        progress.advance(batch.images)
        waiting.append(batch)
        number += len(batch.contents)
        if number >= CHUNK_IMAGES or time.monotonic() - started >= CHUNK_SECONDS:
            chunk, waiting, number = together(waiting, started), [], 0
            started = time.monotonic()
            yield chunk
    if waiting:
        yield together(waiting, started)


def together(batches: Sequence[EncodedBatch], began: float = 0.0) -> EncodedBatch:
    """Batches as one, with their numbers added up; ``began`` is the caller's."""
    stages = StageSeconds()
    unusable: dict[str, str] = {}
    for batch in batches:
        stages += batch.stages
        unusable |= batch.unusable
    made = [batch.vectors for batch in batches if batch.contents]
    return EncodedBatch(
        contents=[sha256 for batch in batches for sha256 in batch.contents],
        vectors=np.concatenate(made) if made else np.empty((0, 0), np.float32),
        unusable=unusable,
        bytes=sum(batch.bytes for batch in batches),
        stages=stages,
        began=began,
    )
