"""Whether pairs are in line with images and vectors, as the tables tell: nothing is compared for that."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from curation_assets.curate.duplicates.comparison import contents_of, not_compared
from curation_assets.curate.duplicates.judging import Thresholds
from curation_assets.lake.snapshot import Snapshot


@dataclass(frozen=True)
class Vectors:
    """Contents that a model's vectors bring together with others.

    Attributes:
        contents: SHA-256 of each, perhaps several times.
    """

    contents: pl.Series
    model_version: str
    model_fingerprint: str


def contents_behind(directory: Snapshot, compared: Snapshot, thresholds: Thresholds, vectors: Vectors | None) -> int:
    """How many contents comparing would do something about.

    Those that are new or were compared otherwise, those whose neighbours were not looked up, and those that are gone.

    Args:
        vectors: of the model that is searched with; None: hashes and witnesses alone.
    """
    waiting = not_compared(directory, compared, thresholds)
    known = compared.read(["content_sha256", "represented_by", "error", "model_version", "model_fingerprint"])
    gone = known.join(contents_of(directory), on="content_sha256", how="anti")
    behind = [waiting, gone["content_sha256"]]
    if vectors is not None:
        is_of_model = (pl.col("model_version") == vectors.model_version) & (
            pl.col("model_fingerprint") == vectors.model_fingerprint
        )
        alone = known.filter(pl.col("represented_by").is_null() & pl.col("error").is_null())
        asked = alone.filter(~is_of_model.fill_null(value=False))
        with_vector = pl.DataFrame({"content_sha256": vectors.contents})
        behind.append(asked.join(with_vector, on="content_sha256", how="semi")["content_sha256"])
    return pl.concat(behind).n_unique()
