"""The leaks between splits that count of the annotations, found once while the tables stay as they are."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence

import polars as pl

from curation_assets.curate.leakage import Leakage
from curation_assets.curate.problems import ACROSS
from curation_assets.curate.splits import SplitsError, leakage_so_far, split_images
from curation_assets.embed.vectors import KEY
from curation_assets.tables import Tables

NOT_COMPARED = "no image is compared yet; `curation curate` does that"
NO_SPLITS = "no split is known: `curation annotate` reads splits, `curation leakage --split-from path` asks the folders"


class Leaks:
    """What lies on two sides. Threads may share it.

    Args:
        sources: of annotations, the first counts most.
        keepers: the order of criteria of keepers.
    """

    def __init__(self, tables: Tables, sources: Sequence[str], keepers: Sequence[str]) -> None:
        self._tables = tables
        self._sources = sources
        self._keepers = keepers
        self._lock = threading.Lock()
        self._held: tuple[Hashable, Leakage | None, str] | None = None

    def version(self) -> Hashable | None:
        """The newest ones of all tables that have a part; None while there are no annotations or no groups."""
        tables = self._tables
        needed = (tables.directory, tables.annotations, tables.pairs, tables.groups)
        newest = tuple(table.newest_version() for table in needed)
        if min(newest) < 0:
            return None
        return *newest, tables.decisions.newest_version(), tables.quality.newest_version()

    def found(self) -> Leakage | None:
        """The leaks, as far as images are compared; None where splits tell of none, and :meth:`why_not` says why.

        Raises:
            CurationError: a table can't be read.
        """
        return self._known()[0]

    def why_not(self) -> str | None:
        """Why nothing is told of leaks; None where it is.

        Raises:
            CurationError: a table can't be read.
        """
        found, why = self._known()
        return why if found is None else None

    def read(self) -> pl.DataFrame:
        """Images that should give way, and in how many pairs across they are."""
        found = self.found()
        if found is None:
            return pl.DataFrame(schema=dict.fromkeys(KEY, pl.String) | {ACROSS: pl.Int64})
        giving = found.images.filter("gives_way")
        return giving.select("relative_path", pl.col("others").alias(ACROSS), content_sha256="content")

    def _known(self) -> tuple[Leakage | None, str]:
        with self._lock:
            version = self.version()
            if version is None:
                return None, NOT_COMPARED if self._says_splits() else NO_SPLITS
            if self._held is None or self._held[0] != version:
                self._held = version, *self._find()
            return self._held[1:]

    def _find(self) -> tuple[Leakage | None, str]:
        tables = self._tables
        if not self._says_splits():
            return None, NO_SPLITS
        try:
            images = split_images(tables, None, "", self._sources, "").images
        except SplitsError as error:
            return None, str(error)
        names = images["split"].unique().to_list()
        if len(names) < 2:
            return None, f"all {len(images):,} images with a split are in {names[0]!r}"
        return leakage_so_far(tables, images, self._keepers), ""

    def _says_splits(self) -> bool:
        annotations = self._tables.annotations
        return annotations.exists() and bool(annotations.latest().read(["split"])["split"].is_not_null().any())
