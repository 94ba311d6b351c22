"""The leaks between splits that count of the annotations, found once while the tables stay as they are."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence

import polars as pl

from curation_assets.curate.duplicates.grouping import decided
from curation_assets.curate.leakage import Leakage
from curation_assets.curate.problems import ACROSS
from curation_assets.curate.splits import SplitsError, leakage_so_far, split_images
from curation_assets.decisions.record import read_decisions
from curation_assets.embed.vectors import KEY
from curation_assets.held import Held
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
        self._said = _Said(tables)
        self._held = Held[tuple[Leakage | None, str]]()

    def version(self) -> Hashable | None:
        """That of all that has a part; None while there are no annotations or no groups."""
        tables = self._tables
        needed = (tables.directory, tables.annotations, tables.pairs, tables.groups)
        newest = tuple(table.newest_version() for table in needed)
        if min(newest) < 0:
            return None
        return *newest, self._said.version(), tables.quality.newest_version()

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
        return _giving_way(self.found())

    def read_last(self) -> pl.DataFrame:
        """The same as it was last found, perhaps of earlier tables, for who can't wait; no row where it never was."""
        last = self._held.last
        return _giving_way(None if last is None else last[0])

    def _known(self) -> tuple[Leakage | None, str]:
        version = self.version()
        if version is None:
            return None, NOT_COMPARED if self._says_splits() else NO_SPLITS
        return self._held.of(version, self._find)

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


def _giving_way(found: Leakage | None) -> pl.DataFrame:
    if found is None:
        return pl.DataFrame(schema=dict.fromkeys(KEY, pl.String) | {ACROSS: pl.Int64})
    giving = found.images.filter("gives_way")
    return giving.select("relative_path", pl.col("others").alias(ACROSS), content_sha256="content")


class _Said:
    """What people said that leaks depend on: few of their decisions, as finding leaks takes seconds."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self._read_at: Hashable = None
        self._frames: list[pl.DataFrame] = []
        self._version = 0

    def version(self) -> int:
        """One more whenever it is another."""
        tables = self._tables
        at = tuple(table.newest_version() for table in (tables.decisions, tables.pairs, tables.groups))
        with self._lock:
            if at != self._read_at:
                frames = self._read()
                if len(frames) != len(self._frames) or not all(map(pl.DataFrame.equals, frames, self._frames)):
                    self._frames, self._version = frames, self._version + 1
                self._read_at = at
            return self._version

    def _read(self) -> list[pl.DataFrame]:
        said = read_decisions(self._tables.decisions)
        ranked = decided(said).join(self._linked(), on="content_sha256", how="semi")
        return [said.same_pairs(), said.different_pairs(), said.relabelled(), ranked]

    def _linked(self) -> pl.DataFrame:
        """Contents whose rank has a part: bursts are formed over the keepers of near groups."""
        groups = self._tables.groups.latest().read(["kind", "group_id", "content_sha256"])
        near = groups.filter(pl.col("kind") == "near").select("content_sha256", "group_id").unique("content_sha256")
        pairs = self._tables.pairs.latest().read(["first", "second"]).select("first", "second")
        for side in ("first", "second"):
            of_side = near.rename({"content_sha256": side, "group_id": f"{side}_group"})
            pairs = pairs.join(of_side, on=side, how="left")
        # Of a pair that is in no group (yet), either end may be in one that is formed of it.
        out = pairs.filter(pl.col("first_group").ne_missing(pl.col("second_group")) | pl.col("first_group").is_null())
        ends = pl.concat([out.select(content_sha256=side) for side in ("first", "second")])
        in_linked = near.join(near.join(ends, on="content_sha256", how="semi"), on="group_id", how="semi")
        return pl.concat([ends, in_linked.select("content_sha256")]).unique()
