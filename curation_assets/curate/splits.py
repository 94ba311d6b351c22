"""Which split each image is in, as some source says; and the leaks of a lake between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from curation_assets.annotations.columns import counting_labels
from curation_assets.annotations.record import rows_of
from curation_assets.annotations.said import DEFAULT_FIELD
from curation_assets.annotations.sources import Source, read_source
from curation_assets.curate.duplicates.comparison import is_current
from curation_assets.curate.duplicates.grouping import formed
from curation_assets.curate.duplicates.groups import Words
from curation_assets.curate.duplicates.judging import Thresholds
from curation_assets.curate.duplicates.overview import waiting
from curation_assets.curate.leakage import Leakage, leaks
from curation_assets.decisions.record import read_decisions
from curation_assets.errors import CurationError
from curation_assets.images.names import printable
from curation_assets.tables import Tables

_IMAGE = ["relative_path", "content_sha256"]


class SplitsError(CurationError):
    """What names the splits names none, or two of one image."""


@dataclass(frozen=True)
class SplitImages:
    """Images with their split.

    Attributes:
        images: ``relative_path``, ``content_sha256``, ``split``, ``label`` (null: not known).
        without: usable images of which no split is known.
    """

    images: pl.DataFrame
    without: int


def split_images(tables: Tables, source: Source | None, root: str, order: Sequence[str], field: str) -> SplitImages:
    """Ask a source for the split of each usable image.

    Args:
        source: None: the table of annotations.
        root: the images root.
        order: of sources of annotations.
        field: whose labels are told with the images.

    Raises:
        SplitsError: nothing names a split, or two of one image.
        CurationError: something of the source is wrong.
    """
    directory = tables.directory.latest()
    usable = usable_images(tables)
    counts = counting_labels(tables.annotations, tables.decisions, tables.pairs, order, usable)
    labels = counts.filter(pl.col("field") == (field or DEFAULT_FIELD))
    labels = labels.select("relative_path", label=pl.col("values").list.join(", "))
    if source is None:
        said, origin = counts, "the table of annotations"
    else:
        said = rows_of(read_source(source, directory), directory, root, source.name)
        origin = f"pattern {source.pattern!r}" if source.pattern is not None else str(source.path)
        own = said.filter((pl.col("field") == (field or DEFAULT_FIELD)) & pl.col("values").is_not_null())
        own = own.select("relative_path", label=pl.col("values").list.join(", "))
        labels = pl.concat([own, labels.join(own, on="relative_path", how="anti")])
    splits = said.drop_nulls("split").select("relative_path", "split").unique(maintain_order=True)
    twice = splits.filter(pl.col("relative_path").is_duplicated()).sort("relative_path", "split")
    if len(twice):
        path = twice["relative_path"][0]
        of_it = ", ".join(twice.filter(pl.col("relative_path") == path)["split"])
        raise SplitsError(f"{origin}: {printable(path)} is in the splits {of_it}")
    found = usable.join(splits, on="relative_path").join(labels, on="relative_path", how="left")
    if not len(found):
        hint = "; name it as in '{split}/*'" if source is not None and source.pattern is not None else ""
        raise SplitsError(f"{origin} says of no image in which split it is{hint}")
    return SplitImages(found, len(usable) - len(found))


def usable_images(tables: Tables) -> pl.DataFrame:
    """``relative_path`` and ``content_sha256`` of every usable image."""
    rows = tables.directory.latest().read([*_IMAGE, "status"]).filter(pl.col("status") == "ok").select(_IMAGE)
    return rows.unique("relative_path", keep="first")


def leakage_of(tables: Tables, images: pl.DataFrame, thresholds: Thresholds, order: Sequence[str]) -> Leakage:
    """The leaks between the splits of some images, of the groups as they are now.

    Args:
        images: of :class:`SplitImages`.
        thresholds: with which images have to be compared.
        order: of the criteria of keepers.

    Raises:
        CurationError: there is one split alone, or an image is not compared yet, so that a leak might not be seen.
    """
    splits = images["split"].unique().to_list()
    if len(splits) < 2:
        raise CurationError(f"all {len(images):,} images are in the split {splits[0]!r}: nothing can leak")
    if number := waiting(tables.directory, tables.compared, thresholds):
        raise CurationError(
            f"{number:,} images are not compared yet, so a leak might not be seen; `curation curate` does that"
        )
    return leakage_so_far(tables, images, order)


def leakage_so_far(tables: Tables, images: pl.DataFrame, order: Sequence[str]) -> Leakage:
    """The same of what was compared already."""
    decisions = read_decisions(tables.decisions)
    pairs, groups = tables.pairs.latest(), tables.groups.latest()
    rows, _ = formed(tables.directory.latest(), pairs, tables.quality, tables.annotations, groups, decisions, order)
    known = pairs.read(["first", "second", "kind", "similarity"]).drop("_file")
    words = Words(decisions.same_pairs(), decisions.different_pairs())
    return leaks(images, rows.select("kind", "group_id", "content_sha256", "similarity"), known, words)


def not_examined(tables: Tables, images: pl.DataFrame, thresholds: Thresholds) -> pl.DataFrame:
    """Images whose pictures could not be compared, but for equal bytes: ``relative_path``, ``error``."""
    where = is_current(thresholds) & pl.col("error").is_not_null()
    failed = tables.compared.latest().read(["content_sha256", "error"], where=where).drop("_file")
    found = images.join(failed.unique("content_sha256"), on="content_sha256")
    return found.select("relative_path", "error").sort("relative_path")
