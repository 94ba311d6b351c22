"""Which images have which problem: the overview, and the images of one kind, the worst first."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from curation_assets.curate.problems import KINDS, Kind, Thresholds, judged
from curation_assets.errors import CurationError
from curation_assets.lake.schemas import QUALITY
from curation_assets.lake.table import LakeTable

_READ = [column.name for column in QUALITY.columns if column.name not in ("pixels_as", "measures_version")]


@dataclass(frozen=True)
class KindCount:
    """How much of a kind there is.

    Attributes:
        images: that have it; ``share`` of all that were measured.
        threshold: from which on; it moves with the group by at most the kind's sway.
        examples: relative paths, the worst first.
    """

    kind: Kind
    images: int
    share: float
    threshold: float
    examples: list[str]


def judged_rows(quality: LakeTable, limits: Thresholds) -> pl.DataFrame:
    """The quality table with its verdicts, as :func:`~curation_assets.curate.problems.judged` gives them.

    Raises:
        CurationError: nothing is measured yet, or the table can't be read.
    """
    if quality.newest_version() < 1:
        raise CurationError(f"no image is measured yet in {quality.path}; `curation curate` does that")
    rows = quality.latest().read(_READ).drop("_file")
    return judged(rows, limits)


def overview(rows: pl.DataFrame, limits: Thresholds, examples: int = 3) -> list[KindCount]:
    """Every kind, the most frequent first.

    Args:
        rows: judged; perhaps only those that meet some conditions.
    """
    counts = []
    for kind in KINDS.values():
        found = worst(rows, kind.name)
        share = len(found) / len(rows) if len(rows) else 0.0
        paths = found["relative_path"].head(examples).to_list()
        counts.append(KindCount(kind, len(found), share, limits[kind.name], paths))
    return sorted(counts, key=lambda count: -count.images)


def worst(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    """The images that have a problem, by their scores, the worst first, equals by path."""
    order = [f"{kind}_score", "relative_path"]
    return rows.filter(pl.col(kind)).sort(order, descending=[not KINDS[kind].is_low, False], nulls_last=True)


def any_problem(rows: pl.DataFrame) -> int:
    """How many images have at least one."""
    return int(rows.select(pl.any_horizontal(list(KINDS)).sum()).item() or 0)
