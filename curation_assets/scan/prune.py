"""Whether rows would go that are likelier on a disk that isn't mounted: then somebody has to say so first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from curation_assets.images.listing import LISTING_SCHEMA, TreeListing, at_or_below, directories_of
from curation_assets.images.names import printable
from curation_assets.images.source import ImageSource
from curation_assets.lake.snapshot import Snapshot

_NAMED = 10  # folders in a message
_SAME = ["_name", "size_bytes", "mtime_ns"]  # what a file that was moved keeps


@dataclass(frozen=True)
class PruneQuestion:
    """Rows that wait until somebody says that they may go.

    Attributes:
        rows: ``folder`` and ``relative_path`` of each.
        total: rows of the whole table.
        why: for people, a sentence with numbers and folders.
    """

    rows: pl.DataFrame
    total: int
    why: str

    @property
    def folders(self) -> list[str]:
        """Image folders that the rows are of."""
        return sorted(set(self.rows["folder"]))


def prune_question(
    tree: TreeListing, table: Snapshot, source: ImageSource, folders: Collection[str], *, is_whole: bool
) -> PruneQuestion | None:
    """What of the rows whose files are gone should not go without a question.

    Rows in question are those below a top-level folder that still stands but holds no image any more, or below a link
    that leads nowhere; and all of them where more than half of the table would go. Files that were only moved don't
    count as gone.

    Args:
        tree: as listed just now.
        folders: to look at: those that differ from their rows.
        is_whole: whether all of the tree was listed.
    """
    columns = ["folder", "relative_path", "size_bytes", "mtime_ns"]
    known = table.read(columns, files=table.files_of(folders)).drop("_file")
    listed = _files(tree, tree.folders)
    gone = known.filter(~at_or_below(known["relative_path"], tree.unlisted))
    gone = gone.join(listed, on="relative_path", how="anti")
    if not len(gone):
        return None
    new = _named(_files(tree, folders).join(known, on="relative_path", how="anti"))
    really = _named(gone).join(new, on=_SAME, how="anti", nulls_equal=True)
    places = _emptied(gone, listed, tree, source, is_whole)
    if is_whole and len(really) * 2 > table.rows():
        share = f"{len(really):,} of the table's {table.rows():,} images, more than half, are gone"
        return PruneQuestion(gone.select("folder", "relative_path"), table.rows(), f"{share} from {_names(gone)}")
    waiting = gone.filter(at_or_below(gone["relative_path"], places))
    if not len(waiting):
        return None
    where = ", ".join(repr(printable(place)) for place in places[:_NAMED])
    more = f" and {len(places) - _NAMED:,} more" if len(places) > _NAMED else ""
    what = f"{len(waiting):,} of the table's {table.rows():,} images are gone from {where}{more}"
    return PruneQuestion(waiting.select("folder", "relative_path"), table.rows(), f"{what}, still there but empty")


def _emptied(
    gone: pl.DataFrame, listed: pl.DataFrame, tree: TreeListing, source: ImageSource, is_whole: bool
) -> list[str]:
    """Where rows would go from although it is still there: top-level folders without images, links to nowhere."""
    directories = [each for each in directories_of(gone["relative_path"]).unique().sort() if each]
    tops = sorted({each.split("/")[0] for each in directories})
    inhabited = {path.split("/")[0] for path in directories_of(listed["relative_path"]).unique()}
    inhabited |= {place.split("/")[0] for place in tree.unlisted}
    places = [top for top in tops if top not in inhabited and source.stands(top)]
    if not is_whole:
        places = [top for top in places if not source.list_folders(within=[top]).folders]
    broken = {link for each in directories if (link := source.broken_link(each)) is not None}
    return sorted({*places, *(link for link in broken if link.split("/")[0] not in places)})


def _files(tree: TreeListing, folders: Collection[str]) -> pl.DataFrame:
    files = [tree.folders[folder].files for folder in folders if folder in tree.folders]
    return pl.concat(files) if files else pl.DataFrame(schema=LISTING_SCHEMA)


def _named(files: pl.DataFrame) -> pl.DataFrame:
    return files.with_columns(_name=pl.col("relative_path").str.replace("^.*/", ""))


def _names(rows: pl.DataFrame) -> str:
    folders = sorted(set(rows["folder"]))
    more = f" and {len(folders) - _NAMED:,} more folders" if len(folders) > _NAMED else ""
    return ", ".join(repr(printable(folder)) for folder in folders[:_NAMED]) + more
