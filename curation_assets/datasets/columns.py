"""The newest versions of datasets as columns that join an index: ``split_<dataset>``.

They are for looking: a recipe that is made of what its own versions say would change with each of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache

import polars as pl
import pyarrow as pa

from curation_assets.datasets.versions import LIVE
from curation_assets.lake.schemas import Column
from curation_assets.lake.table import LakeTable
from curation_assets.search.index import SearchIndex

BEGINS = "split_"
_IMAGE = ["relative_path", "content_sha256"]


class DatasetSource:
    """The side of each image in the newest version of every dataset that has sides; null where that leaves it out."""

    def __init__(self, datasets: LakeTable) -> None:
        self._datasets = datasets
        self._newest = lru_cache(1)(self._newest_at)

    @property
    def is_shown(self) -> bool:
        """Exports have them once a version was published."""
        return self._datasets.newest_version() > 0

    @property
    def columns(self) -> Sequence[Column]:
        """One for every dataset with sides."""
        told = "its side in the newest version of the dataset {}; null where that leaves it out"
        found = self._newest(self._datasets.newest_version())
        return [Column(f"{BEGINS}{name}", pa.string(), told.format(name)) for name in found]

    def version(self, index: SearchIndex) -> Hashable | None:  # noqa: ARG002
        """The newest one of the table."""
        newest = self._datasets.newest_version()
        return None if newest < 1 else newest

    def read(self, index: SearchIndex) -> pl.DataFrame:
        """Images that a newest version keeps."""
        found = index.rows.select(_IMAGE)
        for name, version in self._newest(self._datasets.newest_version()).items():
            is_in = (pl.col("version") == version) & pl.col("kept")
            rows = self._datasets.latest().read([*_IMAGE, "split"], name, where=is_in)
            sides = rows.select(*_IMAGE, pl.col("split").alias(f"{BEGINS}{name}"))
            found = found.join(sides, on=_IMAGE, how="left", maintain_order="left")
        return found

    def _newest_at(self, version: int) -> dict[str, int]:
        """Dataset → its newest version, of those with sides."""
        found = {}
        for name in sorted(self._datasets.latest().partitions) if version > 0 else []:
            rows = self._datasets.latest().read(["version", "split"], name, where=LIVE & pl.col("kept"))
            newest = rows["version"].max()
            if newest is not None and rows.filter(pl.col("version") == newest)["split"].count():
                found[name] = int(str(newest))
        return found
