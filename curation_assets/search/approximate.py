"""An approximate index for more vectors than one matrix product compares in time: FAISS, then exact cosines.

FAISS gives a shortlist from compressed codes; the shortlist is compared with the vectors themselves, so scores are
exact and only which images are found is approximate. How much is searched is chosen by measuring: the least that finds
``RECALL`` of the exact ten nearest.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from curation_assets.progress import Progress
from curation_assets.search import exact

faiss: Any = _faiss  # its stubs don't know what its index_factory makes

RECALL = 0.98
_K = 10  # that recall is measured at
_SHORTLIST = 200
_MOST_LISTS = 512
_TRAINING_PER_LIST = 64
_BLOCK = 65_536
_GROWTH = 3  # lists suit up to this many times the vectors they were trained for


class ApproximateIndex:
    """Inverted lists of product-quantized codes, named by the vectors' positions.

    Args:
        index: FAISS's.
        trained: vectors it was trained for.
        probes: lists that a query looks into.
        shortlist: candidates whose exact cosines are computed.
    """

    def __init__(self, index: Any, trained: int, probes: int = 16, shortlist: int = _SHORTLIST) -> None:
        self._index = index
        self._trained = trained
        self._probes = probes
        self._shortlist = shortlist

    @property
    def most(self) -> int:
        """Images a query may ask for; more are searched exactly."""
        return self._shortlist // 4

    @property
    def most_vectors(self) -> int:
        """Vectors from which on it should be built anew."""
        return _GROWTH * self._trained

    @classmethod
    def build(
        cls, segments: Sequence[NDArray[np.float32]], positions: NDArray[np.int64], progress: Progress
    ) -> ApproximateIndex:
        """Train on a sample of the vectors at some positions, and add them all."""
        dimension, number = segments[0].shape[1], len(positions)
        lists = max(16, 2 ** round(math.log2(math.sqrt(number))))
        index: Any = faiss.index_factory(dimension, f"IVF{lists},PQ{_codes(dimension)}x4fs", faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1  # FAISS would warn of a small sample
        sample = min(number, _TRAINING_PER_LIST * lists)
        rng = np.random.default_rng(0)
        chosen = np.sort(rng.choice(number, sample, replace=False))
        progress.start("index: training", sample)
        index.train(exact.take(segments, positions[chosen]))
        progress.advance(sample)
        made = cls(index, number)
        progress.start("index: approximate", number)
        for start in range(0, number, _BLOCK):
            some = positions[start : start + _BLOCK]
            made.add(some, exact.take(segments, some))
            progress.advance(len(some))
        return made

    def add(self, positions: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add vectors under their positions."""
        self._index.add_with_ids(np.ascontiguousarray(vectors), positions)

    def remove(self, positions: NDArray[np.int64]) -> None:
        """Remove the vectors of some positions."""
        if len(positions):
            self._index.remove_ids(positions)

    def copy(self) -> ApproximateIndex:
        """A copy that may be changed while others search this one."""
        return ApproximateIndex(faiss.clone_index(self._index), self._trained, self._probes, self._shortlist)

    def nearest(
        self,
        segments: Sequence[NDArray[np.float32]],
        queries: NDArray[np.float32],
        k: int,
        live: NDArray[np.bool_] | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions and exact cosines of nearly the ``k`` nearest, nearest first, both (q, k)."""
        parameters = faiss.SearchParametersIVF(nprobe=self._probes)
        _, shortlists = self._index.search(np.ascontiguousarray(queries), self._shortlist, params=parameters)
        positions = np.empty((len(queries), k), np.int64)
        cosines = np.empty((len(queries), k), np.float32)
        for row, (query, shortlist) in enumerate(zip(queries, shortlists, strict=True)):
            candidates = np.sort(shortlist[shortlist >= 0])
            if live is not None:
                candidates = candidates[live[candidates]]
            if len(candidates) < k:  # most of what it found is gone
                found, scores = exact.nearest(segments, query[None], k, live)
                positions[row], cosines[row] = found[0], scores[0]
                continue
            scores = exact.take(segments, candidates) @ query
            best = np.lexsort((candidates, -scores))[:k]
            positions[row], cosines[row] = candidates[best], scores[best]
        return positions, cosines

    def tune(
        self, segments: Sequence[NDArray[np.float32]], queries: NDArray[np.float32], live: NDArray[np.bool_] | None
    ) -> float:
        """Choose how many lists a query looks into.

        Returns:
            Recall at 10 with that many: ``RECALL`` or more, or what looking into the most lists gives.
        """
        truth, _ = exact.nearest(segments, queries, _K, live)
        recall, self._probes = 0.0, 4
        while True:
            found, _ = self.nearest(segments, queries, _K, live)
            hits = [len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True)]
            recall = float(np.sum(hits) / truth.size)
            if recall >= RECALL or self._probes >= min(_MOST_LISTS, self._index.nlist):
                return round(recall, 4)
            self._probes *= 2

    def save(self, path: Path) -> dict[str, Any]:
        """Write the index to a file.

        Returns:
            What :meth:`open` needs beside it.
        """
        faiss.write_index(self._index, os.fsencode(path).decode())
        return {
            "trained": self._trained,
            "probes": self._probes,
            "shortlist": self._shortlist,
            "lists": self._index.nlist,
        }

    @classmethod
    def open(cls, path: Path, settings: dict[str, Any]) -> ApproximateIndex:
        """Open what :meth:`save` wrote.

        Raises:
            FileNotFoundError: it is gone.
            RuntimeError: it is damaged.
        """
        if not path.exists():
            raise FileNotFoundError(path)
        index = faiss.read_index(str(path))
        return cls(index, settings["trained"], settings["probes"], settings["shortlist"])


def _codes(dimension: int) -> int:
    """Parts that a vector is cut into: of 4 floats where that goes up, 4 bits each."""
    for size in (4, 2, 3, 1):
        if dimension % size == 0:
            return dimension // size
    return dimension
