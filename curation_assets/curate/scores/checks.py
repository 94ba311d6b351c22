"""What must hold of the table of scores; Dagster shows each as an asset check."""

from __future__ import annotations

import polars as pl

from curation_assets.curate.checks import shares_as_before
from curation_assets.embed.vectors import KEY
from curation_assets.integrity import Outcome

_MOST = 2.0 + 1e-4  # a cosine distance, stored as float32
_SCORES = ("outlier_score", "uniqueness", "cluster_distance")


def scores_are_finite(rows: pl.DataFrame, images: pl.DataFrame) -> Outcome:
    """Each image with a vector has one row of its content, a cluster, and scores between 0 and 2.

    Args:
        rows: of the table of scores.
        images: with a vector: ``relative_path`` and ``content_sha256``.
    """
    alone = images["content_sha256"].n_unique() < 2
    bad = [
        ~pl.col(name).is_finite() | (pl.col(name) < 0) | (pl.col(name) > _MOST) | (pl.col(name).is_null() & (not alone))
        for name in _SCORES
    ]
    outside = len(rows.filter(pl.any_horizontal(bad).fill_null(value=False) | pl.col("cluster").is_null()))
    missing = len(images.join(rows, on=KEY, how="anti"))
    orphaned = len(rows.join(images, on=KEY, how="anti"))
    doubled = len(rows.group_by(KEY).len().filter(pl.col("len") > 1))
    found = f"of {len(images)} images with a vector {missing} have no row, {doubled} several; {orphaned} rows have no "
    found += f"image; {outside} have no cluster, or a score that is not between 0 and 2"
    numbers: dict[str, int | float] = {
        "images": len(images),
        "missing": missing,
        "doubled": doubled,
        "without_image": orphaned,
        "outside_scale": outside,
    }
    return Outcome(not (missing or doubled or orphaned or outside), found, numbers)


def outliers_as_before(outliers: int, images: int, before: int | None, images_before: int) -> Outcome:
    """Of the images there is no far larger share of outliers than there was.

    Args:
        before: how many there were; None: nothing is known of that.
    """
    told = {} if before is None else {"outlier": before}
    fine = "outliers are not much more frequent than before"
    return shares_as_before({"outlier": outliers}, images, told, images_before, fine)
