"""Files of many images each: how images are put into them, for every format that is sharded."""

from __future__ import annotations

import math

import polars as pl

from curation_assets.export.names import folder_names
from curation_assets.export.protocol import Content

MOST_BYTES = 400 * 2**20  # of images in a shard: as large as readers like to have them
_UNKNOWN_BYTES = 2**20


def in_shards(content: Content, suffix: str, *, folder: str = "", most_bytes: int = MOST_BYTES) -> pl.DataFrame:
    """Rows of images with ``PLACES``: side by side, as evenly as whole images allow.

    Images stand in the order of their hashes, which is by chance and always the same: who reads a shard from its
    beginning sees all classes.

    Args:
        suffix: of the files, with its dot.
        folder: that they lie in; ``""``: the export itself.

    Returns:
        The rows; ``file`` as ``folder/train-00000-of-00012.tar``, a version without sides as ``train``.
    """
    names = folder_names(content.sides, "side")
    rows = content.rows.sort("split", "content_sha256", "relative_path", nulls_last=False)
    sizes = pl.col("size_bytes").fill_null(_UNKNOWN_BYTES).cast(pl.Int64)
    parts = []
    for (split,), part in rows.group_by("split", maintain_order=True):
        number = max(1, math.ceil(part.select(sizes.sum()).item() / most_bytes))
        end = part.select(sizes.cum_sum()).to_series()
        shard = ((end - 1).clip(0) * number // max(int(end[-1]), 1)).clip(0, number - 1)
        shard = shard.rle_id().cast(pl.Int64)  # an image larger than a shard leaves none empty
        number = int(str(shard.max())) + 1
        name = names[str(split)] if split is not None else "train"
        before = f"{folder}/{name}" if folder else name
        file = [f"{before}-{place:05}-of-{number:05}{suffix}" for place in range(number)]
        told = part.with_columns(_shard=shard).with_columns(
            file=pl.col("_shard").replace_strict(dict(enumerate(file)), return_dtype=pl.String),
            row=pl.int_range(pl.len(), dtype=pl.Int64).over("_shard"),
        )
        parts.append(told.drop("_shard"))
    return pl.concat(parts) if parts else rows.with_columns(file=pl.lit(None, pl.String), row=pl.lit(None, pl.Int64))
