"""What sensors compare, and what follows from it: pure functions over what they gathered from disk, tables, instance.

Nothing here reads anything: a decision is tested with values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from curation_assets.images.listing import TreeListing, at_or_below
from curation_assets.partition_keys import folder_of_key, key_of
from curation_assets.scan.changes import FolderChange

FOLDERS_A_RUN, FILES_A_RUN = 10, 1000  # that are asked for together


@dataclass(frozen=True)
class LatestRun:
    """The newest run of a folder or job.

    Attributes:
        run_key: of the state that it was asked for; None where a person started it.
        created: seconds since 1970.
    """

    run_id: str
    run_key: str | None
    finished: bool
    succeeded: bool = False
    status: str = ""
    created: float = 0


def run_key_for(key: str, fingerprint: str, latest: LatestRun | None, is_used: Callable[[str], bool]) -> str | None:
    """Run key for a folder that differs from its rows; None where a run is under way or this state was tried.

    A state that comes back (a folder removed, then restored as it was) has its old fingerprint, and Dagster never
    starts a run key twice: the run that lay between makes it a new one.
    """
    base = f"{key}:{fingerprint}"
    if latest is None:
        return base
    if not latest.finished or (latest.run_key or "").startswith(base):
        return None
    return f"{base}:{latest.run_id[:8]}" if is_used(base) else base


def model_run_key(base: str, latest: LatestRun | None, is_used: Callable[[str], bool]) -> str | None:
    """Run key for registering a model that is missing; None where a run is under way, or was tried and failed.

    The model may have been registered before, in a registry that is there no more: Dagster starts no run key twice.
    """
    if latest is None:
        return base
    tried = (latest.run_key or "").startswith(base)
    if not latest.finished or (tried and not latest.succeeded):
        return None
    return f"{base}:{latest.run_id[:8]}" if is_used(base) else base


def rotate(changes: Sequence[FolderChange], after: str | None) -> list[FolderChange]:
    """Changes in the order of their names, beginning behind ``after``, so that no folder waits for ever."""
    later = [change for change in changes if after is None or change.folder > after]
    return later + [change for change in changes if not (after is None or change.folder > after)]


@dataclass(frozen=True)
class Asked:
    """A folder that a run is to be asked for.

    Attributes:
        key: its partition.
        run_key: of its state; no state of a folder is asked for twice.
        what: changed, for people.
        files: on disk.
    """

    key: str
    run_key: str
    what: str
    files: int


def batches(asked: Iterable[Asked]) -> Iterator[list[Asked]]:
    """The folders of one run each: a handful of small ones together, since starting a process costs more than they do.

    A large one goes alone, so that none waits behind it, and what a killed run leaves to do is bounded.
    """
    batch: list[Asked] = []
    for folder in asked:
        full = len(batch) == FOLDERS_A_RUN or sum(of.files for of in batch) + folder.files > FILES_A_RUN
        if batch and full:
            yield batch
            batch = []
        batch.append(folder)
    if batch:
        yield batch


def batch_key(batch: Sequence[Asked]) -> str:
    """Run key of a run of several folders: the same for the same states of the same folders."""
    digest = hashlib.sha256("\0".join(sorted(folder.run_key for folder in batch)).encode()).hexdigest()
    return f"{len(batch)} folders:{digest[:32]}"


def folder_tags(key: str, run_key: str | None = None) -> dict[str, str]:
    """Tags that a run of several folders carries for each of them, so that what it was asked for is found again.

    Args:
        run_key: of the folder's state; None gives those by which all runs of the folder are found.
    """
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    return {f"curation/folder/{name}": key} | ({f"curation/state/{name}": run_key} if run_key else {})


def newer(first: LatestRun | None, second: LatestRun | None) -> LatestRun | None:
    """The later of two runs."""
    return max((run for run in (first, second) if run is not None), key=lambda run: run.created, default=None)


def unrecorded(tree: TreeListing, changes: Iterable[FolderChange], materialized: Collection[str]) -> list[str]:
    """Folders that match their rows, and whose partitions were never materialized."""
    differing = {change.folder for change in changes}
    return [folder for folder in tree.folders if folder not in differing and key_of(folder) not in materialized]


def missing_partitions(tree: TreeListing, asked: Sequence[str], existing: Collection[str], at_most: int) -> list[str]:
    """Partitions to add: all that runs are asked for, and of the other folders on disk as many as fit."""
    others = [key_of(folder) for folder in tree.folders]
    missing = [key for key in dict.fromkeys([*asked, *others]) if key not in existing]
    return missing[: max(at_most, len(asked))]


def vanished_partitions(
    tree: TreeListing, asked: Collection[str], existing: Iterable[str], in_tables: Iterable[str]
) -> list[str]:
    """Partitions to delete: of folders that neither disk nor a table has, and that no run is asked for.

    Of what can't be listed nobody knows whether it is gone.
    """
    alive = {*tree.folders, *in_tables}
    gone = sorted(key for key in existing if folder_of_key(key) not in alive and key not in asked)
    hidden = at_or_below(pl.Series([folder_of_key(key) for key in gone], dtype=pl.String), tree.unlisted)
    return [key for key, is_hidden in zip(gone, hidden, strict=True) if not is_hidden]


def covered(table_id: str, table_version: int, directory_version: int, model_fingerprint: str) -> str:
    """The data version of an index: what it was made of."""
    return f"{table_id}.{table_version}.{directory_version}.{model_fingerprint}"
