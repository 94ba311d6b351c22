"""Which folders a run has to be asked for, and as which runs.

What keeps a folder from being asked for twice, and says how often and until when it was tried, is in the tags of the
runs themselves: the run key of a run of one folder, tags for each folder of a run of several (``state.folder_tags``).
A lost cursor loses nothing of it.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import dagster as dg

from curation_assets.defs.embeddings import crop_images_directory_embeddings
from curation_assets.defs.ingest import folders_config, ingest_image_folder, ingest_image_folders
from curation_assets.defs.runs import as_latest, is_asked, latest_run
from curation_assets.defs.settling import short_name
from curation_assets.defs.state import (
    ATTEMPT,
    Asked,
    Attempt,
    LatestRun,
    Wait,
    attempt_tag,
    batch_key,
    batches,
    folder_tags,
    newer,
    next_attempt,
    next_embedding,
)
from curation_assets.defs.tags import PARTITION, RUN_KEY
from curation_assets.images.listing import TreeListing
from curation_assets.partition_keys import folder_of_key, key_of
from curation_assets.scan.changes import FolderChange

NOT_EMBEDDED = "not embedded"  # what is wrong with a folder that matches its rows


@dataclass
class Asking:
    """What a tick asks for, and what it leaves.

    Attributes:
        requests: runs.
        keys: partitions of theirs, in the order in which they are asked for.
        waits: folders that were tried and will be again.
        behind: since when folders are seen to match their rows and lack vectors, by a short hash of their name.
        last: the folder that was looked at last.
    """

    requests: list[dg.RunRequest] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    behind: dict[str, float] = field(default_factory=dict)
    last: str | None = None

    @property
    def folders(self) -> list[str]:
        """Those of the partitions."""
        return [folder_of_key(key) for key in self.keys]


def ask(
    instance: dg.DagsterInstance,
    tree: TreeListing,
    changes: Sequence[FolderChange],
    table_id: str,
    *,
    behind: Mapping[str, float],
    until: float,
    most: int,
    now: float,
) -> Asking:
    """Ask for the runs that changes need.

    Args:
        changes: in the order in which to look at them; those that are ``NOT_EMBEDDED`` among them.
        table_id: a table that was made anew has run keys of its own.
        behind: as the tick before left it.
        until: of ``time.monotonic()``; what isn't looked at by then waits for the next tick.
        most: runs.
        now: seconds since 1970.
    """
    asking = Asking(behind=dict(behind))
    attempts = _EmbeddingAttempts(instance)

    def wanted() -> Iterator[Asked]:
        for change in changes:
            if time.monotonic() > until:
                return
            asking.last = change.folder
            if found := _asked(instance, tree, change, table_id, asking, attempts, now):
                yield found

    for batch in batches(wanted()):
        asking.requests.append(_request(batch))
        asking.keys += [folder.key for folder in batch]
        if len(asking.requests) == most:
            asking.last = asking.folders[-1]  # one more was looked at
            break
    current = {short_name(change.folder) for change in changes if change.what == NOT_EMBEDDED}
    asking.behind = {name: since for name, since in asking.behind.items() if name in current}
    return asking


def _asked(
    instance: dg.DagsterInstance,
    tree: TreeListing,
    change: FolderChange,
    table_id: str,
    asking: Asking,
    attempts: "_EmbeddingAttempts",
    now: float,
) -> Asked | None:
    """A folder, if a run has to be asked for it now."""
    key = key_of(change.folder)
    fingerprint = f"{change.fingerprint}.{table_id[:8]}"
    latest = _latest_of(instance, key)
    found: Attempt | LatestRun | None
    if change.what == NOT_EMBEDDED:
        since = asking.behind.setdefault(short_name(change.folder), now)
        found = next_embedding(key, fingerprint, newer(latest, attempts.latest(key)), since, now)
    else:
        found = next_attempt(key, fingerprint, latest, partial(_is_used, instance, key), now)
    if isinstance(found, Attempt):
        files = len(tree.folders[change.folder].files) if change.folder in tree.folders else 0
        return Asked(key, found.run_key, change.what, files, found.number)
    if found is not None and found.finished:
        asking.waits.append(Wait(key, found))
    return None


def _latest_of(instance: dg.DagsterInstance, key: str) -> LatestRun | None:
    """The newest run of a folder, whichever job it is of."""
    (tag, _), (state, _) = folder_tags(key, "any").items()
    return newer(
        latest_run(instance, ingest_image_folder.name, {PARTITION: key}),
        latest_run(instance, ingest_image_folders.name, {tag: key}, run_key=state, attempt=attempt_tag(key)),
    )


def _is_used(instance: dg.DagsterInstance, key: str, run_key: str) -> bool:
    """Whether a run was ever asked for a state of a folder."""
    return is_asked(instance, {RUN_KEY: run_key}) or is_asked(instance, folder_tags(key, run_key))


class _EmbeddingAttempts:
    """Runs, of whichever job, backfill or automation, that were to embed a folder last, and haven't."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._of_partition: Mapping[str, tuple[str, int]] | None = None

    def latest(self, key: str) -> LatestRun | None:
        """The run of a partition; None where the last one did what it was to do."""
        if self._of_partition is None:
            storage, asset = self._instance.event_log_storage, crop_images_directory_embeddings.key
            find = storage.get_latest_asset_partition_materialization_attempts_without_materializations
            self._of_partition = find(asset)
        run_id, _ = self._of_partition.get(key, (None, 0))
        record = self._instance.get_run_record_by_id(run_id) if run_id else None
        return as_latest(record) if record is not None else None


def _request(batch: Sequence[Asked]) -> dg.RunRequest:
    """The run of one folder is one of its assets' partition; of several, of the job that keeps them apart."""
    tags = {"curation/change": ", ".join(sorted({folder.what for folder in batch}))}
    if len(batch) == 1:
        (folder,) = batch
        if folder.attempt > 1:
            tags[ATTEMPT] = str(folder.attempt)
        return dg.RunRequest(folder.run_key, job_name=ingest_image_folder.name, partition_key=folder.key, tags=tags)
    for folder in batch:
        tags |= folder_tags(folder.key, folder.run_key, folder.attempt)
    config = folders_config([folder.key for folder in batch])
    return dg.RunRequest(batch_key(batch), job_name=ingest_image_folders.name, run_config=config, tags=tags)
