"""The nearest of nodes by the index's approximate index: it finds candidates, and their cosines are exact."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from curation_assets.curate.neighbours.vectors import NONE, Ids, NodeVectors, exact_keys
from curation_assets.progress import Progress
from curation_assets.search.approximate import ApproximateIndex

CANDIDATES = 96  # of each node, twice what is kept: planted pairs at cosines from 0.9 on are found with it
_BLOCK = 4096


def of_some(
    vectors: NodeVectors, approximate: ApproximateIndex, positions: int, rows: Ids, width: int, progress: Progress
) -> Ids:
    """Nearly the nearest of some nodes.

    Args:
        positions: how many the index has.

    Returns:
        (len(rows), width) keys, nearest first, NONE where no more were found.
    """
    node_at = np.full(positions, -1, np.int64)
    node_at[vectors.positions] = np.arange(len(vectors))
    keys = np.empty((len(rows), width), np.int64)
    progress.start("neighbours", len(rows))

    def keep(start: int, found: Ids) -> None:
        some = rows[start : start + _BLOCK]
        others = np.where(found >= 0, node_at[np.maximum(found, 0)], -1)
        others[others == some[:, None]] = -1
        best = np.sort(exact_keys(vectors, some, others), axis=1)[:, ::-1]
        best[:, 1:][best[:, 1:] == best[:, :-1]] = NONE
        keys[start : start + _BLOCK] = np.sort(best, axis=1)[:, ::-1][:, :width]

    with ThreadPoolExecutor(1) as pool:  # cosines of a block while the next one is searched
        last = None
        for start in range(0, len(rows), _BLOCK):
            some = rows[start : start + _BLOCK]
            found = approximate.candidates(vectors.take(some), CANDIDATES)
            if last is not None:
                last.result()
            last = pool.submit(keep, start, found)
            progress.advance(len(some))
        if last is not None:
            last.result()
    return keys
