"""Which index of which version is open: the stored ones, followed as they change, and those of earlier versions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError
from curation_assets.files import can_write
from curation_assets.lake.broken import passing_over
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable
from curation_assets.progress import LogProgress, Progress
from curation_assets.search.index import SearchIndex, read_info
from curation_assets.search.refresh import IndexRefresh, as_of, refresh
from curation_assets.stores.mirror import Mirror

logger = logging.getLogger(__name__)

_HELD = 3  # indexes of model versions, and of earlier versions of the table, kept open


class Indexes:
    """The indexes of one lake, one a model version. Threads may share it.

    Args:
        directory, embeddings: the tables.
        path: where the indexes lie.
        mirror: of those in a store, what keeps that folder the same.
        exact_vectors: of more vectors than this an approximate index is made.
        probes: a model → (q, dimension) vectors of texts, on which an approximate index is measured.
    """

    def __init__(
        self,
        directory: LakeTable,
        embeddings: LakeTable,
        path: Path,
        exact_vectors: int,
        probes: Callable[[RegisteredModel], NDArray[np.float32]],
        mirror: Mirror | None = None,
    ) -> None:
        self._directory = directory
        self._embeddings = embeddings
        self._path = path
        self._exact_vectors = exact_vectors
        self._probes = probes
        self._mirror = mirror
        self._opening, self._assembling = threading.Lock(), threading.Lock()
        self._current: LRUCache[tuple[str, int | None], SearchIndex] = LRUCache(_HELD)
        self._earlier: LRUCache[tuple[str, int | None], SearchIndex] = LRUCache(_HELD)

    def location_of(self, model: RegisteredModel, *, shared: bool = False) -> Path:
        """Where the index of a model version lies.

        Of one in a store, it is this machine's copy, brought in line with it if that was not done in the last seconds.

        Args:
            shared: bring it in line now, because it was changed here.
        """
        name = f"{model.name}-{model.version}-{model.fingerprint[:12]}"
        if self._mirror is not None:
            self._mirror.bring(name, now=shared)
        return self._path / name

    def refresh(self, model: RegisteredModel, progress: Progress | None = None) -> IndexRefresh:
        """Bring a model version's index in line with the tables, or build it.

        Raises:
            CurationError: nothing is embedded yet, or the index can't be written.
        """
        self._require_table()
        done = passing_over(lambda: self._refresh(model, progress or LogProgress()))
        if self._mirror is not None and done.changed:
            self.location_of(model, shared=True)
        return done

    def _refresh(self, model: RegisteredModel, progress: Progress) -> IndexRefresh:
        # The embeddings first: whatever they hold, the rows of its images are older.
        embeddings = self._embeddings.snapshot()
        return refresh(
            self.location_of(model),
            self._directory.snapshot(),
            embeddings,
            model,
            progress,
            exact_vectors=self._exact_vectors,
            probes=lambda: self._probes(model),
        )

    def open(self, model: RegisteredModel, embeddings_version: int | None = None) -> SearchIndex:
        """The index of a model version; built if there is none, in memory where nothing can be written.

        Args:
            embeddings_version: of that table, to search it and the directory table as they were then; None is the
                version that the stored index covers.

        Raises:
            CurationError: no image has a vector of that model, or the version is not there any more.
        """
        key = (self.location_of(model).name, embeddings_version)
        # Whoever searches the stored index need not wait for an earlier version to be put together; those are made one
        # at a time, as each takes memory, and push out one another only.
        held = self._current if embeddings_version is None else self._earlier
        with self._opening if embeddings_version is None else self._assembling:
            index = held.get(key)
            if embeddings_version is None:
                index = self._newest_of(model, index)
            elif index is None:
                index = self._as_of(model, embeddings_version)
            held[key] = index
        if not index.info.vectors:
            when = "" if embeddings_version is None else f" in version {embeddings_version} of the table"
            raise CurationError(
                f"nothing to search: no image has a vector of {model.name} version {model.version}{when}; run "
                "`curation run`"
            )
        return index

    def _require_table(self) -> None:
        if not self._embeddings.exists():
            raise CurationError(
                f"nothing to search: there is no table {self._embeddings.path}; run `curation run`, or name another "
                "lake with --lake (CURATION_LAKE_ROOT)"
            )

    def behind(self, index: SearchIndex) -> str | None:
        """How far the tables have gone on since an index was made, in a sentence; None if they have not."""
        if index.path is None:
            return None
        said = []
        for table, covered in (
            (self._embeddings, index.info.embeddings_version),
            (self._directory, index.info.directory_version),
        ):
            newest = table.newest_version()
            if newest != covered:
                said.append(f"version {covered} of {table.path.name}, which is at {newest}")
        return f"the index covers {' and '.join(said)}; `curation index` brings it up to date" if said else None

    def _newest_of(self, model: RegisteredModel, held: SearchIndex | None) -> SearchIndex:
        path = self.location_of(model)
        index = held
        if index is None or index.info != read_info(path) or self._is_older(index):
            index = SearchIndex.open(path)
            if index is not None and not (index.info.is_of(model) and self._is_of_these_tables(index)):
                index = None
        if index is not None and (index.info.vectors or not self.behind(index)):
            return index
        return self.refresh(model).index if can_write(path) else self._in_memory(model, held)

    def _in_memory(self, model: RegisteredModel, held: SearchIndex | None) -> SearchIndex:
        """An index of the tables as they are, where there is none and none can be written: a read-only lake's."""
        self._require_table()
        embeddings, directory = self._embeddings.snapshot(), self._directory.snapshot()
        if held is not None and held.path is None and held.info.is_of(model):
            info = held.info
            covered = info.embeddings_id, info.embeddings_version, info.directory_id, info.directory_version
            if covered == (embeddings.table_id, embeddings.version, directory.table_id, directory.version):
                return held
        logger.warning(
            "there is no search index in %s, which can't be written: it is made in memory, at every start; "
            "CURATION_INDEX_ROOT chooses another place",
            self._path,
        )
        return as_of(None, directory, embeddings, model)

    def _as_of(self, model: RegisteredModel, embeddings_version: int) -> SearchIndex:
        embeddings = self._embeddings.snapshot(embeddings_version)
        return as_of(SearchIndex.open(self.location_of(model)), self._directory_at(embeddings), embeddings, model)

    def _directory_at(self, embeddings: Snapshot) -> Snapshot:
        """The directory table of the moment when a version of the embeddings was committed."""
        committed = self._embeddings.commit_times().get(embeddings.version)
        if committed is None:
            raise CurationError(
                f"the log of {self._embeddings.path} doesn't tell any more when version {embeddings.version} was made"
            )
        times = self._directory.commit_times()
        return self._directory.snapshot(max((v for v, made in times.items() if made <= committed), default=min(times)))

    def _is_older(self, index: SearchIndex) -> bool:
        """Whether the tables are at earlier versions than those that an index covers: then they were made anew."""
        return (
            index.info.embeddings_version > self._embeddings.newest_version()
            or index.info.directory_version > self._directory.newest_version()
        )

    def _is_of_these_tables(self, index: SearchIndex) -> bool:
        if self._is_older(index):
            return False
        ids = self._embeddings.snapshot().table_id, self._directory.snapshot().table_id
        return (index.info.embeddings_id, index.info.directory_id) == ids
