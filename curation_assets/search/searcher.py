"""Search as Python code: one object that answers by words, by example and by looking.

from curation_assets.pipeline import Pipeline
from curation_assets.settings import load_settings

searcher = Pipeline(load_settings(lake_root="lake")).searcher
result = searcher.search("rust on a coffee leaf", k=12, folder="coffee")
result.rows.select("relative_path", "score")
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.callers import current
from curation_assets.clip.registry import Registry
from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError
from curation_assets.images.guard import DecodeOptions
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress
from curation_assets.search import image_map
from curation_assets.search.attachments import Attachments, MapSource, Source
from curation_assets.search.encoding import QueryEncoder
from curation_assets.search.filters import COLUMNS, Filter, make_filter
from curation_assets.search.index import SearchIndex
from curation_assets.search.indexes import Indexes
from curation_assets.search.matching import matching_rows, values_of
from curation_assets.search.measuring import PROBE_TEXTS
from curation_assets.search.ordering import (
    Folded,
    Photographs,
    Sort,
    distinct,
    ordered,
    without_photographs_of,
)
from curation_assets.search.query import Picture, Query, Text
from curation_assets.search.ranking import best_photographs, best_rows
from curation_assets.search.refresh import IndexRefresh
from curation_assets.search.zero_shot import check_labels, label_vectors
from curation_assets.stores.mirror import Mirror

if TYPE_CHECKING:
    from curation_assets.clip.encoder import Encoder

_CHAMPION_SECONDS = 5  # that one answer of the registry serves
_NO_MAP = "there is no map of these images yet; `curation map` makes it"
_LABELLED = 65_536  # images whose vectors are taken at a time


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        numbers: (n,) rows of ``index.rows`` that were found, best first.
        scores: (n,) cosines with the query, of a photograph that stands once that of its best copy; None without one.
        total: how many images the search could have given, had it been asked for all.
        index: the index that answered.
        approximate: whether it answered approximately.
        behind: how far the tables have gone on since, in a sentence; None if they have not.
        sort: what a list is ordered by; None of a search by a query.
        folded: where each photograph stands once, how many others of the whole result it stands for; else None.
    """

    numbers: NDArray[np.int64]
    scores: NDArray[np.float32] | None
    total: int
    query: Query
    filter: Filter
    index: SearchIndex
    approximate: bool
    behind: str | None
    sort: Sort | None = None
    folded: Folded | None = None

    @property
    def distinct(self) -> bool:
        """Whether each photograph stands once."""
        return self.folded is not None

    @cached_property
    def rows(self) -> pl.DataFrame:
        """These images: ``filters.COLUMNS``, ``file_path``, ``position`` (of the vector, null without), and ``score``,
        the cosine with the query (null without one)."""
        score = [None] * len(self.numbers) if self.scores is None else self.scores
        return self.index.rows[self.numbers].drop("_file").with_columns(pl.Series("score", score, pl.Float32))

    @property
    def copies(self) -> NDArray[np.int64]:
        """(n,) how many other images of the index have the same content."""
        return self.index.copies[self.numbers]

    def chosen(self, keys: Iterable[str]) -> SearchResult:
        """Those of these images whose relative path is among some, in the same order."""
        asked = self.index.rows["relative_path"].is_in(pl.Series(list(keys), dtype=pl.String).implode()).to_numpy()
        return self._part(asked[self.numbers])

    def batches(self, size: int = 20_000) -> Iterator[SearchResult]:
        """The same in parts, so that not all rows need be in memory at once."""
        for start in range(0, len(self.numbers), size):
            yield self._part(slice(start, start + size))

    def _part(self, which: slice | NDArray[np.bool_]) -> SearchResult:
        scores = None if self.scores is None else self.scores[which]
        return replace(self, numbers=self.numbers[which], scores=scores)

    def provenance(self) -> dict[str, Any]:
        """What was asked of which versions: enough to get the same answer again."""
        info = self.index.info
        return {
            "query": self.query.facts(),
            "filter": self.filter.facts(),
            "sort": None if self.sort is None else str(self.sort),
            "distinct": self.distinct,
            **({} if self.folded is None else {"folded": self.folded.facts()}),
            "model": info.model_name,
            "model_version": info.model_version,
            "model_fingerprint": info.model_fingerprint,
            "embeddings_table_version": info.embeddings_version,
            "directory_table_version": info.directory_version,
            "search": "approximate" if self.approximate else "exact",
            "behind": self.behind,
            "exported_at": datetime.now(UTC).isoformat(),
        }


class Searcher:
    """Searches one lake. Several threads may use it at once.

    Args:
        directory, embeddings: the tables.
        registry: of the model; its champion is searched with unless another version is named.
        encoder: loads a version's encoder.
        path: where indexes lie, one a model version.
        exact_vectors: of more vectors than this an approximate index is made.
        sources: of further columns of images, beside their place on the map.
        mirror: of indexes in a store, what keeps ``path`` the same.
    """

    def __init__(
        self,
        directory: LakeTable,
        embeddings: LakeTable,
        registry: Registry,
        encoder: Callable[[RegisteredModel], Encoder],
        path: Path,
        exact_vectors: int,
        sources: Iterable[Source] = (),
        mirror: Mirror | None = None,
    ) -> None:
        self._directory = directory
        self._registry = registry
        self._encoder = QueryEncoder(encoder)
        self._indexes = Indexes(
            directory, embeddings, path, exact_vectors, lambda model: self._encoder.texts(PROBE_TEXTS, model), mirror
        )
        self._attachments = Attachments([MapSource(), *sources])
        self._champion: tuple[float, RegisteredModel] | None = None

    # ------------------------------------------------------------------ index

    def model(self, version: str | None = None) -> RegisteredModel:
        """A version by its number; or the champion, which is asked for every few seconds.

        Raises:
            CurationError: there is none.
        """
        if version is not None:
            return self._registry.version(version)
        asked, champion = self._champion or (-math.inf, None)
        if champion is None or time.monotonic() - asked > _CHAMPION_SECONDS:
            champion = self._registry.champion()
            self._champion = time.monotonic(), champion
        return champion

    def location_of(self, model: RegisteredModel) -> Path:
        """Where the index of a model version lies; of one in a store, this machine's copy."""
        return self._indexes.location_of(model)

    def share_index(self, model: RegisteredModel) -> None:
        """Bring what was made beside an index (its graph, the map) to where other machines find it.

        Raises:
            CurationError: the store refuses.
        """
        self._indexes.location_of(model, shared=True)

    def refresh(self, progress: Progress | None = None, model_version: str | None = None) -> IndexRefresh:
        """Bring the index in line with the tables, or build it.

        Raises:
            CurationError: nothing is embedded yet, or the index can't be written.
        """
        model = self._registry.champion() if model_version is None else self.model(model_version)
        return self._indexes.refresh(model, progress)

    def open(self, model_version: str | None = None, table_version: int | None = None) -> SearchIndex:
        """The index of a model version; built if there is none.

        Args:
            model_version: None is the champion.
            table_version: of the embeddings table, to search it and the directory table as they were then; None is
                the version that the stored index covers.

        Raises:
            CurationError: no image has a vector of that model, or the version is not there any more.
        """
        return self._indexes.open(self.model(model_version), table_version)

    def behind(self, index: SearchIndex) -> str | None:
        """How far the tables have gone on since an index was made, in a sentence; None if they have not."""
        return self._indexes.behind(index)

    # ---------------------------------------------------------------- queries

    def search(
        self,
        query: Query | str | Sequence[str] = (),
        k: int = 12,
        *,
        offset: int = 0,
        sort: str | None = None,
        distinct: bool = False,
        exact: bool = False,
        filter: Filter | None = None,
        model_version: str | None = None,
        table_version: int | None = None,
        **conditions: Any,
    ) -> SearchResult:
        """The images nearest to a query, best first; without a query, a list of images.

        Args:
            query: what to look for; a text or several mean these texts with equal weight.
            k: how many images.
            offset: how many of the best to leave out, for the next page; such a search is exact.
            sort: the column that a list is in the order of: ``captured_at``, ``size_bytes:desc``; None is the path.
            distinct: of images of the same content or photograph only one: the one to keep if it is among them, else
                the best. A query ranks it by the best of them; a list has it at its own place.
            exact: never use an approximate index: for the first page, so that others follow without gap or repeat.
            filter: which images may be found; or give its conditions by name: ``folder="coffee"``.
            model_version: whose vectors to search; None is the champion.
            table_version: of the embeddings table, to search it as it was then; None is what the index covers.

        Raises:
            CurationError: the query or a condition can't be used, or there is nothing to search.
        """
        if k < 1 or offset < 0:
            raise CurationError(f"k={k}, offset={offset}: ask for at least one image, from 0 on")
        query, chosen = as_query(query), _as_filter(filter, conditions)
        order = Sort.of(sort, self._attachments) if sort is not None else None
        if order is not None and query:
            raise CurationError(f"sort={sort!r}: what a query finds comes by its cosine; only a list can be sorted")
        model = self.model(model_version)
        index = self._indexes.open(model, table_version)
        if not query:
            return self._list(index, chosen, order or Sort(), distinct, k, offset)
        return self._search(index, model, query, chosen, k, offset, exact, distinct)

    def _list(
        self, index: SearchIndex, chosen: Filter, sort: Sort, is_distinct: bool, k: int, offset: int
    ) -> SearchResult:
        rows = ordered(index, self._attachments, self.matching(index, chosen), sort)
        current().check()
        folded = None
        if is_distinct:
            photographs = Photographs.among(index, rows, self._attachments)
            rows, folded = distinct(rows, photographs), photographs.folded
        found = rows[offset : offset + k]
        return SearchResult(found, None, len(rows), Query(), chosen, index, False, self.behind(index), sort, folded)

    def _search(
        self,
        index: SearchIndex,
        model: RegisteredModel,
        query: Query,
        chosen: Filter,
        k: int,
        offset: int,
        exact: bool,
        is_distinct: bool = False,
    ) -> SearchResult:
        rows = self.matching(index, chosen)
        current().check()
        vector = query.vector(lambda texts: self._encoder.texts(texts, model), lambda key: _stored_vector(index, key))
        for part in query.parts:
            if isinstance(part, Picture) and part.model_fingerprint != model.fingerprint:
                raise CurationError(f"{part.name} was embedded with another model version; give it once more")
        approximate, folded = False, None
        if is_distinct:
            rows = without_photographs_of(index, index.ranked_rows(rows), query.likes, self._attachments)
            photographs = Photographs.among(index, rows, self._attachments)
            found, scores, total = best_photographs(index, query, vector, rows, offset + k, photographs)
            folded = photographs.folded
        else:
            approximate = not exact and not offset and index.is_approximate(k + len(query.likes), rows)
            found, scores, total = best_rows(index, query, vector, rows, offset + k, approximate)
        found, scores = found[offset:], scores[offset:]
        return SearchResult(found, scores, total, query, chosen, index, approximate, self.behind(index), None, folded)

    def matching(self, index: SearchIndex, chosen: Filter) -> NDArray[np.int64] | None:
        """Numbers of the rows of an index that a filter lets through; None means all.

        Raises:
            CurationError: a folder is not there, a condition can't be used, or there is no map for a region.
        """
        if chosen.region:
            self._map_location(index)
        return matching_rows(index, self._attachments, chosen)

    def values(self, index: SearchIndex, text: str, called: str) -> pl.Series:
        """A column that a condition may name, or what SQL makes of such, as a text: one for each row of an index.

        Args:
            called: what a fault names it.

        Raises:
            CurationError: it can't be used, or what holds it is broken.
        """
        return values_of(index, self._attachments, text, called)

    def labels(
        self,
        labels: Sequence[str],
        query: Query | str | Sequence[str] = (),
        k: int | None = None,
        *,
        offset: int = 0,
        filter: Filter | None = None,
        model_version: str | None = None,
        table_version: int | None = None,
        **conditions: Any,
    ) -> pl.DataFrame:
        """Zero-shot labels: of some texts, the one that each image is nearest to.

        Args:
            labels: at least two texts that describe what an image may show; a sentence (``a photo of rust on a leaf``)
                does better than a word.
            query, k, offset: label only this page of the images that are found; without ``k``, all that pass the
                filter.

        Returns:
            One row an image, in the order of the search or of the paths: relative_path, folder, label, score (its
            cosine), margin (how far it lies before the second best). Images without a vector are left out.

        Raises:
            CurationError: the query or a condition can't be used, there is nothing to search, or fewer than two labels.
        """
        query, chosen = as_query(query), _as_filter(filter, conditions)
        model = self.model(model_version)
        index = self._indexes.open(model, table_version)
        most = len(index.rows) if k is None else k
        if not query:
            return self.label(self._list(index, chosen, Sort(), False, most, offset), labels)
        return self.label(self._search(index, model, query, chosen, most, offset, exact=k is None), labels)

    def label(self, result: SearchResult, labels: Sequence[str]) -> pl.DataFrame:
        """The same for the images that a search found.

        Raises:
            CurationError: fewer than two labels.
        """
        index = result.index
        images = result.rows.filter(pl.col("position").is_not_null())
        vectors = self.embed_texts(check_labels(labels), self.model(index.info.model_version))
        names = images.select("relative_path", "folder")
        positions = images["position"].to_numpy()
        best = []
        for start in range(0, len(positions), _LABELLED):
            current().check()
            best.append(label_vectors(index.take(positions[start : start + _LABELLED]), vectors, labels))
        empty = pl.DataFrame(schema={"label": pl.String, "score": pl.Float32, "margin": pl.Float32})
        return pl.concat([names, pl.concat([empty, *best])], how="horizontal")

    def embed_texts(self, texts: Iterable[str], model: RegisteredModel | None = None) -> NDArray[np.float32]:
        """(n, dimension) unit vectors of some texts; those asked for before are remembered.

        Args:
            model: whose; None is the champion.

        Raises:
            CurationError: the model makes no usable vector of one of them.
        """
        return self._encoder.texts(texts, model or self.model())

    def embed_image(
        self, data: bytes, decode: DecodeOptions, name: str = "an image", model_version: str | None = None
    ) -> Picture:
        """An image's bytes → the part of a query that looks for images like it.

        Args:
            decode: how it is decoded.
            name: how the query tells of it.

        Raises:
            CurationError: it can't be used; the message says why.
        """
        return self._encoder.image(data, decode, name, self.model(model_version))

    # ----------------------------------------------------------------- images

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that a condition may name: those of an index, and those that join it."""
        return (*COLUMNS, *self._attachments.types)

    @property
    def further_columns(self) -> dict[str, str]:
        """Columns that join an index, and what they mean."""
        return {column.name: column.comment for column in self._attachments.columns}

    def holds(self, index: SearchIndex, name: str) -> bool:
        """Whether there is something, perhaps empty, that one of ``further_columns`` is read from."""
        return self._attachments.holds(index, name)

    def text_columns(self, index: SearchIndex) -> list[str]:
        """Those of ``further_columns`` that are text, that exports have, and that hold something."""
        return [name for name in self._attachments.texts if self._attachments.holds(index, name)]

    def further(
        self, index: SearchIndex, numbers: Sequence[int] | NDArray[np.int64], names: Iterable[str] | None = None
    ) -> pl.DataFrame:
        """Columns that join an index, for some of its rows; null where there is none.

        Args:
            numbers: of rows of ``index.rows``.
            names: which of ``further_columns``; None: those that exports have.

        Raises:
            CurationError: what holds them is broken.
        """
        found = self._attachments.shown(index) if names is None else self._attachments.of(index, names)
        return found[numbers]

    def map_of(self, index: SearchIndex) -> pl.DataFrame:
        """The stored map of an index's model: relative_path, x, y.

        Raises:
            CurationError: there is none.
        """
        found = image_map.read(self._map_location(index))
        if found is None:
            raise CurationError(_NO_MAP)
        return found

    def _map_location(self, index: SearchIndex) -> Path:
        if index.path is None:
            raise CurationError("the map is one of the newest images: there is none as of an earlier version")
        location = image_map.location_of(index.path)
        if image_map.version_of(location) is None:
            raise CurationError(_NO_MAP)
        return location

    def exact_duplicates(self, index: SearchIndex, key: str) -> pl.DataFrame:
        """Other images of the same content as one: rows of the index."""
        number = index.row_number(key)
        content = None if number is None else index.rows["content_sha256"][number]
        if content is None:
            return index.rows.clear()
        same = (pl.col("content_sha256") == content) & (pl.col("relative_path") != key)
        return index.rows.filter(same)

    def image_bytes(self, index: SearchIndex, key: str, column: str) -> bytes | str | None:
        """An image's ``preview`` or ``image_base64`` from the directory table; None where the row holds none.

        Raises:
            CurationError: there is no such image, or its file of the table is gone or broken.
        """
        number = index.row_number(key)
        if number is None:
            raise CurationError(f"there is no image {key!r} in the index")
        path = index.rows["_file"][number]
        value: bytes | str | None = self._directory.cells(path, column, [key]).get(key)
        return value

    def previews(self, index: SearchIndex, keys: Iterable[str]) -> dict[str, bytes]:
        """Small JPEGs of some images, by relative path; images that have none are left out.

        Raises:
            CurationError: a file of the directory table is gone or broken.
        """
        rows = [row for key in keys if (row := index.row_number(key)) is not None]
        found: dict[str, bytes] = {}
        for (file,), part in index.rows[rows].select("relative_path", "_file").group_by("_file"):
            values = self._directory.cells(str(file), "preview", part["relative_path"].to_list())
            found |= {key: preview for key, preview in values.items() if preview is not None}
        return found


def _stored_vector(index: SearchIndex, key: str) -> NDArray[np.float32]:
    number = index.row_number(key)
    if number is None:
        raise CurationError(f"there is no image {key!r} in the index")
    position = index.rows["position"][number]
    if position is None:
        status, error = index.rows["status"][number], index.rows["error"][number]
        why = "it is not embedded yet" if status == "ok" else f"it is {status}: {error}"
        raise CurationError(f"{key!r} has no vector: {why}")
    return index.vector(position)


def as_query(query: Query | str | Sequence[str]) -> Query:
    """A text or several as a query."""
    if isinstance(query, Query):
        return query
    return Query(tuple(Text(text) for text in ([query] if isinstance(query, str) else query)))


def _as_filter(filter: Filter | None, conditions: dict[str, Any]) -> Filter:
    if filter is None:
        return make_filter(**conditions)
    if conditions:
        raise CurationError(f"give a filter or conditions ({', '.join(conditions)}), not both")
    return filter
