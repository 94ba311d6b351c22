"""Files of vectors of an index: one for all, or one more for what is new; both filled from the embeddings table."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError
from curation_assets.lake.snapshot import Snapshot
from curation_assets.progress import Progress
from curation_assets.search import exact
from curation_assets.search.contents import Contents, read_vectors
from curation_assets.search.index import SearchIndex, Segment

_COPIED_AT_ONCE = 4096  # vectors: 12 MB


def lay_out(
    path: Path,
    old: SearchIndex | None,
    contents: Contents,
    embeddings: Snapshot,
    model: RegisteredModel,
    progress: Progress,
) -> tuple[Contents, Segment, NDArray[np.float32]]:
    """All vectors in one new segment without holes: those that an index holds copied, the others read.

    Args:
        path: of the index.
        old: the index that the contents were compared with.

    Returns:
        The contents with the positions there; the segment, and its vectors (n, dimension).
    """
    before = contents.keys["position"]
    contents = _renumbered(contents)
    segment, array = _new_segment(path, len(contents.keys), model.dimension)
    first = 0 if old is None else old.info.positions
    held = before.to_numpy() < first
    if old is not None:
        source, target = before.to_numpy()[held], np.flatnonzero(held)
        for start in range(0, len(source), _COPIED_AT_ONCE):
            part = slice(start, start + _COPIED_AT_ONCE)
            array[target[part]] = exact.take(old.segments, source[part])
            progress.advance(len(target[part]))
    fill(array, 0, contents.keys.filter(pl.Series(~held)), embeddings, model, progress)
    return contents, segment, _finished(array)


def append(
    path: Path,
    first: int,
    added: pl.DataFrame,
    embeddings: Snapshot,
    model: RegisteredModel,
    progress: Progress,
) -> tuple[Segment, NDArray[np.float32]]:
    """New vectors in a segment of their own.

    Args:
        path: of the index.
        first: position of the first of them.
        added: ``Contents.added``.
    """
    segment, array = _new_segment(path, len(added), model.dimension)
    fill(array, first, added, embeddings, model, progress)
    return segment, _finished(array)


def fill(
    array: NDArray[np.float32],
    first: int,
    added: pl.DataFrame,
    embeddings: Snapshot,
    model: RegisteredModel,
    progress: Progress | None = None,
) -> None:
    """Read vectors from the table to their places.

    Args:
        array: (n, dimension) of the positions from ``first`` on.
        added: ``Contents.added``, or other rows of ``Contents.keys``.

    Raises:
        CurationError: the table lacks some, or a file of it is missing or broken.
    """
    done = 0
    for positions, vectors in read_vectors(embeddings, added, model):
        at = positions - first
        if exact.is_run(at):  # as nearly always: a slice is much quicker
            array[at[0] : at[-1] + 1] = vectors
        else:
            array[at] = vectors
        done += len(positions)
        if progress is not None:
            progress.advance(len(positions))
    if done != len(added):
        raise CurationError(
            f"table {embeddings.storage.location} holds {done:,} of {len(added):,} vectors; it was changed by hand"
        )


def _renumbered(contents: Contents) -> Contents:
    old = contents.keys["position"]
    keys = contents.keys.with_columns(position=pl.int_range(len(old), dtype=pl.Int64))
    numbers = pl.DataFrame({"position": old, "_new": keys["position"]})

    def renumber(frame: pl.DataFrame) -> pl.DataFrame:
        joined = frame.join(numbers, on="position", how="left", maintain_order="left")
        return joined.with_columns(position=pl.col("_new")).drop("_new")

    return replace(contents, rows=renumber(contents.rows), keys=keys, added=renumber(contents.added))


def _new_segment(path: Path, rows: int, dimension: int) -> tuple[Segment, NDArray[np.float32]]:
    name = f"{uuid.uuid4().hex}.vectors.npy"
    if not rows:  # an empty file can't be mapped
        array = np.empty((0, dimension), np.float32)
        np.save(path / name, array)
        return Segment(file=name, rows=0), array
    array = np.lib.format.open_memmap(path / name, mode="w+", dtype=np.float32, shape=(rows, dimension))
    with (path / name).open("r+b") as file:  # a page of the map that the disk has no room for would end the process
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    return Segment(file=name, rows=rows), array


def _finished(array: NDArray[np.float32]) -> NDArray[np.float32]:
    if isinstance(array, np.memmap):
        array.flush()
    return array
