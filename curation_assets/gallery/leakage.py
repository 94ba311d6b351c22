"""What the page of leakage shows: images on two sides of a version, or of the splits of the annotations, found once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import polars as pl

from curation_assets.curate.duplicates.between import with_pairs
from curation_assets.curate.duplicates.overview import waiting
from curation_assets.curate.leakage import Leakage
from curation_assets.curate.leaks import NOT_COMPARED
from curation_assets.curate.splits import leakage_so_far, not_examined, split_images
from curation_assets.gallery.datasets import Datasets
from curation_assets.held import HeldSome
from curation_assets.lake.table import LakeTable
from curation_assets.pipeline import Pipeline

_HELD = 3
_CONTENTS = ("content_sha256", "other_sha256")


@dataclass(frozen=True)
class Across:
    """What lies on two sides.

    Attributes:
        splits: images in each, the cleanest first: of a pair across, the image of the later one gives way.
        counts: ``kind``, ``split``, ``other_split`` (the later one) and ``pairs``.
        images: that should give way: ``relative_path``, ``content_sha256``, ``split``, ``label``, ``others`` (in how
            many pairs); those in most pairs first.
        beside: of each its nearest on other sides, with ``place``, the row of ``images``: ``other``, ``other_sha256``,
            ``other_split``, ``kind``, ``similarity``, and ``method`` and ``transform`` of their pair; the gravest
            first.
        without_split: usable images of which no split is known.
        waiting: contents that are not compared yet.
        not_examined: images whose pictures could not be compared.
        why_not: why nothing is told; None where it is.
    """

    splits: dict[str, int]
    counts: pl.DataFrame
    images: pl.DataFrame
    beside: pl.DataFrame
    without_split: int = 0
    waiting: int = 0
    not_examined: int = 0
    why_not: str | None = None

    @property
    def pairs(self) -> int:
        """How many in all."""
        return int(self.counts["pairs"].sum()) if len(self.counts) else 0


class LeakagePages:
    """Leaks of versions and of annotations. Threads may share it."""

    def __init__(self, pipeline: Pipeline, datasets: Datasets) -> None:
        self._pipeline = pipeline
        self._tables = pipeline.tables
        self._datasets = datasets
        self._held = HeldSome[Across](_HELD)

    def across(self, dataset: str | None, version: int | None) -> Across:
        """What leaks between the sides of a version.

        Args:
            dataset: None: between the splits of the annotations.

        Raises:
            NotThereError: there is no such version.
            CurationError: a table can't be read.
        """
        if dataset is None or version is None:
            return self._held.of(None, self._version_of_annotations(), self._of_annotations)
        key = (self._version(), self._tables.datasets.newest_version())
        return self._held.of((dataset, version), key, lambda: self._of_version(dataset, version))

    def _version(self) -> Hashable:
        tables = self._tables
        compared = (tables.directory, tables.pairs, tables.groups, tables.compared)
        # The last ones decide which images stand for others, and bursts are formed of those.
        further = (tables.quality, tables.decisions, tables.annotations)
        return tuple(table.newest_version() for table in (*compared, *further))

    def _version_of_annotations(self) -> Hashable:
        tables = self._tables
        # Leaks have no version where there are none to find, and annotations then say why.
        return self._pipeline.leaks.version(), tables.compared.newest_version(), tables.annotations.newest_version()

    def _of_annotations(self) -> Across:
        pipeline, leaks = self._pipeline, self._pipeline.leaks
        found = leaks.found()
        if found is None:
            return _nothing(leaks.why_not() or NOT_COMPARED)
        told = split_images(self._tables, None, "", pipeline.annotation_order, "")
        return self._across(found, told.images, told.without)

    def _of_version(self, dataset: str, version: int) -> Across:
        rows = self._datasets.version(dataset, version).rows
        images = rows.filter("kept").drop_nulls("split").select("relative_path", "content_sha256", "split", "label")
        if images["split"].n_unique() < 2:
            return _nothing(f"{dataset}@{version} has no sides, so nothing can leak between them")
        if not self._tables.groups.exists():
            return _nothing(NOT_COMPARED)
        found = leakage_so_far(self._tables, images, self._pipeline.settings.keeper_order)
        return self._across(found, images, 0)

    def _across(self, found: Leakage, images: pl.DataFrame, without: int) -> Across:
        tables, agreements = self._tables, self._pipeline.agreements
        giving, beside = _pairs(found, tables.pairs)
        return Across(
            splits=found.splits,
            counts=found.counts,
            images=giving,
            beside=beside,
            without_split=without,
            waiting=waiting(tables.directory, tables.compared, agreements),
            not_examined=len(not_examined(tables, images, agreements)) if tables.compared.exists() else 0,
        )


def _pairs(found: Leakage, pairs: LakeTable) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Images that should give way, and what is beside them."""
    contents = found.images.select("relative_path", content_sha256="content")
    giving = found.images.filter("gives_way").sort("others", "relative_path", descending=[True, False])
    giving = giving.select("relative_path", "split", "label", "others", content_sha256="content")
    places = giving.select("relative_path", "content_sha256").with_row_index("place")
    beside = found.nearest.join(places, on="relative_path", how="inner", maintain_order="left")
    other = contents.rename({"relative_path": "other", "content_sha256": "other_sha256"})
    beside = beside.join(other, on="other", how="left", maintain_order="left")
    return giving, with_pairs(beside, *_CONTENTS, pairs).sort("place", maintain_order=True)


def _nothing(why: str) -> Across:
    return Across({}, pl.DataFrame(), pl.DataFrame(), pl.DataFrame(), why_not=why)
