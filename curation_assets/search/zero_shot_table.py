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
from curation_assets.embed.vectors import KEY, MODEL_COLUMNS, is_current, read_vectors
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable
from curation_assets.search.attachments import TableSource, of_searched_model
from curation_assets.search.zero_shot import label_vectors


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
    changed = False

    def bring_up_to_date(rows: Rewrite) -> None:
        nonlocal changed
        source = embeddings.latest()
        source.read(["relative_path"], folder)  # fails at a broken file, if there is one
        source.refuse_broken(folder)
        if _are_current(source, rows.base, folder, model, asked) or _waits(source, folder, model):
            return
        earlier = rows.base.read([*KEY, *rows.base.added_columns], folder).drop("_file")
        with rows.writer.file() as stage:
            for keys, found in read_vectors(source, source.files(folder), model):
                labelled = _labelled(keys, found, vectors, choices, asked)
                kept = labelled.join(earlier, on=KEY, how="left", maintain_order="left")  # what users added
                for batch in kept.to_arrow().to_batches():
                    stage.write(batch)
        changed = rows.commit(stage.files, rows.base.named_files([folder]))

    snapshot = rewrite(labels, folder, bring_up_to_date, info={"job": "label", "folder": folder})
    now = snapshot.read(["label", "margin"], folder)
    counts = (
        now.group_by("label").agg(images=pl.len(), margin=pl.col("margin").median()).sort("images", descending=True)
    )
    return LabelResult(folder, len(now), counts, changed)


def _waits(source: Snapshot, folder: str, model: RegisteredModel) -> bool:
    """Whether a folder's vectors are all of another model: it is about to be embedded again, and then labelled."""
    others = source.read(["relative_path"], folder, where=~is_current(model))
    return len(others) > 0 and not len(source.read(["relative_path"], folder, where=is_current(model)))


def _are_current(source: Snapshot, labels: Snapshot, folder: str, model: RegisteredModel, asked: str) -> bool:
    wanted = source.read([*KEY, "embedded_at"], folder, where=is_current(model)).select(*KEY, "embedded_at")
    there = labels.read([*KEY, "choices", "labelled_at", *MODEL_COLUMNS], folder)
    current = there.filter(is_current(model) & (pl.col("choices") == asked))
    later = current.join(wanted, on=KEY).filter(pl.col("labelled_at") >= pl.col("embedded_at"))  # than its vector
    return len(there) == len(wanted) == len(later)


def _labelled(
    keys: pl.DataFrame,
    vectors: NDArray[np.float32],
    of_choices: NDArray[np.float32],
    choices: Sequence[str],
    asked: str,
) -> pl.DataFrame:
    found = pl.concat([keys, label_vectors(vectors, of_choices, choices)], how="horizontal")
    return found.with_columns(choices=pl.lit(asked), labelled_at=pl.lit(datetime.now(UTC)))
