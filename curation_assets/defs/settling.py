"""When a folder counts as written to no more: decided with values, and remembered between two looks in the cursor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from curation_assets.images.listing import FolderListing, TreeListing
from curation_assets.scan.changes import FolderChange

_MOST_AGAIN = 30_000  # characters of names in the cursor
_MOST_LOOKS = 500  # kept in the cursor, some 50 bytes each; a folder without one waits a little longer


@dataclass(frozen=True)
class Look:
    """What was seen of a folder that was waited for.

    Attributes:
        state: a short hash of it.
        since: when it was first seen so, in seconds since 1970.
        waiting: when it was first waited for.
    """

    state: str
    since: float
    waiting: float


@dataclass(frozen=True)
class Followed:
    """Up to where messages of a bucket were followed (``defs/looking.py``).

    Attributes:
        of: a short hash of the settings that they were followed with.
        looked: when all folders were last looked at, in seconds since 1970; 0 asks for it anew.
        read: name of the message file that was read last.
        again: folders to look at whatever messages say, as they weren't in line.
    """

    of: str
    looked: float
    read: str | None = None
    again: tuple[str, ...] = ()

    @classmethod
    def to_go_on(cls, of: str, looked: float, read: str | None, waiting: Iterable[str], behind: Iterable[str]) -> Self:
        """With the folders that are to be looked at again; where they are too many, all are."""
        needed = tuple(waiting)
        if sum(map(len, needed)) > _MOST_AGAIN:
            return cls(of, 0, read)
        more = (*needed, *behind)
        return cls(of, looked, read, needed if sum(map(len, more)) > _MOST_AGAIN else more)


@dataclass(frozen=True)
class Cursor:
    """What the sensor keeps from one tick to the next.

    Attributes:
        after: the folder that was asked for last.
        looks: of folders that are waited for, by a short hash of their name.
        behind: since when folders are seen to match their rows and lack vectors, likewise.
        followed: None where no messages are followed.
    """

    after: str | None = None
    looks: Mapping[str, Look] = field(default_factory=dict)
    behind: Mapping[str, float] = field(default_factory=dict)
    followed: Followed | None = None

    @classmethod
    def of(cls, text: str | None) -> Cursor:
        """Read one; an earlier version kept the folder's name alone."""
        try:
            told = json.loads(text or "")
            looks = {key: Look(*look) for key, look in told["looks"].items()}
            behind = {key: float(since) for key, since in told.get("behind", {}).items()}
            of, looked, read, again = told.get("followed", (None,) * 4)
            followed = None if of is None else Followed(of, float(looked), read, tuple(again))
            return cls(told["after"], looks, behind, followed)
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls(text or None)

    def text(
        self,
        after: str | None,
        looks: Mapping[str, Look],
        done: Iterable[str],
        behind: Mapping[str, float] | None = None,
        followed: Followed | None = None,
    ) -> str:
        """As it is kept, without the looks of folders that a run is asked for."""
        gone = {short_name(folder) for folder in done}
        kept = {key: [look.state, round(look.since, 1), round(look.waiting, 1)] for key, look in looks.items()}
        oldest = sorted((key for key in kept if key not in gone), key=lambda key: looks[key].waiting)[:_MOST_LOOKS]
        told: dict[str, object] = {"after": after, "looks": {key: kept[key] for key in oldest}}
        if behind:
            told["behind"] = dict(sorted(behind.items(), key=lambda item: item[1])[:_MOST_LOOKS])
        if followed is not None:
            told["followed"] = [followed.of, followed.looked, followed.read, followed.again]
        return json.dumps(told, separators=(",", ":"))


@dataclass(frozen=True)
class Settling:
    """Which changes may be asked for.

    Attributes:
        ready: of folders that nobody has written to for a while, that are gone, or that were waited for long enough.
        waiting: the others.
        looks: at all that were not simply quiet.
    """

    ready: list[FolderChange]
    waiting: list[FolderChange]
    looks: dict[str, Look]


def settle(
    tree: TreeListing,
    changes: Collection[FolderChange],
    looks: Mapping[str, Look],
    *,
    now: float,
    seconds: float,
    limit: float,
) -> Settling:
    """Decide for each change.

    A folder is quiet when no inode of it changed for ``seconds``, by the kernel's own time. Where that is ahead of the
    clock, as on a network disk, it is when two looks that far apart saw the same. Nothing is waited for longer than
    ``limit``.

    Args:
        looks: of the tick before.
        now: seconds since 1970.
    """
    ready: list[FolderChange] = []
    waiting: list[FolderChange] = []
    kept: dict[str, Look] = {}
    for change in changes:
        listing = tree.folders.get(change.folder)
        if listing is None or listing.settled(seconds, round(now * 1e9)):
            ready.append(change)
            continue
        key, state = short_name(change.folder), _state(listing)
        before = looks.get(key)
        same = before is not None and before.state == state
        look = Look(state, before.since if before and same else now, before.waiting if before else now)
        kept[key] = look
        is_ahead = listing.changed_ns > now * 1e9
        is_quiet = is_ahead and now - look.since >= seconds
        (ready if is_quiet or now - look.waiting >= limit else waiting).append(change)
    return Settling(ready, waiting, kept)


def _state(listing: FolderListing) -> str:
    return short_name(f"{listing.fingerprint} {listing.changed_ns}")


def short_name(text: str) -> str:
    """A short hash of a folder's name."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
