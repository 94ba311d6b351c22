"""Rows of the embeddings table, written into a staged file; every engine calls these, wherever it runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed.plan import MODEL_COLUMNS, Work, is_current
from curation_assets.lake.schemas import EMBEDDINGS
from curation_assets.lake.staging import ParquetStage
from curation_assets.lake.table import DataFile, read_batches

_COPY_ROWS = 1024
_SCHEMA = EMBEDDINGS.file_schema


def write_moved(stage: ParquetStage, work: Work) -> None:
    """The rows that stay of files that have to go, and copies of vectors that other rows have."""
    for batch in read_batches(work.embeddings, work.plan.rewrite, _COPY_ROWS):
        rows = _frame(batch).select("relative_path", *MODEL_COLUMNS, "embeddings", "embedded_at")
        _write(stage, rows.join(work.plan.keep, on=["relative_path", "model_version"], how="inner"))
    for (path,), rows in work.copies.partition_by("_file_from", as_dict=True).items():
        for batch in read_batches(work.embeddings, [work.sources[str(path)]], _COPY_ROWS):
            vectors = _frame(batch).filter(is_current(work.model))
            named = vectors.select(
                pl.col("relative_path").alias("relative_path_from"), *MODEL_COLUMNS, "embeddings", "embedded_at"
            )
            _write(stage, named.join(rows, on="relative_path_from", how="inner"))


def write_vectors(
    stage: ParquetStage,
    contents: Sequence[str],
    vectors: NDArray[np.float32],
    pending: pl.DataFrame,
    model: RegisteredModel,
) -> int:
    """New vectors, once for each pending row that has the content.

    Args:
        contents: content hash of each row of ``vectors``, which is (n, dimension).
        pending: as of ``EmbedPlan``; rows of other contents are left alone.

    Returns:
        How many rows were written.
    """
    values = pa.array(np.ascontiguousarray(vectors).reshape(-1), pa.float32())
    offsets = pa.array(np.arange(len(contents) + 1, dtype=np.int32) * vectors.shape[-1])
    made = pl.DataFrame(
        {
            "content_sha256": list(contents),
            "embeddings": pl.from_arrow(pa.ListArray.from_arrays(offsets, values)),
        },
        schema_overrides={"content_sha256": pl.String},
    ).with_columns(
        model_name=pl.lit(model.name),
        model_version=pl.lit(model.version),
        model_fingerprint=pl.lit(model.fingerprint),
        embedded_at=pl.lit(datetime.now(UTC)),
    )
    rows = pending.join(made, on="content_sha256", how="inner", maintain_order="left")
    _write(stage, rows)
    return len(rows)


def write_merged(stage: ParquetStage, table: Path, files: Sequence[DataFile]) -> None:
    """The rows of some files as they are."""
    for batch in read_batches(table, files, _COPY_ROWS):
        stage.write(batch)


def finite(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows are vectors of unit length: the encoder gives NaN where it can make none."""
    return np.asarray(np.isfinite(vectors).all(axis=1))


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    return pl.DataFrame(pa.Table.from_batches([batch]))


def _write(stage: ParquetStage, rows: pl.DataFrame) -> None:
    for batch in rows.select(_SCHEMA.names).to_arrow().cast(_SCHEMA).to_batches():
        stage.write(batch)
