"""What sensors compare, and what follows from it: pure functions over what they gathered from disk, tables, instance.

Nothing here reads anything: a decision is tested with values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum

import polars as pl

from curation_assets.defs.workers import ServerAnswer
from curation_assets.images.listing import TreeListing, at_or_below
from curation_assets.images.names import printable
from curation_assets.partition_keys import folder_of_key, key_of
from curation_assets.scan.changes import FolderChange

FOLDERS_A_RUN, FILES_A_RUN = 10, 1000  # that are asked for together
_NAME_SHOWN = 100  # characters of a folder's name in a list of them
ATTEMPT = "curation/attempt"  # tag of a run that isn't the first at its state
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 60.0, 24 * 3600.0  # between two attempts; each wait is twice the one before


@dataclass(frozen=True)
class LatestRun:
    """The newest run of a folder or job.

    Attributes:
        run_key: of the state that it was asked for; None where a person started it.
        created, ended: seconds since 1970; ``ended`` is 0 while it isn't finished.
        attempt: how many runs were asked for that state, this one among them.
    """

    run_id: str
    run_key: str | None
    finished: bool
    succeeded: bool = False
    status: str = ""
    created: float = 0
    ended: float = 0
    attempt: int = 1

    @property
    def again_at(self) -> float:
        """From when on its state may be asked for again."""
        return self.ended + wait_after(self.attempt)


def wait_after(attempt: int) -> float:
    """Seconds between the end of an attempt and the next: a minute, then always twice as long, a day at most."""
    return min(FIRST_WAIT_SECONDS * 2.0 ** min(attempt - 1, 30), LONGEST_WAIT_SECONDS)


@dataclass(frozen=True)
class Attempt:
    """A run to ask for.

    Attributes:
        number: of the runs that were asked for that state, counted from 1.
    """

    run_key: str
    number: int = 1


@dataclass(frozen=True)
class Wait:
    """Something that was tried, and will be again.

    Attributes:
        name: of the folder or asset.
        run: that ended without bringing it in line.
    """

    name: str
    run: LatestRun

    def told(self, now: float) -> str:
        """For people."""
        what = f"run {self.run.run_id[:8]} {self.run.status.upper()}, attempt {self.run.attempt}"
        name = printable(self.name)
        name = name if len(name) <= _NAME_SHOWN else f"{name[: _NAME_SHOWN - 1]}…"
        return f"{name} ({what}, {again_told(self.run, now)})"


def again_told(run: LatestRun, now: float) -> str:
    """When the state of a run that ended is asked for again."""
    return f"again in {_in_words(max(run.again_at - now, 0))}"


def waits_told(waits: Sequence[Wait], now: float, noun: str = "folder", most: int = 5) -> str:
    """What waits to be tried again, in a line of bounded length, the next first; empty where nothing does."""
    if not waits:
        return ""
    soonest = sorted(waits, key=lambda wait: wait.run.again_at)
    more = f" and {len(waits) - most} more" if len(waits) > most else ""
    number = f"1 {noun} waits" if len(waits) == 1 else f"{len(waits)} {noun}s wait"
    return f"{number} to be tried again: {', '.join(w.told(now) for w in soonest[:most])}{more}"


def _in_words(seconds: float) -> str:
    whole = timedelta(seconds=round(seconds))
    if whole.days:
        return f"{whole.days} d"
    if whole.seconds >= 3600:
        return f"{whole.seconds // 3600} h {whole.seconds % 3600 // 60} min"
    return f"{whole.seconds // 60} min" if whole.seconds >= 100 else f"{whole.seconds} s"


def next_attempt(
    key: str, fingerprint: str, latest: LatestRun | None, is_used: Callable[[str], bool], now: float
) -> Attempt | LatestRun:
    """The run to ask for, of something that is not in line: at once in a new state, else after a wait.

    A run may end in any way (failed, killed, cancelled, or done without bringing the state in line, as with a file that
    can't be read): as long as the state is the same, it is tried again, each time after a longer wait.

    Returns:
        What to ask for; or the run that has to end, or after whose end one has to wait.
    """
    if run_key := run_key_for(key, fingerprint, latest, is_used):
        return Attempt(run_key)
    assert latest is not None
    if not latest.finished or now < latest.again_at:
        return latest
    return Attempt(f"{key}:{fingerprint}:{latest.run_id[:8]}", latest.attempt + 1)


def run_key_for(key: str, fingerprint: str, latest: LatestRun | None, is_used: Callable[[str], bool]) -> str | None:
    """Run key for the first attempt at a state; None where a run is under way or the state was tried last.

    A state that comes back (a folder removed, then restored as it was) has its old fingerprint, and Dagster never
    starts a run key twice: the run that lay between makes it a new one.
    """
    base = f"{key}:{fingerprint}"
    if latest is None:
        return base
    if not latest.finished or is_of_state(latest.run_key, base):
        return None
    return f"{base}:{latest.run_id[:8]}" if is_used(base) else base


def next_embedding(
    key: str, fingerprint: str, latest: LatestRun | None, since: float, now: float
) -> Attempt | LatestRun | None:
    """The same for a folder that matches its rows, but of which images lack a vector.

    The automation embeds what changed. What it asked for, or a run that brought the folder in, may have ended without;
    then it is the sensor's to ask, when the automation has had its turn.

    Args:
        since: when it was first seen so.

    Returns:
        None while it is the automation's turn.
    """
    base = f"{key}:{fingerprint}"
    if latest is not None:
        number = latest.attempt if is_of_state(latest.run_key, base) else 1
        if not latest.finished or now < latest.ended + wait_after(number):
            return replace(latest, attempt=number)
    if now <= since + FIRST_WAIT_SECONDS:
        return None
    return Attempt(f"{base}:behind") if latest is None else Attempt(f"{base}:{latest.run_id[:8]}", number + 1)


def is_of_state(run_key: str | None, base: str) -> bool:
    """Whether a run key is one of those that a state has."""
    return run_key is not None and (run_key == base or run_key.startswith(f"{base}:"))


def next_registration(
    asset: str, source: str, latest: LatestRun | None, is_used: Callable[[str], bool], now: float
) -> Attempt | LatestRun:
    """The same for registering a model that is missing.

    It may have been registered before, in a registry that is there no more: after a first run that succeeded, the
    next is asked for at once.
    """
    if (
        latest is not None
        and latest.succeeded
        and latest.attempt == 1
        and is_of_state(latest.run_key, f"{asset}:{source}")
    ):
        return Attempt(f"{asset}:{source}:{latest.run_id[:8]}", 2)
    return next_attempt(asset, source, latest, is_used, now)


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
        attempt: of how many at this state, counted from 1.
    """

    key: str
    run_key: str
    what: str
    files: int
    attempt: int = 1


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


def folder_tags(key: str, run_key: str | None = None, attempt: int = 1) -> dict[str, str]:
    """Tags that a run of several folders carries for each of them, so that what it was asked for is found again.

    Args:
        run_key: of the folder's state; None gives those by which all runs of the folder are found.
        attempt: at that state; the first needs no tag.
    """
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    tags = {f"curation/folder/{name}": key} | ({f"curation/state/{name}": run_key} if run_key else {})
    return tags | ({f"{ATTEMPT}/{name}": str(attempt)} if attempt > 1 else {})


def attempt_tag(key: str) -> str:
    """The tag that says the attempt at a folder's state in a run of several."""
    return f"{ATTEMPT}/{hashlib.sha256(key.encode()).hexdigest()[:16]}"


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


class Verdict(Enum):
    """What is to become of a run that counts as under way."""

    LEAVE = "leave"
    FAIL = "fail"
    CANCEL = "cancel"


@dataclass(frozen=True)
class Signs:
    """What is known of whoever carries out a run.

    Attributes:
        status: of the run, as Dagster calls it.
        quiet: seconds since its record last changed.
        launched: whether it was given to a code server.
        worker_runs: whether the process that is recorded runs; None where none is, or one can't tell from here.
        elsewhere: whether the process that is recorded is another machine's.
        told_process_runs: whether a process that Dagster's events tell of may be it.
        server: what the code server says.
    """

    status: str
    quiet: float
    launched: bool = True
    worker_runs: bool | None = None
    elsewhere: bool = False
    told_process_runs: bool = False
    server: ServerAnswer = ServerAnswer.SILENT


LAUNCHING_SECONDS = 60.0  # that a launch may take until the run's process has recorded itself
UNLAUNCHED_SECONDS = 600.0  # that a run may be kept by whoever made it and is to launch it


def verdict(signs: Signs) -> Verdict:
    """Whether a run is dead. One whose process may be alive, or can't be seen from here, never is."""
    if signs.status == "NOT_STARTED":
        return Verdict.FAIL if signs.quiet > UNLAUNCHED_SECONDS else Verdict.LEAVE
    if signs.worker_runs or signs.elsewhere or signs.told_process_runs or signs.server is ServerAnswer.KNOWN:
        return Verdict.LEAVE
    is_unrecorded = signs.worker_runs is None
    if is_unrecorded and signs.quiet <= LAUNCHING_SECONDS:
        return Verdict.LEAVE
    if is_unrecorded and signs.launched and signs.server is ServerAnswer.ELSEWHERE:
        return Verdict.LEAVE
    return Verdict.CANCEL if signs.status == "CANCELING" else Verdict.FAIL
