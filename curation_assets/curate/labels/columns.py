"""Predictions as columns that join an index: ``predicted_<field>`` and ``confidence_<field>``."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache

import polars as pl
import pyarrow as pa

from curation_assets.annotations.said import DEFAULT_FIELD
from curation_assets.lake.schemas import Column
from curation_assets.lake.table import LakeTable
from curation_assets.search.attachments import of_searched_model
from curation_assets.search.index import SearchIndex


class PredictionSource:
    """What classifiers fitted to the annotations say, by the index's own vectors; null where nothing is predicted."""

    def __init__(self, predictions: LakeTable) -> None:
        self._predictions = predictions
        self._fields = lru_cache(1)(self._fields_at)

    @property
    def is_shown(self) -> bool:
        """Exports have them once something was predicted."""
        return self._predictions.newest_version() > 0

    @property
    def columns(self) -> Sequence[Column]:
        """Two for every field that there are predictions of; those of the usual one are always there."""
        fields = self._fields(self._predictions.newest_version())
        return [column for field in fields for column in _columns(field)]

    def version(self, index: SearchIndex) -> Hashable | None:  # noqa: ARG002
        """The newest one of the table."""
        newest = self._predictions.newest_version()
        return None if newest < 0 else newest

    def read(self, index: SearchIndex) -> pl.DataFrame:
        """Images of which something is predicted."""
        key, said = ["relative_path", "content_sha256"], ["predicted", "confidence"]
        where = of_searched_model(index.info)
        rows = self._predictions.latest().read([*key, "field", *said], where=where).drop("_file")
        mine = [
            pl.col(name).filter(pl.col("field") == field).first().alias(f"{name}_{field}")
            for field in self._fields(self._predictions.newest_version())
            for name in said
        ]
        return rows.group_by(key).agg(mine)

    def _fields_at(self, version: int) -> list[str]:
        found = {DEFAULT_FIELD}
        if version >= 0:
            found |= {*self._predictions.latest().read(["field"])["field"].unique()}
        return sorted(found)


def _columns(field: str) -> list[Column]:
    return [
        Column(f"predicted_{field}", pa.string(), f"likeliest {field}, by a classifier fitted to the annotations"),
        Column(f"confidence_{field}", pa.float32(), f"0 to 1: calibrated probability that predicted_{field} is right"),
    ]
