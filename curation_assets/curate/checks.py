"""What must hold of the quality table, as plain functions; Dagster shows each as an asset check."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import polars as pl

from curation_assets.curate.measuring import MEASURED
from curation_assets.embed.vectors import KEY
from curation_assets.integrity import Outcome
from curation_assets.lake.snapshot import Snapshot

# Of each score the least and the most that its measure can give.
SCALES: Mapping[str, tuple[float, float]] = MappingProxyType(
    dict.fromkeys(MEASURED, (0.0, 1.0))
    | {"exposure": (0.0, 2.0), "entropy": (0.0, 8.0), "colourfulness": (0.0, 500.0), "aspect_ratio": (0.0, math.inf)}
)
_ROUNDING = 1e-4  # scores are stored as float32
JUMP, LEAST_IMAGES = 0.05, 20  # more of the images than before, and of how many at least, then and now
_DEVIATIONS = 3.0  # of the difference between two shares, beyond which chance doesn't bring it


def scores_are_finite(directory: Snapshot, quality: Snapshot, folders: list[str]) -> Outcome:
    """Each usable image has one row of its content, whose scores are finite and within their scales, or null."""
    images = missing = doubled = orphaned = outside = 0
    wrong = pl.any_horizontal(_is_outside(name, *scale) for name, scale in SCALES.items())
    for folder in folders:
        ok = directory.read([*KEY, "status"], folder).filter(pl.col("status") == "ok")
        rows = quality.read([*KEY, *SCALES], folder)
        images += len(ok)
        missing += len(ok.join(rows, on=KEY, how="anti"))
        doubled += len(rows.group_by(KEY).len().filter(pl.col("len") > 1))
        orphaned += len(rows.join(ok, on=KEY, how="anti"))
        outside += len(rows.filter(wrong))
    found = f"of {images} images {missing} have no row, {doubled} several; {orphaned} rows have no image; "
    found += f"{outside} have a score that is not finite or outside its scale"
    numbers: dict[str, int | float] = {
        "images": images,
        "missing": missing,
        "doubled": doubled,
        "without_image": orphaned,
        "outside_scale": outside,
    }
    return Outcome(not (missing or doubled or orphaned or outside), found, numbers)


def _is_outside(name: str, least: float, most: float) -> pl.Expr:
    score = pl.col(name)
    return (~score.is_finite() | (score < least - _ROUNDING) | (score > most + _ROUNDING)).fill_null(value=False)


def problems_as_before(now: Mapping[str, int], images: int, before: Mapping[str, int], images_before: int) -> Outcome:
    """Of no kind there is a far larger share than there was.

    Args:
        now, before: how many images have each problem.
        images, images_before: of how many.
    """
    return shares_as_before(now, images, before, images_before, "no kind of problem is much more frequent than before")


def shares_as_before(
    now: Mapping[str, int], images: int, before: Mapping[str, int], images_before: int, fine: str
) -> Outcome:
    """No share of the images is far larger than it was.

    Far larger: by more than ``JUMP`` of all images, and more than chance brings. Of fewer than ``LEAST_IMAGES``, then
    or now, nothing is said; nor of a share that fell.

    Args:
        now, before: how many images are of each kind.
        images, images_before: of how many.
        fine: what is said where it holds.
    """
    numbers: dict[str, int | float] = {"images": images, "images_before": images_before}
    if min(images, images_before) < LEAST_IMAGES:
        return Outcome(True, f"{images} images now, {images_before} before: too few to compare", numbers)
    jumps = []
    for kind, count in now.items():
        if (was := before.get(kind)) is None:
            continue
        share, share_before = count / images, was / images_before
        both = (count + was) / (images + images_before)
        deviation = math.sqrt(both * (1 - both) * (1 / images + 1 / images_before))
        name = kind.replace(" ", "_")
        numbers |= {f"share_{name}": share, f"share_{name}_before": share_before}
        if share - share_before > max(JUMP, _DEVIATIONS * deviation):
            jumps.append(f"{kind} {share:.1%} of {images}, before {share_before:.1%} of {images_before}")
    return Outcome(not jumps, "; ".join(jumps) or fine, numbers)
