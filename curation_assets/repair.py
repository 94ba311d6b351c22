"""All that ``curation repair`` does: find what of a lake is damaged, and make anew what can be made anew.

Rows come from the image files, vectors from the rows, labels from the vectors, so nothing is lost for good but what
people had decided or added to lost rows, vectors of other model versions than the champion, and rows of files that are
gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from curation_assets.errors import CurationError, first_line
from curation_assets.ingest import refuse_another_tree
from curation_assets.lake import hive
from curation_assets.lake.broken import BrokenFiles, why_broken
from curation_assets.lake.log_repair import log_faults, put_aside
from curation_assets.lake.problems import explained_table
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.snapshot import DataFile
from curation_assets.lake.table import LakeTable
from curation_assets.pipeline import Pipeline
from curation_assets.progress import Progress

_THREADS = 4


@dataclass(frozen=True)
class Damage:
    """Something that can't be read.

    Attributes:
        file: in the table's folder.
        partition: image folder whose rows it holds; None of a file of the log.
        rows: how many, as the log says.
    """

    table: str
    file: str
    reason: str
    partition: str | None = None
    rows: int = 0


@dataclass
class RepairReport:
    """What a repair found and did.

    Attributes:
        checked: data files that were read through.
        found: what was damaged.
        read, encoded, labelled, measured: images whose rows, vectors, labels and measures were made anew.
        not_mended: what could not be, and why.
        freed: bytes of unfinished files that dead processes had left.
        index: whether the search index was brought in line.
    """

    checked: int = 0
    found: list[Damage] = field(default_factory=list)
    read: int = 0
    encoded: int = 0
    labelled: int = 0
    measured: int = 0
    not_mended: list[str] = field(default_factory=list)
    freed: int = 0
    index: bool = False


def repair(pipeline: Pipeline, progress: Progress, *, dry_run: bool = False) -> RepairReport:
    """Check every file of the lake's tables, and make anew what is damaged.

    Nothing else should write to the lake meanwhile: the last commit of another process may look torn while it is made.

    Args:
        dry_run: only say what is damaged.

    Raises:
        CurationError: there is no table, or one that can't be mended; what was mended until then stays.
    """
    tables = pipeline.tables
    there = tables.there
    if not there:
        raise CurationError(f"there is no table at {tables.directory.path}; `curation run` creates it")
    report = RepairReport()
    for table in there:
        _mend_log(table, report, dry_run)
    broken = {table.path.name: _check(table, report, progress) for table in there}
    if dry_run:
        return report
    for table in there:
        report.freed += table.sweep()
    _mend_rows(pipeline, broken, report, progress)
    return report


def _mend_log(table: LakeTable, report: RepairReport, dry_run: bool) -> None:
    with explained_table(table.storage):
        faults = log_faults(table.storage)
        report.found += [Damage(table.path.name, f"_delta_log/{name}", reason) for name, reason in faults.items()]
        if not dry_run:
            put_aside(table.storage, faults)
    if dry_run and faults:
        return
    try:
        table.snapshot()
    except CurationError as error:
        raise CurationError(
            f"the log of table {table.path} can't be mended: move the table away, and `curation run` makes it anew "
            f"({first_line(error.__cause__ or error)})"
        ) from error


def _check(table: LakeTable, report: RepairReport, progress: Progress) -> list[str]:
    """Read every data file of a table through; which of its partitions have a broken one."""
    try:
        snapshot = table.snapshot()
    except CurationError:  # a dry run, of a table whose log is damaged
        return []
    files, names = snapshot.named_files(), snapshot.file_schema.names
    progress.start(f"check {table.path.name}", len(files))
    partitions = set()
    for file, reason in _reasons(table, files, names):
        progress.advance(1)
        report.checked += 1
        if reason is not None:
            BrokenFiles.of(table.storage.location).note(file.path, reason, for_good=True)
            report.found.append(Damage(table.path.name, file.path, reason, file.partition, file.rows))
            partitions.add(file.partition)
    return sorted(partitions)


def _reasons(
    table: LakeTable, files: Sequence[DataFile], columns: Sequence[str]
) -> Iterator[tuple[DataFile, str | None]]:
    def reason(file: DataFile) -> str | None:
        with explained_table(table.storage):
            return why_broken(table.storage, file.path, file.size_bytes, columns)

    with ThreadPoolExecutor(_THREADS, "check") as pool:
        yield from zip(files, pool.map(reason, files), strict=True)


def _mend_rows(pipeline: Pipeline, broken: dict[str, list[str]], report: RepairReport, progress: Progress) -> None:
    tables = pipeline.tables
    images = broken[tables.directory.path.name]
    vectors = broken.get(tables.embeddings.path.name, [])
    labels = broken.get(tables.zero_shot_labels.path.name, [])
    measures = broken.get(tables.quality.path.name, [])
    if images:
        _scan(pipeline, images, report, progress)
    model = pipeline.selection.current() if tables.embeddings.exists() else None
    if model is None:
        for folder in vectors:
            _drop(tables.embeddings, folder)
    elif images or vectors:
        for embed in pipeline.embed_all(sorted({*images, *vectors}), model, progress, repair=True):
            report.encoded += embed.encoded
            report.not_mended += filter(None, [embed.broken])
            report.not_mended += [f"{path}: not embedded: {reason}" for path, reason in embed.failed]
    for folder in labels:
        if model is not None and pipeline.settings.labels:
            report.labelled += pipeline.label_zero_shot(folder, model).rows
        else:
            _drop(tables.zero_shot_labels, folder)
    if tables.quality.exists() and (images or measures):
        for result in pipeline.measure(sorted({*images, *measures}), progress, repair=True):
            report.measured += result.measured
            report.not_mended += filter(None, [result.broken])
    for partition in broken.get(tables.decisions.path.name, []):
        lost = sum(file.rows for file, _ in tables.decisions.latest().broken(partition))
        _drop(tables.decisions, partition)
        report.not_mended.append(
            f"{tables.decisions.path.name}: {lost} decisions of people are lost; "
            "`curation decisions import` brings them back from an export"
        )
    for partition in broken.get(tables.cluster_names.path.name, []):
        lost = sum(file.rows for file, _ in tables.cluster_names.latest().broken(partition))
        _drop(tables.cluster_names, partition)
        report.not_mended.append(
            f"{tables.cluster_names.path.name}: {lost} names of clusters are lost; `curation clusters NUMBER --rename` "
            "gives them again"
        )
    for partition in broken.get(tables.annotations.path.name, []):
        lost = sum(file.rows for file, _ in tables.annotations.latest().broken(partition))
        _drop(tables.annotations, partition)
        pipeline.settings.annotations_note.unlink(missing_ok=True)
        report.not_mended.append(
            f"{tables.annotations.path.name}: {lost} annotations of folder {partition} are lost; `curation annotate` "
            "brings them back from their source, and `curation curate` those of CURATION_ANNOTATIONS"
        )
    for partition in broken.get(tables.datasets.path.name, []):
        lost = sum(file.rows for file, _ in tables.datasets.latest().broken(partition))
        _drop(tables.datasets, partition)
        report.not_mended.append(
            f"{tables.datasets.path.name}: {lost} rows of versions of the dataset {partition} are lost; its recipe "
            "builds it anew"
        )
    if model is not None:
        pipeline.searcher.refresh(progress)
        report.index = True
    _mend_duplicates(pipeline, broken, progress)
    if unscored := broken.get(tables.scores.path.name, []):
        for partition in unscored:
            _drop(tables.scores, partition)
        pipeline.score(progress)
    if unpredicted := broken.get(tables.predictions.path.name, []):
        for partition in unpredicted:
            _drop(tables.predictions, partition)
        pipeline.classify(progress)
    if unfound := broken.get(tables.label_issues.path.name, []):
        for partition in unfound:
            _drop(tables.label_issues, partition)
        pipeline.find_label_issues(progress)


def _mend_duplicates(pipeline: Pipeline, broken: dict[str, list[str]], progress: Progress) -> None:
    """Find lost pairs again; whoever had one is not known, so all are compared."""
    tables = pipeline.tables
    damaged = [table for table in (tables.pairs, tables.compared, tables.groups) if broken.get(table.path.name)]
    for table in damaged:
        for partition in broken[table.path.name]:
            _drop(table, partition)
    if tables.pairs in damaged and tables.compared.exists():
        rewrite(
            tables.compared,
            hive.WHOLE,
            lambda change: change.commit([], change.base.named_files()),
            info={"job": "repair"},
            progress=progress,
        )
    if damaged:
        pipeline.compare_all(progress)


def _scan(pipeline: Pipeline, folders: list[str], report: RepairReport, progress: Progress) -> None:
    """Read the images of lost rows again; rows that were not lost stay where their disk may only be away."""
    tree = pipeline.source.list_folders()
    refuse_another_tree(pipeline.source.location, tree, pipeline.tables.known_paths(), prune=False)
    question = pipeline.prune_question(tree, folders)
    if question is not None:
        report.not_mended.append(f"{question.why}: their rows were kept as far as they can be read")
    for scan in pipeline.scan(folders, progress, repair=True, staying=None if question is None else question.rows):
        report.read += scan.read
        report.not_mended += filter(None, [scan.broken])
        for place, reason in (scan.unlisted | scan.unread).items():
            report.not_mended.append(f"{place}: {reason}")


def _drop(table: LakeTable, partition: str) -> None:
    """Let the broken files of a partition leave a table."""

    def work(change: Rewrite) -> None:
        change.commit([], [file for file, _ in change.base.broken(partition)])

    rewrite(table, partition, work, info={"job": "repair", "folder": partition})
