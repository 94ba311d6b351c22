"""The quality table: a folder's rows brought in line with the directory table, by state.

Small columns of both are compared; only what is new or other is measured. Verdicts are made of it in ``problems.py``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curation_assets.curate.measuring import CARRIED, MEASURES_VERSION, Measured, measure_groups
from curation_assets.embed.plan import merges
from curation_assets.embed.reader import RowGroup, row_groups
from curation_assets.embed.rows import write_merged
from curation_assets.errors import CurationError
from curation_assets.images.guard import DecodeOptions
from curation_assets.images.source import ImageSource
from curation_assets.lake.rewrite import Rewrite, rewrite_each
from curation_assets.lake.snapshot import DataFile, Snapshot, TableReader, partitions_in_parts
from curation_assets.lake.staging import ParquetStage, StagedFile
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress

if TYPE_CHECKING:
    from curation_assets.curate.spark import SparkMeasuring

_KEY = ["folder", "relative_path"]
_PIECE_ROWS, _PIECE_SECONDS = 16_384, 30.0  # of one commit: what a kill can cost
_COPY_ROWS = 4096


@dataclass
class QualityResult:
    """What bringing a folder in line did.

    Attributes:
        rows: of the folder now.
        measured: of them, those that were measured.
        removed: rows that went, as their image changed or vanished.
        current: rows that were in line before.
        done: details of what was measured.
        version: of the table; ``directory_version`` of the table of images that its rows are of.
        broken: why the folder was left as it is; None where it wasn't.
        lost: data files of the table that could not be read and were made anew, and why.
    """

    folder: str
    rows: int = 0
    removed: int = 0
    current: int = 0
    done: Measured = field(default_factory=Measured)
    commits: int = 0
    version: int = -1
    directory_version: int = -1
    seconds: float = 0.0
    broken: str | None = None
    lost: dict[str, str] = field(default_factory=dict)

    @property
    def measured(self) -> int:
        """Rows that were measured."""
        return self.done.rows

    def checked(self) -> QualityResult:
        """This, if the folder was not left as it is.

        Raises:
            CurationError: it was.
        """
        if self.broken is not None:
            raise CurationError(self.broken)
        return self


@dataclass(frozen=True)
class _Plan:
    """A folder's two tables compared.

    Attributes:
        todo: images to measure: ``relative_path``, ``file_path``, ``_file`` and ``CARRIED``.
        rewrite: files of the quality table with rows that have to go; ``keep``: paths of their rows that stay.
        outdated: paths of rows that only another version of the measures made; each stays until it is measured again.
        touched: files with rows of either kind.
    """

    todo: pl.DataFrame
    rewrite: list[DataFile]
    keep: pl.Series
    outdated: frozenset[str]
    touched: list[DataFile]
    removed: int
    current: int


def measure_folders(
    directory: LakeTable,
    quality: LakeTable,
    source: ImageSource,
    folders: Sequence[str],
    options: DecodeOptions,
    progress: Progress,
    *,
    threads: int,
    repair: bool = False,
    spark: SparkMeasuring | None = None,
) -> list[QualityResult]:
    """Bring the quality rows of some folders in line with their images; several folders share their commits.

    Args:
        source: of images that the directory table doesn't hold.
        options: of decoding, where the scan of an earlier version left no sharpness.
        repair: replace data files of the quality table that can't be read; else a folder with one is left as it is.
        spark: measures on executors.

    Returns:
        What was done to each.

    Raises:
        CurationError: a table can't be read or written; what was finished stays.
    """
    images = directory.latest()
    sizes = {folder: images.rows(folder) * 200 for folder in folders}
    results = {folder: QualityResult(folder) for folder in folders}
    place = {folder: number for number, folder in enumerate(folders, 1)}
    job = _Job(directory, source, options, progress, threads, repair, spark)

    def work(rows: Rewrite, folder: str) -> None:
        progress.step("quality", place[folder], len(folders))
        job.bring_up_to_date(rows, results[folder])

    for group in rewrite_each(quality, folders, sizes, work, info={"job": "quality"}, progress=progress):
        for folder, seconds in group.seconds.items():
            result = results[folder]
            result.rows, result.version = group.snapshot.rows(folder), group.snapshot.version
            result.seconds, result.broken = seconds, group.broken.get(folder)
    return list(results.values())


def folders_behind(directory: Snapshot, quality: Snapshot) -> list[str]:
    """Folders for which :func:`measure_folders` would find something to do, sorted."""
    behind: set[str] = set()
    for folders in partitions_in_parts(directory, quality):
        images, rows = _compare(directory, quality, folders)
        current = rows.filter(pl.col("_current"))
        behind.update(images.join(current, on=_KEY, how="anti")["folder"])
        behind.update(rows.filter(~pl.col("_current"))["folder"])
    return sorted(behind)


@dataclass
class _Job:
    directory: LakeTable
    source: ImageSource
    options: DecodeOptions
    progress: Progress
    threads: int
    repair: bool
    spark: SparkMeasuring | None

    def bring_up_to_date(self, rows: Rewrite, result: QualityResult) -> None:
        folder, writer = result.folder, rows.writers[result.folder]
        images = self.directory.latest()
        result.directory_version = images.version
        if self.repair and (broken := rows.base.broken(folder)):
            result.lost |= {file.path: reason for file, reason in broken}
            result.commits += rows.commit([], [file for file, _ in broken])
        plan = _plan(images, rows.base, folder)
        images.refuse_broken(folder)
        rows.base.refuse_broken(folder)
        result.removed, result.current = plan.removed, plan.current
        added = _added(rows.base, plan)
        if plan.rewrite and (plan.outdated or not len(plan.todo)):
            with writer.file() as stage:
                _copy_kept(stage, rows.base.reader, plan.rewrite, plan.keep)
            result.commits += rows.commit(stage.files, plan.rewrite)
            plan = replace(plan, rewrite=[])
        if len(plan.todo):
            self.progress.start(f"quality {folder}", len(plan.todo))
            self._measure(rows, images, plan, added, result)
        if bins := merges(rows.base.files(folder)):
            staged, reader = [], rows.base.reader
            for files in bins:
                with writer.file() as stage:
                    write_merged(stage, reader, files)
                staged += stage.files
            result.commits += rows.commit(staged, [f for files in bins for f in files], data_change=False)

    def _measure(
        self, rows: Rewrite, images: Snapshot, plan: _Plan, added: pl.DataFrame | None, result: QualityResult
    ) -> None:
        writer, table = rows.writers[result.folder], images.reader
        groups = row_groups(table, plan.todo, CARRIED)
        if self.spark is not None and self.spark.takes(len(plan.todo)):
            files: list[StagedFile] = []
            for made, done in self.spark.carry_out(
                table, groups, self.source, writer, self.options, added, self.progress
            ):
                files += made
                result.done.add(done)
            with writer.file() as stage:
                leaving = _take_out(stage, rows.base, plan, set(plan.todo["relative_path"]) - set(result.done.waiting))
            result.commits += rows.commit([*files, *stage.files], leaving)
        else:
            for piece in _pieces(groups):
                paths: set[str] = set()
                with writer.file() as stage:
                    noted = _noted(piece, paths)
                    done = measure_groups(
                        table, noted, self.source, stage, self.options, self.threads, self.progress.advance, added
                    )
                    leaving = _take_out(stage, rows.base, plan, paths - set(done.waiting))
                result.done.add(done)
                result.commits += rows.commit(stage.files, leaving)
                plan = replace(plan, rewrite=[])
        result.removed -= len(plan.outdated & set(result.done.waiting))


def _plan(directory: Snapshot, quality: Snapshot, folder: str) -> _Plan:
    images, rows = _compare(directory, quality, [folder])
    current, outdated = rows.filter(pl.col("_current")), rows.filter(pl.col("_outdated"))
    dead = set(rows.filter(~pl.col("_current") & ~pl.col("_outdated"))["_file"])
    touched = dead | set(outdated["_file"])
    staying = pl.concat([current, outdated])
    return _Plan(
        todo=images.join(current, on=_KEY, how="anti", maintain_order="left"),
        rewrite=[file for file in quality.files(folder) if file.path in dead],
        keep=staying.filter(pl.col("_file").is_in(list(dead)))["relative_path"],
        outdated=frozenset(outdated["relative_path"]),
        touched=[file for file in quality.files(folder) if file.path in touched],
        removed=len(rows) - len(current),
        current=len(current),
    )


def _compare(directory: Snapshot, quality: Snapshot, folders: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Usable images; and rows of the quality table, with whether they are of the image as it is and of this version."""
    files = directory.files_of(folders)
    images = directory.read([*_KEY, "file_path", *CARRIED, "status"], files=files)
    images = images.filter(pl.col("status") == "ok").drop("status")
    rows = quality.read([*_KEY, *CARRIED, "measures_version"], files=quality.files_of(folders))
    now = images.select(*_KEY, *(pl.col(name).alias(f"{name}_now") for name in CARRIED), _there=pl.lit(value=True))
    rows = rows.join(now, on=_KEY, how="left", maintain_order="left")
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_now")) for name in CARRIED)
    is_first = pl.struct(_KEY).is_first_distinct()  # of a row that another writer doubled, one stays
    fits = pl.col("_there").is_not_null() & same & is_first
    is_newest = (pl.col("measures_version") == MEASURES_VERSION).fill_null(value=False)
    return images, rows.with_columns(_current=fits & is_newest, _outdated=fits & ~is_newest)


def _pieces(groups: Iterator[RowGroup]) -> Iterator[Iterator[RowGroup]]:
    """Row groups in runs that end after ``_PIECE_ROWS`` or ``_PIECE_SECONDS``; each has to be used up."""
    waiting = next(groups, None)

    def run() -> Iterator[RowGroup]:
        nonlocal waiting
        rows, since = 0, time.monotonic()
        while waiting is not None and rows < _PIECE_ROWS and time.monotonic() - since < _PIECE_SECONDS:
            rows += len(waiting.rows)
            yield waiting
            waiting = next(groups, None)

    while waiting is not None:
        yield run()


def _noted(groups: Iterable[RowGroup], paths: set[str]) -> Iterator[RowGroup]:
    for group in groups:
        paths.update(group.rows["relative_path"])
        yield group


def _take_out(stage: ParquetStage, quality: Snapshot, plan: _Plan, measured: set[str]) -> list[DataFile]:
    """Copy what stays of the files that have to go now: those of the plan, or those with outdated rows now measured.

    An image that can't be measured now so keeps the row that it has, and what users added to it.
    """
    if not plan.outdated:
        _copy_kept(stage, quality.reader, plan.rewrite, plan.keep)
        return plan.rewrite
    (folder,) = plan.todo["folder"].unique()
    rows = quality.read(["relative_path"], folder)
    replaced = pl.col("relative_path").is_in(list(plan.outdated & measured))
    leaving = set(rows.filter(replaced)["_file"])
    files = [file for file in quality.files(folder) if file.path in leaving]
    keep = rows.filter(pl.col("_file").is_in(list(leaving)) & ~replaced)["relative_path"]
    _copy_kept(stage, quality.reader, files, keep)
    return files


def _copy_kept(stage: ParquetStage, table: TableReader, files: Sequence[DataFile], paths: pl.Series) -> None:
    keep = pa.array(paths.to_list(), pa.string())
    seen: set[str] = set()
    for batch in table.batches(files, _COPY_ROWS):
        rows = batch.filter(pc.is_in(batch["relative_path"], keep))
        paths = rows["relative_path"].to_pylist()
        if len(set(paths)) < len(paths) or not seen.isdisjoint(paths):
            fresh = [path not in seen and not seen.add(path) for path in paths]  # type: ignore[func-returns-value]
            rows = rows.filter(pa.array(fresh, pa.bool_()))
        seen.update(paths)
        stage.write(rows)


def _added(quality: Snapshot, plan: _Plan) -> pl.DataFrame | None:
    """What users added to rows that are measured again: it stays with the path."""
    if not quality.added_columns or not plan.touched:
        return None
    columns = ["relative_path", *quality.added_columns]
    rows = quality.read(columns, files=plan.touched).drop("_file")
    return rows.unique("relative_path", keep="first", maintain_order=True)
