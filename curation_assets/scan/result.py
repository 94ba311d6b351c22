"""What a scan did, and where its time went."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

from curation_assets.errors import CurationError
from curation_assets.images.record import Spent
from curation_assets.lake.snapshot import DataFile
from curation_assets.lake.staging import StagedFile


@dataclass
class UnitCounts(Spent):
    """What carrying out a unit took.

    Attributes:
        read: files opened; ``bytes_read`` their size together.
        unread: files of good rows that could not be examined at the moment, and why; those rows stay.
        read_seconds, decode_seconds: summed over the threads.
        write_seconds: building Arrow and writing Parquet, beside the threads.
    """

    read: int = 0
    bytes_read: int = 0
    write_seconds: float = 0.0
    unread: dict[str, str] = field(default_factory=dict)

    def add(self, counts: UnitCounts) -> None:
        """Count another one in."""
        for part in fields(UnitCounts):
            mine, other = getattr(self, part.name), getattr(counts, part.name)
            setattr(self, part.name, mine | other if isinstance(mine, dict) else mine + other)


@dataclass
class ScanResult(UnitCounts):
    """What a scan did to one folder.

    Attributes:
        new, changed, vanished, unchanged: files by how they differ from the table.
        outdated: unchanged files read again, as this version reads them otherwise.
        staying: rows that stay although no file is listed for them.
        compared: unchanged files whose inode alone had changed, and whose hash was compared; ``assumed`` are those
            that count as the same because a sample of them was, ``uncompared`` those left for the next scan.
        passed_over: entries that were no candidates, by reason.
        unlisted: what can't be listed, relative to the root, and why; rows there stay.
        statuses: rows of the folder now, by status.
        commits: versions written; 0 means the table was up to date.
        broken: why the folder was left as it is: a data file of its rows can't be read.
        lost: data files of its rows that could not be read and were replaced, and why.
    """

    folder: str = ""
    new: int = 0
    changed: int = 0
    outdated: int = 0
    vanished: int = 0
    staying: int = 0
    unchanged: int = 0
    compared: int = 0
    assumed: int = 0
    uncompared: int = 0
    commits: int = 0
    version: int = 0
    seconds: float = 0.0
    passed_over: Counter[str] = field(default_factory=Counter)
    unlisted: dict[str, str] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    broken: str | None = None
    lost: dict[str, str] = field(default_factory=dict)

    def checked(self) -> ScanResult:
        """Itself.

        Raises:
            CurationError: the folder was left as it is.
        """
        if self.broken is not None:
            raise CurationError(self.broken)
        return self

    @property
    def files(self) -> int:
        """Rows of the folder."""
        return self.statuses.total()

    @property
    def ok(self) -> int:
        """Rows that are images."""
        return self.statuses["ok"]

    @property
    def bad(self) -> int:
        """Rows that are not."""
        return self.files - self.ok

    @property
    def images_per_second(self) -> float:
        """Files read a second, listing and planning included; 0 where nothing was read."""
        return self.read / self.seconds if self.read and self.seconds else 0.0

    def shares(self) -> dict[str, float]:
        """Part of the worked seconds that reading, decoding and writing took; empty where nothing was read."""
        stages = {"read": self.read_seconds, "decode": self.decode_seconds, "write": self.write_seconds}
        total = sum(stages.values())
        return {stage: seconds / total for stage, seconds in stages.items()} if total else {}


@dataclass
class ScanPiece:
    """A piece of finished work that one commit makes part of the table.

    Attributes:
        add: staged files that join.
        remove: files of the planned snapshot that leave.
    """

    add: list[StagedFile] = field(default_factory=list)
    remove: list[DataFile] = field(default_factory=list)
    counts: UnitCounts = field(default_factory=UnitCounts)


def compared_line(compared: int, assumed: int, left: int) -> str:
    """How edits were looked for that keep size and time; empty where nothing was to be compared."""
    if not compared and not left:
        return ""
    said = f"{compared + assumed + left:,} files whose ctime alone changed: {compared:,} compared by their hash"
    if assumed:
        said += f", {assumed:,} taken to be the same as those were (--rescan reads all)"
    return f"{said}, {left:,} left for the next run" if left else said
