"""The newest versions of datasets as columns that join an index: ``split_<dataset>``.

They are for looking: a recipe that is made of what its own versions say would change with each of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache

import polars as pl
import pyarrow as pa

from curation_assets.datasets.versions import last_version
from curation_assets.lake.schemas import Column
from curation_assets.lake.table import LakeTable
from curation_assets.search.index import SearchIndex

BEGINS = "split_"
_IMAGE = ["relative_path", "content_sha256"]


class DatasetSource:
    """The side of each image in the newest version of every dataset; null where that leaves it out, or has no sides."""

    def __init__(self, datasets: LakeTable) -> None:
        self._datasets = datasets
        self._columns = lru_cache(1)(self._columns_at)

    @property
    def is_shown(self) -> bool:
        """Exports have them once a version was published."""
        return self._datasets.newest_version() > 0

    @property
    def columns(self) -> Sequence[Column]:
        """One for every dataset."""
        return self._columns(self._datasets.newest_version())

    def version(self, index: SearchIndex) -> Hashable | None:  # noqa: ARG002
        """The newest one of the table."""
        newest = self._datasets.newest_version()
        return None if newest < 1 else newest

    def read(self, index: SearchIndex) -> pl.DataFrame:
        """Images, and where newest versions that keep them have them."""
        found, table = index.rows.select(_IMAGE), self._datasets.latest()
        for column in self.columns:
            name = column.name.removeprefix(BEGINS)
            newest = last_version(self._datasets, name)
            rows = table.read([*_IMAGE, "split"], name, where=(pl.col("version") == newest) & pl.col("kept"))
            sides = rows.select(*_IMAGE, pl.col("split").alias(column.name))
            found = found.join(sides, on=_IMAGE, how="left", maintain_order="left")
        return found

    def _columns_at(self, version: int) -> list[Column]:
        """Of the names alone: they are asked for at every search, and no row of the table is read for that."""
        told = "its side in the newest version of the dataset {}; null where that leaves it out, or has no sides"
        names = sorted(self._datasets.latest().partitions) if version > 0 else []
        return [Column(f"{BEGINS}{name}", pa.string(), told.format(name)) for name in names]
