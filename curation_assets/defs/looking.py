"""Where a tick of ``new_images_sensor`` looks: at all folders, or at those that messages of the bucket name.

A message only says where to look; what is there is listed. All folders are looked at where no messages are configured,
at the first tick and every ``FULL_LOOK_SECONDS``, after a change of the settings, where messages can't be read, and
where a tick left more than the cursor holds. Between those, a folder is looked at because a message names it, or
because it wasn't in line when it was last looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from curation_assets.defs.settling import Cursor, Followed, short_name
from curation_assets.errors import CurationError
from curation_assets.images.listing import TreeListing, is_candidate
from curation_assets.images.names import folder_of, text_from_path
from curation_assets.pipeline import Pipeline
from curation_assets.scan.changes import FolderChange
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.notifications import (
    Messages,
    QueueAddress,
    delete_messages,
    named_keys,
    read_messages,
)
from curation_assets.stores.volumes import VolumeAddress

_MOST_FOLDERS = 2000  # one by one; of more, all are listed together


@dataclass(frozen=True)
class Look:
    """Where to look.

    Attributes:
        folders: None for all.
        warnings: for the tick's log.
        told: the same, where nothing is wrong.
        followed: up to where messages were followed with this look; None where none are.
        messages: that were read for it.
    """

    folders: list[str] | None = None
    warnings: list[str] = field(default_factory=list)
    told: str = ""
    followed: Followed | None = None
    messages: Messages = field(default_factory=Messages)

    def changes(self, pipeline: Pipeline, tree: TreeListing) -> list[FolderChange]:
        """What of the folders that were looked at differs from the table; which are gone, a look at all says alone."""
        changes = pipeline.folder_changes(tree)
        return changes if self.folders is None else [each for each in changes if each.folder in tree.folders]

    def gone_on(
        self, tree: TreeListing, waiting: Iterable[FolderChange], behind: Iterable[FolderChange], *, is_done: bool
    ) -> Followed | None:
        """What the next tick goes on from.

        Args:
            waiting, behind: what isn't in line.
            is_done: whether this tick came to all that it had to do.
        """
        if (now := self.followed) is None:
            return None
        differing = [each.folder for each in waiting if each.folder in tree.folders]
        without = [each.folder for each in behind]
        return Followed.to_go_on(now.of, now.looked if is_done else 0, now.read, differing, without)

    def nothing(self, cursor: Cursor) -> str:
        """The cursor of a tick that had nowhere to look."""
        return cursor.text(cursor.after, cursor.looks, (), cursor.behind, self.followed)

    def delete_messages(self, pipeline: Pipeline) -> str:
        """Delete a queue's messages, when what follows from them is decided; says what went wrong.

        Should that be lost in the moment before Dagster stores it, the next look at all folders finds it. Kept until
        the next tick, they would come again before it, as a queue holds back what was read for a short while only.
        """
        place = pipeline.settings.images_events
        if not isinstance(place, QueueAddress) or not self.messages.receipts:
            return ""
        try:
            delete_messages(place, pipeline.settings.storage_options, self.messages.receipts)
        except CurationError as error:
            return f"messages that were read will come again: {error}"
        return ""


def next_look(pipeline: Pipeline, before: Followed | None, now: float) -> Look:
    """Read messages, and decide where to look.

    Args:
        before: as the last tick left it.
        now: seconds since 1970.
    """
    settings = pipeline.settings
    place, root, seconds = settings.images_events, settings.images_root, settings.full_look_seconds
    if place is None:
        return Look()
    if not isinstance(root, StoreAddress) or isinstance(root, VolumeAddress):
        return Look(warnings=["CURATION_IMAGES_EVENTS says nothing of images that lie in no bucket, as these do"])
    of = short_name(settings.model_dump_json(exclude={"storage_options"}))
    before = before if before is not None and before.of == of else Followed(of, 0)
    is_due = not before.looked or not 0 <= now - before.looked < seconds
    try:
        messages = read_messages(place, settings.storage_options, before.read, are_wanted=not is_due)
    except (CurationError, OSError) as error:
        why = f"messages of changes can't be read, so all folders are looked at: {error}"
        return Look(warnings=[why], followed=Followed(of, 0, before.read))
    keys, odd = named_keys(messages.texts, root)
    told = f"{odd} messages say nothing of an object, and were skipped" if odd else ""
    folders = {_folder_of(key, settings.depth) for key in keys if is_candidate(key.rpartition("/")[2])}
    folders |= set(before.again)
    if is_due or len(folders) > _MOST_FOLDERS:
        return Look(None, [], told, Followed(of, now, messages.last), messages)
    return Look(sorted(folders), [], told, Followed(of, before.looked, messages.last), messages)


def _folder_of(key: str, depth: int | None) -> str:
    return folder_of(text_from_path(key.rpartition("/")[0]), depth)
