"""A sample of images on two sides, compared anew on their pixels: what the table of pairs might not know of."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from curation_assets.curate.duplicates.checks import compared_again
from curation_assets.curate.duplicates.comparison import contents_of
from curation_assets.curate.duplicates.judging import Thresholds
from curation_assets.curate.duplicates.pictures import refresh_pictures
from curation_assets.curate.neighbours.stored import open_neighbours
from curation_assets.lake.snapshot import Snapshot
from curation_assets.progress import Progress
from curation_assets.search.index import SearchIndex

SAMPLED = 200  # pairs
_NEAREST = 10  # of each image, by the model's vectors, of which those on another side are candidates
_PAIR = ["first", "second"]
_UNKNOWN = 2.0  # an agreement that none has: only near ones count


@dataclass(frozen=True)
class Sampled:
    """What comparing a sample found.

    Attributes:
        compared: pairs.
        near: ``first`` and ``second`` (contents) of those that are the same photograph after all.
    """

    compared: int
    near: pl.DataFrame


def sampled_across(
    kept: pl.DataFrame,
    different: pl.DataFrame,
    index: SearchIndex,
    directory: Snapshot,
    limits: Thresholds,
    progress: Progress,
    threads: int,
) -> Sampled:
    """Compare the pairs across sides that the model's vectors hold likest.

    Args:
        kept: ``content_sha256`` and ``split``.
        different: ``first`` and ``second`` of contents that a person says are not the same.
        threads: that draw the small pictures that are compared.

    Raises:
        CurationError: the graph is damaged, or a file of the table.
    """
    nothing = Sampled(0, pl.DataFrame(schema=dict.fromkeys(_PAIR, pl.String)))
    graph = None if index.path is None else open_neighbours(index.path)
    if graph is None or not len(kept):
        return nothing
    of = kept.unique("content_sha256", keep="first").sort("content_sha256")
    nodes = graph.node_of(of["content_sha256"].to_list())
    of, nodes = of.filter(pl.Series(nodes >= 0)), nodes[nodes >= 0]
    names = sorted(of["split"].unique())
    side = np.full(len(graph), -1, np.int64)
    side[nodes] = of["split"].cast(pl.Enum(names)).to_physical().to_numpy()
    others, cosines = (array[nodes] for array in graph.distinct(_NEAREST))
    there = np.maximum(others, 0)
    across = (others >= 0) & (side[there] >= 0) & (side[there] != side[nodes][:, None])
    rows, columns = np.nonzero(across)
    contents = graph.contents
    pairs = pl.DataFrame(
        {"one": contents[nodes[rows]], "other": contents[there[rows, columns]], "cosine": cosines[rows, columns]}
    ).select(first=pl.min_horizontal("one", "other"), second=pl.max_horizontal("one", "other"), cosine="cosine")
    pairs = pairs.unique(_PAIR).join(different, on=_PAIR, how="anti")
    pairs = pairs.sort("cosine", *_PAIR, descending=[True, False, False]).head(SAMPLED)
    wanted = pairs.select(*_PAIR, least=pl.lit(_UNKNOWN))
    every = pl.concat([pairs["first"], pairs["second"]])
    asked = contents_of(directory).filter(pl.col("content_sha256").is_in(every.implode()))
    with tempfile.TemporaryDirectory(prefix="curation-sample-") as place:  # not those that were compared before
        pictures = refresh_pictures(Path(place), directory, asked, progress, threads)
        compared, is_near = compared_again(wanted, directory, pictures, limits)
    return Sampled(len(compared), compared.filter(pl.Series(is_near, dtype=pl.Boolean)).select(_PAIR))
