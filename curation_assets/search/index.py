"""The search index on disk: a row for every image file, memory-mapped vectors, and perhaps an approximate index.

``current.json`` names immutable files beside it, and is replaced in one step: a reader sees one build or the next, and
a build that is killed changes nothing. On disk some things keep the names that the first indexes gave them: keys of
``current.json`` (aliases of ``IndexInfo``) and a column of the keys (``_STORED_NAMES``).
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError, explained
from curation_assets.files import sync, write_whole
from curation_assets.search import exact
from curation_assets.search.approximate import RECALL, ApproximateIndex

CURRENT = "current.json"
_FORMAT = 2
_STORED_NAMES = {"first_seen_version": "since"}  # columns of the keys, as their file calls them


class Segment(BaseModel):
    """A file of vectors.

    Attributes:
        file: NumPy array (rows, dimension) float32.
        rows: how many; some may belong to no image any more.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    rows: int


class IndexInfo(BaseModel):
    """What an index covers and how it was made.

    Attributes:
        embeddings_id, embeddings_version: the embeddings table and the version of it that the index covers.
        directory_id, directory_version: the same of the directory table.
        images: files with a row; ``vectors`` of them can be ranked.
        positions: vectors stored, those of no image any more among them.
        rows_file, keys_file: Arrow files of images and of vectors' keys.
        approximate_file: of the approximate index; None where search is exact.
        recall: share of the exact ten nearest that the approximate index finds, of images and of texts the smaller; 1
            where there is none. One that finds too little isn't used. ``approximate`` has both.
        latency_ms: median of single queries, measured when the index was made.
        is_ambiguous: a path has rows in two folders, of which the index holds one: it can't be built upon.
        built_at_version: version of the embeddings table at which it was built from nothing.
        built_at: when it was last changed, UTC.
    """

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    format: int = _FORMAT
    model_name: str
    model_version: str
    model_fingerprint: str
    dimension: int
    embeddings_id: str = Field(alias="table_id")
    embeddings_version: int = Field(alias="table_version")
    directory_id: str
    directory_version: int
    images: int
    vectors: int
    positions: int
    segments: tuple[Segment, ...]
    rows_file: str
    keys_file: str = Field(alias="vectors_file")
    approximate_file: str | None = None
    approximate: dict[str, Any] = {}
    is_ambiguous: bool = False
    built_at_version: int = Field(alias="born")
    recall: float = 1.0
    latency_ms: float = 0.0
    built_at: datetime

    @property
    def kind(self) -> str:
        """``exact`` or ``approximate``: how a query without a filter is answered."""
        return "approximate" if self.approximate_file is not None and self.recall >= RECALL else "exact"

    def is_of(self, model: RegisteredModel) -> bool:
        """Whether these are this very model's vectors."""
        return (self.model_name, self.model_version, self.model_fingerprint) == (
            model.name,
            model.version,
            model.fingerprint,
        )

    @property
    def files(self) -> set[str]:
        """Names of the files it consists of."""
        named = {self.rows_file, self.keys_file, *(segment.file for segment in self.segments)}
        return named | ({self.approximate_file} if self.approximate_file else set())


@dataclass(eq=False)  # each is itself: what was attached to one is remembered by it
class SearchIndex:
    """An opened index; several threads may search it at once.

    Attributes:
        rows: one row an image file, sorted by ``relative_path``: ``filters.COLUMNS``, ``file_path``, ``position`` (null
            where it has no vector) and ``_file``, the file of the directory table that holds it.
        keys: one row a vector: ``relative_path``, ``content_sha256``, ``embedded_at``, ``position``,
            ``first_seen_version`` (of the embeddings table, that first brought it to the index) and ``_file``.
        segments: the vectors themselves; a position counts through all of them.
        path: where it lies; None where it is in memory only, as that of an earlier version of the table is.
    """

    info: IndexInfo
    rows: pl.DataFrame
    keys: pl.DataFrame
    segments: list[NDArray[np.float32]]
    approximate: ApproximateIndex | None = None
    path: Path | None = None

    @classmethod
    def open(cls, path: Path) -> SearchIndex | None:
        """The index that lies somewhere, memory-mapped; None if there is none.

        Raises:
            CurationError: it is damaged, or of another version of this package.
        """
        for attempt in range(5):
            info = read_info(path)
            if info is None:
                return None
            try:
                return cls._open(path, info)
            except FileNotFoundError:  # a newer build took its place and removed its files
                if read_info(path) == info or attempt == 4:
                    break
            except (OSError, EOFError, ValueError, RuntimeError, pa.ArrowException) as error:
                raise CurationError(f"search index {path} can't be opened: {error}; {_REMOVE}") from error
        raise CurationError(f"search index {path} lacks files; {_REMOVE}")

    @classmethod
    def _open(cls, path: Path, info: IndexInfo) -> SearchIndex:
        segments = []
        for segment in info.segments:
            array = np.load(path / segment.file, mmap_mode="r")
            if array.shape != (segment.rows, info.dimension):
                raise ValueError(f"{segment.file} has the shape {array.shape}")
            segments.append(array)
        approximate = None
        if info.approximate_file is not None:
            approximate = ApproximateIndex.open(path / info.approximate_file, info.approximate)
        rows = _read_arrow(path / info.rows_file)
        keys = _read_arrow(path / info.keys_file).rename({stored: name for name, stored in _STORED_NAMES.items()})
        return cls(info, rows, keys, segments, approximate, path)

    @cached_property
    def row_of(self) -> NDArray[np.int64]:
        """(positions,) the row in ``rows`` of each position; -1 where it belongs to no image."""
        found = np.full(self.info.positions, -1, np.int64)
        with_vector = self.rows["position"].is_not_null()
        found[self.rows["position"].drop_nulls().to_numpy()] = np.flatnonzero(with_vector.to_numpy())
        return found

    @cached_property
    def live(self) -> NDArray[np.bool_] | None:
        """(positions,) which belong to an image; None if all do."""
        return None if self.info.vectors == self.info.positions else self.row_of >= 0

    @cached_property
    def copies(self) -> NDArray[np.int64]:
        """(rows,) how many other images have the same content; 0 where it isn't known."""
        content = pl.col("content_sha256")
        others = pl.when(content.is_null()).then(0).otherwise(pl.len().over(content) - 1)
        return self.rows.select(others.cast(pl.Int64)).to_series().to_numpy()

    def nearest(
        self, queries: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None = None, *, approximate: bool = True
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The images nearest to each query, nearest first.

        Args:
            queries: (q, dimension), unit length.
            k: how many; fewer come back where there are fewer.
            rows: numbers of the rows of ``rows`` that may be found; None: all. Such a search is exact.
            approximate: whether the approximate index may be used, if there is one.

        Returns:
            Row numbers in ``rows`` and cosines, both (q, min(k, …)).
        """
        if approximate and self.approximate is not None and self.is_approximate(k, rows):
            positions, cosines = self.approximate.nearest(self.segments, queries, k, self.live)
        else:
            positions, cosines = exact.nearest(self.segments, queries, k, self._allowed(rows))
        return self.row_of[positions], cosines

    def is_approximate(self, k: int, rows: NDArray[np.int64] | None = None) -> bool:
        """Whether :meth:`nearest` uses the approximate index for such a query, where it may."""
        made = self.approximate
        return rows is None and made is not None and self.info.kind == "approximate" and k <= made.most

    def ranked_rows(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Those of some rows, None is all, that have a vector."""
        numbers = np.arange(len(self.rows)) if rows is None else rows
        return np.asarray(numbers[self.rows["position"].is_not_null().to_numpy()[numbers]], np.int64)

    def attach(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Further columns of the images: one row for each of ``rows``, in their order.

        Args:
            frame: ``relative_path`` and further columns. Where it has ``content_sha256`` too, a row counts only for
                the content that it tells of; of several rows that count for an image, the first does.

        Returns:
            The further columns; null for images without a row.
        """
        key = [column for column in ("relative_path", "content_sha256") if column in frame.columns]
        joined = self.rows.select(key).join(frame, on=key, how="left", maintain_order="left_right")
        if len(joined) > len(self.rows):
            joined = joined.unique(key, keep="first", maintain_order=True)
        return joined.drop(key)

    def row_number(self, relative_path: str) -> int | None:
        """The row of an image in ``rows``."""
        paths = self.rows["relative_path"]
        place = bisect_left(paths, relative_path)  # `search_sorted` of one value takes ten times as long
        return place if place < len(paths) and paths[place] == relative_path else None

    def vector(self, position: int) -> NDArray[np.float32]:
        """(dimension,) the vector at a position."""
        return np.asarray(self.take(np.array([position]))[0])

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, dimension) the vectors at some positions."""
        return np.asarray(exact.take(self.segments, positions), np.float32)

    def _allowed(self, rows: NDArray[np.int64] | None) -> NDArray[np.bool_] | None:
        if rows is None:
            return self.live
        allowed = np.zeros(self.info.positions, bool)
        allowed[self.rows["position"].gather(rows).drop_nulls().to_numpy()] = True
        return allowed


_REMOVE = "remove that folder, and `curation index` makes it anew"


def read_info(path: Path) -> IndexInfo | None:
    """What the index that lies somewhere covers; None if there is none.

    Raises:
        CurationError: it is damaged, or of another version of this package.
    """
    try:
        text = (path / CURRENT).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        said = json.loads(text)
        if isinstance(said, dict) and said.get("format", _FORMAT) != _FORMAT:
            raise CurationError(f"search index {path} is of another version of this package; {_REMOVE}")
        return IndexInfo.model_validate(said)
    except ValueError:
        raise CurationError(f"search index {path} has a damaged {CURRENT}; {_REMOVE}") from None


def publish(path: Path, info: IndexInfo) -> None:
    """Make a build the current one."""
    write_whole(path / CURRENT, json.dumps(info.model_dump(mode="json"), indent=2).encode())


@contextmanager
def understandable_errors(path: Path) -> Iterator[None]:
    """What the disk refuses of an index, or of what lies with it, as one line for the user."""
    hint = "CURATION_INDEX_ROOT chooses another place"
    with explained(OSError, lambda reason: f"search index {path} can't be written: {reason}; {hint}"):
        yield


def write_frames(path: Path, info: IndexInfo, rows: pl.DataFrame, keys: pl.DataFrame) -> None:
    """Write the rows and keys of a build, so that they can be mapped into memory, under the names that it gives."""
    for file, frame in ((info.rows_file, rows), (info.keys_file, keys.rename(_STORED_NAMES))):
        frame.rechunk().write_ipc(path / file, compression="uncompressed")
        sync(path / file)


def _read_arrow(path: Path) -> pl.DataFrame:
    # polars' own reader copies: 20 to 100 ms for a million rows, and this way one or two.
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    frame = pl.from_arrow(table, rechunk=False)
    assert isinstance(frame, pl.DataFrame)
    return frame
