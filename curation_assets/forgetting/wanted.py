"""Which images are to be forgotten: their contents, under whatever paths they lay."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from curation_assets.errors import CurationError
from curation_assets.images.names import printable
from curation_assets.lake.earlier import earlier_files, read_earlier
from curation_assets.lake.schemas import TableSpec
from curation_assets.lake.table import LakeTable

_CONTENTS = ("content_sha256", "first", "second", "other_sha256", "represented_by")  # columns that name a content
_MENTIONS = ("keeper", "witness")  # columns that name another image by its path
_IMAGE = ["relative_path", "content_sha256"]
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Wanted:
    """Images that are to be forgotten.

    Attributes:
        contents: SHA-256 of their bytes, sorted.
        paths: where the tables ever had one of these contents, and have no other now; sorted.
    """

    contents: pl.Series
    paths: pl.Series

    @classmethod
    def of(cls, contents: Iterable[str], paths: Iterable[str]) -> Wanted:
        """These, each once."""
        return cls(
            pl.Series("content_sha256", sorted(set(contents)), dtype=pl.String),
            pl.Series("relative_path", sorted(set(paths)), dtype=pl.String),
        )

    def with_others(self, other: Wanted) -> Wanted:
        """Both."""
        return Wanted.of([*self.contents, *other.contents], [*self.paths, *other.paths])

    def rows(self, spec: TableSpec) -> pl.Expr:
        """Of which rows of a table one of the images is what they are about."""
        names = {column.name for column in spec.columns if pa.types.is_string(column.type)}  # others are called so too
        parts = [self._is_content(name) for name in _CONTENTS if name in names]
        if names.issuperset(_IMAGE):
            parts.append(pl.col("content_sha256").is_null() & self._is_path("relative_path"))
        return pl.any_horizontal(parts) if parts else pl.lit(value=False)

    def mentions(self, spec: TableSpec) -> pl.Expr:
        """Which rows that are about another image name one of these."""
        names = {column.name for column in spec.columns}
        parts = [self._is_path(name) for name in _MENTIONS if name in names]
        if "evidence" in names:
            of_list = pl.col("evidence").list.eval(pl.element().is_in(self.paths.implode())).list.any()
            parts.append(of_list.fill_null(value=False))
        return pl.any_horizontal(parts) if parts else pl.lit(value=False)

    def _is_content(self, column: str) -> pl.Expr:
        return pl.col(column).is_in(self.contents.implode()).fill_null(value=False)

    def _is_path(self, column: str) -> pl.Expr:
        return pl.col(column).is_in(self.paths.implode()).fill_null(value=False)


def find_wanted(directory: LakeTable, paths: Iterable[Sequence[str]], contents: Iterable[str]) -> Wanted:
    """What some paths and contents stand for, in the directory table and all that is left of its history.

    Args:
        paths: of each image the relative paths that may be meant. All contents that lay there are.
        contents: SHA-256, hexadecimal.

    Raises:
        CurationError: the tables never heard of an image, or a content is no hash.
    """
    given = [content.strip().lower() for content in contents]
    if strange := next((content for content in given if not _HASH.fullmatch(content)), None):
        raise CurationError(f"--content {strange!r}: a SHA-256 is 64 hexadecimal digits")
    if not directory.exists():
        raise CurationError(f"there is no table at {directory.path}; `curation run` creates it")
    candidates = [list(of_one) for of_one in paths]
    meant = sorted({path for of_one in candidates for path in of_one})
    of_paths = _rows(directory, pl.col("relative_path").is_in(meant))
    known = set(of_paths["relative_path"])
    for of_one in candidates:
        if known.isdisjoint(of_one):
            raise CurationError(
                f"there is no row for {printable(of_one[0])!r} in {directory.path}, nor in its history; name an image "
                "by its path relative to the images root, its path on disk, or --content"
            )
    found = sorted({*of_paths["content_sha256"].drop_nulls(), *given})
    of_contents = _rows(directory, pl.col("content_sha256").is_in(found))
    lay_at = {*known, *of_contents["relative_path"]}
    now = directory.latest().read(_IMAGE, where=pl.col("relative_path").is_in(sorted(lay_at)))
    others = now.filter(pl.col("content_sha256").is_not_null() & ~pl.col("content_sha256").is_in(found))
    lay_at -= set(others["relative_path"])
    return Wanted.of(found, lay_at)


def _rows(directory: LakeTable, where: pl.Expr) -> pl.DataFrame:
    """Path and content of rows of the table, and of what is left of its history."""
    now = directory.latest().read(_IMAGE, where=where)
    earlier, _ = read_earlier(directory, _IMAGE, where, sorted(earlier_files(directory)))
    return pl.concat([now, earlier]).select(_IMAGE).unique()
