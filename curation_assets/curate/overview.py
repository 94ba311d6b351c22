"""Which images have which problem: the overview, and the images of one kind, the worst first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from curation_assets.curate.findings import Findings
from curation_assets.curate.problems import KINDS, Kind, Thresholds, judged
from curation_assets.decisions.kinds import KEEP, REMOVE
from curation_assets.decisions.record import read_decisions
from curation_assets.decisions.standing import Decisions
from curation_assets.embed.vectors import KEY
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
        kept: images that would have it besides, but for a person's word.
    """

    kind: Kind
    images: int
    share: float
    threshold: float
    examples: list[str]
    kept: int = 0


def judged_rows(
    quality: LakeTable, limits: Thresholds, decisions: LakeTable, findings: Iterable[Findings] = ()
) -> pl.DataFrame:
    """The quality table with its verdicts, as :func:`~curation_assets.curate.problems.judged` gives them.

    Args:
        findings: of other tables, which are judged too.

    Returns:
        Those, and ``decided``, as :func:`with_decisions` gives it.

    Raises:
        CurationError: nothing is measured yet, or a table can't be read.
    """
    return with_decisions(judged(measured_rows(quality, findings), limits), read_decisions(decisions))


def measured_rows(quality: LakeTable, findings: Iterable[Findings] = ()) -> pl.DataFrame:
    """The quality table, with what other tables tell of its images.

    Raises:
        CurationError: nothing is measured yet, or a table can't be read.
    """
    if quality.newest_version() < 1:
        raise CurationError(f"no image is measured yet in {quality.path}; `curation curate` does that")
    rows = quality.latest().read(_READ).drop("_file")
    for one in findings:
        if one.version() is not None:
            rows = rows.join(one.read(), on=KEY, how="left", maintain_order="left")
    return rows


def with_decisions(rows: pl.DataFrame, decisions: Decisions) -> pl.DataFrame:
    """The rows with ``decided``: ``keep`` or ``remove`` where a person said so of the picture, else null.

    What is kept has its verdicts still: :func:`as_decided` takes them back.
    """
    kept, removed = (
        pl.col("content_sha256").is_in(found["content_sha256"].implode())
        for found in (decisions.kept(), decisions.removed())
    )
    return rows.with_columns(decided=pl.when(kept).then(pl.lit(KEEP)).when(removed).then(pl.lit(REMOVE)))


def as_decided(rows: pl.DataFrame) -> pl.DataFrame:
    """The same rows, where what a person decided to keep has no problem, whatever its scores."""
    kept = pl.col("decided").eq_missing(KEEP)
    return rows.with_columns((pl.col(kind) & ~kept).alias(kind) for kind in KINDS)


def decided_of(rows: pl.DataFrame) -> dict[str, int]:
    """How many images that have a problem by their scores a person decided to ``keep``, and to ``remove`` any.

    Args:
        rows: of :func:`judged_rows`.
    """
    kept = (pl.col("decided") == KEEP) & pl.any_horizontal(list(KINDS))
    removed = pl.col("decided") == REMOVE
    return {name: int(rows.select(which.sum()).item() or 0) for name, which in ((KEEP, kept), (REMOVE, removed))}


def overview(rows: pl.DataFrame, limits: Thresholds, examples: int = 3) -> list[KindCount]:
    """Every kind, the most frequent first.

    Args:
        rows: judged; perhaps only those that meet some conditions. With a column ``decided``, what is kept by a
            person's word is counted apart.
    """
    counts = []
    decided = as_decided(rows) if "decided" in rows.columns else rows
    for kind in KINDS.values():
        found = worst(decided, kind.name)
        kept = int(rows[kind.name].sum()) - len(found)
        share = len(found) / len(rows) if len(rows) else 0.0
        paths = found["relative_path"].head(examples).to_list()
        counts.append(KindCount(kind, len(found), share, limits[kind.name], paths, kept))
    return sorted(counts, key=lambda count: -count.images)


def worst(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    """The images that have a problem, by their scores, the worst first, equals by path."""
    order = [f"{kind}_score", "relative_path"]
    return rows.filter(pl.col(kind)).sort(order, descending=[not KINDS[kind].is_low, False], nulls_last=True)


def any_problem(rows: pl.DataFrame) -> int:
    """How many images have at least one."""
    return int(rows.select(pl.any_horizontal(list(KINDS)).sum()).item() or 0)
