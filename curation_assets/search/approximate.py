"""An approximate index for more vectors than one matrix product compares in time: FAISS, then exact cosines.

FAISS gives a shortlist from compressed codes; the shortlist is compared with the vectors themselves, so scores are
exact and only which images are found is approximate. How much is searched is chosen by measuring: the least that finds
``RECALL`` of the exact ten nearest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation_assets.progress import Progress
from curation_assets.search import exact

RECALL = 0.98
FEWEST_VECTORS = 1000  # of fewer nothing can be learned, and comparing all takes no time
_K = 10  # that recall is measured at
_REDUCED = 256  # dimensions that are coded: 86 to 99 % of the energy of CLIP-like vectors, for a third of the bytes
_SHORTLIST, _LONGEST = 300, 2400
_FEWEST_PROBES = 8
_LISTS = (16, 8192)
_TRAINED_ON = 50_000  # vectors at least, or _TRAINED_PER_LIST
_TRAINED_PER_LIST = 40
_BLOCK = 65_536
_GROWTH = 4  # lists suit up to this many times the vectors they were trained for


class ApproximateIndex:
    """Inverted lists of product-quantized codes, named by the vectors' positions.

    Vectors are turned and shortened first, by a rotation onto the directions that hold most of their energy: without
    centring, as that would change which inner products are largest.

    Args:
        index: FAISS's.
        trained: how many vectors there were when it was trained.
        probes: lists that a query looks into.
        shortlist: candidates whose exact cosines are computed.
    """

    def __init__(self, index: Any, trained: int, probes: int = _FEWEST_PROBES, shortlist: int = _SHORTLIST) -> None:
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
        """Train on a sample of the vectors at some positions, at least ``FEWEST_VECTORS``, and add them all."""
        faiss = _faiss()
        number = len(positions)
        lists = int(np.clip(2 ** round(math.log2(2 * math.sqrt(number))), *_LISTS))
        size = min(number, max(_TRAINED_ON, _TRAINED_PER_LIST * lists))
        progress.start("index: training", size)
        chosen = np.random.default_rng(0).choice(number, size, replace=False)
        sample = exact.take(segments, positions[np.sort(chosen)])
        rotation = _rotation(sample)
        coded = faiss.index_factory(
            len(rotation), f"IVF{lists},PQ{max(1, len(rotation) // 2)}x4fsr", faiss.METRIC_INNER_PRODUCT
        )
        coded.cp.min_points_per_centroid = 1  # FAISS would print that a sample is small
        turn = faiss.LinearTransform(sample.shape[1], len(rotation), False)
        faiss.copy_array_to_vector(rotation.ravel(), turn.A)
        turn.is_trained = True
        index = faiss.IndexPreTransform(turn, coded)
        turned = turn.apply(sample)
        coded.train_q1(size, faiss.swig_ptr(turned), False, coded.metric_type)  # the lists, on every core
        with _threads(1):  # the codes: steps so small that threads spend their time waiting for each other
            index.train(sample)
        progress.advance(size)
        made = cls(index, number)
        progress.start("index: approximate", number)
        for start in range(0, number, _BLOCK):
            some = positions[start : start + _BLOCK]
            made.add(some, exact.take(segments, some))
            progress.advance(len(some))
        return made

    def add(self, positions: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add vectors under positions that it doesn't hold yet."""
        self._index.add_with_ids(np.ascontiguousarray(vectors), positions)

    def remove(self, positions: NDArray[np.int64]) -> None:
        """Remove the vectors of some positions."""
        if len(positions):
            self._index.remove_ids(positions)

    def copy(self) -> ApproximateIndex:
        """A copy that may be changed while others search this one."""
        return ApproximateIndex(_faiss().clone_index(self._index), self._trained, self._probes, self._shortlist)

    def nearest(
        self,
        segments: Sequence[NDArray[np.float32]],
        queries: NDArray[np.float32],
        k: int,
        live: NDArray[np.bool_] | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions and exact cosines of nearly the ``k`` nearest, nearest first, both (q, min(k, live vectors))."""
        faiss = _faiss()
        k = min(k, sum(map(len, segments)) if live is None else int(live.sum()))
        parameters = faiss.SearchParametersPreTransform(index_params=faiss.SearchParametersIVF(nprobe=self._probes))
        # Two threads that wait for each other at each of a single query's few steps take ten times as long as one.
        with _threads(1 if len(queries) == 1 else None):
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

    def candidates(self, queries: NDArray[np.float32], number: int) -> NDArray[np.int64]:
        """What a block of queries finds by the codes alone: positions (q, number) in no order, -1 where it has no more.

        Positions that belong to no image any more may be among them. Of many queries at once nothing is compared here:
        whoever asks computes the cosines it needs.
        """
        parameters = _faiss().SearchParametersPreTransform(
            index_params=_faiss().SearchParametersIVF(nprobe=self._probes)
        )
        _, positions = self._index.search(np.ascontiguousarray(queries), number, params=parameters)
        return np.asarray(positions, np.int64)

    def tune(
        self,
        segments: Sequence[NDArray[np.float32]],
        queries: Mapping[str, NDArray[np.float32]],
        live: NDArray[np.bool_] | None,
    ) -> dict[str, float]:
        """Choose how many lists a query looks into, and how long its shortlist is.

        Args:
            queries: by their kind, for each has to be found well: images, texts.

        Returns:
            Recall at 10 of each kind with that: ``RECALL`` or more, or what the most of both gives.
        """
        truths = {kind: exact.nearest(segments, of_kind, _K, live)[0] for kind, of_kind in queries.items()}
        lists = _faiss().extract_index_ivf(self._index).nlist
        recalls: dict[str, float] = {}
        recall = 0.0
        self._shortlist = _SHORTLIST
        while recall < RECALL and self._shortlist <= _LONGEST:
            self._probes = _FEWEST_PROBES
            before = -1.0
            while recall < RECALL and self._probes < lists and recall > before:
                before = recall
                self._probes = min(2 * self._probes, lists)
                for kind, truth in truths.items():
                    found, _ = self.nearest(segments, queries[kind], _K, live)
                    hits = [len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True)]
                    recalls[kind] = round(float(np.sum(hits) / max(1, truth.size)), 4)
                recall = min(recalls.values())
            if recall < RECALL:
                self._shortlist *= 2
        self._shortlist = min(self._shortlist, _LONGEST)
        return recalls

    def save(self, path: Path) -> dict[str, Any]:
        """Write the index to a file.

        Returns:
            What :meth:`open` needs beside it.
        """
        _faiss().write_index(self._index, str(path))
        return {"trained": self._trained, "probes": self._probes, "shortlist": self._shortlist}

    @classmethod
    def open(cls, path: Path, settings: dict[str, Any]) -> ApproximateIndex:
        """Open what :meth:`save` wrote.

        Raises:
            FileNotFoundError: it is gone.
            RuntimeError: it is damaged.
        """
        if not path.exists():
            raise FileNotFoundError(path)
        index = _faiss().read_index(str(path))
        return cls(index, settings["trained"], settings["probes"], settings["shortlist"])


def _faiss() -> Any:
    """FAISS, imported when it is used; its stubs don't know what its factories make."""
    import faiss

    return faiss


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """So many threads of OpenMP, which torch counts with too, for what this thread calls; None leaves it as it is."""
    faiss = _faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(number or before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _rotation(sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """(reduced, dimension): onto the directions of most energy, then turned at random so that each holds alike much."""
    _, directions = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    kept = directions[:, ::-1][:, :_REDUCED]
    turned, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((kept.shape[1], kept.shape[1])))
    return np.ascontiguousarray((kept @ turned).T, np.float32)
