"""All that ``curation run`` does: scan what changed, choose the model, embed what lacks a vector, refresh the index."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from curation_assets.clip.selection import ChosenModel
from curation_assets.embed.plan import folders_behind
from curation_assets.embed.result import EmbedResult
from curation_assets.errors import CurationError
from curation_assets.images.listing import TreeListing
from curation_assets.images.names import folder_of, text_from_path
from curation_assets.pipeline import Pipeline
from curation_assets.progress import Progress
from curation_assets.scan.changes import ABSENT
from curation_assets.scan.result import ScanResult

if TYPE_CHECKING:
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


def run(
    pipeline: Pipeline,
    progress: Progress,
    *,
    folders: list[str] | None = None,
    rescan: bool = False,
    prune: bool = False,
) -> RunSummary:
    """Scan, register, embed: every folder, or those named; then bring the search index in line.

    Args:
        folders: values of the ``folder`` column; None takes all on disk and all in the table.
        rescan: read every file again, also those that look unchanged.
        prune: go on although the images root looks like another tree than the table's, and remove rows.

    Raises:
        CurationError: nothing to work on, or something is set wrong; what was committed until then stays.
    """
    tree = pipeline.source.list_folders(folders)
    tables = pipeline.tables
    rows = tables.known_paths()
    in_table = sorted(set(rows["folder"]))
    if folders is None:
        _refuse_another_tree(pipeline.settings.images_root, tree, rows, prune)
    else:
        _refuse_unknown_folders(pipeline, tree, rows, folders)
    if folders is not None or rescan:
        chosen = folders if folders is not None else sorted({*tree.folders, *in_table})
        scans = pipeline.scan(chosen, progress, rescan=rescan)
    else:
        scans = scan_changed(pipeline, tree, progress)
        chosen = sorted({*tree.folders, *(scan.folder for scan in scans)})
    choice = pipeline.selection.choose()
    model = choice.model
    tables.embeddings.create()
    before = tables.embeddings.latest()
    images = tables.directory.latest()
    behind = folders_behind(images, before, model)
    to_embed = behind if folders is None else [folder for folder in folders if folder in behind]
    # Folders that are gone lose their rows before others copy them, so that no image ever has two.
    to_embed.sort(key=lambda folder: images.rows(folder) > 0)
    embeds = pipeline.embed_all(to_embed, model, progress, earlier=before)
    status = tables.status(model)
    refreshed, index_error = None, None
    try:
        refreshed = pipeline.searcher.refresh(progress, model.version)
    except CurationError as error:  # the tables are done, which is what counts; the next run tries again
        index_error = str(error)
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
    )


def scan_changed(pipeline: Pipeline, tree: TreeListing, progress: Progress) -> list[ScanResult]:
    """Scan those folders of a listed tree that differ from the table, and those of the table that are gone."""
    # Folders that are gone go first: after a change of FOLDER_DEPTH their images come back in others.
    changes = sorted(pipeline.folder_changes(tree), key=lambda change: (change.fingerprint != ABSENT, change.folder))
    return pipeline.scan([change.folder for change in changes], progress)


def _refuse_unknown_folders(pipeline: Pipeline, tree: TreeListing, rows: pl.DataFrame, folders: list[str]) -> None:
    unknown = set(folders).difference(tree.folders, rows["folder"])
    if unknown:
        names = ", ".join(map(repr, sorted(unknown)))
        raise CurationError(f"no image folder {names} under {pipeline.settings.images_root}")
    directories = rows.select("folder", below=pl.col("relative_path").str.replace("/?[^/]*$", "")).unique()
    if any(folder_of(below, pipeline.settings.depth) != folder for folder, below in directories.iter_rows()):
        raise CurationError(
            "the table was written with another CURATION_FOLDER_DEPTH; run once without --folders to lay it out anew"
        )


def _refuse_another_tree(root: Path, tree: TreeListing, rows: pl.DataFrame, prune: bool) -> None:
    """An empty or altogether different tree is likelier a wrong path or an unmounted disk than a wish to lose rows."""
    if prune:
        return
    if not tree.folders:
        seen = f" ({tree.passed_over.total()} other files passed over)" if tree.passed_over else ""
        raise CurationError(f"no images under {root}{seen}; nothing was changed")
    if not len(rows):
        return
    on_disk = pl.concat([listing.files.select("relative_path") for listing in tree.folders.values()])
    found = len(rows.join(on_disk, on="relative_path", how="semi"))
    prefix = text_from_path(str(root)).rstrip("/") + "/"
    elsewhere = not rows["file_path"].str.starts_with(prefix).all()
    if found == 0 or (elsewhere and found < len(rows) / 2):
        raise CurationError(
            f"only {found:,} of the table's {len(rows):,} images are under {root}: set CURATION_LAKE_ROOT (--lake) to "
            "a lake of its own for this tree, or say --prune to remove the rows of the others"
        )
