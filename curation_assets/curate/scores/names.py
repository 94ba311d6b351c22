"""Names for clusters: the label text nearest to each, or the words of folder names that are more frequent in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

_LEAST_SHARE = 0.3  # of a cluster's images in folders with a word, and how many times as many as elsewhere
_LEAST_LIFT = 1.2
_MOSTLY = 0.5  # of a cluster's images with a word that is as frequent elsewhere: better than no name
_WORDS = 2


def by_labels(
    centres: Mapping[int, NDArray[np.float32]], labels: Sequence[str], vectors: NDArray[np.float32]
) -> dict[int, str]:
    """Of each cluster the text whose vector its centre is nearest to.

    Args:
        vectors: (labels, dimension), unit length.
    """
    return {one: labels[int(np.argmax(vectors @ centre))] for one, centre in centres.items()}


def by_folders(images: pl.DataFrame) -> dict[int, str]:
    """Of each cluster one or two words of its images' folder names; ``cluster 7`` where there is none.

    A word's worth is its share of the cluster's images, times the logarithm of how much larger that is than its share
    of all. Where no word is more frequent than elsewhere, the most frequent ones do.

    Args:
        images: ``folder`` and ``cluster``.
    """
    folders = images.group_by("cluster", "folder").len()
    words = folders.with_columns(
        word=pl.col("folder").str.to_lowercase().str.extract_all(r"\p{L}{2,}").list.unique(maintain_order=True)
    ).explode("word")
    place = pl.col("folder").str.to_lowercase().str.find(pl.col("word"), literal=True)
    words = words.drop_nulls("word").with_columns(at=place)
    everywhere = words.group_by("word").agg(all=pl.col("len").sum())
    sizes = images.group_by("cluster").agg(size=pl.len())
    told = words.group_by("cluster", "word").agg(pl.col("len").sum(), at=pl.col("at").min())
    told = told.join(everywhere, on="word").join(sizes, on="cluster")
    share, lift = pl.col("len") / pl.col("size"), (pl.col("len") / pl.col("size")) / (pl.col("all") / len(images))
    told = told.with_columns(share=share, lift=lift).filter(
        (pl.col("share") >= _LEAST_SHARE) & (pl.col("lift") >= _LEAST_LIFT) | (pl.col("share") >= _MOSTLY)
    )
    tells = pl.col("lift") >= _LEAST_LIFT  # else it is a word of most images, here as elsewhere
    worth = pl.col("share") * pl.when(tells).then(pl.col("lift").log(math.e)).otherwise(1.0)
    told = told.with_columns(tells=tells, worth=worth)
    told = told.filter(pl.col("tells") | ~pl.col("tells").any().over("cluster"))
    best = told.sort("cluster", "worth", "at", "word", descending=[False, True, False, False])
    best = best.group_by("cluster", maintain_order=True).head(_WORDS).sort("cluster", "at", "word")
    named = best.group_by("cluster", maintain_order=True).agg(pl.col("word").str.join(" "))
    names = dict(named.iter_rows())
    return {one: names.get(one, f"cluster {one}") for one in sizes["cluster"].to_list()}
