"""What people decided of pictures, as a column that joins an index."""

from __future__ import annotations

from collections.abc import Hashable

import polars as pl
import pyarrow as pa

from curation_assets.decisions.record import read_decisions
from curation_assets.lake.schemas import Column
from curation_assets.lake.table import LakeTable
from curation_assets.review.problem_queue import of_pictures
from curation_assets.search.index import SearchIndex


class DecidedSource:
    """``decided``: what a person said of the picture itself; null where nobody did."""

    columns = (Column("decided", pa.string(), "keep, remove or unsure: what a person said of the picture itself"),)

    def __init__(self, decisions: LakeTable) -> None:
        self._decisions = decisions

    @property
    def is_shown(self) -> bool:
        """Exports have it once something was decided."""
        return self._decisions.newest_version() > 0

    def version(self, index: SearchIndex) -> Hashable | None:  # noqa: ARG002
        """The newest one of the table."""
        newest = self._decisions.newest_version()
        return None if newest < 1 else newest

    def read(self, index: SearchIndex) -> pl.DataFrame:
        """Images whose picture was decided on, each copy too."""
        images = index.rows.select("relative_path", "content_sha256")
        return images.join(of_pictures(read_decisions(self._decisions)), on="content_sha256")
