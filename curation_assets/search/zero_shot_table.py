"""The table of zero-shot labels, a folder at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed.plan import MODEL_COLUMNS, is_current
from curation_assets.lake.schemas import ZERO_SHOT_LABELS
from curation_assets.lake.table import LakeTable, Snapshot, read_batches
from curation_assets.search.attachments import TableSource, of_searched_model
from curation_assets.search.zero_shot import label_vectors

_BATCH_ROWS = 4096
_KEY = ["relative_path", "content_sha256"]


@dataclass(frozen=True)
class LabelResult:
    """What labelling a folder did.

    Attributes:
        rows: images with a label.
        counts: label and ``images``, most first; and the median ``margin`` of each.
        changed: whether anything was written.
    """

    folder: str
    rows: int
    counts: pl.DataFrame
    changed: bool


def label_source(labels: LakeTable) -> TableSource:
    """The labels as columns that join an index: those of its own vectors."""
    names = {"label": "zero_shot_label", "score": "zero_shot_score", "margin": "zero_shot_margin"}
    return TableSource(labels, names, of_searched_model)


def label_folder(
    embeddings: LakeTable,
    labels: LakeTable,
    folder: str,
    model: RegisteredModel,
    choices: Sequence[str],
    vectors: NDArray[np.float32],
) -> LabelResult:
    """Give every embedded image of a folder its label; nothing is written where all have theirs.

    Args:
        choices: the texts; ``vectors`` (len(choices), dimension) are theirs.
    """
    asked = json.dumps(list(choices), ensure_ascii=False)
    with labels.writer(folder) as writer:
        source, before = embeddings.snapshot(), labels.snapshot()
        changed = not _are_current(source, before, folder, model, asked) and not _waits(source, folder, model)
        if changed:
            with writer.file() as stage:
                columns = [*_KEY, *MODEL_COLUMNS, "embeddings"]
                for batch in read_batches(source.root, source.files(folder), _BATCH_ROWS, columns):
                    rows = pl.DataFrame(batch).filter(is_current(model))
                    stage_rows = _labelled(rows, model, choices, vectors, asked)
                    for part in stage_rows.to_arrow().cast(ZERO_SHOT_LABELS.file_schema).to_batches():
                        stage.write(part)
            labels.replace(folder, before, add=stage.files, remove=before.files(folder))
        now = labels.snapshot().read(["label", "margin"], folder)
    counts = (
        now.group_by("label").agg(images=pl.len(), margin=pl.col("margin").median()).sort("images", descending=True)
    )
    return LabelResult(folder, len(now), counts, changed)


def _waits(source: Snapshot, folder: str, model: RegisteredModel) -> bool:
    """Whether a folder's vectors are all of another model: it is about to be embedded again, and then labelled."""
    others = source.read(["relative_path"], folder, where=~is_current(model))
    return len(others) > 0 and not len(source.read(["relative_path"], folder, where=is_current(model)))


def _are_current(source: Snapshot, labels: Snapshot, folder: str, model: RegisteredModel, asked: str) -> bool:
    wanted = source.read(_KEY, folder, where=is_current(model)).select(_KEY)
    there = labels.read([*_KEY, "choices", *MODEL_COLUMNS], folder)
    current = there.filter(is_current(model) & (pl.col("choices") == asked)).select(_KEY)
    return len(there) == len(current) and current.sort(_KEY).equals(wanted.sort(_KEY))


def _labelled(
    rows: pl.DataFrame, model: RegisteredModel, choices: Sequence[str], vectors: NDArray[np.float32], asked: str
) -> pl.DataFrame:
    floats = rows["embeddings"].explode(empty_as_null=False).to_numpy().reshape(len(rows), model.dimension)
    found = pl.concat([rows.drop("embeddings"), label_vectors(floats, vectors, choices)], how="horizontal")
    return found.with_columns(choices=pl.lit(asked), labelled_at=pl.lit(datetime.now(UTC))).select(
        ZERO_SHOT_LABELS.file_schema.names
    )
