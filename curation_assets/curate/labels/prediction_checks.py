"""What must hold of the table of predictions; Dagster shows each as an asset check."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import polars as pl

from curation_assets.curate.checks import JUMP, LEAST_IMAGES
from curation_assets.embed.vectors import KEY
from curation_assets.integrity import Outcome

_ROUNDING = 1e-4  # confidence and quality are stored as float32
_DEVIATIONS = 3.0  # of the difference between two accuracies, beyond which chance doesn't bring it


def predictions_are_whole(rows: pl.DataFrame, images: pl.DataFrame, fields: Sequence[str]) -> Outcome:
    """Each image with a vector has one row of its content for each field; confidence and quality are from 0 to 1.

    Args:
        rows: of the table.
        images: with a vector: ``relative_path`` and ``content_sha256``.
        fields: that a classifier can be fitted for.
    """
    wanted = images.join(pl.DataFrame({"field": list(fields)}, {"field": pl.String}), how="cross")
    key = [*KEY, "field"]
    bad = [
        ~pl.col(name).is_finite() | (pl.col(name) < -_ROUNDING) | (pl.col(name) > 1 + _ROUNDING)
        for name in ("confidence", "label_quality")
    ]
    outside = len(rows.filter(pl.any_horizontal(bad).fill_null(value=False)))
    missing, orphaned = len(wanted.join(rows, on=key, how="anti")), len(rows.join(wanted, on=key, how="anti"))
    doubled = len(rows.group_by(key).len().filter(pl.col("len") > 1))
    found = f"of {len(images)} images with a vector and {len(fields)} fields {missing} rows are missing, {doubled} are "
    found += f"there several times; {orphaned} rows have no image or field; {outside} are not between 0 and 1"
    numbers: dict[str, int | float] = {
        "rows": len(rows),
        "missing": missing,
        "doubled": doubled,
        "without_image": orphaned,
        "outside_scale": outside,
    }
    return Outcome(not (missing or doubled or orphaned or outside), found, numbers)


def accuracy_as_before(now: Mapping[str, tuple[int, int]], before: Mapping[str, tuple[int, int]]) -> Outcome:
    """Of no field the labels are told far worse than they were: by over 5 %, and more than chance brings.

    Args:
        now, before: of each field, of how many labelled images the label is predicted, and how many there are.
    """
    numbers: dict[str, int | float] = {}
    falls = []
    for field, (right, images) in now.items():
        was, images_before = before.get(field, (0, 0))
        if min(images, images_before) < LEAST_IMAGES:
            continue
        share, share_before = right / images, was / images_before
        both = (right + was) / (images + images_before)
        deviation = math.sqrt(both * (1 - both) * (1 / images + 1 / images_before))
        numbers |= {f"accuracy_{field}": share, f"accuracy_{field}_before": share_before}
        if share_before - share > max(JUMP, _DEVIATIONS * deviation):
            falls.append(f"{field}: {share:.1%} of {images} are right, before {share_before:.1%} of {images_before}")
    return Outcome(not falls, "; ".join(falls) or "labels are told about as well as before", numbers)
