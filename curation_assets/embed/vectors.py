"""Vectors as the embeddings table holds them: whose they are, and as a matrix with their keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.clip.versions import RegisteredModel
from curation_assets.lake.snapshot import DataFile, Snapshot

KEY = ["relative_path", "content_sha256"]  # what a vector was made of: an image, with the content it had
MODEL_COLUMNS = ("model_name", "model_version", "model_fingerprint")
_BATCH_ROWS = 4096  # 12 MB of vectors


def is_current(model: RegisteredModel) -> pl.Expr:
    """Rows of the embeddings table that this very model made: name, version and fingerprint."""
    return (
        (pl.col("model_version") == model.version)
        & (pl.col("model_name") == model.name)
        & (pl.col("model_fingerprint") == model.fingerprint)
    )


def as_matrix(vectors: pl.Series, dimension: int) -> NDArray[np.float32]:
    """(n, dimension) float32, of a column of lists of that length."""
    return np.asarray(vectors.explode(empty_as_null=False).to_numpy().reshape(len(vectors), dimension), np.float32)


def read_vectors(
    embeddings: Snapshot, files: Sequence[DataFile], model: RegisteredModel
) -> Iterator[tuple[pl.DataFrame, NDArray[np.float32]]]:
    """Stream a model's vectors out of some files of the embeddings table, a few thousand at a time.

    Returns:
        Of each batch the rows' ``KEY`` and ``MODEL_COLUMNS``, and their vectors (n, dimension), unit length.

    Raises:
        CurationError: a file of the table is missing or broken.
    """
    columns = [*KEY, *MODEL_COLUMNS, "embeddings"]
    for batch in embeddings.reader.batches(files, _BATCH_ROWS, columns):
        rows = pl.DataFrame(batch).filter(is_current(model))
        if len(rows):
            yield rows.drop("embeddings"), as_matrix(rows["embeddings"], model.dimension)
