"""What has to lie on one side: images joined by links, also by chains of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ids = NDArray[np.int64]
_WEAKEST = 3  # links of a group that are named where it is too large


@dataclass(frozen=True)
class Links:
    """Links between images of one kind.

    Attributes:
        name: of the relation, as people call it: ``near``, ``plot``.
        first, second: (links,) numbers of images.
        similarity: (links,) 0 to 1; 1 where that is no question of degree.
    """

    name: str
    first: Ids
    second: Ids
    similarity: NDArray[np.float64]


def of_equal(name: str, values: pl.Series, similarity: pl.Series | None = None) -> Links:
    """Links between images with an equal value, each with the one before it; null is equal to nothing.

    Args:
        similarity: (images,) of each to what it is equal with; null, or None: no question of degree.
    """
    alike = pl.lit(1.0) if similarity is None else similarity.cast(pl.Float64).fill_null(1.0)
    frame = values.alias("value").to_frame().with_row_index("row").with_columns(alike=alike).drop_nulls("value")
    before = pl.col("row", "alike").shift(1).over("value").name.suffix("_before")
    linked = frame.sort("value", "row").with_columns(before).drop_nulls("row_before")
    second, first = (linked[column].to_numpy().astype(np.int64) for column in ("row", "row_before"))
    return Links(name, first, second, linked.select(pl.min_horizontal("alike", "alike_before")).to_series().to_numpy())


def of_pairs(name: str, contents: pl.Series, pairs: pl.DataFrame) -> Links:
    """Links between the images of two contents.

    Args:
        contents: (images,) of each its content; images of one content need a link of their own.
        pairs: ``first``, ``second``, ``similarity`` (null: by a person's word).
    """
    first_of = contents.alias("content").to_frame().with_row_index("row").unique("content", keep="first")
    joined = pairs.join(first_of.rename({"content": "first", "row": "one"}), on="first")
    joined = joined.join(first_of.rename({"content": "second", "row": "two"}), on="second").sort("one", "two")
    one, two = (joined[column].to_numpy().astype(np.int64) for column in ("one", "two"))
    return Links(name, one, two, joined["similarity"].cast(pl.Float64).fill_null(1.0).to_numpy())


def components(number: int, links: Iterable[tuple[Ids, Ids]]) -> Ids:
    """(number,) of each image a number of what it is joined to, numbered by their first images."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    every = [*links]
    first = np.concatenate([np.zeros(0, np.int64), *(one for one, _ in every)])
    second = np.concatenate([np.zeros(0, np.int64), *(other for _, other in every)])
    graph = coo_matrix((np.ones(len(first), np.int8), (first, second)), shape=(number, number))
    _, found = connected_components(graph, directed=False)
    _, at, inverse = np.unique(found, return_index=True, return_inverse=True)
    rank = np.empty(len(at), np.int64)
    rank[np.argsort(at)] = np.arange(len(at))
    return rank[inverse]


def weakest(members: Ids, links: Sequence[Links]) -> list[tuple[str, int, int, float]]:
    """Of what joins some images the links that hold least: name, two images, similarity; the weakest first.

    Of the links those are looked at without which the group falls apart soonest: a spanning tree of the strongest.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import minimum_spanning_tree

    place = {int(image): at for at, image in enumerate(members)}
    known: dict[tuple[int, int], tuple[str, float]] = {}
    for kind in links:
        inside = np.flatnonzero(np.isin(kind.first, members) & np.isin(kind.second, members))
        for at in inside:
            pair = int(kind.first[at]), int(kind.second[at])
            if pair not in known or known[pair][1] < kind.similarity[at]:
                known[pair] = kind.name, float(kind.similarity[at])
    rows, columns = zip(*((place[one], place[two]) for one, two in known), strict=True)
    distance = [2.0 - similarity for _, similarity in known.values()]  # 0 would be no link
    graph = coo_matrix((distance, (rows, columns)), shape=(len(members), len(members)))
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    kept = sorted(zip((-tree.data).tolist(), tree.row.tolist(), tree.col.tolist(), strict=True))[:_WEAKEST]
    found = []
    for _, row, column in kept:
        one, two = int(members[row]), int(members[column])
        name, similarity = known.get((one, two)) or known[two, one]
        found.append((name, one, two, similarity))
    return found
