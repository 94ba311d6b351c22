"""All that ``curation maintain`` does: join small files, let go what no version in use needs, give disk back.

Nothing of it changes what the newest version of a table says of an image and the models in use. It never takes what the
last seven days of time travel need, unless it is asked to.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa

from curation_assets.clip.versions import RegisteredModel
from curation_assets.datasets.versions import pinned_files
from curation_assets.errors import CurationError
from curation_assets.lake.layout import small_files
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.snapshot import DataFile, Snapshot
from curation_assets.lake.table import LakeTable
from curation_assets.pipeline import Pipeline
from curation_assets.progress import Progress

_ROWS = 1024


@dataclass
class TableUpkeep:
    """What was done to a table, or would be.

    Attributes:
        joined, joined_bytes: small files, and their size.
        dropped_rows: vectors of model versions that nobody uses.
        vacuumed, vacuumed_bytes: files that no version within the retention names.
        unfinished_bytes: of files of dead processes.
    """

    table: str
    joined: int = 0
    joined_bytes: int = 0
    dropped_rows: int = 0
    vacuumed: int = 0
    vacuumed_bytes: int = 0
    unfinished_bytes: int = 0


@dataclass
class MaintenanceReport:
    """What a maintenance did, or would do.

    Attributes:
        kept: model versions whose vectors and indexes stay.
        indexes: folders of indexes that went.
        index_bytes: their size.
    """

    tables: list[TableUpkeep] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)
    index_bytes: int = 0


def maintain(
    pipeline: Pipeline, progress: Progress, *, retention_hours: int, dry_run: bool = False
) -> MaintenanceReport:
    """Tidy up a lake.

    Args:
        retention_hours: how long files that newer versions don't name stay for time travel.
        dry_run: only say what would be done.

    Raises:
        CurationError: there is no table, or the lake can't be read or written; what was done stays.
    """
    tables = pipeline.tables
    there = tables.there
    if not there:
        raise CurationError(f"there is no table at {tables.directory.path}; `curation run` creates it")
    report = MaintenanceReport()
    in_use = pipeline.registry.in_use() if pipeline.selection.current() is not None else []
    report.kept = [model.version for model in in_use]
    for table in there:
        upkeep = TableUpkeep(table.path.name)
        report.tables.append(upkeep)
        if table is tables.embeddings and in_use:
            _drop_vectors(table, in_use, upkeep, progress, dry_run)
        _join(table, upkeep, progress, dry_run)
        if not dry_run:
            upkeep.unfinished_bytes = table.sweep()
        pinned = pinned_files(tables.datasets, tables.directory) if table is tables.directory else set()
        gone = table.vacuum(retention_hours, dry_run=dry_run, pinned=pinned)
        upkeep.vacuumed, upkeep.vacuumed_bytes = len(gone), sum(gone.values())
    if in_use:
        _drop_indexes(pipeline, in_use, report, dry_run)
    return report


def _join(table: LakeTable, upkeep: TableUpkeep, progress: Progress, dry_run: bool) -> None:
    """Join the small files of each partition that has several."""

    def crowded(snapshot: Snapshot, partition: str) -> list[DataFile]:
        small = small_files(snapshot.files(partition))
        return small if len(small) > 1 and not snapshot.broken(partition) else []

    def work(change: Rewrite) -> None:
        (partition,) = change.writers
        if small := crowded(change.base, partition):
            with change.writer.file() as stage:
                for batch in change.base.reader.batches(small, _ROWS if table.spec.byte_stream_split else 64):
                    stage.write(batch)
            change.commit(stage.files, small, data_change=False)

    snapshot = table.latest()
    wanted = {partition: small for partition in snapshot.partitions if (small := crowded(snapshot, partition))}
    progress.start(f"join {table.path.name}", len(wanted))
    for partition, small in wanted.items():
        if not dry_run:
            rewrite(table, partition, work, info={"job": "maintain", "folder": partition}, progress=progress)
        progress.advance(1)
        upkeep.joined += len(small)
        upkeep.joined_bytes += sum(file.size_bytes for file in small)


def _drop_vectors(
    table: LakeTable, in_use: Iterable[RegisteredModel], upkeep: TableUpkeep, progress: Progress, dry_run: bool
) -> None:
    """Let vectors leave that versions of this model made which nobody uses; another model's stay."""
    models = list(in_use)
    unused = (pl.col("model_name") == models[0].name) & ~pl.col("model_version").is_in([m.version for m in models])

    def affected(snapshot: Snapshot, partition: str) -> dict[str, int]:
        found = snapshot.read(["relative_path"], partition, where=unused)
        return dict(found.group_by("_file").len().iter_rows())

    def work(change: Rewrite) -> None:
        (partition,) = change.writers
        rows = affected(change.base, partition)
        change.base.refuse_broken(partition)
        files = [file for file in change.base.files(partition) if file.path in rows]
        with change.writer.file() as stage:
            for batch in change.base.reader.batches(files, _ROWS):
                stage.write(batch.filter(_mask(batch, unused)))
        change.commit(stage.files, files)

    snapshot = table.latest()
    progress.start(f"let go of {table.path.name}", len(snapshot.partitions))
    for partition in snapshot.partitions:
        progress.advance(1)
        rows = affected(snapshot, partition)
        if rows and not snapshot.broken(partition):
            upkeep.dropped_rows += sum(rows.values())
            if not dry_run:
                rewrite(table, partition, work, info={"job": "maintain", "folder": partition}, progress=progress)


def _mask(batch: pa.RecordBatch, unused: pl.Expr) -> pa.Array:
    keys = pl.DataFrame(batch.select(["model_name", "model_version"]))
    return keys.select(~unused).to_series().to_arrow()


def _drop_indexes(pipeline: Pipeline, in_use: list[RegisteredModel], report: MaintenanceReport, dry_run: bool) -> None:
    kept = {pipeline.searcher.location_of(model) for model in in_use}
    name, mirror = in_use[0].name, pipeline.settings.index_mirror
    if mirror is not None:
        for shared in mirror.names():
            if shared.startswith(f"{name}-") and shared not in {folder.name for folder in kept}:
                report.indexes.append(shared)
                report.index_bytes += mirror.size(shared)
                if not dry_run:
                    mirror.delete(shared)
        return
    for folder in sorted(pipeline.settings.index_dir.glob(f"{name}-*-*")):
        if folder in kept or not (folder / "current.json").exists():
            continue
        report.indexes.append(folder.name)
        report.index_bytes += _size_of(folder)
        if not dry_run:
            shutil.rmtree(folder, ignore_errors=True)


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
