"""What was exported and where to, in a table: who asks that an image be forgotten has to know where else it is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from curation_assets.errors import attempted
from curation_assets.export.store_staging import StoreTarget
from curation_assets.export.targets import Target
from curation_assets.images.names import path_from_text, text_from_path
from curation_assets.lake import hive
from curation_assets.lake.appending import append_rows
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.schemas import EXPORTS
from curation_assets.lake.table import LakeTable
from curation_assets.stores.address import StoreAddress, is_address
from curation_assets.stores.options import StorageOptions
from curation_assets.stores.volumes import unmounted

_SCHEMA = pl.Schema(EXPORTS.arrow_schema.remove_metadata())
_SMALL_FILES = 32
_PLACE = "^(/|[a-z0-9]+:/)"  # a path or an address


@dataclass(frozen=True)
class NotedExport:
    """An export that held images.

    Attributes:
        dataset, version: None of what a search found.
        is_there: whether something is still at its place; of a download nobody knows, and it is taken for true.
    """

    place: str
    format: str
    dataset: str | None
    version: int | None
    exported_at: datetime
    is_there: bool


def note_export(table: LakeTable, about: Mapping[str, Any], target: Target, contents: pl.Series | None = None) -> None:
    """Add an export, in one commit; creates the table where there is none.

    Args:
        about: ``format`` and ``images``, and of a version ``dataset``, ``version`` and ``content_id``.
        target: where it is written to; absolute.
        contents: of a search: SHA-256 of its images.

    Raises:
        CurationError: the table can't be written.
    """
    place = text_from_path(str(target))
    said = json.dumps([*sorted(about.items()), place, [] if contents is None else contents.to_list()])
    facts = {**about, "place": place, "export_id": hashlib.sha256(said.encode()).hexdigest()}
    rows = pl.DataFrame({"content_sha256": [None] if contents is None else contents.unique().sort()})
    rows = rows.with_columns(
        *(pl.lit(facts.get(name)).alias(name) for name in _SCHEMA if name not in ("content_sha256", "exported_at")),
        exported_at=pl.lit(datetime.now(UTC)),
    )
    made = rows.select(_SCHEMA.names()).cast(_SCHEMA)

    def work(change: Rewrite) -> None:
        append_rows(change, made, _SMALL_FILES)

    table.create()
    rewrite(table, hive.WHOLE, work, info={"job": "export"})


def exports_of(table: LakeTable, versions: Iterable[tuple[str, int]], contents: pl.Series) -> list[NotedExport]:
    """Exports that held images, the newest of each place, and all downloads, by place.

    Args:
        versions: dataset and version of those that kept them.
        contents: SHA-256 of them.
    """
    if not table.exists():
        return []
    columns = ["place", "format", "dataset", "version", "exported_at", "content_sha256"]
    rows = table.latest().read(columns).drop("_file")
    kept = pl.DataFrame([*versions], {"dataset": pl.String, "version": pl.Int32}, orient="row")
    of_versions = rows.filter(pl.col("content_sha256").is_null()).join(kept, on=["dataset", "version"], how="semi")
    found = pl.concat([of_versions, rows.filter(pl.col("content_sha256").is_in(contents.implode()))])
    # A place holds one export; a download is at none that is known, and what it is called says nothing of what it is.
    version = pl.struct("dataset", "version", "format")
    found = found.with_columns(download=pl.when(pl.col("place").str.contains(_PLACE).not_()).then(version))
    newest = found.sort("exported_at", descending=True).unique(["place", "download"], keep="first", maintain_order=True)
    return [_noted(row, table.options) for row in newest.sort("place").iter_rows(named=True)]


def _noted(row: Mapping[str, Any], options: StorageOptions) -> NotedExport:
    place = path_from_text(row["place"])
    address = StoreAddress.parse(place) if is_address(place) else unmounted(place)
    if address is None:
        is_there = re.match(_PLACE, place) is None or Path(place).exists()
    else:
        target = StoreTarget(address, options, Path())
        is_taken, _ = attempted(lambda: target.is_taken)
        is_there = is_taken is not False  # a store that can't be asked may have it
    return NotedExport(row["place"], row["format"], row["dataset"], row["version"], row["exported_at"], is_there)
