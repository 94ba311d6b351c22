"""All that ``curation run`` does: scan what changed, choose the model, embed what lacks a vector, refresh the index."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from curation_assets.clip.selection import ChosenModel
from curation_assets.embed.plan import folders_behind
from curation_assets.embed.result import EmbedResult
from curation_assets.errors import CurationError, attempted
from curation_assets.images.listing import LISTING_SCHEMA, TreeListing, at_or_below, directories_of
from curation_assets.images.names import folder_of
from curation_assets.images.walk import is_within
from curation_assets.pipeline import Pipeline
from curation_assets.progress import Progress
from curation_assets.scan.changes import ABSENT, FolderChange
from curation_assets.scan.prune import PruneQuestion
from curation_assets.scan.result import ScanResult

if TYPE_CHECKING:
    from curation_assets.annotations.configured import Followed
    from curation_assets.curate.duplicates.overview import Duplicates
    from curation_assets.curate.labels.issues import LabelIssues
    from curation_assets.curate.labels.predicting import Predictions
    from curation_assets.curate.quality import QualityResult
    from curation_assets.curate.scores.scoring import Scoring
    from curation_assets.search.refresh import IndexRefresh


@dataclass
class RunSummary:
    """What a whole run did.

    Attributes:
        chosen: the model it used.
        folders: image folders on disk, and folders of the table that were gone.
        tree: the listing it worked from.
        bad: rows whose status isn't ok, in the folders of this run: relative_path, status, error.
        index: what became of the search index; None where it could not be brought in line, which ``index_error`` tells.
        unlisted: folders that can't be listed, relative to the root, and why; their rows stay as they are.
        broken: data files of the tables that can't be read: table, folder, file and reason of each. Their folders were
            left as they are.
        lost: those that ``rescan`` made anew: file and reason.
        unread: files of good rows that could not be examined, and why; their rows stay as they are.
        quality: what was measured, by folder; None where that was left out or could not be done, which
            ``quality_error`` tells.
        annotations: what following them did; None where there are none, that was left out, or could not be done, which
            ``annotations_error`` tells.
        duplicates: what comparing did; None as with quality, which ``duplicates_error`` tells.
        scores: what became of outlier scores and clusters; None too where nothing is indexed.
        predictions: what became of the classifiers' predictions; None too where nothing is indexed or annotated.
        label_issues: what speaks against labels and boxes; None too where there are no annotations.
    """

    chosen: ChosenModel
    tree: TreeListing
    folders: list[str]
    scans: list[ScanResult]
    embeds: list[EmbedResult]
    bad: pl.DataFrame
    status: pl.DataFrame
    failed: list[tuple[str, str]] = field(default_factory=list)
    index: IndexRefresh | None = None
    index_error: str | None = None
    unlisted: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    broken: list[dict[str, str]] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    quality: list[QualityResult] | None = None
    quality_error: str | None = None
    annotations: Followed | None = None
    annotations_error: str | None = None
    duplicates: Duplicates | None = None
    duplicates_error: str | None = None
    scores: Scoring | None = None
    scores_error: str | None = None
    predictions: Predictions | None = None
    predictions_error: str | None = None
    label_issues: LabelIssues | None = None
    label_issues_error: str | None = None


def run(
    pipeline: Pipeline,
    progress: Progress,
    *,
    folders: list[str] | None = None,
    rescan: bool = False,
    prune: bool = False,
    curate: bool = True,
) -> RunSummary:
    """Scan, register, embed: every folder, or those named; then bring what follows the tables in line.

    Args:
        folders: image folders, or folders that hold some; None takes all on disk and all in the table.
        rescan: read every file again, also those that look unchanged.
        prune: go on although the images root looks like another tree than the table's or parts of it like disks that
            aren't mounted, and remove rows.
        curate: whether the curation tables are brought in line too.

    Raises:
        CurationError: nothing to work on, or something is set wrong; what was committed until then stays. Or rows
            should not go without ``prune``: all else is done.
    """
    tree = pipeline.source.list_folders(within=folders)
    tables = pipeline.tables
    rows = tables.known_paths()
    if folders is None:
        refuse_another_tree(pipeline.source.location, tree, rows, prune)
        chosen = sorted({*tree.folders, *rows["folder"]})
    else:
        chosen = folders = _named_folders(pipeline, tree, rows, folders)
    # Before hours of scanning: a lake that can't be written and a model that can't be had end the run.
    tables.directory.create()
    choice = pipeline.selection.choose()
    if folders is not None or rescan:
        question = None if prune else pipeline.prune_question(tree, chosen, is_whole=folders is None)
        staying = None if question is None else question.rows
        scans = pipeline.scan(chosen, progress, rescan=rescan, staying=staying)
    else:
        changes = pipeline.folder_changes(tree)
        question = None if prune else pipeline.prune_question(tree, [change.folder for change in changes])
        scans = _scan(pipeline, changes, progress, question)
        chosen = sorted({*tree.folders, *(scan.folder for scan in scans)})
    model = choice.model
    tables.embeddings.create()
    before = tables.embeddings.latest()
    images = tables.directory.latest()
    behind = folders_behind(images, before, model)
    to_embed = behind if folders is None else [folder for folder in folders if folder in behind]
    # Folders that are gone lose their rows before others copy them, so that no image ever has two.
    to_embed.sort(key=lambda folder: images.rows(folder) > 0)
    embeds = pipeline.embed_all(to_embed, model, progress, earlier=before, repair=rescan)
    status = tables.status(model)
    # What follows the tables and fails is told: they are done, which is what counts, and the next run tries again.
    nothing = None, None
    quality, quality_error = (
        attempted(lambda: _measure(pipeline, folders, progress, repair=rescan)) if curate else nothing
    )
    refreshed, index_error = attempted(lambda: pipeline.searcher.refresh(progress, model.version))
    annotations, annotations_error = (
        attempted(lambda: pipeline.follow_annotations(progress)) if curate and pipeline.has_annotations else nothing
    )
    duplicates, duplicates_error = attempted(lambda: pipeline.compare_all(progress)) if curate else nothing
    scores, scores_error = attempted(lambda: pipeline.score(progress)) if curate else nothing
    predictions, predictions_error = (
        attempted(lambda: pipeline.classify(progress)) if curate and pipeline.has_labels else nothing
    )
    label_issues, label_issues_error = attempted(lambda: pipeline.find_label_issues(progress)) if curate else nothing
    if question is not None:
        raise CurationError(
            f"{question.why}: their rows were kept, all else is done. Mount what is missing, or say --prune to remove "
            "the rows"
        )
    return RunSummary(
        chosen=choice,
        tree=tree,
        folders=chosen,
        scans=scans,
        embeds=embeds,
        bad=tables.bad_files(folders),
        status=status if folders is None else status.filter(pl.col("folder").is_in(folders)),
        failed=[failure for embed in embeds for failure in embed.failed],
        index=refreshed,
        index_error=index_error,
        quality=quality,
        quality_error=quality_error,
        annotations=annotations,
        annotations_error=annotations_error,
        duplicates=duplicates,
        duplicates_error=duplicates_error,
        scores=scores,
        scores_error=scores_error,
        predictions=predictions,
        predictions_error=predictions_error,
        label_issues=label_issues,
        label_issues_error=label_issues_error,
        unlisted=tree.unlisted | {place: why for scan in scans for place, why in scan.unlisted.items()},
        broken=tables.broken(),
        lost={
            file: why
            for lost in (*(s.lost for s in scans), *(e.lost for e in embeds), *(q.lost for q in quality or ()))
            for file, why in lost.items()
        },
        unread={path: why for scan in scans for path, why in scan.unread.items()},
    )


@dataclass
class Curated:
    """What bringing the tables of curation in line did.

    Attributes:
        index: what became of the search index; None where nothing is embedded, or it could not be brought in line,
            which ``index_error`` tells.
        annotations: None where there are none.
        scores: None where nothing is indexed.
        predictions: None where there are no labels.
        label_issues: None where there are no annotations.
    """

    quality: list[QualityResult]
    index: IndexRefresh | None
    index_error: str | None
    annotations: Followed | None
    duplicates: Duplicates
    scores: Scoring | None
    predictions: Predictions | None
    label_issues: LabelIssues | None


def curate(pipeline: Pipeline, progress: Progress, folders: list[str] | None = None) -> Curated:
    """Bring every table of curation, and the search index, in line with the directory and the champion's vectors.

    Args:
        folders: whose images are measured; None: all.

    Raises:
        CurationError: a table can't be read or written; what was done until then stays.
    """
    quality = _measure(pipeline, folders, progress, repair=False)
    index, index_error = attempted(lambda: pipeline.refresh_index(progress))
    return Curated(
        quality=quality,
        index=index,
        index_error=index_error,
        annotations=pipeline.follow_annotations(progress) if pipeline.has_annotations else None,
        duplicates=pipeline.compare_all(progress),
        scores=pipeline.score(progress),
        predictions=pipeline.classify(progress) if pipeline.has_labels else None,
        label_issues=pipeline.find_label_issues(progress),
    )


def _measure(pipeline: Pipeline, folders: list[str] | None, progress: Progress, *, repair: bool) -> list[QualityResult]:
    if folders is None:
        return pipeline.measure_all(progress, repair=repair)
    return pipeline.measure(folders, progress, repair=repair)


def scan_changed(pipeline: Pipeline, tree: TreeListing, progress: Progress) -> list[ScanResult]:
    """Scan those folders of a listed tree that differ from the table, and those of the table that are gone."""
    return _scan(pipeline, pipeline.folder_changes(tree), progress)


def _scan(
    pipeline: Pipeline, changes: list[FolderChange], progress: Progress, question: PruneQuestion | None = None
) -> list[ScanResult]:
    # Folders that are gone go first: after a change of FOLDER_DEPTH their images come back in others.
    ordered = sorted(changes, key=lambda change: (change.fingerprint != ABSENT, change.folder))
    staying = None if question is None else question.rows
    return pipeline.scan([change.folder for change in ordered], progress, staying=staying)


def _named_folders(pipeline: Pipeline, tree: TreeListing, rows: pl.DataFrame, names: list[str]) -> list[str]:
    """The image folders that names stand for, on disk and in the table: each itself, and all below it.

    Raises:
        CurationError: a name stands for none, or the table is laid out for another FOLDER_DEPTH.
    """
    paths = {name: str(listing.files["relative_path"][0]) for name, listing in tree.folders.items()}
    paths |= dict(rows.unique("folder").select("folder", "relative_path").iter_rows())
    of_name: dict[str, list[str]] = {}
    for name in names:
        # A name that had to be cut doesn't begin with that of every folder above it, but its files' paths do.
        below = [
            each for each, path in paths.items() if is_within(each, name) or ("~" in each and is_within(path, name))
        ]
        may_hold = any(is_within(name, place) or is_within(place, name) for place in tree.unlisted)
        of_name[name] = sorted(below) or ([name] if may_hold else [])
    if unknown := sorted(name for name, found in of_name.items() if not found):
        why = [reason for name in unknown if (reason := pipeline.source.why_not_listed(name))]
        root = pipeline.source.location
        said = "; ".join([f"no image folder {', '.join(map(repr, unknown))} under {root}", *why])
        raise CurationError(said)
    directories = pl.DataFrame({"folder": rows["folder"], "below": directories_of(rows["relative_path"])}).unique()
    if any(folder_of(below, pipeline.settings.depth) != folder for folder, below in directories.iter_rows()):
        raise CurationError(
            "the table was written with another CURATION_FOLDER_DEPTH; run once without --folders to lay it out anew"
        )
    return list(dict.fromkeys(folder for found in of_name.values() for folder in found))


def refuse_another_tree(root: str, tree: TreeListing, rows: pl.DataFrame, prune: bool) -> None:
    """An empty or altogether different tree is likelier a wrong path or an unmounted disk than a wish to lose rows.

    Raises:
        CurationError: it looks like that, and nobody confirmed it with ``prune``.
    """
    if prune:
        return
    rows = rows.filter(~at_or_below(rows["relative_path"], tree.unlisted))
    if not tree.folders and not tree.unlisted:
        counted = ", ".join(f"{count} {reason}" for reason, count in tree.passed_over.most_common())
        seen = f" ({tree.passed_over.total()} other files passed over: {counted})" if counted else ""
        raise CurationError(f"no images under {root}{seen}; nothing was changed")
    if not len(rows):
        return
    on_disk = pl.concat([pl.DataFrame(schema=LISTING_SCHEMA), *(listing.files for listing in tree.folders.values())])
    found = len(rows.join(on_disk, on="relative_path", how="semi"))
    elsewhere = not rows["file_path"].str.starts_with(f"{root}/").all()
    if found == 0 or (elsewhere and found < len(rows) / 2):
        raise CurationError(
            f"only {found:,} of the table's {len(rows):,} images are under {root}: set CURATION_LAKE_ROOT (--lake) to "
            "a lake of its own for this tree, or say --prune to remove the rows of the others"
        )
