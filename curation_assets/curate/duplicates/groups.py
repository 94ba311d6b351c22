"""Pairs → groups, in which every two members are a pair, and their keepers: pure functions over frames."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from curation_assets.curate.duplicates.keepers import ranked
from curation_assets.lake.schemas import GROUPS

KINDS = ("exact", "near", "burst")
_ROW = pl.Schema(GROUPS.arrow_schema.remove_metadata())
_ID_DIGITS = 16
_OF_PAIRS = ["first", "second", "kind", "similarity", "method"]


@dataclass(frozen=True)
class Words:
    """What people said of pairs: frames ``first``, ``second`` (contents, first < second)."""

    same: pl.DataFrame
    different: pl.DataFrame

    @classmethod
    def none(cls) -> Words:
        """Nobody said anything."""
        empty = pl.DataFrame(schema={"first": pl.String, "second": pl.String})
        return cls(empty, empty)


def group_rows(
    images: pl.DataFrame,
    pairs: pl.DataFrame,
    words: Words,
    order: Sequence[str],
    earlier: pl.DataFrame,
    now: datetime,
) -> pl.DataFrame:
    """The rows of the table of groups: members and keepers are a function of the images, pairs and words alone.

    Args:
        images: every usable one: ``relative_path``, ``content_sha256`` and the columns of ``keepers.CRITERIA``.
        pairs: of the pairs table.
        order: of the criteria of keepers.
        earlier: rows of the table as they were: what groups are called goes on.
        now: when new groups are first seen.

    Returns:
        Sorted by kind and path.
    """
    living = images.select("content_sha256").unique()
    pairs = _between(pairs.select(_OF_PAIRS), living)
    pairs = pairs.join(words.different, on=["first", "second"], how="anti")
    exact = _ranked_groups(images, _of_copies(images), order)
    near = _ranked_groups(images, _near(pairs, _between(words.same, living)), order)
    stands_for = _standing(images, exact, near)
    burst = _ranked_groups(stands_for.select(images.columns), _bursts(pairs, words.different, near), order)
    similarity = _similarities(pairs)
    rows = []
    for kind, frame in zip(KINDS, (exact, near, burst), strict=True):
        named = _named(kind, frame, earlier.filter(pl.col("kind") == kind), now)
        rows.append(_with_similarity(named, similarity).with_columns(kind=pl.lit(kind)))
    return pl.concat([frame.select(_ROW.names()).cast(_ROW) for frame in rows]).sort("kind", "relative_path")


def complete_links(pairs: Iterable[tuple[str, str]], begun: Iterable[tuple[str, str]] = ()) -> list[list[str]]:
    """Groups in which every two members are a pair.

    Args:
        pairs: the likest first; of equals in a fixed order.
        begun: member and leader of groups that are known to hold together, whatever pairs there are.

    Returns:
        Groups of at least two, each sorted, in the order of their first members.
    """
    group_of: dict[str, int] = {}
    members: dict[int, list[str]] = {}
    between: dict[int, dict[int, int]] = {}

    def number(content: str) -> int:
        if content not in group_of:
            group_of[content] = len(group_of)
            members[group_of[content]] = [content]
            between[group_of[content]] = {}
        return group_of[content]

    def join(one: int, other: int) -> None:
        if len(members[one]) < len(members[other]):
            one, other = other, one
        for content in members[other]:
            group_of[content] = one
        members[one] += members.pop(other)
        for third, count in between.pop(other).items():
            between[third].pop(other, None)
            if third != one:
                between[one][third] = between[third][one] = between[one].get(third, 0) + count

    for content, leader in begun:
        one, other = number(leader), number(content)
        if one != other:
            join(one, other)
    for first, second in pairs:
        one, other = number(first), number(second)
        if one == other:
            continue
        count = between[one].get(other, 0) + 1
        between[one][other] = between[other][one] = count
        if count == len(members[one]) * len(members[other]):
            join(one, other)
    return sorted(sorted(group) for group in members.values() if len(group) > 1)


def _between(pairs: pl.DataFrame, living: pl.DataFrame) -> pl.DataFrame:
    for side in ("first", "second"):
        pairs = pairs.join(living, left_on=side, right_on="content_sha256", how="semi")
    return pairs.unique(["first", "second"], keep="first", maintain_order=True)


def _of_copies(images: pl.DataFrame) -> pl.DataFrame:
    copied = images.group_by("content_sha256").len().filter(pl.col("len") > 1)
    return copied.select("content_sha256", group=pl.col("content_sha256"))


def _near(pairs: pl.DataFrame, same: pl.DataFrame) -> pl.DataFrame:
    near = pairs.filter(pl.col("kind") == "near")
    framed = near.filter(pl.col("method") == "frame")
    # Who stands for a crowd has many such pairs, a member one.
    ends = pl.concat([framed.select(content=pl.col("first")), framed.select(content=pl.col("second"))])
    often = ends.group_by("content").len().filter(pl.col("len") > 1)["content"]
    is_leader = pl.col("first").is_in(often.implode())
    begun = framed.select(
        member=pl.when(is_leader).then("second").otherwise("first"),
        leader=pl.when(is_leader).then("first").otherwise("second"),
    ).sort("leader", "member")
    said = same.with_columns(similarity=pl.lit(2.0))
    others = pl.concat(
        [
            said.select("first", "second", "similarity"),
            near.filter(pl.col("method") != "frame").select("first", "second", pl.col("similarity").cast(pl.Float64)),
        ]
    ).unique(["first", "second"], keep="first", maintain_order=True)
    likest = others.sort(["similarity", "first", "second"], descending=[True, False, False])
    return _frame_of(complete_links(likest.select("first", "second").iter_rows(), begun.iter_rows()))


def _bursts(pairs: pl.DataFrame, different: pl.DataFrame, near: pl.DataFrame) -> pl.DataFrame:
    """Over those that near groups keep: whoever is alike to a member is alike to the keeper."""
    keeps = near.filter("is_keeper").select("group", kept="content_sha256")
    kept = near.select("content_sha256", "group").unique().join(keeps, on="group").select("content_sha256", "kept")
    for side in ("first", "second"):
        pairs = (
            pairs.join(kept, left_on=side, right_on="content_sha256", how="left")
            .with_columns(pl.coalesce("kept", side).alias(side))
            .drop("kept")
        )
    pairs = pairs.filter(pl.col("first") != pl.col("second")).select(
        pl.min_horizontal("first", "second").alias("first"),
        pl.max_horizontal("first", "second").alias("second"),
        "similarity",
    )
    pairs = pairs.group_by("first", "second").agg(pl.col("similarity").max())
    pairs = pairs.join(different, on=["first", "second"], how="anti")
    likest = pairs.sort(["similarity", "first", "second"], descending=[True, False, False])
    return _frame_of(complete_links(likest.select("first", "second").iter_rows()))


def _frame_of(groups: list[list[str]]) -> pl.DataFrame:
    rows = [(content, group[0]) for group in groups for content in group]
    return pl.DataFrame(rows, schema={"content_sha256": pl.String, "group": pl.String}, orient="row")


def _ranked_groups(images: pl.DataFrame, members: pl.DataFrame, order: Sequence[str]) -> pl.DataFrame:
    return ranked(images.join(members, on="content_sha256", how="inner"), order)


def _standing(images: pl.DataFrame, exact: pl.DataFrame, near: pl.DataFrame) -> pl.DataFrame:
    """The images that bursts are formed over: one of each near group, one of each content that is in none."""
    of_near = near.filter("is_keeper").select("relative_path")
    others = images.join(near.select("content_sha256").unique(), on="content_sha256", how="anti")
    copies = exact.filter(~pl.col("is_keeper")).select("relative_path")
    alone = others.join(copies, on="relative_path", how="anti")
    return pl.concat([images.join(of_near, on="relative_path", how="semi"), alone])


def _similarities(pairs: pl.DataFrame) -> pl.DataFrame:
    one = pairs.select(content_sha256=pl.col("first"), kept=pl.col("second"), similarity=pl.col("similarity"))
    other = one.select(content_sha256="kept", kept="content_sha256", similarity="similarity")
    return pl.concat([one, other]).unique(["content_sha256", "kept"], keep="first")


def _with_similarity(rows: pl.DataFrame, similarity: pl.DataFrame) -> pl.DataFrame:
    keeps = rows.filter("is_keeper").select("group", kept="content_sha256")
    found = rows.join(keeps, on="group", how="left").join(similarity, on=["content_sha256", "kept"], how="left")
    same = pl.col("content_sha256") == pl.col("kept")
    return found.with_columns(
        similarity=pl.when(same).then(pl.lit(1.0)).otherwise(pl.col("similarity").cast(pl.Float64))
    )


def _named(kind: str, rows: pl.DataFrame, earlier: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Groups with their ids: that of the earlier group that makes up most of each, of equals the older one."""
    before = earlier.select("content_sha256", "group_id", "first_seen_at").unique("content_sha256", keep="first")
    claims = (
        rows.join(before, on="content_sha256")
        .group_by("group", "group_id")
        .agg(pl.len(), pl.col("first_seen_at").min())
        .sort(["len", "first_seen_at", "group", "group_id"], descending=[True, False, False, False])
    )
    ids: dict[str, tuple[str, datetime]] = {}
    used: set[str] = set()
    for group, group_id, _, seen in claims.iter_rows():
        if group not in ids and group_id not in used:
            ids[group] = group_id, seen
            used.add(group_id)
    contents = rows.group_by("group").agg(pl.col("content_sha256").unique().sort())
    for group, members in contents.sort("group").iter_rows():
        if group not in ids:
            made, again = _id_of(kind, members, 0), 0
            while made in used:
                again += 1
                made = _id_of(kind, members, again)
            ids[group] = made, now
            used.add(made)
    named = pl.DataFrame(
        [(group, *told) for group, told in ids.items()],
        schema={"group": pl.String, "group_id": pl.String, "first_seen_at": pl.Datetime("us", "UTC")},
        orient="row",
    )
    return rows.join(named, on="group", how="left")


def _id_of(kind: str, members: Sequence[str], again: int) -> str:
    said = "\0".join([kind, *members, *([str(again)] if again else [])])
    return hashlib.sha256(said.encode()).hexdigest()[:_ID_DIGITS]
