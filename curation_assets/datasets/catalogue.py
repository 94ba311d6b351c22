"""Every version of every dataset in short, with what it was made of; also those that were taken back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from curation_assets.lake.table import LakeTable


@dataclass(frozen=True)
class Listed:
    """A version.

    Attributes:
        images: kept; 0 of one that was taken back.
        left_out: rows that are not; the one that is left of a version that was taken back, too.
        has_sides: whether it is split.
        files: data files that its rows are in.
        manifest: what it was made of; of one that was taken back only why.
    """

    dataset: str
    version: int
    published_at: datetime
    images: int
    left_out: int
    has_sides: bool
    files: Sequence[str]
    manifest: Mapping[str, Any]

    @property
    def withdrawn(self) -> str | None:
        """Why it was taken back; None: it was not."""
        return self.manifest.get("withdrawn")

    @property
    def gate(self) -> Mapping[str, Mapping[str, Any]]:
        """Condition → whether it ``passed``, and what was ``told``."""
        return self.manifest.get("gate") or {}

    @property
    def let_pass(self) -> Mapping[str, str]:
        """Conditions that failed and were let pass → why."""
        return self.manifest.get("overridden") or {}


def catalogue(table: LakeTable) -> dict[str, list[Listed]]:
    """All versions by dataset, the newest first."""
    if not table.exists():
        return {}
    snapshot, found = table.latest(), {}
    for name in snapshot.partitions:
        rows = snapshot.read(["version", "kept", "split", "published_at"], name)
        counts = rows.group_by("version").agg(
            pl.col("published_at").first(),
            files=pl.col("_file").unique().sort(),
            images=pl.col("kept").sum(),
            left_out=(~pl.col("kept")).sum(),
            has_sides=pl.col("split").is_not_null().any(),
        )
        # A manifest stands in each row of its version: one file of each will do.
        first = set(counts["files"].list.first())
        manifests = snapshot.read(["version", "manifest"], files=[f for f in snapshot.files(name) if f.path in first])
        manifest_of = dict(manifests.unique("version", keep="any").select("version", "manifest").iter_rows())
        found[name] = [
            Listed(dataset=name, manifest=json.loads(manifest_of.get(row["version"]) or "{}"), **row)
            for row in counts.sort("version", descending=True).iter_rows(named=True)
        ]
    return found
