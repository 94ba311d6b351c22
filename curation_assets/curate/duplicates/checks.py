"""What must hold of the table of groups, as plain functions; Dagster shows each as an asset check."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import polars as pl

from curation_assets.curate.duplicates.comparison import contents_of
from curation_assets.curate.duplicates.crowds import frame_agreement
from curation_assets.curate.duplicates.judging import Thresholds, is_near
from curation_assets.curate.duplicates.pictures import Pictures
from curation_assets.curate.duplicates.verification import verify
from curation_assets.integrity import Outcome
from curation_assets.lake.snapshot import Snapshot

_SAMPLED = 200  # pairs of members
_PAIRS_A_GROUP = 4
JUMP = 0.05  # of all images, more to spare than the last time


def members_agree(
    groups: Snapshot, directory: Snapshot, pictures: Pictures, thresholds: Thresholds, same: pl.DataFrame
) -> Outcome:
    """Every two members of a near group meet the threshold: a sample of pairs, compared again on their pixels.

    Args:
        same: ``first``, ``second`` that a person joined: what they join isn't for pixels to tell.
    """
    rows = groups.read(["kind", "group_id", "content_sha256"]).filter(pl.col("kind") == "near")
    said = {*same["first"], *same["second"]}
    chosen: list[tuple[str, str]] = []
    of_group = rows.group_by("group_id").agg(pl.col("content_sha256").unique().sort()).sort("group_id")
    for members in of_group["content_sha256"].to_list():
        if len(chosen) >= _SAMPLED:
            break
        if len(members) > 1 and not said & set(members):
            step = max(1, len(members) * (len(members) - 1) // 2 // _PAIRS_A_GROUP)
            chosen += itertools.islice(itertools.combinations(members, 2), 0, _PAIRS_A_GROUP * step, step)
    known = pictures.keys.with_row_index("picture").filter(pl.col("error").is_null())
    place = dict(known.select("content_sha256", "picture").iter_rows())
    sizes = {row[0]: row[1:] for row in contents_of(directory).select("content_sha256", "width", "height").iter_rows()}
    pairs = [pair for pair in chosen if all(content in place and content in sizes for content in pair)]
    if not pairs:
        return Outcome(True, "there are no near groups to compare", {"compared": 0})
    squares = [pictures.squares(np.array([place[pair[side]] for pair in pairs], np.int64)) for side in (0, 1)]
    pixels = [np.array([sizes[pair[side]] for pair in pairs], np.float32) for side in (0, 1)]
    agree = is_near(verify(squares[0], squares[1], pixels[0], pixels[1]), thresholds) | (
        frame_agreement(*squares) >= thresholds.near
    )
    wrong = [pair for pair, agrees in zip(pairs, agree, strict=True) if not agrees]
    found = f"of {len(pairs)} pairs of members, {len(wrong)} don't agree as they should"
    named = f": {', '.join(f'{a[:12]}… and {b[:12]}…' for a, b in wrong[:5])}" if wrong else ""
    return Outcome(not wrong, found + named, {"compared": len(pairs), "wrong": len(wrong)})


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


def spare_as_before(now: Mapping[str, float], before: Mapping[str, float]) -> Outcome:
    """Of no kind is a much larger share of all images to spare than the last time.

    Args:
        now, before: kind → share; empty where there was no time before.
    """
    jumps = [f"{kind} {now[kind]:.1%}, before {before[kind]:.1%}" for kind in before if now[kind] - before[kind] > JUMP]
    numbers: dict[str, int | float] = {f"share_{kind}": share for kind, share in now.items()}
    return Outcome(not jumps, "; ".join(jumps) or "no more to spare than before", numbers)
