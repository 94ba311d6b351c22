"""Which images the keys of a store are: put into folders, column by column, as they come."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from threading import Lock

import polars as pl

from curation_assets.images.listing import (
    CANDIDATE_SUFFIXES,
    LISTING_SCHEMA,
    FolderListing,
    Scope,
    TreeListing,
    directories_of,
    why_no_candidate,
)
from curation_assets.images.names import folder_of, text_from_path
from curation_assets.stores.keys import Enter, KeyStore, OddKeyError, at_once

_PRIVATE_USE = "[\U0010ff80-\U0010ffff]"  # characters that stand for bytes in the tables' texts


def of_folders(keys: KeyStore, folders: Iterable[str], enter: Enter, *, is_deep: bool) -> Iterator[pl.DataFrame]:
    """Keys in some directories, or below them; raises as :meth:`KeyStore.everything`."""
    yield from at_once(lambda each: keys.below(each, enter) if is_deep else [keys.right_in(each)[0]], folders)


def walked(keys: KeyStore) -> Iterator[tuple[str, pl.DataFrame | str]]:
    """All keys directory by directory, where some are odd: each with its keys, or why they can't be listed.

    Raises:
        NotListedError: as :meth:`KeyStore.everything`.
    """
    pending = [""]
    while pending:
        one = pending.pop()
        try:
            found, directories = keys.right_in(one)
        except OddKeyError as error:
            yield one, str(error)
            continue
        yield one, found
        pending += directories


@dataclass
class Sorted:
    """Keys put into folders, as they come.

    Args:
        scope: what of them is wanted.
        left_out: of a directory, the one on the way to it that is not looked into, and why; None where there is none.

    Attributes:
        keys: how many there were.
        unlisted: directories whose keys can't be listed, and why.
    """

    scope: Scope
    left_out: Callable[[str], tuple[str, str] | None]
    keys: int = 0
    unlisted: dict[str, str] = field(default_factory=dict)
    _frames: list[pl.DataFrame] = field(default_factory=list)
    _passed_over: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _folders: dict[str, str | None] = field(default_factory=dict)
    _closed: set[str] = field(default_factory=set)
    _closing: Lock = field(default_factory=Lock)  # who lists several directories asks of each in a thread of its own

    def enters(self, directory: str) -> bool:
        """Whether keys below a directory can be wanted."""
        return not self._is_closed(text_from_path(directory))

    def add(self, keys: pl.DataFrame) -> None:
        """Take some keys."""
        self.keys += len(keys)
        odd = keys["path"].str.contains(_PRIVATE_USE)
        if odd.any():
            path = pl.col("path").map_elements(text_from_path, return_dtype=pl.String)
            keys = keys.with_columns(path=pl.when(odd).then(path).otherwise("path"))
        keys = keys.with_columns(
            _directory=directories_of(keys["path"]), _name=pl.col("path").str.replace("(?s)^.*/", "")
        )
        folders = {each: self._folder(each) for each in keys["_directory"].unique()}
        keys = keys.with_columns(folder=pl.col("_directory").replace_strict(folders, return_dtype=pl.String))
        keys = keys.filter(pl.col("folder").is_not_null())
        suffix = pl.col("_name").str.extract(r"(?s)^.+(\.[^.]*)$").str.to_lowercase()
        is_candidate = suffix.is_in(list(CANDIDATE_SUFFIXES)).fill_null(False) & ~pl.col("_name").str.starts_with(".")
        keys = keys.with_columns(_is_candidate=is_candidate)
        others = keys.filter(~pl.col("_is_candidate") & (pl.col("size_bytes") > 0))  # marks of directories are empty
        for folder, name in others.select("folder", "_name").iter_rows():
            self._passed_over[folder][why_no_candidate(name)] += 1
        rows = keys.filter(pl.col("_is_candidate")).with_columns(relative_path="path", ctime_ns="mtime_ns")
        self._frames.append(rows.select("folder", *LISTING_SCHEMA))

    def tree(self) -> TreeListing:
        """What they are."""
        folders = {}
        if self._frames:
            rows = pl.concat(self._frames).sort("folder", "relative_path")
            for (name,), files in rows.partition_by(
                "folder", as_dict=True, maintain_order=True, include_key=False
            ).items():
                changed = max(files["mtime_ns"].to_list())
                folders[str(name)] = FolderListing(str(name), files, self._passed_over[str(name)], changed)
        unlisted = {place: self.unlisted[place] for place in sorted(self.unlisted) if self.scope.holds(place)}
        for place, why in unlisted.items():
            if (of := folders.get(folder_of(place, self.scope.depth))) is not None:
                of.unlisted[place] = why
        return TreeListing(folders, sum(self._passed_over.values(), Counter[str]()), unlisted)

    def _folder(self, directory: str) -> str | None:
        """The image folder that a directory is of; None where it isn't wanted."""
        if directory not in self._folders:
            self._folders[directory] = self.scope.folder(directory)
            if self._is_closed(directory):
                self._folders[directory] = None
        return self._folders[directory]

    def _is_closed(self, directory: str) -> bool:
        """Whether a directory is left out, which is counted once."""
        if (closed := self.left_out(directory)) is None:
            return False
        place, why = closed
        above = place.rpartition("/")[0]
        with self._closing:
            if place not in self._closed and self.scope.folder(above) is not None:
                self._closed.add(place)
                self._passed_over[folder_of(above, self.scope.depth)][why] += 1
        return True
