"""What measuring says of a kind of problem as a whole: how many of those that it names have it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from curation_assets.curate.problems import KINDS, Thresholds
from curation_assets.decisions.record import read_rows
from curation_assets.integrity import Outcome
from curation_assets.review.samples import Sample, read_samples
from curation_assets.tables import Tables


@dataclass(frozen=True)
class Reviewed:
    """Of a kind's latest sample those bands that its threshold names and that are done.

    Attributes:
        images: in them.
        looked_at: of these.
        precision: share that has the problem, as far as the sample tells; what nobody could tell, and what is gone,
            counts against it.
    """

    kind: str
    images: int
    looked_at: int
    precision: float


def reviewed(
    samples: Sequence[Sample], rows: pl.DataFrame, thresholds: Thresholds, there: pl.DataFrame | None = None
) -> list[Reviewed]:
    """Every kind that was measured, by name.

    Args:
        samples: the latest first.
        rows: all of the table of decisions.
        there: as :meth:`Sample.bands` takes them.
    """
    found: dict[str, Reviewed] = {}
    for sample in samples:
        kind = KINDS[sample.kind]
        limit = thresholds[kind.name]
        bands = [band for band in sample.bands(rows, there) if band.is_done and band.looked_at]
        bands = [band for band in bands if (band.last <= limit if kind.is_low else band.last >= limit)]
        if kind.name in found or not bands:
            continue
        images = sum(band.images for band in bands)
        right = sum(band.images * band.right / band.drawn for band in bands)
        looked_at = sum(band.looked_at for band in bands)
        found[kind.name] = Reviewed(kind.name, images, looked_at, right / images)
    return [found[name] for name in sorted(found)]


def precision_holds(tables: Tables, thresholds: Thresholds, kinds: Iterable[str], least: float) -> Outcome:
    """Of each of some kinds that was measured, enough of what it names has the problem.

    Args:
        least: share of them.
    """
    rows = read_rows(tables.decisions)
    samples = read_samples(tables.samples)
    there = _there(tables, samples) if samples and tables.directory.exists() else None
    told = {one.kind: one for one in reviewed(samples, rows, thresholds, there)}
    known = [told[kind] for kind in kinds if kind in told]
    if not known:
        return Outcome(True, "no kind of problem was measured yet; the gallery's page of one does that")
    numbers: dict[str, int | float] = {f"precision_{one.kind}": one.precision for one in known}
    low = [
        f"{one.kind}: of {one.images:,} images {one.looked_at:,} were looked at, and {one.precision:.0%} have it"
        for one in known
        if one.precision < least
    ]
    fine = f"of each kind that was measured {least:.0%} or more have it"
    said = f"{'; '.join(low)}: less than {least:.0%}; move the threshold" if low else fine
    return Outcome(not low, said, numbers)


def _there(tables: Tables, samples: Sequence[Sample]) -> pl.DataFrame:
    """Path and content of the images that were drawn, as far as they are in the lake."""
    drawn = sorted({content for sample in samples for content in sample.rows["content_sha256"]})
    where = pl.col("content_sha256").is_in(drawn)
    return tables.directory.latest().read(["relative_path", "content_sha256"], where=where)
