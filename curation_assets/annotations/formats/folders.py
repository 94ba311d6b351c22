"""Folder names as annotations: a pattern of paths whose named parts are fields, or the split."""

from __future__ import annotations

import re

import polars as pl

from curation_assets.annotations.fields import check_field
from curation_assets.annotations.matching import IMAGE_COLUMNS
from curation_assets.annotations.said import SAID, Faults, Said, complete
from curation_assets.errors import CurationError
from curation_assets.images.names import printable
from curation_assets.lake.snapshot import Snapshot

SPLIT = "split"
_PART = re.compile(r"\{([^{}]*)\}|(\*\*/)|(\*\*)|(\*)|([^{}*]+)|([{}])")


def read_folders(directory: Snapshot, pattern: str, field: str) -> Said:
    """What the paths of images say.

    Args:
        pattern: of whole relative paths. ``{class}`` is a part of one name and becomes the field ``class``, ``{split}``
            the split; ``*`` is anything within one name, ``**`` any number of folders.
        field: that the split is noted with where the pattern names no other.

    Raises:
        CurationError: the pattern is none.
    """
    expression, names = compiled_pattern(pattern)
    paths = directory.read(IMAGE_COLUMNS[:1]).drop("_file").unique().sort("relative_path")
    found = paths.with_columns(pl.col("relative_path").str.extract_groups(expression).struct.unnest())
    found = found.drop_nulls(names[:1]).rename({"relative_path": "name"})
    faults = Faults(f"pattern {pattern!r}")
    if not len(found):
        some = ", ".join(printable(path) for path in paths["relative_path"].head(2))
        faults.add(f"it matches none of the {len(paths):,} images" + (f", for example {some}" if some else ""))
    fields = [name for name in names if name != SPLIT]
    split = pl.col(SPLIT) if SPLIT in names else pl.lit(None, pl.String)
    parts = [
        complete(found.select("name", field=pl.lit(name), values=pl.concat_list(name), split=split)) for name in fields
    ]
    if not fields:
        parts = [complete(found.select("name", field=pl.lit(field), split=split))]
    rows = pl.concat([SAID.to_frame(), *parts])
    left = len(paths) - len(found)
    notes = [f"{left:,} of {len(paths):,} images don't match the pattern"] if left and len(found) else []
    return Said(rows, lambda row: f"image {row}", faults, notes=notes)


def compiled_pattern(pattern: str) -> tuple[str, list[str]]:
    """A regular expression of whole paths, and the names of its groups.

    Raises:
        CurationError: the pattern is none, or names nothing.
    """
    names: list[str] = []
    out = []
    for named, folders, anything, star, text, brace in (found.groups() for found in _PART.finditer(pattern)):
        if named is not None:
            if check_field(named) in names:
                raise CurationError(f"pattern {pattern!r}: {{{named}}} stands twice in it")
            names.append(named)
            out.append(f"(?P<{named}>[^/]+)")
        elif folders:
            out.append("(?:[^/]+/)*")
        elif anything:
            out.append(".*")
        elif star:
            out.append("[^/]*")
        elif brace:
            raise CurationError(f"pattern {pattern!r}: {brace} without its other half")
        else:
            out.append(re.escape(text))
    if not names:
        raise CurationError(
            f"pattern {pattern!r} names nothing; write for example '{{class}}/*' or '{{split}}/{{class}}/*'"
        )
    return f"(?s)^{''.join(out)}$", names
