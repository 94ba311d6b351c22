"""What must hold of the table of groups, as plain functions; Dagster shows each as an asset check."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.curate.checks import shares_as_before
from curation_assets.curate.duplicates.comparison import contents_of
from curation_assets.curate.duplicates.crowds import frame_agreement
from curation_assets.curate.duplicates.judging import Thresholds, is_near
from curation_assets.curate.duplicates.pictures import Pictures
from curation_assets.curate.duplicates.verification import verify
from curation_assets.integrity import Outcome
from curation_assets.lake.snapshot import Snapshot

SAMPLED = 200  # pairs of members of each kind
_ROUNDING = 1e-3  # an agreement may come out otherwise by that, among other pairs
_PAIR = ["first", "second"]
_UNKNOWN = 2.0  # an agreement that none has


def members_agree(
    groups: Snapshot,
    pairs: Snapshot,
    directory: Snapshot,
    pictures: Pictures,
    thresholds: Thresholds,
    same: pl.DataFrame,
) -> Outcome:
    """Every two members of a near or burst group meet its threshold: a sample of pairs, compared again on their pixels.

    Bursts are formed over the images that near groups keep: of two is compared what holds their groups together. What
    only the model's likeness joined isn't for pixels to tell.

    Args:
        same: ``first``, ``second`` that a person joined: they need not agree.
    """
    rows = groups.read(["kind", "group_id", "content_sha256", "is_keeper"]).drop("_file")
    near, burst = (_sample(rows.filter(pl.col("kind") == kind), groups.version) for kind in ("near", "burst"))
    near = near.join(same, on=_PAIR, how="anti", maintain_order="left").with_columns(kind=pl.lit("near"))
    held = burst.join(_lifted(pairs, rows), left_on=_PAIR, right_on=["one", "other"], how="left", maintain_order="left")
    loose = held.filter(pl.col("first_right").is_null()).select(_PAIR)
    held = held.drop_nulls("first_right").drop(_PAIR).rename({"first_right": "first", "second_right": "second"})
    least = pl.col("witness").replace_strict(
        {"time": thresholds.burst, "number": thresholds.burst_by_number, "looks": thresholds.burst_alone},
        default=_UNKNOWN,
        return_dtype=pl.Float64,
    )
    held = held.with_columns(least=least)
    by_likeness = (pl.col("kind") == "burst") & (pl.col("similarity") < pl.col("least") - _ROUNDING)
    if thresholds.likeness < 1:
        held = held.filter(~by_likeness)
    every = pl.concat([near.with_columns(least=pl.lit(_UNKNOWN)), held.select(*_PAIR, "kind", "least")])
    compared, agrees = compared_again(every, directory, pictures, thresholds)
    wrong = pl.concat([compared.filter(~pl.Series(agrees, dtype=pl.Boolean)).select(_PAIR), loose])
    number = len(compared) + len(loose)
    if not number:
        return Outcome(True, "there are no groups to compare", {"compared": 0})
    found = f"of {number} pairs of members, {len(wrong)} don't agree as they should"
    named = ", ".join(f"{first[:12]}… and {second[:12]}…" for first, second in wrong.head(5).iter_rows())
    return Outcome(not len(wrong), f"{found}: {named}" if named else found, {"compared": number, "wrong": len(wrong)})


def _sample(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """``first`` < ``second``: some pairs of members of groups of a kind, as many of each group as of the others."""
    members = rows.group_by("group_id").agg(pl.col("content_sha256").unique().sort())
    found = sampled_pairs(dict(members.filter(pl.col("content_sha256").list.len() > 1).iter_rows()), SAMPLED, seed)
    return pl.DataFrame(found, schema=dict.fromkeys(_PAIR, pl.String), orient="row")


def sampled_pairs(members: Mapping[str, Sequence[str]], number: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of members, spread over all groups: of more groups than pairs the seed chooses some.

    Args:
        members: group → two at least, sorted.
        number: of pairs, at most.
    """
    dealt = sorted(members, key=lambda group: hashlib.sha256(f"{seed} {group}".encode()).digest())[:number]
    each = math.ceil(number / max(1, len(dealt)))
    found: list[tuple[str, str]] = []
    for group in dealt:
        of = members[group]
        possible = len(of) * (len(of) - 1) // 2
        if possible <= each:
            found += itertools.combinations(of, 2)
            continue
        for place in random.Random(f"{seed} {group}").sample(range(possible), each):
            high = (1 + math.isqrt(1 + 8 * place)) // 2
            found.append((of[place - high * (high - 1) // 2], of[high]))
    return found[:number]


def _lifted(pairs: Snapshot, rows: pl.DataFrame) -> pl.DataFrame:
    """Of two images that near groups keep, or that are in none, the likest pair of the groups: ``one`` < ``other``,
    and of that pair ``first``, ``second``, ``kind``, ``witness``, ``similarity``."""
    near = rows.filter(pl.col("kind") == "near")
    keeps = near.filter("is_keeper").select("group_id", kept="content_sha256")
    kept = near.join(keeps, on="group_id").select("content_sha256", "kept").unique("content_sha256")
    found = pairs.read([*_PAIR, "kind", "witness", "similarity"]).drop("_file")
    for side in _PAIR:
        found = found.join(kept.rename({"kept": f"of_{side}"}), left_on=side, right_on="content_sha256", how="left")
    ends = [pl.coalesce(f"of_{side}", side) for side in _PAIR]
    found = found.with_columns(one=pl.min_horizontal(ends), other=pl.max_horizontal(ends)).drop("of_first", "of_second")
    likest = found.sort(["similarity", *_PAIR], descending=[True, False, False])
    return likest.unique(["one", "other"], keep="first", maintain_order=True)


def compared_again(
    every: pl.DataFrame, directory: Snapshot, pictures: Pictures, thresholds: Thresholds
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Those of some pairs whose pictures are there, and which of these agree.

    Args:
        every: ``first``, ``second`` and ``least``, an agreement that is enough although two are not near.
    """
    keys = pictures.keys.with_row_index("picture").filter(pl.col("error").is_null())
    place = keys.select("content_sha256", "picture").unique("content_sha256", keep="last")
    sizes = contents_of(directory).select("content_sha256", "width", "height")
    known = place.join(sizes, on="content_sha256")
    for side in _PAIR:
        of_side = known.select(pl.all().name.suffix(f"_{side}"))
        every = every.join(of_side, left_on=side, right_on=f"content_sha256_{side}", maintain_order="left")
    if not len(every):
        return every, np.zeros(0, bool)
    squares = [pictures.squares(every[f"picture_{side}"].to_numpy().astype(np.int64)) for side in _PAIR]
    pixels = [every.select(f"width_{side}", f"height_{side}").to_numpy().astype(np.float32) for side in _PAIR]
    verdicts = verify(squares[0], squares[1], pixels[0], pixels[1])
    limits = replace(thresholds, near=thresholds.near - _ROUNDING)
    near = is_near(verdicts, limits) | (frame_agreement(squares[0], squares[1]) >= limits.near)
    return every, near | (verdicts.agreement >= every["least"].to_numpy() - _ROUNDING)


def keepers_live(groups: Snapshot, directory: Snapshot) -> Outcome:
    """Each group has one keeper, which is an image there is; and every row names it."""
    rows = groups.read(["relative_path", "kind", "group_id", "keeper", "is_keeper", "content_sha256"])
    ok = directory.read(["relative_path", "content_sha256", "status"]).filter(pl.col("status") == "ok")
    gone = len(rows.join(ok, on=["relative_path", "content_sha256"], how="anti"))
    of_group = rows.group_by("kind", "group_id").agg(
        keepers=pl.col("is_keeper").sum(),
        named=pl.col("keeper").n_unique(),
        is_named=(pl.col("is_keeper") & (pl.col("keeper") == pl.col("relative_path"))).any(),
    )
    wrong = len(of_group.filter((pl.col("keepers") != 1) | (pl.col("named") != 1) | ~pl.col("is_named")))
    found = f"of {len(of_group)} groups {wrong} have no keeper or several; {gone} rows have no image"
    return Outcome(not wrong and not gone, found, {"groups": len(of_group), "wrong": wrong, "without_image": gone})


def spare_as_before(now: Mapping[str, int], images: int, before: Mapping[str, int], images_before: int) -> Outcome:
    """Of no kind is a much larger share of all images to spare than the last time.

    Args:
        now, before: kind → images to spare.
        images, images_before: of how many.
    """
    return shares_as_before(now, images, before, images_before, "no more to spare than before")
