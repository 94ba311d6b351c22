"""What counts of annotations, as columns that join an index: ``label_<field>`` and ``split``."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache

import polars as pl
import pyarrow as pa

from curation_assets.annotations.record import KEY, read_rows
from curation_assets.annotations.said import DEFAULT_FIELD
from curation_assets.annotations.standing import counting
from curation_assets.decisions.record import read_decisions
from curation_assets.lake.schemas import Column
from curation_assets.lake.table import LakeTable
from curation_assets.search.index import SearchIndex

SPLIT = Column("split", pa.string(), "split that the first source which says one puts the image in")
_FEW = 10_000  # images, whose rows alone are read


class AnnotationSource:
    """Labels of every field that there is, several as ``miner, rust``; null where nothing is said of the image.

    Args:
        pairs: near pairs inherit what people decided.
        order: of sources, the first counts most.
    """

    def __init__(self, annotations: LakeTable, decisions: LakeTable, pairs: LakeTable, order: Sequence[str]) -> None:
        self._annotations = annotations
        self._decisions = decisions
        self._pairs = pairs
        self._order = order
        self._fields = lru_cache(1)(self._fields_at)

    @property
    def is_shown(self) -> bool:
        """Exports have them once a source was imported."""
        return self._annotations.newest_version() >= 0

    @property
    def columns(self) -> Sequence[Column]:
        """One for every field that a source or a decision speaks of; the usual one is always there."""
        versions = self._annotations.newest_version(), self._decisions.newest_version()
        return [*(_column(field) for field in self._fields(versions)), SPLIT]

    def version(self, index: SearchIndex) -> Hashable | None:  # noqa: ARG002
        """The newest ones of the tables that it is made of."""
        newest = tuple(table.newest_version() for table in (self._annotations, self._decisions, self._pairs))
        return None if max(newest[:2]) < 0 else newest

    def read(self, index: SearchIndex) -> pl.DataFrame:
        """Images of which something counts."""
        versions = self._annotations.newest_version(), self._decisions.newest_version()
        fields = self._fields(versions)
        images = index.rows.select("relative_path", "content_sha256")
        found = counting_labels(self._annotations, self._decisions, self._pairs, self._order, images)
        key = ["relative_path", "content_sha256"]
        joined = pl.col("values").list.join(", ")
        labels = [joined.filter(pl.col("field") == field).first().alias(f"label_{field}") for field in fields]
        first = pl.col("split").drop_nulls().first()
        return found.group_by(key).agg(*labels, first)

    def _fields_at(self, versions: tuple[int, int]) -> list[str]:
        annotations, decisions = versions
        found = {DEFAULT_FIELD}
        if annotations >= 0:
            found |= {*self._annotations.latest().read(["field"])["field"].unique()}
        if decisions >= 0:
            found |= {*read_decisions(self._decisions).relabelled()["field"]}
        return sorted(found)


def counting_labels(
    annotations: LakeTable, decisions: LakeTable, pairs: LakeTable, order: Sequence[str], images: pl.DataFrame
) -> pl.DataFrame:
    """What counts of the labels and splits of images, as ``standing.counting`` gives it; boxes are not read."""
    said = read_decisions(decisions)
    near = near_pairs(pairs) if len(said.relabelled()) else None
    columns, where = [*KEY, "values", "split", "content_sha256"], None
    if len(images) <= _FEW:
        where = pl.col("relative_path").is_in(images["relative_path"].implode())
    rows = read_rows(annotations, where, columns).with_columns(boxes=None)
    return counting(rows, order, images, said, near)


def near_pairs(pairs: LakeTable) -> pl.DataFrame | None:
    """``first`` and ``second`` of contents that are the same photograph; None where nothing is compared."""
    if not pairs.exists():
        return None
    return pairs.latest().read(["first", "second"], where=pl.col("kind") == "near").drop("_file")


def _column(field: str) -> Column:
    return Column(f"label_{field}", pa.string(), f"what counts of the annotations of {field}; several as `miner, rust`")
