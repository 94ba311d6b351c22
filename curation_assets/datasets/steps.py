"""What a recipe leaves out, step by step: functions over a frame of images, each with its reason and its witness.

An image that one step left out is not looked at by the next. Frames have a row an image, sorted by path:
``relative_path``, ``content_sha256``, ``label``, ``reason`` (null: kept so far), ``witness`` and ``similarity``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.curate.duplicates.keepers import ranked
from curation_assets.datasets.recipe import Labels, Subset

DECIDED, UNSURE, NOT_EXAMINED = "decided", "unsure", "not examined"
NO_LABEL, SEVERAL_LABELS, DROPPED_LABEL = "no label", "several labels", "label dropped"
NO_GROUP = "no group"
SUBSET, BUFFER = "subset", "buffer"
_KEPT = pl.col("reason").is_null()


def joins(side: str) -> str:
    """The reason of an image that would lie on another side than what it belongs to."""
    return f"joins {side}"


def leave_out(images: pl.DataFrame, which: pl.Expr, reason: str | pl.Expr) -> pl.DataFrame:
    """Give the images that are kept so far, and for which something holds, a reason."""
    told = pl.lit(reason) if isinstance(reason, str) else reason
    leaving = _KEPT & which.fill_null(value=False)
    return images.with_columns(reason=pl.when(leaving).then(told).otherwise("reason"))


def labelled(images: pl.DataFrame, labels: Labels) -> pl.DataFrame:
    """Labels merged, and images left out for theirs.

    Args:
        images: with ``values``, lists of labels; null: there is none.
    """
    renamed = {old: new for new, labels_of in labels.merge.items() for old in labels_of}
    values = pl.col("values")
    if renamed:
        values = values.list.eval(pl.element().replace(renamed)).list.unique(maintain_order=True)
    found = images.with_columns(values=values)
    number = pl.col("values").list.len().fill_null(0)
    found = found.with_columns(
        label=pl.when(number > 0).then(pl.col("values").list.sort().list.join(", ")),
        _number=number,
    )
    if labels.unlabelled == "leave_out":
        found = leave_out(found, pl.col("_number") == 0, NO_LABEL)
    if labels.several == "leave_out":
        found = leave_out(found, pl.col("_number") > 1, SEVERAL_LABELS)
    if labels.drop:
        dropped = pl.col("values").list.eval(pl.element().is_in(list(labels.drop))).list.any()
        found = leave_out(found, dropped, DROPPED_LABEL)
    return found.drop("_number", "values")


def one_of_each(images: pl.DataFrame, groups: pl.DataFrame, kind: str, order: Sequence[str]) -> pl.DataFrame:
    """Of every group the best image that is kept so far, and others left out with it as their witness.

    Args:
        images: with the columns of ``keepers.CRITERIA``.
        groups: ``relative_path`` and ``group`` of the members of one kind of group.
    """
    members = images.filter(_KEPT).join(groups, on="relative_path")
    members = members.filter(pl.len().over("group") > 1)
    if not len(members):
        return images
    spare = ranked(members, order).filter(~pl.col("is_keeper")).select("relative_path", _by="keeper")
    found = images.join(spare, on="relative_path", how="left", maintain_order="left")
    leaving = pl.col("_by").is_not_null()
    return found.with_columns(
        reason=pl.when(leaving).then(pl.lit(kind)).otherwise("reason"),
        witness=pl.when(leaving).then(pl.col("_by")).otherwise("witness"),
    ).drop("_by")


def follow_witnesses(images: pl.DataFrame) -> pl.DataFrame:
    """Let every witness be one that is kept, or was left out by the subset alone.

    Who stood for an image may have been left out later: what stands for it in turn takes its place. Where that ends at
    an image that the split left out, the one that it stood for is left out for the same.
    """
    reason = dict(images.select("relative_path", "reason").iter_rows())
    witness = dict(images.drop_nulls("witness").select("relative_path", "witness").iter_rows())
    changed = []
    for path, by in witness.items():
        at, seen = by, {path}
        while (why := reason.get(at)) not in (None, SUBSET) and at in witness and at not in seen:
            if why == BUFFER or str(why).startswith("joins "):
                break
            seen.add(at)
            at = witness[at]
        why = reason.get(at)
        if why is not None and (why == BUFFER or why.startswith("joins ")) and reason[path] not in (why, BUFFER):
            changed.append((path, why, witness.get(at)))
        elif at != by:
            changed.append((path, reason[path], at))
    schema = {"relative_path": pl.String, "_reason": pl.String, "_witness": pl.String}
    told = pl.DataFrame(changed, schema, orient="row")
    found = images.join(told, on="relative_path", how="left", maintain_order="left")
    has = pl.col("_reason").is_not_null()
    return found.with_columns(
        reason=pl.when(has).then("_reason").otherwise("reason"),
        witness=pl.when(has).then("_witness").otherwise("witness"),
    ).drop("_reason", "_witness")


def with_similarity(images: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Of images with a witness how alike the two are, as far as they were compared: 1 of equal bytes.

    Args:
        pairs: ``first``, ``second``, ``similarity`` of contents.
    """
    content = images.select(witness="relative_path", _other="content_sha256")
    found = images.join(content, on="witness", how="left", maintain_order="left")
    found = found.with_columns(
        first=pl.min_horizontal("content_sha256", "_other"), second=pl.max_horizontal("content_sha256", "_other")
    )
    known = pairs.select("first", "second", _similarity="similarity").unique(["first", "second"], keep="first")
    found = found.join(known, on=["first", "second"], how="left", maintain_order="left")
    same = pl.col("content_sha256") == pl.col("_other")
    of_duplicate = pl.col("reason").is_in(["exact", "near", "burst"])
    similarity = pl.when(of_duplicate & same).then(1.0).when(of_duplicate).then("_similarity")
    return found.with_columns(similarity=similarity.cast(pl.Float32)).drop("first", "second", "_other", "_similarity")


def with_nearest(images: pl.DataFrame, nearest: pl.DataFrame) -> pl.DataFrame:
    """Of images that the subset left out the nearest one in it as their witness, unless the split left that out.

    Args:
        nearest: ``relative_path``, ``witness`` and ``witness_similarity``, their cosine.
    """
    kept = images.filter(_KEPT).select(_by="relative_path")
    told = nearest.rename({"witness": "_by"}).join(kept, on="_by", how="semi")
    found = images.join(told, on="relative_path", how="left", maintain_order="left")
    stands = (pl.col("reason") == SUBSET).fill_null(value=False) & pl.col("_by").is_not_null()
    return found.with_columns(
        witness=pl.when(stands).then("_by").otherwise("witness"),
        similarity=pl.when(stands).then("witness_similarity").otherwise("similarity"),
    ).drop("_by", "witness_similarity")


def chosen(images: pl.DataFrame, subset: Subset, pinned: pl.Series, chance: NDArray[np.uint64]) -> pl.DataFrame:
    """The subset: what is pinned, then by chance, of each class so many as it asks for.

    Args:
        pinned: (images,) whether an image has to be in it.
        chance: (images,) a number drawn for each.
    """
    if subset.size is None:
        return images
    kept = images.with_columns(_pinned=pinned, _chance=pl.Series(chance)).filter(_KEPT)
    kept = kept.sort("_pinned", "_chance", "relative_path", descending=[True, False, False])
    place = pl.int_range(pl.len()).over("label")
    kept = kept.with_columns(_place=place, _first=place < subset.per_class_at_least)
    order = (
        ["_pinned", "_first", "_place", "_chance"]
        if subset.strategy == "balanced"
        else ["_pinned", "_first", "_chance"]
    )
    kept = kept.sort(*order, "relative_path", descending=[name in ("_pinned", "_first") for name in [*order, ""]])
    beyond = kept[max(subset.size, int(kept["_pinned"].sum())) :]["relative_path"]
    return leave_out(images, pl.col("relative_path").is_in(beyond.implode()), SUBSET)


def counts(images: pl.DataFrame) -> pl.DataFrame:
    """``reason``, ``label`` and ``images`` of what was left out."""
    left = images.drop_nulls("reason")
    return left.group_by("reason", "label").agg(images=pl.len().cast(pl.Int64)).sort("reason", "label")
