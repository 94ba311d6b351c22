"""Which directories of a tree are walked: not hidden ones, not those a pattern leaves out, not this program's own, and
no link unless links are followed. What can't be listed is noted, and the walk goes on.
"""

from __future__ import annotations

import fnmatch
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from curation_assets.images.names import path_from_text, text_from_path
from curation_assets.settings import LEFT_OUT

LEFT_OUT_REASON, OWN_REASON = "folder left out by CURATION_LEAVE_OUT", "folder of this program"
LINK_REASON, LISTED_REASON, LOOP_REASON = "link to a folder", "link to a folder listed already", "link in a loop"
ROOT_REASON = "link to the root or above it"


@dataclass(frozen=True)
class WalkRules:
    """What is not walked into. It can be pickled.

    Attributes:
        leave_out: patterns as of a shell, whatever the case, of a folder's name or, with a ``/``, of its path below
            the root.
        own: real paths of this program's own folders.
        follow_links: whether links to folders are walked, and links to files out of the root taken.
    """

    leave_out: tuple[str, ...] = LEFT_OUT
    own: tuple[str, ...] = ()
    follow_links: bool = False

    def leaves_out(self, relative_dir: str) -> bool:
        """Whether a pattern leaves out a folder, whatever is said of those above it."""
        names, paths = self._patterns
        path = _comparable(relative_dir)
        return bool((names and names(path.rpartition("/")[2])) or (paths and paths(path)))

    @cached_property
    def _patterns(self) -> tuple[Callable[[str], object] | None, ...]:
        """Of names, of paths; None where there are none."""
        written = [_comparable(pattern.removesuffix("/")) for pattern in self.leave_out]
        names = [fnmatch.translate(pattern) for pattern in written if pattern and "/" not in pattern]
        paths = [fnmatch.translate(pattern.lstrip("/")) for pattern in written if "/" in pattern]
        return tuple(re.compile("|".join(each)).match if each else None for each in (names, paths))


@dataclass
class Directory:
    """A directory that was listed.

    Attributes:
        relative: below the root, as table text; ``""`` is the root.
        entries: what is not walked into.
        passed_over: of the others, how many are not walked into either, by reason.
    """

    relative: str
    path: Path
    entries: list[os.DirEntry[str]]
    passed_over: Counter[str]


class LinkMetError(Exception):
    """Whether a link is followed depends on the others of the tree, so all of it has to be walked."""


def everywhere(_below: str, _above: str) -> bool:
    """Walk into every directory."""
    return True


@dataclass
class Walk:
    """Directories of a tree, parents first, each once.

    Args:
        starts: directories to begin at, as table text; ``[""]`` is the whole tree.
        descend: whether a directory below another is walked into, both as table text.

    Attributes:
        unlisted: directories that can't be listed, and why.
    """

    root: Path
    rules: WalkRules
    starts: Collection[str] = ("",)
    descend: Callable[[str, str], bool] = everywhere
    unlisted: dict[str, str] = field(default_factory=dict)
    _claimed: set[str] = field(default_factory=set)  # real paths of followed links

    def __iter__(self) -> Iterator[Directory]:
        """Walk.

        Raises:
            LinkMetError: a part of the tree has a link that may have to be followed.
        """
        self._real_root = os.path.realpath(self.root)
        is_whole = list(self.starts) == [""]
        pending = [(start, self._real(start)) for start in self.starts]
        while pending:
            links: list[tuple[str, str]] = []  # relative name, real path of the directory it lies in
            while pending:
                relative, real = pending.pop()
                if (directory := self._listed(relative, real, pending, links)) is not None:
                    yield directory
            if links and not is_whole:
                raise LinkMetError
            pending = [(name, real) for name, real in map(self._followed, sorted(links)) if real]

    def _listed(
        self, relative: str, real: str, pending: list[tuple[str, str]], links: list[tuple[str, str]]
    ) -> Directory | None:
        path = self.root / path_from_text(relative)
        kept: list[os.DirEntry[str]] = []
        passed_over: Counter[str] = Counter()
        below, linked = [], []
        try:
            with os.scandir(path) as scan:
                for entry in scan:
                    if entry.name.startswith(".") or entry.is_file(follow_symlinks=False):
                        kept.append(entry)
                    elif entry.is_dir(follow_symlinks=False):
                        below.append(entry.name)
                    elif entry.is_symlink() and os.path.isdir(entry.path):
                        linked.append(entry.name)
                    else:
                        kept.append(entry)
        except (FileNotFoundError, NotADirectoryError):
            return None  # removed while the walk went on, or a wanted folder that isn't there
        except OSError as error:
            self.unlisted[relative] = error.strerror or str(error)
            return None
        for name in below:
            text, real_below = joined(relative, text_from_path(name)), os.path.join(real, name)
            if reason := self._reason(text, real_below):
                passed_over[reason] += 1
            elif self.descend(text, relative):
                pending.append((text, real_below))
        for name in linked:
            text = joined(relative, text_from_path(name))
            if reason := self._link_reason(text, path / name, real):
                passed_over[reason] += 1
            elif self.descend(text, relative):
                links.append((text, real))
        return Directory(relative, path, kept, passed_over)

    def _reason(self, relative: str, real: str) -> str | None:
        if self.rules.leaves_out(relative):
            return LEFT_OUT_REASON
        if real in self.rules.own:
            return OWN_REASON
        return LISTED_REASON if real in self._claimed else None

    def _link_reason(self, relative: str, path: Path, real_above: str) -> str | None:
        if self.rules.leaves_out(relative):
            return LEFT_OUT_REASON
        target = os.path.realpath(path)
        if is_within(self._real_root, target):
            return ROOT_REASON
        if not self.rules.follow_links:
            return LINK_REASON
        if any(is_within(target, own) for own in self.rules.own):
            return OWN_REASON
        if is_within(target, self._real_root):
            return LISTED_REASON
        return LOOP_REASON if is_within(real_above, target) else None

    def _followed(self, link: tuple[str, str]) -> tuple[str, str]:
        """A link and its real path, which is empty where another link that came before has reached it."""
        target = self._real(link[0])
        if any(is_within(target, claimed) for claimed in self._claimed):
            return link[0], ""
        self._claimed.add(target)
        return link[0], target

    def _real(self, relative: str) -> str:
        return os.path.realpath(self.root / path_from_text(relative))


def is_reached(root: Path, rules: WalkRules, relative_dir: str) -> bool:
    """Whether a walk from the root may come to a directory: no ``..``, nothing hidden or left out, no link on the way.

    Raises:
        LinkMetError: there is a link on the way, and links are followed.
    """
    if not relative_dir:
        return True
    real = os.path.realpath(root)
    parts = path_from_text(relative_dir).split("/")
    if any(part.startswith(".") or not part for part in parts):
        return False
    for end in range(1, len(parts) + 1):
        real = os.path.join(real, parts[end - 1])
        if rules.leaves_out(text_from_path("/".join(parts[:end]))) or real in rules.own:
            return False
        if os.path.islink(os.path.join(root, *parts[:end])):
            if rules.follow_links:
                raise LinkMetError
            return False
    return True


def is_within(path: str, directory: str) -> bool:
    """Whether a real path is a directory or lies below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def joined(relative_dir: str, name: str) -> str:
    """The path of what lies in a directory, both relative to the root."""
    return f"{relative_dir}/{name}" if relative_dir else name


def _comparable(text: str) -> str:
    """Written the same way whatever the case, and on every operating system."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).lower()
