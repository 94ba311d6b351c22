"""Further columns of images, which join an index when a condition, a page or an export needs them.

They lie where they are made: in a table of their own, or beside the index. Each is a source; another table is one line
of ``TableSource``. What a source holds is joined once, and again when it changed; an index isn't refreshed for that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

import polars as pl
import pyarrow as pa

from curation_assets.embed.vectors import MODEL_COLUMNS
from curation_assets.lake.schemas import Column
from curation_assets.lake.table import LakeTable
from curation_assets.search import image_map
from curation_assets.search.filters import MAP_COLUMNS
from curation_assets.search.index import IndexInfo, SearchIndex

_KEY = ("relative_path", "content_sha256")


class Source(Protocol):
    """Where further columns come from.

    Attributes:
        columns: what they are called, their types and what they mean; where its version changes, they may too.
        is_shown: whether exports have them; conditions may name them in any case.
    """

    @property
    def columns(self) -> Sequence[Column]:
        """See above."""

    @property
    def is_shown(self) -> bool:
        """See above."""

    def version(self, index: SearchIndex) -> Hashable | None:
        """Changes when what it holds does; None while it holds nothing. Asked at every use."""

    def read(self, index: SearchIndex) -> pl.DataFrame:
        """Its rows for an index: ``relative_path``, perhaps ``content_sha256``, and the columns."""


class TableSource:
    """A table with a row an image. Where it has ``content_sha256``, rows of an earlier content don't count.

    Args:
        table: may not be there yet: then the columns are null.
        names: its columns → what they are called in conditions, on pages and in exports.
        where: which of its rows count for an index; None: all.
        is_shown: whether exports have them.
    """

    def __init__(
        self,
        table: LakeTable,
        names: Mapping[str, str],
        where: Callable[[IndexInfo], pl.Expr] | None = None,
        *,
        is_shown: bool = True,
    ) -> None:
        self.is_shown = is_shown
        self._table = table
        self._names = names
        self._where = where
        of_table = {column.name: column for column in table.spec.columns}
        self._key = [column for column in _KEY if column in of_table]
        self.columns = [Column(new, of_table[old].type, of_table[old].comment) for old, new in names.items()]

    def version(self, index: SearchIndex) -> Hashable | None:  # noqa: ARG002
        """The newest one of the table."""
        newest = self._table.newest_version()
        return None if newest < 0 else newest

    def read(self, index: SearchIndex) -> pl.DataFrame:
        """Rows of the newest version that count."""
        where = None if self._where is None else self._where(index.info)
        found = self._table.latest().read([*self._key, *self._names], where=where)
        return found.drop("_file").rename(dict(self._names))


def warning_source(directory: LakeTable) -> TableSource:
    """What is doubtful of an image, as a column that conditions may name and an image's page shows."""
    doubtful = pl.col("warning").is_not_null()
    return TableSource(directory, {"warning": "warning"}, lambda _: doubtful, is_shown=False)


class MapSource:
    """The stored map that lies beside an index."""

    is_shown = False
    columns = tuple(Column(name, pa.float32(), "place on the map, about -1 to 1") for name in MAP_COLUMNS)

    def version(self, index: SearchIndex) -> Hashable | None:
        """That of the map's file."""
        return None if index.path is None else image_map.version_of(image_map.location_of(index.path))

    def read(self, index: SearchIndex) -> pl.DataFrame:
        """Every point: one stays an image's place until the map is brought in line, whatever its content is."""
        points = None if index.path is None else image_map.read(image_map.location_of(index.path))
        if points is None:  # it was removed just now
            return pl.DataFrame(schema={"relative_path": pl.String} | dict.fromkeys(MAP_COLUMNS, pl.Float32))
        return points.select("relative_path", "x", "y").rename(dict(zip(("x", "y"), MAP_COLUMNS, strict=True)))


class Attachments:
    """All further columns. Threads may share it.

    Args:
        sources: whose columns have different names; of two of one name, the first source's is taken.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._joins = [_Join(source) for source in sources]

    @property
    def columns(self) -> list[Column]:
        """All that there are now; a source may get some."""
        return [column for _, column in self._named()]

    @property
    def types(self) -> dict[str, pl.DataType]:
        """Their types."""
        return dict(_schema(self.columns))

    @property
    def texts(self) -> list[str]:
        """Those that are text and that exports have."""
        return [column.name for join, column in self._named() if join.source.is_shown and column.type == pa.string()]

    def of(self, index: SearchIndex, names: Iterable[str]) -> pl.DataFrame:
        """Those of some columns that are further ones: one row for each of ``index.rows``, in their order.

        Raises:
            CurationError: what holds them is broken.
        """
        asked = set(names)
        needed: dict[_Join, list[str]] = {}
        for join, column in self._named():
            if column.name in asked:
                needed.setdefault(join, []).append(column.name)
        frames = [(join.of(index), names) for join, names in needed.items()]
        return pl.DataFrame([frame[name] for frame, names in frames for name in names if name in frame.columns])

    def holds(self, index: SearchIndex, name: str) -> bool:
        """Whether there is something, perhaps empty, that a further column is read from."""
        return any(join.source.version(index) is not None for join, column in self._named() if column.name == name)

    def shown(self, index: SearchIndex) -> pl.DataFrame:
        """Those that exports have, in the same way.

        Raises:
            CurationError: what holds them is broken.
        """
        return self.of(index, [column.name for join, column in self._named() if join.source.is_shown])

    def _named(self) -> list[tuple[_Join, Column]]:
        """Every column and what it comes from, each name once: a lake may hold a field that is called as another is."""
        found: dict[str, tuple[_Join, Column]] = {}
        for join in self._joins:
            for column in join.source.columns:
                found.setdefault(column.name, (join, column))
        return list(found.values())


class _Join:
    """A source's columns, joined to the indexes that are open."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._lock = threading.Lock()
        self._held: WeakKeyDictionary[SearchIndex, tuple[Hashable | None, pl.DataFrame]] = WeakKeyDictionary()

    def of(self, index: SearchIndex) -> pl.DataFrame:
        with self._lock:
            version = self.source.version(index)
            held = self._held.get(index)
            if held is not None and held[0] == version:
                return held[1]
            schema = _schema(self.source.columns)
            if version is None:
                joined = pl.DataFrame(schema=schema).clear(len(index.rows))
            else:
                joined = index.attach(self.source.read(index))
            self._held[index] = version, joined
            return joined


def of_searched_model(info: IndexInfo) -> pl.Expr:
    """Rows of a table with model columns that were made with an index's own vectors."""
    return pl.all_horizontal(pl.col(column) == getattr(info, column) for column in MODEL_COLUMNS)


def _schema(columns: Sequence[Column]) -> pl.Schema:
    return pl.Schema(pa.schema([pa.field(column.name, column.type) for column in columns]))
