"""Which rows and vectors an index of two table versions has to hold, and which of them an earlier one holds already.

Files of a Delta table never change: what two versions differ by is the files that only one of them has. That is what
the change data feed tells too; it is taken from the snapshots because deltalake 1.6.6 can't read the feed of folders
with a ``/`` in their names. A file that was written anew keeps the vectors of rows that it still holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed.vectors import KEY, is_current
from curation_assets.embed.vectors import read_vectors as vectors_of
from curation_assets.lake.snapshot import Snapshot
from curation_assets.search.filters import COLUMNS

_IMAGE_COLUMNS = ["file_path", *(column for column in COLUMNS if column != "embedded_at")]
_UTC = pl.Datetime("us", "UTC")
_NO_KEYS = pl.DataFrame(
    schema={
        "relative_path": pl.String,
        "content_sha256": pl.String,
        "embedded_at": _UTC,
        "position": pl.Int64,
        "first_seen_version": pl.Int64,
        "_file": pl.String,
    }
)


@dataclass(frozen=True)
class Contents:
    """What an index has to hold.

    Attributes:
        rows: every image file, with the position of its vector.
        keys: every vector of the model, with its position; those of ``added`` count on from those that were there.
        added: rows of ``keys`` that were not there.
        removed: vectors that were there and are no more.
        is_ambiguous: a path has rows in two folders, of which ``rows`` holds one: an index of them can't be built upon.
    """

    rows: pl.DataFrame
    is_ambiguous: bool
    keys: pl.DataFrame
    added: pl.DataFrame
    removed: pl.DataFrame


def compare(
    rows: pl.DataFrame | None,
    keys: pl.DataFrame | None,
    positions: int,
    directory: Snapshot,
    embeddings: Snapshot,
    model: RegisteredModel,
) -> Contents:
    """What has to be held, read as far as it isn't held yet; small columns only.

    Args:
        rows, keys: of an index of other versions of the same tables, as in ``SearchIndex``; None: there is none.
        positions: how many it has.
    """
    held = _NO_KEYS if keys is None else keys
    # Of a file that can't be read now, an index still has what it held.
    files = {file.path: file for file in embeddings.named_files()}
    known = set(held["_file"].unique().to_list())
    kept = held.filter(pl.col("_file").is_in(list(files)))
    new = [file for path, file in files.items() if path not in known]
    found = embeddings.read([*KEY, "embedded_at"], files=new, where=is_current(model))
    lost = held.filter(~pl.col("_file").is_in(list(files)))
    # The same path stands in two folders for a while after a change of FOLDER_DEPTH: one position is one row's.
    places = lost.unique(KEY, keep="first", maintain_order=True).select(*KEY, "position", "first_seen_version")
    found = found.join(places, on=KEY, how="left", maintain_order="left").select(_NO_KEYS.columns)
    found = found.with_columns(position=pl.when(pl.col("position").is_first_distinct()).then(pl.col("position")))
    moved = found.filter(pl.col("position").is_not_null())
    added = found.filter(pl.col("position").is_null()).sort("_file", maintain_order=True)
    added = added.with_columns(
        position=pl.int_range(positions, positions + len(added), dtype=pl.Int64),
        first_seen_version=pl.lit(embeddings.version, pl.Int64),
    )
    all_keys = pl.concat([kept, moved, added])
    images = _images(rows, directory)
    once = images.unique("relative_path", keep="first", maintain_order=True)
    at = all_keys.unique(KEY, keep="first", maintain_order=True).select(*KEY, "embedded_at", "position")
    return Contents(
        # A vector counts for its image only while the content is the same: a file that changed since has none yet.
        rows=once.join(at, on=KEY, how="left").sort("relative_path"),
        is_ambiguous=len(once) < len(images),
        keys=all_keys,
        added=added,
        removed=lost.join(moved, on="position", how="anti"),
    )


def read_vectors(
    embeddings: Snapshot, added: pl.DataFrame, model: RegisteredModel
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Stream the vectors of some rows, a few thousand at a time.

    Args:
        added: ``Contents.added``, or other rows of ``Contents.keys``.

    Returns:
        Positions and vectors (n, dimension), of each batch.

    Raises:
        CurationError: a file of the table is missing or broken.
    """
    by_path = {file.path: file for file in embeddings.files()}
    for (path,), wanted in added.group_by("_file", maintain_order=True):
        at = wanted.select("relative_path", "position")
        for keys, vectors in vectors_of(embeddings, [by_path[str(path)]], model):
            found = keys.with_row_index("_at").join(at, on="relative_path", how="inner", maintain_order="left")
            if len(found):
                yield found["position"].to_numpy(), vectors[found["_at"].to_numpy()]


def _images(rows: pl.DataFrame | None, directory: Snapshot) -> pl.DataFrame:
    """Every row of the directory table; of files that are held already nothing is read."""
    wanted = [*_IMAGE_COLUMNS, "_file"]
    if rows is None:
        return directory.read(_IMAGE_COLUMNS).select(wanted)
    files = {file.path: file for file in directory.named_files()}
    known = set(rows["_file"].unique().to_list())
    new = directory.read(_IMAGE_COLUMNS, files=[file for path, file in files.items() if path not in known])
    return pl.concat([rows.filter(pl.col("_file").is_in(list(files))).select(wanted), new.select(wanted)])
