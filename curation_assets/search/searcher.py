"""Search as Python code: one object that answers by words, by example and by looking.

from curation_assets.pipeline import Pipeline
from curation_assets.settings import load_settings

searcher = Pipeline(load_settings(lake_root="lake")).searcher
found = searcher.search("rust on a coffee leaf", k=12, folder="coffee")
found.rows.select("relative_path", "score")
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.clip.registry import Registry
from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError
from curation_assets.lake.table import LakeTable, Snapshot
from curation_assets.progress import LogProgress, Progress
from curation_assets.search import image_map
from curation_assets.search.filters import Filter, make_filter
from curation_assets.search.index import SearchIndex, read_info
from curation_assets.search.query import Picture, Query, Text
from curation_assets.search.refresh import Refreshed, as_of, refresh
from curation_assets.search.zero_shot import check_labels, label_vectors

if TYPE_CHECKING:
    from curation_assets.clip.encoder import Encoder

# Texts on which an approximate index is measured, as vectors of texts lie apart from those of images.
PROBE_TEXTS = tuple(
    f"{what} {how}".strip()
    for what in (
        "a coffee leaf",
        "a maize plant",
        "a wheat field",
        "ripe fruit on a tree",
        "a grape vine",
        "rice in a paddy",
        "weeds between rows of a crop",
        "an insect",
    )
    for how in ("", "with brown spots", "covered in rust", "eaten by caterpillars", "close up", "from above", "in rain")
)
_CHAMPION_SECONDS = 5  # that one answer of the registry serves
_HELD = 3  # indexes of model versions, and of earlier versions of the table, kept open
_LABELLED = 65_536  # images whose vectors are taken at a time
_TEXT_VECTORS = 4096  # kept, as people go on from what they searched for
_TIE = 6  # decimals: cosines that agree in them are of the same content


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        rows: the images, best first: ``filters.COLUMNS``, ``file_path``, ``position`` (of the vector, null without),
            and ``score``, the cosine with the query (null without one).
        total: how many images the search could have given, had it been asked for all.
        index: the index that answered.
        approximate: whether it answered approximately.
        behind: how far the tables have gone on since, in a sentence; None if they have not.
    """

    rows: pl.DataFrame
    total: int
    query: Query
    filter: Filter
    index: SearchIndex
    approximate: bool
    behind: str | None

    def provenance(self) -> dict[str, Any]:
        """What was asked of which versions: enough to get the same answer again."""
        info = self.index.info
        return {
            "query": self.query.facts(),
            "filter": self.filter.facts(),
            "model": info.model_name,
            "model_version": info.model_version,
            "model_fingerprint": info.model_fingerprint,
            "embeddings_table_version": info.table_version,
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
        folder: where indexes lie, one folder a model version.
        exact_vectors: of more vectors than this an approximate index is made.
    """

    def __init__(
        self,
        directory: LakeTable,
        embeddings: LakeTable,
        registry: Registry,
        encoder: Callable[[RegisteredModel], Encoder],
        folder: Path,
        exact_vectors: int,
    ) -> None:
        self._directory = directory
        self._embeddings = embeddings
        self._registry = registry
        self._encoder = encoder
        self._folder = folder
        self._exact_vectors = exact_vectors
        self._encoding = threading.Lock()  # held while the encoder works
        self._lock = threading.Lock()  # of what is held below, for moments
        self._champion: tuple[float, RegisteredModel] | None = None
        self._opening, self._assembling = threading.Lock(), threading.Lock()
        self._current: OrderedDict[tuple[str, int | None], SearchIndex] = OrderedDict()
        self._earlier: OrderedDict[tuple[str, int | None], SearchIndex] = OrderedDict()
        self._texts: OrderedDict[tuple[str, str], NDArray[np.float32]] = OrderedDict()

    # ------------------------------------------------------------------ index

    def model(self, version: str | None = None) -> RegisteredModel:
        """The champion, as of a few seconds ago at most, or a version by its number.

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

    def folder_of(self, model: RegisteredModel) -> Path:
        """Where the index of a model version lies."""
        return self._folder / f"{model.name}-{model.version}-{model.fingerprint[:12]}"

    def refresh(self, progress: Progress | None = None, model_version: str | None = None) -> Refreshed:
        """Bring the index in line with the tables, or build it.

        Raises:
            CurationError: nothing is embedded yet, or the index can't be written.
        """
        model = self._registry.champion() if model_version is None else self.model(model_version)
        return self._refresh(model, progress)

    def _refresh(self, model: RegisteredModel, progress: Progress | None) -> Refreshed:
        if not self._embeddings.exists():
            raise CurationError(f"nothing to search: there is no table {self._embeddings.path}; run `curation run`")
        # The embeddings first: whatever they hold, the rows of its images are older.
        embeddings = self._embeddings.snapshot()
        return refresh(
            self.folder_of(model),
            self._directory.snapshot(),
            embeddings,
            model,
            progress or LogProgress(),
            exact_vectors=self._exact_vectors,
            probes=lambda: self.embed_texts(PROBE_TEXTS, model),
        )

    def open(self, model_version: str | None = None, table_version: int | None = None) -> SearchIndex:
        """The index of a model version; built if there is none.

        Args:
            model_version: None is the champion.
            table_version: of the embeddings table, to search as of then, with the directory table of that moment;
                None is the version that the stored index covers.

        Raises:
            CurationError: no image has a vector of that model, or the version is not there any more.
        """
        return self._open_of(self.model(model_version), table_version)

    def _open_of(self, model: RegisteredModel, table_version: int | None) -> SearchIndex:
        key = (self.folder_of(model).name, table_version)
        # Whoever searches the stored index need not wait for an earlier version to be put together; those are made one
        # at a time, as each takes memory, and push out one another only.
        held = self._current if table_version is None else self._earlier
        with self._opening if table_version is None else self._assembling:
            index = held.get(key)
            if table_version is None:
                index = self._newest_of(model, index)
            elif index is None:
                index = self._as_of(model, table_version)
            held[key] = index
            held.move_to_end(key)
            while len(held) > _HELD:
                held.popitem(last=False)
        if not index.info.vectors:
            when = "" if table_version is None else f" in version {table_version} of the table"
            raise CurationError(
                f"nothing to search: no image has a vector of {model.name} version {model.version}{when}; run "
                "`curation run`"
            )
        return index

    def _newest_of(self, model: RegisteredModel, held: SearchIndex | None) -> SearchIndex:
        folder = self.folder_of(model)
        index = held
        if index is None or index.info != read_info(folder) or self._is_older(index):
            index = SearchIndex.open(folder)
            if index is not None and not (index.info.is_of(model) and self._is_of_these_tables(index)):
                index = None
        if index is None or (not index.info.vectors and self.behind(index)):
            return self._refresh(model, None).index
        return index

    def _as_of(self, model: RegisteredModel, table_version: int) -> SearchIndex:
        embeddings = self._embeddings.snapshot(table_version)
        return as_of(SearchIndex.open(self.folder_of(model)), self._directory_at(embeddings), embeddings, model)

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
            index.info.table_version > self._embeddings.newest_version()
            or index.info.directory_version > self._directory.newest_version()
        )

    def _is_of_these_tables(self, index: SearchIndex) -> bool:
        if self._is_older(index):
            return False
        ids = self._embeddings.snapshot().table_id, self._directory.snapshot().table_id
        return (index.info.table_id, index.info.directory_id) == ids

    def behind(self, index: SearchIndex) -> str | None:
        """How far the tables have gone on since an index was made, in a sentence; None if they have not."""
        if index.folder is None:
            return None
        said = []
        for table, covered in (
            (self._embeddings, index.info.table_version),
            (self._directory, index.info.directory_version),
        ):
            newest = table.newest_version()
            if newest != covered:
                said.append(f"version {covered} of {table.path.name}, which is at {newest}")
        return f"the index covers {' and '.join(said)}; `curation index` brings it up to date" if said else None

    # ---------------------------------------------------------------- queries

    def search(
        self,
        query: Query | str | Sequence[str] = (),
        k: int = 12,
        *,
        offset: int = 0,
        exact: bool = False,
        filter: Filter | None = None,
        model_version: str | None = None,
        table_version: int | None = None,
        **conditions: Any,
    ) -> Found:
        """The images nearest to a query, best first; without a query, images in the order of their paths.

        Args:
            query: what to look for; a text or several mean these texts with equal weight.
            k: how many images.
            offset: how many of the best to leave out, for the next page; such a search is exact.
            exact: never use an approximate index: for the first page, so that others follow without gap or repeat.
            filter: which images may be found; or give its conditions by name: ``folder="coffee"``.
            model_version: whose vectors to search; None is the champion.
            table_version: of the embeddings table, to search as of then; None is what the index covers.

        Raises:
            CurationError: the query or a condition can't be used, or there is nothing to search.
        """
        if k < 1 or offset < 0:
            raise CurationError(f"k={k}, offset={offset}: ask for at least one image, from 0 on")
        query, chosen = as_query(query), _as_filter(filter, conditions)
        model = self.model(model_version)
        index = self._open_of(model, table_version)
        return self._search(index, model, query, chosen, k, offset, exact)

    def _search(
        self, index: SearchIndex, model: RegisteredModel, query: Query, chosen: Filter, k: int, offset: int, exact: bool
    ) -> Found:
        rows = self.matching(index, chosen)
        approximate = False
        if query:
            vector = query.vector(lambda texts: self.embed_texts(texts, model), lambda key: self._stored(index, key))
            for part in query.parts:
                if isinstance(part, Picture) and part.model_fingerprint != model.fingerprint:
                    raise CurationError(f"{part.name} was embedded with another model version; give it once more")
            approximate = not exact and not offset and index.is_approximate(k + len(query.likes), rows)
            found, scores, total = _ranked(index, query, vector, rows, offset + k, approximate)
            found, scores = found[offset:], scores[offset:]
            score = pl.Series("score", scores, pl.Float32)
        else:
            total = len(index.rows) if rows is None else len(rows)
            found = np.arange(total)[offset : offset + k] if rows is None else rows[offset : offset + k]
            score = pl.Series("score", [None] * len(found), pl.Float32)
        shown = index.rows[found].drop("_file").with_columns(score)
        return Found(shown, total, query, chosen, index, approximate, self.behind(index))

    def matching(self, index: SearchIndex, chosen: Filter) -> NDArray[np.int64] | None:
        """Numbers of the rows of an index that a filter lets through; None means all.

        Raises:
            CurationError: a folder is not there, or a condition can't be used.
        """
        expression = chosen.model_copy(update={"folder": ()}).expression()
        if expression is None and not chosen.region and not chosen.folder:
            return None
        mask = _in_folders(index, chosen.folder) if chosen.folder else np.ones(len(index.rows), bool)
        if expression is not None:
            try:  # beside a column, so that a condition of one value for all is stretched over them
                passes = index.rows.select("relative_path", _passes=expression)["_passes"]
            except pl.exceptions.PolarsError as error:
                raise CurationError(f"filter where={chosen.where!r}: {str(error).splitlines()[0]}") from None
            mask &= passes.fill_null(False).to_numpy()
        if chosen.region:
            mask &= image_map.inside(self.map_of(index), index.rows["relative_path"], chosen.region)
        return np.flatnonzero(mask)

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
            CurationError: as of :meth:`search`; or fewer than two labels.
        """
        query, chosen = as_query(query), _as_filter(filter, conditions)
        model = self.model(model_version)
        index = self._open_of(model, table_version)
        most = len(index.rows) if k is None else k
        return self.label(self._search(index, model, query, chosen, most, offset, exact=k is None), labels)

    def label(self, found: Found, labels: Sequence[str]) -> pl.DataFrame:
        """The same for the images that a search found.

        Raises:
            CurationError: fewer than two labels.
        """
        index = found.index
        images = found.rows.filter(pl.col("position").is_not_null())
        vectors = self.embed_texts(check_labels(labels), self.model(index.info.model_version))
        names = images.select("relative_path", "folder")
        positions = images["position"].to_numpy()
        best = [
            label_vectors(index.take(positions[start : start + _LABELLED]), vectors, labels)
            for start in range(0, len(positions), _LABELLED)
        ]
        empty = pl.DataFrame(schema={"label": pl.String, "score": pl.Float32, "margin": pl.Float32})
        return pl.concat([names, pl.concat([empty, *best])], how="horizontal")

    def embed_texts(self, texts: Iterable[str], model: RegisteredModel | None = None) -> NDArray[np.float32]:
        """(n, dimension) unit vectors of some texts; those asked for before are remembered.

        Args:
            model: whose; None is the champion.

        Raises:
            CurationError: the model makes no usable vector of one of them.
        """
        texts = list(texts)
        model = model or self.model()
        with self._lock:
            known = {text: self._texts.get((model.uri, text)) for text in texts}
        new = [text for text, vector in known.items() if vector is None]
        if new:
            with self._encoding:
                made = self._encoder(model).embed_texts(new)
            if not np.isfinite(made).all():
                bad = new[int(np.argmin(np.isfinite(made).all(axis=1)))]
                raise CurationError(f"{model.name} version {model.version} makes no usable vector of the text {bad!r}")
            known |= dict(zip(new, made, strict=True))
            with self._lock:
                self._texts |= {(model.uri, text): vector for text, vector in zip(new, made, strict=True)}
                while len(self._texts) > _TEXT_VECTORS:
                    self._texts.popitem(last=False)
        found = [vector for text in texts if (vector := known[text]) is not None]
        return np.stack(found) if found else np.empty((0, model.dimension), np.float32)

    def embed_image(
        self, data: bytes, max_pixels: int, name: str = "an image", model_version: str | None = None
    ) -> Picture:
        """An image's bytes → the part of a query that looks for images like it.

        Args:
            max_pixels: larger images are refused.
            name: how the query tells of it.

        Raises:
            CurationError: it can't be used; the message says why.
        """
        from curation_assets.images.decode import ImageError

        model = self.model(model_version)
        with self._encoding:
            encoder = self._encoder(model)
        try:
            pixels = encoder.preprocessing.load(data, max_pixels)
        except ImageError as error:
            why = str(error)
            if error.status == "too_large" and error.size is not None:
                why = f"{error.size[0]} x {error.size[1]} pixels are more than the {max_pixels:,} that are allowed"
            raise CurationError(f"{name}: {why}") from None
        with self._encoding:
            (vector,) = encoder.embed_images(pixels[None])
        if not np.isfinite(vector).all():
            raise CurationError(f"{name}: the model makes no usable vector of it")
        return Picture(vector, model.fingerprint, name)

    def _stored(self, index: SearchIndex, key: str) -> NDArray[np.float32]:
        number = row_number(index, key)
        if number is None:
            raise CurationError(f"there is no image {key!r} in the index")
        position = index.rows["position"][number]
        if position is None:
            status, error = index.rows["status"][number], index.rows["error"][number]
            why = "it is not embedded yet" if status == "ok" else f"it is {status}: {error}"
            raise CurationError(f"{key!r} has no vector: {why}")
        return index.vector(position)

    # ----------------------------------------------------------------- images

    def map_of(self, index: SearchIndex) -> pl.DataFrame:
        """The stored map of an index's model: relative_path, x, y.

        Raises:
            CurationError: there is none.
        """
        if index.folder is None:
            raise CurationError("the map is one of the newest images: there is none as of an earlier version")
        found = image_map.read(image_map.folder_of(index.folder))
        if found is None:
            raise CurationError("there is no map of these images yet; `curation map` makes it")
        return found

    def copies(self, index: SearchIndex, key: str) -> pl.DataFrame:
        """Other images of the same content as one: rows of the index."""
        number = row_number(index, key)
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
        number = row_number(index, key)
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
        rows = [row for key in keys if (row := row_number(index, key)) is not None]
        found: dict[str, bytes] = {}
        for (file,), part in index.rows[rows].select("relative_path", "_file").group_by("_file"):
            values = self._directory.cells(str(file), "preview", part["relative_path"].to_list())
            found |= {key: preview for key, preview in values.items() if preview is not None}
        return found


def _in_folders(index: SearchIndex, folders: Iterable[str]) -> NDArray[np.bool_]:
    """Which rows lie in one of some folders or below: as ``Filter.folder`` says, but looked up in the sorted paths."""
    mask = np.zeros(len(index.rows), bool)
    paths = index.rows["relative_path"]
    for folder in folders:
        name = folder.rstrip("/")
        low, high = paths.search_sorted(name + "/"), paths.search_sorted(name + "0")  # 0 comes after /
        here = index.rows["folder"] == name if name == "." or low == high else None  # a name that was cut, say
        if here is None:
            mask[low:high] = True
        elif here.any():
            mask |= here.to_numpy()
        else:
            raise CurationError(f"there is no folder {folder!r} with images in the index")
    return mask


def as_query(query: Query | str | Sequence[str]) -> Query:
    """A text or several as a query."""
    if isinstance(query, Query):
        return query
    return Query(tuple(Text(text) for text in ([query] if isinstance(query, str) else query)))


def row_number(index: SearchIndex, key: str) -> int | None:
    """The row of an image in an index, by its relative path."""
    paths = index.rows["relative_path"]
    place = paths.search_sorted(key) if len(paths) else 0
    return place if place < len(paths) and paths[place] == key else None


def _as_filter(filter: Filter | None, conditions: dict[str, Any]) -> Filter:
    if filter is None:
        return make_filter(**conditions)
    if conditions:
        raise CurationError(f"give a filter or conditions ({', '.join(conditions)}), not both")
    return filter


def _ranked(
    index: SearchIndex,
    query: Query,
    vector: NDArray[np.float32],
    rows: NDArray[np.int64] | None,
    k: int,
    approximate: bool,
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Rows and cosines of the best ``k``, and how many there could be; an image is not found to be like itself.

    Copies of one content come in the order of their paths, whatever ``k`` is: so all that are as good as the last one
    have to be known before the cut.
    """
    asked = {number for key in query.likes if (number := row_number(index, key)) is not None}
    wanted = k + len(asked) + (0 if approximate else 1)
    while True:
        numbers, cosines = index.nearest(vector, wanted, rows, approximate=approximate)
        found, scores = numbers[0], np.round(cosines[0], _TIE)
        is_all = len(found) < wanted
        if is_all or approximate or scores[-1] < scores[min(k + len(asked), len(scores)) - 1]:
            break
        wanted *= 2
    keep = ~np.isin(found, list(asked))
    found, scores, exact_scores = found[keep], scores[keep], cosines[0][keep]
    order = np.lexsort((found, -scores))[:k]
    if rows is None:
        total = index.info.vectors - len(asked)
    else:
        total = index.rows["position"].gather(rows).count() - int(np.isin(rows, list(asked)).sum())
    return found[order], exact_scores[order], total
