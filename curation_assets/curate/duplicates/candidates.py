"""Which pairs of contents are worth comparing: by hashes, by the model's neighbours, by who took them when.

Every picture names its nearest of each, so that comparisons grow with the number of pictures and not of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.curate.duplicates.hash_search import WindowHashes
from curation_assets.curate.duplicates.pictures import Pictures

BY_HASH, BY_NEIGHBOURS, BY_WITNESS = 16, 10, 4  # that a picture names: 30 in all
TIME_S, NUMBERS = 60, 3  # apart, of a witness
_ENDING, _NUMBER = r"\.[^.]*$", r"(\d{1,9})\D*$"


@dataclass(frozen=True)
class Nodes:
    """The contents that are compared.

    Attributes:
        rows: sorted by ``content_sha256``, one a content: also ``folder``, ``file_name``, ``camera``, ``captured_at``
            of the first of its images. A node is a place in it.
        pictures: (n,) the picture of each.
    """

    rows: pl.DataFrame
    pictures: NDArray[np.int64]


@dataclass(frozen=True)
class NeighbourLists:
    """Whom a model's vectors bring together.

    Attributes:
        contents: (n,) content hashes, sorted.
        lists: (n, k) places in ``contents``, nearest first; −1 where there are no more.
        cosines: (n, k) of each.
    """

    contents: pl.Series
    lists: NDArray[np.int32]
    cosines: NDArray[np.float32]
    model_version: str
    model_fingerprint: str


def by_hash(pictures: Pictures, nodes: Nodes, new: NDArray[np.bool_]) -> pl.DataFrame:
    """Pairs with at least one new node that hashes of windows bring together, whichever of the two is the part.

    Returns:
        ``first`` < ``second`` (places), ``bits``.
    """
    every = np.arange(len(nodes.rows), dtype=np.int32)
    some, others = every[new], every[~new]
    found = [pl.DataFrame(schema={"first": pl.Int32, "second": pl.Int32, "bits": pl.UInt8})]
    if len(some):
        table = WindowHashes(pictures.hashes(nodes.pictures), every)
        found += table.matches(pictures.asked(nodes.pictures[some]), some, BY_HASH)
        if len(others):
            # A new one is named by as many others as it names, however many they are: all of them name some new one.
            table = WindowHashes(pictures.hashes(nodes.pictures[some]), some)
            named = pl.concat(table.matches(pictures.asked(nodes.pictures[others]), others, BY_HASH))
            found.append(named.sort("found", "bits", "asked").group_by("found", maintain_order=True).head(BY_HASH))
    frames = [frame if "first" in frame.columns else _ordered(frame, "asked", "found", "bits") for frame in found]
    return pl.concat(frames).group_by("first", "second").agg(pl.col("bits").min()).sort("first", "second")


def by_neighbours(neighbours: NeighbourLists, nodes: Nodes, new: NDArray[np.bool_]) -> pl.DataFrame:
    """Pairs with at least one node that is new, where one is in the other's list.

    Returns:
        ``first`` < ``second``, ``method``.
    """
    frame = likeness_of(neighbours, nodes)
    wanted = new[frame["first"].to_numpy()] | new[frame["second"].to_numpy()]
    return frame.filter(pl.Series(wanted)).select("first", "second", method=pl.lit("neighbours"))


def likeness_of(neighbours: NeighbourLists, nodes: Nodes) -> pl.DataFrame:
    """``first`` < ``second`` (places) and ``likeness`` (cosine) of those of which one is in the other's list."""
    places = pl.DataFrame({"content_sha256": neighbours.contents}).join(
        nodes.rows.select("content_sha256").with_row_index("place"),
        on="content_sha256",
        how="left",
        maintain_order="left",
    )
    place_of = places["place"].cast(pl.Int32).fill_null(-1).to_numpy()
    lists = np.where(neighbours.lists >= 0, place_of[neighbours.lists], -1)
    one, other = np.repeat(place_of, lists.shape[1]), lists.reshape(-1)
    there = (one >= 0) & (other >= 0) & (one != other)
    one, other, likeness = one[there], other[there], neighbours.cosines.reshape(-1)[there]
    low, high = np.minimum(one, other).astype(np.int32), np.maximum(one, other).astype(np.int32)
    frame = pl.DataFrame({"first": low, "second": high, "likeness": likeness})
    return frame.unique(["first", "second"], keep="first").sort("first", "second")


def by_witness(nodes: Nodes, new: NDArray[np.bool_]) -> pl.DataFrame:
    """Pairs with at least one new node that follow each other by number in a folder, or by time with a camera.

    Returns:
        ``first`` < ``second``.
    """
    rows = nodes.rows.with_row_index("place").with_columns(
        pl.col("place").cast(pl.Int32),
        number=number_of(pl.col("file_name")),
        stem=stem_of(pl.col("file_name")),
    )
    by_time = rows.drop_nulls(["camera", "captured_at"]).sort("camera", "captured_at", "place")
    by_number = rows.drop_nulls("number").sort("folder", "stem", "number", "place")
    gap = pl.col("captured_at_next") - pl.col("captured_at")
    same_camera = (pl.col("camera") == pl.col("camera_next")) & (gap <= pl.duration(seconds=TIME_S))
    same_name = (pl.col("folder") == pl.col("folder_next")) & (pl.col("stem") == pl.col("stem_next"))
    follows = same_name & (pl.col("number_next") - pl.col("number") <= NUMBERS)
    found = [pl.DataFrame(schema={"first": pl.Int32, "second": pl.Int32})]
    for step in range(1, BY_WITNESS // 2 + 1):
        for ordered, is_pair in ((by_time, same_camera), (by_number, follows)):
            both = ordered.with_columns(pl.all().shift(-step).name.suffix("_next"))
            found.append(_ordered(both.filter(is_pair), "place", "place_next"))
    pairs = pl.concat(found).unique().sort("first", "second")
    fresh = pl.Series(new)
    return pairs.filter(fresh.gather(pairs["first"]) | fresh.gather(pairs["second"]))


def number_of(name: pl.Expr) -> pl.Expr:
    """The last number in a file's name; null where it has none."""
    return name.str.replace(_ENDING, "").str.extract(_NUMBER).cast(pl.Int64)


def stem_of(name: pl.Expr) -> pl.Expr:
    """A file's name without that number: numbers count among names that are alike but for them."""
    return name.str.replace(_ENDING, "").str.replace(_NUMBER, "")


def _ordered(frame: pl.DataFrame, one: str, other: str, *also: str) -> pl.DataFrame:
    low, high = pl.min_horizontal(one, other), pl.max_horizontal(one, other)
    return frame.select(low.cast(pl.Int32).alias("first"), high.cast(pl.Int32).alias("second"), *also).filter(
        pl.col("first") != pl.col("second")
    )
