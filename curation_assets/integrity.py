"""What must hold of the two tables, as plain functions; Dagster shows each as an asset check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed.vectors import KEY, MODEL_COLUMNS, as_matrix, is_current
from curation_assets.images.names import printable
from curation_assets.lake.snapshot import Snapshot

UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Outcome:
    """Whether something holds, what was found in one sentence, and the numbers behind it."""

    passed: bool
    description: str
    numbers: dict[str, int | float] = field(default_factory=dict)


def key_is_unique(table: Snapshot, folders: list[str]) -> Outcome:
    """No two rows of some folders have the same key."""
    key = list(table.spec.key)
    repeated, rows, example = 0, 0, ""
    for folder in folders:
        frame = table.read(key, folder)
        twice = frame.group_by(key).len().filter(pl.col("len") > 1)
        rows += len(frame)
        repeated += len(twice)
        example = example or (str(twice[key[0]][0]) if len(twice) else "")
    found = f"{repeated} keys stand in several rows, for example {example!r}" if repeated else f"{rows} rows, each once"
    return Outcome(repeated == 0, found, {"rows": rows, "repeated_keys": repeated})


def bad_file_share(directory: Snapshot, folders: list[str], limit: float) -> Outcome:
    """At most ``limit`` of the files of some folders are unusable."""
    files = bad = 0
    for folder in folders:
        status = directory.read(["status"], folder)["status"]
        files += len(status)
        bad += int((status != "ok").sum())
    share = bad / files if files else 0.0
    found = f"{bad} of {files} files can't be used ({share:.1%}; the limit is {limit:.1%})"
    return Outcome(share <= limit, found, {"files": files, "bad": bad, "share": share, "limit": limit})


_NAMED = 5  # folders or files in a description


def few_bad_files_anywhere(directory: Snapshot, limit: float) -> Outcome:
    """In no folder of the table more than ``limit`` of the files are unusable; names the worst ones."""
    bad = (pl.col("status") != "ok").sum()
    folders = directory.read(["folder", "status"]).group_by("folder").agg(files=pl.len(), bad=bad)
    folders = folders.filter(pl.col("bad") > 0).with_columns(share=pl.col("bad") / pl.col("files"))
    folders = folders.sort(["share", "bad", "folder"], descending=[True, True, False])
    over = folders.filter(pl.col("share") > limit)
    named = _named(over if len(over) else folders, lambda row: f"{row[0]!r} {row[3]:.1%} ({row[2]} of {row[1]})")
    found = f"in {len(over)} of {len(directory.folders)} folders more than {limit:.1%} of the files can't be used"
    found += f"{': ' if len(over) else '; the worst: '}{named}" if named else ""
    worst = float(folders["share"][0]) if len(folders) else 0.0
    numbers = {"folders": len(directory.folders), "folders_over_limit": len(over), "worst_share": worst, "limit": limit}
    return Outcome(not len(over), found, numbers)


def every_file_is_usable(directory: Snapshot) -> Outcome:
    """No file of the table is unusable; names some."""
    columns = ["folder", "relative_path", "status"]
    rows = directory.read(columns, where=pl.col("status") != "ok").select(columns).sort("relative_path")
    files, folders = directory.rows(), rows["folder"].n_unique()
    named = _named(rows, lambda row: f"{row[1]!r} ({row[2]})")
    found = f"{len(rows)} of {files} files can't be used" + (
        f", in {folders} folder{'s' * (folders != 1)}: {named}" if named else ""
    )
    return Outcome(not len(rows), found, {"files": files, "bad": len(rows), "folders_with_bad": folders})


def _named(rows: pl.DataFrame, told: Callable[[tuple[Any, ...]], str]) -> str:
    """The first rows in words, and how many are left."""
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return ", ".join(printable(told(row)) for row in rows.head(_NAMED).iter_rows()) + more


def every_image_embedded_once(
    directory: Snapshot, embeddings: Snapshot, folders: list[str], model: RegisteredModel
) -> Outcome:
    """Each ``ok`` row has exactly one vector of its content and the current model; no vector lacks its row."""
    images = missing = doubled = orphaned = 0
    for folder in folders:
        ok = directory.read([*KEY, "status"], folder).filter(pl.col("status") == "ok")
        rows = embeddings.read([*KEY, *MODEL_COLUMNS], folder)
        current = rows.filter(is_current(model)).group_by(KEY).len()
        images += len(ok)
        missing += len(ok.join(current, on=KEY, how="anti"))
        doubled += len(current.filter(pl.col("len") > 1))
        orphaned += len(rows.join(ok, on=KEY, how="anti"))
    passed = not (missing or doubled or orphaned)
    found = f"of {images} images {missing} have no vector, {doubled} several; {orphaned} vectors have no image"
    return Outcome(passed, found, {"images": images, "missing": missing, "doubled": doubled, "without_image": orphaned})


def vectors_are_unit(embeddings: Snapshot, folders: list[str], model: RegisteredModel) -> Outcome:
    """Vectors of the current model have its dimension, finite values and length 1 to within 0.001."""
    vectors = bad_dimension = bad_length = 0
    worst = 0.0
    for folder in folders:
        for file in embeddings.files(folder):  # file by file: vectors are large
            frame = embeddings.read(["embeddings"], files=[file], where=is_current(model))
            vectors += len(frame)
            right = frame.filter(pl.col("embeddings").list.len() == model.dimension)
            bad_dimension += len(frame) - len(right)
            if not len(right):
                continue
            matrix = as_matrix(right["embeddings"], model.dimension)
            error = abs((matrix.astype("float64") ** 2).sum(axis=1) ** 0.5 - 1)
            bad_length += int((~(error <= UNIT_TOLERANCE)).sum())
            worst = max(worst, float(error[np.isfinite(error)].max(initial=0.0)))
    found = (
        f"of {vectors} vectors {bad_dimension} don't have {model.dimension} floats, {bad_length} aren't of unit length"
    )
    numbers: dict[str, int | float] = {
        "vectors": vectors,
        "wrong_dimension": bad_dimension,
        "wrong_length": bad_length,
        "largest_error": worst,
    }
    return Outcome(not (bad_dimension or bad_length), found, numbers)
