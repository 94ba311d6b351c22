"""What people said of pictures, as columns that join an index."""

from __future__ import annotations

from collections.abc import Hashable

import polars as pl
import pyarrow as pa

from curation_assets.decisions.record import read_decisions
from curation_assets.lake.schemas import Column
from curation_assets.lake.table import LakeTable
from curation_assets.review.problem_queue import of_pictures
from curation_assets.search.filters import TAGS
from curation_assets.search.index import SearchIndex


class DecidedSource:
    """``decided``: whether the picture is wanted; ``tags``: the sets that it is in, as ``hard, night``."""

    columns = (
        Column("decided", pa.string(), "keep, remove or unsure: what a person said of the picture itself"),
        Column(TAGS, pa.string(), "tags that people gave the picture"),
    )

    def __init__(self, decisions: LakeTable) -> None:
        self._decisions = decisions

    @property
    def is_shown(self) -> bool:
        """Exports have them once something was decided."""
        return self._decisions.newest_version() > 0

    def version(self, index: SearchIndex) -> Hashable | None:  # noqa: ARG002
        """The newest one of the table."""
        newest = self._decisions.newest_version()
        return None if newest < 1 else newest

    def read(self, index: SearchIndex) -> pl.DataFrame:
        """Images whose picture was decided on or tagged, each copy too."""
        decisions = read_decisions(self._decisions)
        tags = decisions.tagged().group_by("content_sha256", maintain_order=True).agg(pl.col("tag").str.join(", "))
        said = of_pictures(decisions).join(tags.rename({"tag": TAGS}), on="content_sha256", how="full", coalesce=True)
        return index.rows.select("relative_path", "content_sha256").join(said, on="content_sha256")
