"""Bring the graph of neighbours in line with its index: what is new is compared with all, what is known is kept."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.curate.neighbours import approximate_lists, exact_lists
from curation_assets.curate.neighbours.parts import DENSE, dense_parts, distinct_lists
from curation_assets.curate.neighbours.stored import (
    COVERED,
    DISTINCT,
    KNOWN,
    LOCK,
    Neighbours,
    NeighboursInfo,
    digests_of,
    location_of,
    new_file,
    open_neighbours,
    places_of,
    publish,
    sweep,
    write,
)
from curation_assets.curate.neighbours.vectors import NONE, Ids, NodeVectors, ids_of, keys_of, renumbered, values_of
from curation_assets.errors import CurationError
from curation_assets.files import waiting_lock
from curation_assets.progress import Progress
from curation_assets.search.index import SearchIndex, understandable_errors

if TYPE_CHECKING:
    from curation_assets.curate.neighbours.spark import SparkLists

# Entries that are kept: a node may lose as many neighbours as it has more than KNOWN before it is asked again.
WIDTH = 40
EXACT_VECTORS = 200_000  # of more the approximate index is asked, as where the search index makes one
_MOST_NEW = 0.5  # share of the nodes from which on all are compared anew: that takes half the products


@dataclass(frozen=True)
class NeighboursRefresh:
    """What a refresh did.

    Attributes:
        neighbours: the graph at its end.
        added, removed: nodes that were not in it, and that left it.
        asked: nodes that were there, and were compared with all again as they had lost too many neighbours.
        filled: distinct lists that were filled up with representatives.
        changed: whether the lists are others than before.
        rebuilt: whether it was made from nothing.
        seconds: that it took.
    """

    neighbours: Neighbours
    added: int
    removed: int
    asked: int
    filled: int
    changed: bool
    rebuilt: bool
    seconds: float


def refresh_neighbours(
    index: SearchIndex,
    progress: Progress,
    *,
    exact_vectors: int = EXACT_VECTORS,
    dense_from: float = DENSE,
    spark: SparkLists | None = None,
) -> NeighboursRefresh:
    """Bring the stored graph of an index in line with it, or make it. One process does so at a time.

    The vectors of one content are taken to be the same: a content that was there keeps its lists.

    Args:
        index: a stored one.
        exact_vectors: of more nodes than this the approximate index is asked, if the index has one.
        dense_from: cosine from which on nodes are of one dense part; another than before makes parts and distinct
            lists anew, from the lists that are there.
        spark: compares all with all on executors; what is new beside many is compared here.

    Raises:
        CurationError: the index is not a stored one, or the graph can't be written.
    """
    started = time.perf_counter()
    if index.path is None:
        raise CurationError("the graph of neighbours is made of the stored index, not of an earlier version")
    location = location_of(index.path)
    note = f"waiting for another process that is writing the graph of neighbours {location}"
    with understandable_errors(location):
        location.mkdir(parents=True, exist_ok=True)
    with understandable_errors(location), waiting_lock(location / LOCK, lambda: progress.note(note)):
        sweep(location)
        old = _usable(index)
        same_parts = old is not None and old.info.dense_from == dense_from
        stays = same_parts and old is not None and not _wants_exact(old, index, exact_vectors)
        if old is not None and stays and old.info.covers(index.info):
            return NeighboursRefresh(old, 0, 0, 0, 0, False, False, time.perf_counter() - started)
        digests, positions = _nodes(index, old)
        vectors = NodeVectors(index.segments, positions)
        work = _Work(index, vectors, progress, exact_vectors, spark)
        numbers = None if old is None else places_of(digests, np.asarray(old.digests))
        kept = 0 if numbers is None else int((numbers >= 0).sum())
        rebuilt = (
            old is None or numbers is None or work.must_rebuild(old) or len(digests) - kept > _MOST_NEW * len(digests)
        )
        if old is not None and same_parts and kept == len(old) == len(digests) and not work.must_rebuild(old):
            info = old.info.model_copy(update={name: getattr(index.info, name) for name in COVERED})
            publish(location, info)
            same = open_neighbours(index.path)
            assert same is not None
            return NeighboursRefresh(same, 0, 0, 0, 0, False, False, time.perf_counter() - started)
        if rebuilt or old is None or numbers is None:
            asked = 0
            keys = work.all()
        else:
            keys, asked = work.followed(old, numbers)
        made, filled = _made(index, vectors, digests, keys, dense_from, work.is_exact)
        write(location, made)
        stored = open_neighbours(index.path)
        assert stored is not None
    return NeighboursRefresh(
        neighbours=stored,
        added=len(digests) - kept,
        removed=0 if old is None else len(old) - kept,
        asked=asked,
        filled=filled,
        changed=True,
        rebuilt=rebuilt,
        seconds=time.perf_counter() - started,
    )


def _usable(index: SearchIndex) -> Neighbours | None:
    """The graph to go on from: the one that is there, unless it is damaged or of another model."""
    assert index.path is not None
    try:
        old = open_neighbours(index.path)
    except CurationError:
        return None
    of_model = COVERED[:4]
    same = old is not None and all(getattr(old.info, name) == getattr(index.info, name) for name in of_model)
    return old if same else None


def _wants_exact(old: Neighbours, index: SearchIndex, exact_vectors: int) -> bool:
    return not old.info.exact and (index.approximate is None or len(old) <= exact_vectors)


def _nodes(index: SearchIndex, old: Neighbours | None) -> tuple[NDArray[np.bytes_], Ids]:
    """Distinct contents of the live vectors, ascending, and where the vector of each lies.

    A vector with components that are no numbers is near to nothing, and no node: those that are new are looked at.
    """
    live = index.rows.filter(pl.col("position").is_not_null() & pl.col("content_sha256").is_not_null())
    first = live.select("content_sha256", "position").unique("content_sha256", keep="first", maintain_order=True)
    first = first.sort("content_sha256")
    digests, positions = digests_of(first["content_sha256"].to_list()), first["position"].to_numpy().astype(np.int64)
    usable = np.ones(len(digests), bool)
    new = np.arange(len(digests)) if old is None else np.flatnonzero(places_of(np.asarray(old.digests), digests) < 0)
    vectors = NodeVectors(index.segments, positions)
    for ids in vectors.blocks(exact_lists.BLOCK, new):
        usable[ids] = np.isfinite(vectors.take(ids)).all(axis=1)
    return digests[usable], positions[usable]


@dataclass
class _Work:
    """Lists of an index's nodes, in the way that suits their number."""

    index: SearchIndex
    vectors: NodeVectors
    progress: Progress
    exact_vectors: int
    spark: SparkLists | None

    def __post_init__(self) -> None:
        self.is_exact = self.index.approximate is None or len(self.vectors) <= self.exact_vectors

    def must_rebuild(self, old: Neighbours) -> bool:
        """Whether the old lists don't do, as they are approximate and have to be exact now."""
        return self.is_exact and not old.info.exact

    def all(self) -> Ids:
        """Of every node."""
        if self.spark is not None and self.spark.takes(len(self.vectors)):
            assert self.index.path is not None
            scratch, exact = location_of(self.index.path), self.is_exact
            return self.spark.of_all(self.index, self.vectors, WIDTH, scratch, self.progress, is_exact=exact)
        if self.is_exact:
            return exact_lists.of_all(self.vectors, WIDTH, self.progress)
        return self._approximate(np.arange(len(self.vectors), dtype=np.int64))

    def followed(self, old: Neighbours, numbers: Ids) -> tuple[Ids, int]:
        """Of every node, where most are known; and how many of these were asked again.

        Args:
            numbers: (old nodes,) the node that each is now, -1 where it is gone.
        """
        number = len(self.vectors)
        stay = numbers >= 0
        rows = numbers[stay]
        before = np.asarray(old.stored[stay])
        # A list that had every other node still has every one that is left.
        complete = (before != NONE).sum(axis=1) == len(old) - 1 if self.is_exact else np.zeros(len(rows), bool)
        lists = np.sort(renumbered(before, numbers), axis=1)[:, ::-1].copy()
        new = np.setdiff1d(np.arange(number, dtype=np.int64), rows, assume_unique=True)
        take_up = exact_lists.TakeUp(rows, lists, complete)
        keys = np.full((number, WIDTH), NONE, np.int64)
        self.progress.start("neighbours", len(new))
        if self.is_exact:
            keys[new] = exact_lists.of_some(self.vectors, new, WIDTH, take_up=take_up)
        else:
            found = self._approximate(new)
            keys[new] = found
            # Those that a new node finds take it up: nobody else is compared with it.
            row, column = np.nonzero(found != NONE)
            other = ids_of(found[row, column]).astype(np.int64)
            is_old = np.isin(other, rows)
            row, column, other = row[is_old], column[is_old], other[is_old]
            take_up.add_pairs(np.searchsorted(rows, other), keys_of(values_of(found[row, column]), new[row]))
        self.progress.advance(len(new))
        keys[rows] = lists
        short = np.flatnonzero((lists != NONE).sum(axis=1) < min(KNOWN, number - 1))
        again = rows[short]
        if len(again):
            keys[again] = exact_lists.of_some(self.vectors, again, WIDTH) if self.is_exact else self._approximate(again)
        return keys, len(again)

    def _approximate(self, rows: Ids) -> Ids:
        assert self.index.approximate is not None
        positions = self.index.info.positions
        return approximate_lists.of_some(self.vectors, self.index.approximate, positions, rows, WIDTH, self.progress)


def _made(
    index: SearchIndex, vectors: NodeVectors, digests: NDArray[np.bytes_], keys: Ids, dense_from: float, is_exact: bool
) -> tuple[Neighbours, int]:
    """A graph of lists, and how many of its distinct lists were filled up."""
    indices, cosines = ids_of(keys[:, :KNOWN]), values_of(keys[:, :KNOWN])
    parts = dense_parts(vectors, indices, cosines, dense_from)
    nearest, near, filled = distinct_lists(vectors, indices, cosines, parts, DISTINCT)
    info = NeighboursInfo(
        **{name: getattr(index.info, name) for name in COVERED},
        nodes=len(digests),
        dense_from=dense_from,
        exact=is_exact,
        file=new_file(),
    )
    return Neighbours(info, digests, indices, cosines, parts, keys, (nearest, near)), filled
