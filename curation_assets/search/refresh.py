"""Bring an index in line with its tables: only what changed is read, unless starting over is cheaper."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError
from curation_assets.files import sync, waiting_lock
from curation_assets.lake.snapshot import Snapshot
from curation_assets.progress import Progress
from curation_assets.search import exact, measuring, segments
from curation_assets.search.approximate import FEWEST_VECTORS, ApproximateIndex
from curation_assets.search.contents import Contents, compare
from curation_assets.search.index import (
    CURRENT,
    IndexInfo,
    SearchIndex,
    Segment,
    publish,
    read_info,
    understandable_errors,
    write_frames,
)

MAX_SEGMENTS = 12  # a query makes one product of each
_MAX_HOLES = 0.25  # share of positions that belong to no image any more
_GROWTH = 1.0  # vectors added since the last whole build, per vector that was there
_LOCK = "_writer.lock"


@dataclass(frozen=True)
class IndexRefresh:
    """What a refresh did.

    Attributes:
        index: the index at its end.
        added: vectors that were not in it: rows of ``SearchIndex.keys``.
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
    path: Path,
    directory: Snapshot,
    embeddings: Snapshot,
    model: RegisteredModel,
    progress: Progress,
    *,
    exact_vectors: int,
    probes: Callable[[], NDArray[np.float32]] | None = None,
) -> IndexRefresh:
    """Build the index of a model's vectors, or bring it up to date.

    One process does so at a time; a killed one changes nothing.

    Args:
        path: of this model's index.
        directory, embeddings: the versions of the tables to cover.
        exact_vectors: of more vectors than this an approximate index is made as well.
        probes: gives (q, dimension) vectors of texts on which an approximate index is measured too, beside stored
            vectors: they lie apart from those of images. Called where there is such an index.

    Raises:
        CurationError: a table or the index can't be read or written.
    """
    started = time.perf_counter()
    with understandable_errors(path), _sole_writer(path, progress):
        old = _usable(path, directory, embeddings, model)
        if old is not None and _covers(old.info, directory, embeddings, exact_vectors):
            none = old.keys.clear()
            return IndexRefresh(old, none, 0, False, False, time.perf_counter() - started)
        _sweep(path)
        contents = _compare(old, directory, embeddings, model)
        start_over = old is None or _starts_over(old, contents)
        progress.start("index", len(contents.keys if start_over else contents.added))
        if old is None or start_over:
            contents, segment, array = segments.lay_out(path, old, contents, embeddings, model, progress)
            build = _Build([segment], [array], _trained(contents, [array], exact_vectors, progress))
        else:
            build = _Build(list(old.info.segments), list(old.segments))
            if len(contents.added):
                first = old.info.positions
                segment, array = segments.append(path, first, contents.added, embeddings, model, progress)
                build.segments.append(segment)
                build.arrays.append(array)
            build.approximate = _followed(old, contents, build.arrays, exact_vectors, progress)
        info = _info(directory, embeddings, model, contents, build, old)
        publish(path, _write(path, info, contents, build, probes))
        index = SearchIndex.open(path)
        assert index is not None
        _sweep(path)
    seconds = time.perf_counter() - started
    return IndexRefresh(index, contents.added, len(contents.removed), True, start_over, seconds)


def as_of(base: SearchIndex | None, directory: Snapshot, embeddings: Snapshot, model: RegisteredModel) -> SearchIndex:
    """An index of other versions of the tables, in memory; vectors that ``base`` holds are taken from it.

    Raises:
        CurationError: files of that version are gone, for example vacuumed.
    """
    if base is not None and base.info.embeddings_id != embeddings.table_id:
        base = None
    contents = _compare(base, directory, embeddings, model)
    for table in (directory, embeddings):
        for file, reason in table.broken():
            raise CurationError(
                f"version {table.version} of table {table.storage.location} can't be read any more: data file "
                f"{file.path} {reason} (vacuumed?)"
            )
    build = _Build([], [] if base is None else list(base.segments))
    if len(contents.added) or not build.arrays:
        array = np.empty((len(contents.added), model.dimension), np.float32)
        segments.fill(array, 0 if base is None else base.info.positions, contents.added, embeddings, model)
        build.arrays.append(array)
    info = _info(directory, embeddings, model, contents, build, base)
    return SearchIndex(info, contents.rows, contents.keys, build.arrays)


@dataclass
class _Build:
    """Vectors of an index that is being made: files, what they hold, and an approximate index of them."""

    segments: list[Segment]
    arrays: list[NDArray[np.float32]]
    approximate: ApproximateIndex | None = None


def _usable(path: Path, directory: Snapshot, embeddings: Snapshot, model: RegisteredModel) -> SearchIndex | None:
    """The index to go on from: the one that is there, unless it is damaged or of other tables or another model."""
    try:
        old = SearchIndex.open(path)
    except CurationError:
        return None
    ids = embeddings.table_id, directory.table_id
    same = old is not None and (old.info.embeddings_id, old.info.directory_id) == ids
    return old if same and old is not None and old.info.is_of(model) else None


def _covers(info: IndexInfo, directory: Snapshot, embeddings: Snapshot, exact_vectors: int) -> bool:
    return (
        info.embeddings_version == embeddings.version
        and info.directory_version == directory.version
        and (info.approximate_file is not None) == _wants_approximate(info.vectors, exact_vectors)
    )


def _wants_approximate(vectors: int, exact_vectors: int) -> bool:
    return vectors > max(exact_vectors, FEWEST_VECTORS)


def _compare(old: SearchIndex | None, directory: Snapshot, embeddings: Snapshot, model: RegisteredModel) -> Contents:
    if old is None:
        return compare(None, None, 0, directory, embeddings, model)
    rows = None if old.info.is_ambiguous else old.rows
    return compare(rows, old.keys, old.info.positions, directory, embeddings, model)


def _starts_over(old: SearchIndex, contents: Contents) -> bool:
    positions = old.info.positions + len(contents.added)
    holes = positions - len(contents.keys)
    # Vectors that are held are copied faster than read: only where most are new, or searching has become slower.
    return (
        len(contents.added) > _GROWTH * (len(contents.keys) - len(contents.added))
        or holes > _MAX_HOLES * positions
        or len(old.info.segments) + 1 > MAX_SEGMENTS
    )


def _trained(
    contents: Contents, arrays: list[NDArray[np.float32]], exact_vectors: int, progress: Progress
) -> ApproximateIndex | None:
    """A new approximate index, where there are vectors enough for one."""
    if not _wants_approximate(contents.rows["position"].count(), exact_vectors):
        return None
    return ApproximateIndex.build(arrays, contents.keys["position"].to_numpy(), progress)


def _followed(
    old: SearchIndex,
    contents: Contents,
    arrays: list[NDArray[np.float32]],
    exact_vectors: int,
    progress: Progress,
) -> ApproximateIndex | None:
    """The approximate index after a change that is small beside it."""
    if old.approximate is None or len(contents.keys) > old.approximate.most_vectors:
        return _trained(contents, arrays, exact_vectors, progress)
    if not _wants_approximate(contents.rows["position"].count(), exact_vectors):
        return None
    changed = old.approximate.copy()
    changed.remove(contents.removed["position"].to_numpy())
    for start in range(0, len(contents.added), 65_536):
        positions = contents.added["position"].to_numpy()[start : start + 65_536]
        changed.add(positions, exact.take(arrays, positions))
    return changed


def _write(
    path: Path,
    info: IndexInfo,
    contents: Contents,
    build: _Build,
    probes: Callable[[], NDArray[np.float32]] | None,
) -> IndexInfo:
    """Write a build's files beside those of its vectors, and measure it; then only ``publish`` is missing."""
    name = uuid.uuid4().hex
    info = info.model_copy(update={"rows_file": f"{name}.rows.arrow", "keys_file": f"{name}.keys.arrow"})
    write_frames(path, info, contents.rows, contents.keys)
    index = SearchIndex(info, contents.rows, contents.keys, build.arrays, build.approximate)
    queries = measuring.sample_queries(index)
    if build.approximate is not None:
        recalls = measuring.tune(index, queries, probes)
        file = f"{name}.approximate.faiss"
        settings = build.approximate.save(path / file) | {"recall": recalls}
        sync(path / file)
        update = {"approximate_file": file, "approximate": settings, "recall": min(recalls.values())}
        index = replace(index, info=info.model_copy(update=update))
    latency = measuring.latency_ms(index, queries)
    return index.info.model_copy(update={"latency_ms": latency, "built_at": datetime.now(UTC)})


def _info(
    directory: Snapshot,
    embeddings: Snapshot,
    model: RegisteredModel,
    contents: Contents,
    build: _Build,
    old: SearchIndex | None,
) -> IndexInfo:
    return IndexInfo(
        model_name=model.name,
        model_version=model.version,
        model_fingerprint=model.fingerprint,
        dimension=model.dimension,
        embeddings_id=embeddings.table_id,
        embeddings_version=embeddings.version,
        directory_id=directory.table_id,
        directory_version=directory.version,
        images=len(contents.rows),
        vectors=contents.rows["position"].count(),
        positions=sum(map(len, build.arrays)),
        segments=tuple(build.segments),
        rows_file="",
        keys_file="",
        is_ambiguous=contents.is_ambiguous,
        built_at_version=embeddings.version if old is None else old.info.built_at_version,
        built_at=datetime.now(UTC),
    )


@contextmanager
def _sole_writer(path: Path, progress: Progress) -> Iterator[None]:
    path.mkdir(parents=True, exist_ok=True)
    note = f"waiting for another process that is writing the search index {path}"
    with waiting_lock(path / _LOCK, lambda: progress.note(note)):
        yield


def _sweep(path: Path) -> None:
    """Remove what no build names: what a newer one replaced, and what a killed process left."""
    with suppress(CurationError):
        info = read_info(path)
        kept = {CURRENT, _LOCK} | (info.files if info is not None else set())
        for file in _files(path):
            if file.name not in kept:
                with suppress(OSError):
                    file.unlink()


def _files(path: Path) -> Iterable[Path]:
    return (file for file in path.iterdir() if file.is_file())
