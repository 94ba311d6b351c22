"""Whether pairs and groups are in line with what they are made of, as the tables tell: nothing is compared for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from curation_assets.curate.duplicates.comparison import contents_of, not_compared
from curation_assets.curate.duplicates.grouping import decided, images_to_group
from curation_assets.curate.duplicates.groups import Words, group_rows
from curation_assets.curate.duplicates.judging import Thresholds
from curation_assets.decisions.standing import Decisions
from curation_assets.lake.schemas import GROUPS
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable

_PAIR_COLUMNS = ["first", "second", "kind", "similarity", "method"]


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


def groups_behind(
    directory: Snapshot,
    pairs: Snapshot,
    quality: LakeTable,
    groups: Snapshot,
    decisions: Decisions,
    order: Sequence[str],
) -> int:
    """How many rows of groups forming them anew would change, add or take away.

    Args:
        order: of the criteria of keepers.
    """
    columns = list(GROUPS.arrow_schema.names)
    before = groups.read(columns)
    images = images_to_group(directory, quality, decided(decisions))
    words = Words(decisions.same_pairs(), decisions.different_pairs())
    rows = group_rows(images, pairs.read(_PAIR_COLUMNS), words, order, before, datetime.now(UTC))
    differing = rows.join(before, on=columns, how="anti", nulls_equal=True)
    gone = before.join(rows, on=["relative_path", "kind"], how="anti")
    return len(differing) + len(gone)
