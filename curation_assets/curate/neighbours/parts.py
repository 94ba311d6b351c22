"""Dense parts of the graph, and lists in which each of them counts a few times only.

A burst of 200 photographs fills the lists of all of them, and of whatever lies next to them. Its members are a dense
part, and at most ``MEMBERS`` of a part stand in a *distinct* list.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curation_assets.curate.neighbours import exact_lists
from curation_assets.curate.neighbours.vectors import (
    NO_COSINE,
    NONE,
    Floats,
    Ids,
    NodeVectors,
    cosines_of,
    ids_of,
    keys_of,
    stepped,
    values_of,
)

# Cosine from which on two nodes may be of one part. With the model that ships with the package two frames of a scene
# (4 % less of it, compressed again) lie at 0.988 (median), and 99 % of unlike photographs of crops below 0.984. With
# random weights unlike ones lie nearer than this: whoever knows the model gives another.
DENSE = 0.985
MEMBERS = 3  # of a part in a distinct list
_ASKED = (8, 256)  # representatives whose neighbourhood is looked up at a time: at first, and at most
_ROWS = 4096  # lists that are looked through at a time


def dense_parts(
    vectors: NodeVectors, indices: NDArray[np.int32], cosines: Floats, dense_from: float = DENSE
) -> NDArray[np.int32]:
    """The part of each node: a greedy cover, in the order of the nodes.

    A node that no representative covers becomes one, and covers those at ``dense_from`` or nearer that none covers yet.
    So every member is that near to its representative, representatives are farther from each other, and the parts are a
    function of the vectors. Edges that the lists have no room for are computed: they lie between nodes whose lists are
    full of nodes that are as near.

    Args:
        indices, cosines: (nodes, k) the nearest of each node, -1 behind.
        dense_from: cosine.

    Returns:
        (nodes,) the representative of each node; most often itself.
    """
    from scipy.sparse import csr_array

    number = len(indices)
    part = np.arange(number, dtype=np.int32)
    if number == 0:
        return part
    least = np.float32(dense_from)
    dense = (indices >= 0) & (cosines >= least)
    row = np.repeat(np.arange(number), dense.sum(axis=1))
    other = indices[dense]
    edges = csr_array((np.ones(2 * len(row), bool), (np.r_[row, other], np.r_[other, row])), shape=(number, number))
    begins, ends = edges.indptr.tolist()[:-1], edges.indptr.tolist()[1:]
    full = dense[:, -1] if dense.shape[1] else np.zeros(number, bool)
    unseen = _Unseen(vectors, np.flatnonzero(full), least)
    covered = np.zeros(number, bool)
    for node in np.unique(edges.indices).tolist():
        if covered[node]:
            continue
        near = edges.indices[begins[node] : ends[node]]
        if full[node]:
            near = np.concatenate([near, unseen.of(node, covered)])
        near = near[~covered[near] & (near > node)]
        part[near] = node
        covered[near] = True
        covered[node] = True
    return part


class _Unseen:
    """Edges between nodes whose lists are full, by comparing a few of them with all of them at a time."""

    def __init__(self, vectors: NodeVectors, nodes: Ids, least: np.float32) -> None:
        self._least = least
        self._vectors = vectors
        self._nodes = nodes
        self._at = 0
        self._known: dict[int, Ids] = {}
        self._ask = _ASKED[0]

    def of(self, node: int, covered: NDArray[np.bool_]) -> Ids:
        """Nodes that are near enough, asked in ascending order of nodes."""
        if node not in self._known:
            self._at = int(np.searchsorted(self._nodes, node))
            rest = self._nodes[self._at :]
            rest = rest[~covered[rest]]
            some = rest[: self._ask]
            self._ask = min(2 * self._ask, _ASKED[1])
            asked = stepped(self._vectors.take(some))
            found: list[list[Ids]] = [[] for _ in some]
            for ids in self._vectors.blocks(exact_lists.BLOCK, rest):
                near = cosines_of(asked @ stepped(self._vectors.take(ids)).T) >= self._least
                for place, columns in enumerate(near):
                    found[place].append(ids[columns])
            self._known = {one: np.sort(np.concatenate(lists)) for one, lists in zip(some.tolist(), found, strict=True)}
        return self._known[node]


def distinct_lists(
    vectors: NodeVectors, indices: NDArray[np.int32], cosines: Floats, part: NDArray[np.int32], k: int
) -> tuple[NDArray[np.int32], Floats, int]:
    """For each node its ``k`` nearest, of each part at most ``MEMBERS``.

    Where the plain list has fewer that stand for themselves, the representatives of parts that it doesn't know follow,
    nearest first: found by comparing those rows with all representatives.

    Args:
        indices, cosines: (nodes, known) the nearest of each node, -1 behind.
        part: as :func:`dense_parts` gives it.

    Returns:
        (nodes, k) nodes and cosines, nearest first, -1 and minus infinity behind; and how many rows were asked again.
    """
    number, known = indices.shape
    found = np.full((number, k), -1, np.int32)
    near = np.full((number, k), NO_COSINE, np.float32)
    asked = []
    for start in range(0, number, _ROWS):
        rows = slice(start, start + _ROWS)
        others = indices[rows]
        kept = _kept(others, part)
        order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
        there = np.take_along_axis(kept, order, axis=1)
        width = order.shape[1]
        found[rows, :width] = np.where(there, np.take_along_axis(others, order, axis=1), -1)
        near[rows, :width] = np.where(there, np.take_along_axis(cosines[rows], order, axis=1), NO_COSINE)
        short = kept.sum(axis=1) < k
        if known < number - 1:  # else the lists have all there is
            asked.append(start + np.flatnonzero(short & (others[:, -1] >= 0)))
    again = np.concatenate(asked) if asked else np.empty(0, np.int64)
    if len(again):
        representatives = np.flatnonzero(part == np.arange(number))
        width = min(k + known + 1, len(representatives))
        for start in range(0, len(again), _ROWS):
            some = again[start : start + _ROWS]
            more = exact_lists.of_some(vectors, some, width, representatives)
            found[some], near[some] = _filled_up(some, found[some], near[some], more, indices[some], part)
    return found, near, len(again)


def _kept(others: NDArray[np.int32], part: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(r, known) which of each list are among the first ``MEMBERS`` of their part."""
    parts = np.where(others >= 0, part[np.maximum(others, 0)], -1)
    kept = others >= 0
    in_order = np.sort(parts, axis=1)
    crowded = np.flatnonzero(
        ((in_order[:, MEMBERS:] == in_order[:, :-MEMBERS]) & (in_order[:, MEMBERS:] >= 0)).any(axis=1)
    )
    for start in range(0, len(crowded), 1024):
        some = crowded[start : start + 1024]
        same = parts[some][:, :, None] == parts[some][:, None, :]
        before = np.tril(same, -1).sum(axis=2)
        kept[some] &= before < MEMBERS
    return kept


def _filled_up(
    rows: Ids,
    found: NDArray[np.int32],
    near: Floats,
    more: Ids,
    known: NDArray[np.int32],
    part: NDArray[np.int32],
) -> tuple[NDArray[np.int32], Floats]:
    """Lists (r, k), with representatives (r, w) behind whose parts they have room for."""
    candidates = ids_of(more)
    is_known = np.zeros(candidates.shape, bool)
    members = np.zeros(candidates.shape, np.int64)
    for column in known.T:
        is_known |= candidates == column[:, None]
        members += (candidates == np.where(column >= 0, part[np.maximum(column, 0)], -2)[:, None]) & (column >= 0)[
            :, None
        ]
    out = is_known | (members >= MEMBERS) | (candidates == rows[:, None])
    keys = np.concatenate([keys_of(near, np.maximum(found, 0).astype(np.int64)), more], axis=1)
    keys[:, : found.shape[1]][found < 0] = NONE
    keys[:, found.shape[1] :][out] = NONE
    best = np.sort(keys, axis=1)[:, ::-1][:, : found.shape[1]]
    return ids_of(best), values_of(best)
