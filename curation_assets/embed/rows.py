"""Rows of the embeddings table, written into a staged file; every engine calls these, wherever it runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed.plan import CARRIED, Work
from curation_assets.embed.vectors import MODEL_COLUMNS, is_current
from curation_assets.lake.schemas import EMBEDDINGS
from curation_assets.lake.snapshot import DataFile, TableReader
from curation_assets.lake.staging import ParquetStage

_COPY_ROWS = 1024
_COLUMNS = EMBEDDINGS.file_schema.names
_KEPT_BY = ["relative_path", "model_version"]


def write_moved(stage: ParquetStage, work: Work) -> None:
    """The rows that stay of files that have to go, users' columns with them, and copies of vectors of other rows."""
    for batch in work.embeddings.batches(work.plan.rewrite, _COPY_ROWS):
        stage.write(_kept(batch, work.plan.keep))
    columns = ["relative_path", *MODEL_COLUMNS, "embeddings", "embedded_at"]
    for (path,), rows in work.copies.partition_by("_file_from", as_dict=True).items():
        for batch in work.embeddings.batches([work.sources[str(path)]], _COPY_ROWS, columns):
            vectors = pl.DataFrame(batch).filter(is_current(work.model))
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
        pending: rows without a vector (``EmbedPlan.pending``); those of other contents are left alone.

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


def write_merged(stage: ParquetStage, table: TableReader, files: Sequence[DataFile]) -> None:
    """The rows of some files as they are."""
    for batch in table.batches(files, _COPY_ROWS):
        stage.write(batch)


def finite(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n,) bool: which of (n, dimension) vectors can be stored; the encoder gives NaN where it can make none."""
    return np.asarray(np.isfinite(vectors).all(axis=1))


def _kept(batch: pa.RecordBatch, keep: pl.DataFrame) -> pa.RecordBatch:
    """The rows of a batch that stay, with what their image's row holds now; all in Arrow, whatever users added."""
    keys = pl.DataFrame(batch.select(_KEPT_BY)).with_row_index("_at")
    found = keys.join(keep, on=_KEPT_BY, how="inner", maintain_order="left")
    rows = batch.take(pa.array(found["_at"].to_numpy()))
    for name in CARRIED:
        index = rows.schema.get_field_index(name)
        rows = rows.set_column(index, rows.schema.field(index), found[name].to_arrow().cast(rows.schema.types[index]))
    return rows


def _write(stage: ParquetStage, rows: pl.DataFrame) -> None:
    for batch in rows.select(_COLUMNS).to_arrow().to_batches():
        stage.write(batch)
