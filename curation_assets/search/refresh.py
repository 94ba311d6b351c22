"""Bring an index in line with its tables: only what changed is read, unless starting over is cheaper."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError
from curation_assets.lake.table import Snapshot
from curation_assets.progress import Progress
from curation_assets.search import exact
from curation_assets.search.approximate import FEWEST_VECTORS, ApproximateIndex
from curation_assets.search.contents import Contents, compare, read_vectors
from curation_assets.search.index import (
    CURRENT,
    IndexInfo,
    SearchIndex,
    Segment,
    publish,
    read_info,
    sync,
    write_arrow,
)

MAX_SEGMENTS = 12  # a query makes one product of each
_MAX_HOLES = 0.25  # share of positions that belong to no image any more
_GROWTH = 1.0  # vectors added since the last whole build, per vector that was there
_PROBES = 32
_LOCK = "_writer.lock"


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did.

    Attributes:
        index: the index as it is now.
        added: vectors that were not in it: rows of ``SearchIndex.vectors``.
        removed: how many vectors left it.
        changed: whether anything was written.
        rebuilt: whether all vectors were laid out anew, and an approximate index trained anew.
        seconds: that it took.
    """

    index: SearchIndex
    added: pl.DataFrame
    removed: int
    changed: bool
    rebuilt: bool
    seconds: float


def refresh(
    folder: Path,
    directory: Snapshot,
    embeddings: Snapshot,
    model: RegisteredModel,
    progress: Progress,
    *,
    exact_vectors: int,
    probes: Callable[[], NDArray[np.float32]] | None = None,
) -> Refreshed:
    """Build the index of a model's vectors, or bring it up to date.

    One process does so at a time; a killed one changes nothing.

    Args:
        folder: of this model's index.
        directory, embeddings: the versions of the tables to cover.
        exact_vectors: of more vectors than this an approximate index is made as well.
        probes: gives (q, dimension) vectors of texts on which an approximate index is measured too, beside stored
            vectors: they lie apart from those of images. Called where there is such an index.

    Raises:
        CurationError: a table or the index's folder can't be read or written.
    """
    started = time.perf_counter()
    with understandable_errors(folder), _sole_writer(folder, progress):
        old = _usable(folder, directory, embeddings, model)
        if old is not None and _covers(old.info, directory, embeddings, exact_vectors):
            none = old.vectors.clear()
            return Refreshed(old, none, 0, False, False, time.perf_counter() - started)
        _sweep(folder)
        contents = _compare(old, directory, embeddings, model)
        start_over = old is None or _starts_over(old, contents)
        progress.start("index", len(contents.vectors if start_over else contents.added))
        if start_over:
            contents, laid_out = _lay_out(folder, old, contents, embeddings, model, progress)
            made = _whole(contents, laid_out, exact_vectors, progress)
        else:
            assert old is not None
            segments = list(old.info.segments)
            arrays = list(old.segments)
            if len(contents.added):
                segment, array = _append(folder, old.info.positions, contents, embeddings, model, progress)
                segments.append(segment)
                arrays.append(array)
            made = _Made(segments, arrays, _followed(old, contents, arrays, exact_vectors, progress))
        born = embeddings.version if old is None else old.info.born
        info = _write(folder, directory, embeddings, model, contents, made, born, probes)
        publish(folder, info)
        index = SearchIndex.open(folder)
        assert index is not None
        _sweep(folder)
    seconds = time.perf_counter() - started
    return Refreshed(index, contents.added, len(contents.removed), True, start_over, seconds)


def as_of(base: SearchIndex | None, directory: Snapshot, embeddings: Snapshot, model: RegisteredModel) -> SearchIndex:
    """An index of other versions of the tables, in memory; vectors that ``base`` holds are taken from it.

    Raises:
        CurationError: files of that version are gone, for example vacuumed.
    """
    if base is not None and base.info.table_id != embeddings.table_id:
        base = None
    contents = _compare(base, directory, embeddings, model)
    born = embeddings.version if base is None else base.info.born
    arrays = [] if base is None else list(base.segments)
    if len(contents.added) or not arrays:
        array = np.empty((len(contents.added), model.dimension), np.float32)
        _fill(array, 0 if base is None else base.info.positions, contents.added, embeddings, model)
        arrays.append(array)
    info = _info(directory, embeddings, model, contents, [], sum(map(len, arrays)), born)
    return SearchIndex(info, contents.rows, contents.vectors, arrays)


@dataclass
class _Made:
    segments: list[Segment]
    arrays: list[NDArray[np.float32]]
    approximate: ApproximateIndex | None


def _usable(folder: Path, directory: Snapshot, embeddings: Snapshot, model: RegisteredModel) -> SearchIndex | None:
    """The index to go on from: the one that is there, unless it is damaged or of other tables or another model."""
    try:
        old = SearchIndex.open(folder)
    except CurationError:
        return None
    same = old is not None and (old.info.table_id, old.info.directory_id) == (embeddings.table_id, directory.table_id)
    return old if same and old is not None and old.info.is_of(model) else None


def _covers(info: IndexInfo, directory: Snapshot, embeddings: Snapshot, exact_vectors: int) -> bool:
    return (
        info.table_version == embeddings.version
        and info.directory_version == directory.version
        and (info.approximate_file is not None) == _wants_approximate(info.vectors, exact_vectors)
    )


def _wants_approximate(vectors: int, exact_vectors: int) -> bool:
    return vectors > max(exact_vectors, FEWEST_VECTORS)


def _compare(old: SearchIndex | None, directory: Snapshot, embeddings: Snapshot, model: RegisteredModel) -> Contents:
    if old is None:
        return compare(None, None, 0, directory, embeddings, model)
    rows = None if old.info.is_ambiguous else old.rows
    return compare(rows, old.vectors, old.info.positions, directory, embeddings, model)


def _starts_over(old: SearchIndex, contents: Contents) -> bool:
    positions = old.info.positions + len(contents.added)
    holes = positions - len(contents.vectors)
    # Vectors that are held are copied faster than read: only where most are new, or searching has become slower.
    return (
        len(contents.added) > _GROWTH * (len(contents.vectors) - len(contents.added))
        or holes > _MAX_HOLES * positions
        or len(old.info.segments) + 1 > MAX_SEGMENTS
    )


def _lay_out(
    folder: Path,
    old: SearchIndex | None,
    contents: Contents,
    embeddings: Snapshot,
    model: RegisteredModel,
    progress: Progress,
) -> tuple[Contents, tuple[Segment, NDArray[np.float32]]]:
    """All vectors in one new segment without holes: those that are held copied, the others read."""
    before = contents.vectors["position"]
    contents = _renumbered(contents)
    segment, array = _new_segment(folder, len(contents.vectors), model.dimension)
    first = 0 if old is None else old.info.positions
    held = before.to_numpy() < first
    if old is not None:
        source, target = before.to_numpy()[held], np.flatnonzero(held)
        for start in range(0, len(source), 4096):
            part = slice(start, start + 4096)
            array[target[part]] = exact.take(old.segments, source[part])
            progress.advance(len(target[part]))
    _fill(array, 0, contents.vectors.filter(pl.Series(~held)), embeddings, model, progress)
    return contents, (segment, _finished(array))


def _renumbered(contents: Contents) -> Contents:
    old = contents.vectors["position"]
    vectors = contents.vectors.with_columns(position=pl.int_range(len(old), dtype=pl.Int64))
    numbers = pl.DataFrame({"position": old, "_new": vectors["position"]})

    def renumber(frame: pl.DataFrame) -> pl.DataFrame:
        joined = frame.join(numbers, on="position", how="left", maintain_order="left")
        return joined.with_columns(position=pl.col("_new")).drop("_new")

    return replace(contents, rows=renumber(contents.rows), vectors=vectors, added=renumber(contents.added))


def _whole(
    contents: Contents,
    laid_out: tuple[Segment, NDArray[np.float32]],
    exact_vectors: int,
    progress: Progress,
) -> _Made:
    segment, array = laid_out
    approximate = None
    if _wants_approximate(contents.rows["position"].count(), exact_vectors):
        approximate = ApproximateIndex.build([array], contents.vectors["position"].to_numpy(), progress)
    return _Made([segment], [array], approximate)


def _append(
    folder: Path,
    first: int,
    contents: Contents,
    embeddings: Snapshot,
    model: RegisteredModel,
    progress: Progress,
) -> tuple[Segment, NDArray[np.float32]]:
    segment, array = _new_segment(folder, len(contents.added), model.dimension)
    _fill(array, first, contents.added, embeddings, model, progress)
    return segment, _finished(array)


def _followed(
    old: SearchIndex,
    contents: Contents,
    arrays: list[NDArray[np.float32]],
    exact_vectors: int,
    progress: Progress,
) -> ApproximateIndex | None:
    """The approximate index after a change that is small beside it."""
    if not _wants_approximate(contents.rows["position"].count(), exact_vectors):
        return None
    if old.approximate is None or len(contents.vectors) > old.approximate.most_vectors:
        return ApproximateIndex.build(arrays, contents.vectors["position"].to_numpy(), progress)
    changed = old.approximate.copy()
    changed.remove(contents.removed["position"].to_numpy())
    for start in range(0, len(contents.added), 65_536):
        positions = contents.added["position"].to_numpy()[start : start + 65_536]
        changed.add(positions, exact.take(arrays, positions))
    return changed


def _new_segment(folder: Path, rows: int, dimension: int) -> tuple[Segment, NDArray[np.float32]]:
    name = f"{uuid.uuid4().hex}.vectors.npy"
    if not rows:  # an empty file can't be mapped
        array = np.empty((0, dimension), np.float32)
        np.save(folder / name, array)
        return Segment(file=name, rows=0), array
    array = np.lib.format.open_memmap(folder / name, mode="w+", dtype=np.float32, shape=(rows, dimension))
    with (folder / name).open("r+b") as file:  # a page of the map that the disk has no room for would end the process
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    return Segment(file=name, rows=rows), array


def _finished(array: NDArray[np.float32]) -> NDArray[np.float32]:
    if isinstance(array, np.memmap):
        array.flush()
    return array


def _fill(
    array: NDArray[np.float32],
    first: int,
    added: pl.DataFrame,
    embeddings: Snapshot,
    model: RegisteredModel,
    progress: Progress | None = None,
) -> None:
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
        raise CurationError(f"table {embeddings.root} holds {done:,} of {len(added):,} vectors; it was changed by hand")


def _write(
    folder: Path,
    directory: Snapshot,
    embeddings: Snapshot,
    model: RegisteredModel,
    contents: Contents,
    made: _Made,
    born: int,
    probes: Callable[[], NDArray[np.float32]] | None,
) -> IndexInfo:
    build = uuid.uuid4().hex
    info = _info(directory, embeddings, model, contents, made.segments, sum(map(len, made.arrays)), born)
    info = info.model_copy(update={"rows_file": f"{build}.rows.arrow", "vectors_file": f"{build}.keys.arrow"})
    write_arrow(folder / info.rows_file, contents.rows)
    write_arrow(folder / info.vectors_file, contents.vectors)
    index = SearchIndex(info, contents.rows, contents.vectors, made.arrays, made.approximate)
    queries = _queries(index)
    if made.approximate is not None:
        kinds = {"images": queries} | ({"texts": probes()} if probes is not None else {})
        recalls = made.approximate.tune(made.arrays, kinds, index.live)
        name = f"{build}.approximate.faiss"
        settings = made.approximate.save(folder / name) | {"recall": recalls}
        sync(folder / name)
        update = {"approximate_file": name, "approximate": settings, "recall": min(recalls.values())}
        info = info.model_copy(update=update)
        index.info = info
    return info.model_copy(update={"latency_ms": _latency(index, queries), "built_at": datetime.now(UTC)})


def _info(
    directory: Snapshot,
    embeddings: Snapshot,
    model: RegisteredModel,
    contents: Contents,
    segments: Iterable[Segment],
    positions: int,
    born: int,
) -> IndexInfo:
    return IndexInfo(
        model_name=model.name,
        model_version=model.version,
        model_fingerprint=model.fingerprint,
        dimension=model.dimension,
        table_id=embeddings.table_id,
        table_version=embeddings.version,
        directory_id=directory.table_id,
        directory_version=directory.version,
        images=len(contents.rows),
        vectors=contents.rows["position"].count(),
        positions=positions,
        segments=tuple(segments),
        rows_file="",
        vectors_file="",
        is_ambiguous=contents.is_ambiguous,
        born=born,
        built_at=datetime.now(UTC),
    )


def _queries(index: SearchIndex) -> NDArray[np.float32]:
    """Stored vectors, moved a little so that none finds itself at distance 0."""
    positions = index.rows["position"].drop_nulls().to_numpy()
    rng = np.random.default_rng(0)
    chosen = rng.choice(positions, min(len(positions), 4 * _PROBES), replace=False)
    stored = index.take(np.sort(chosen)) if len(chosen) else np.empty((0, index.info.dimension), np.float32)
    noise = rng.standard_normal(stored.shape, np.float32)
    moved = stored + 0.3 * noise / np.linalg.norm(noise, axis=1, keepdims=True) if len(stored) else stored
    moved /= np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)
    return np.asarray(moved, np.float32)


def _latency(index: SearchIndex, queries: NDArray[np.float32]) -> float:
    def one(query: NDArray[np.float32]) -> float:
        begun = time.perf_counter()
        index.nearest(query[None, :], 10)
        return (time.perf_counter() - begun) * 1000

    if not len(queries):
        return 0.0
    one(queries[0])
    return round(float(np.median([one(query) for query in queries[:_PROBES]])), 3)


@contextmanager
def understandable_errors(folder: Path) -> Iterator[None]:
    """What the disk refuses, as one line for the user."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise CurationError(
            f"search index {folder} can't be written: {reason}; CURATION_INDEX_ROOT chooses another place"
        ) from error


@contextmanager
def _sole_writer(folder: Path, progress: Progress) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.note(f"waiting for another process that is writing the search index {folder}")
        lock.acquire(poll_interval=0.2)
    try:
        yield
    finally:
        lock.release()


def _sweep(folder: Path) -> None:
    """Remove what no build names: what a newer one replaced, and what a killed process left."""
    with suppress(CurationError):
        info = read_info(folder)
        kept = {CURRENT, _LOCK} | (info.files if info is not None else set())
        for file in _files(folder):
            if file.name not in kept:
                with suppress(OSError):
                    file.unlink()


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.iterdir() if file.is_file())
