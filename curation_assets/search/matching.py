"""Which rows of an index a filter lets through, before anything is ranked."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.errors import CurationError
from curation_assets.search.attachments import Attachments
from curation_assets.search.filters import UNUSABLE, Filter, parse_value
from curation_assets.search.index import SearchIndex


def matching_rows(index: SearchIndex, attachments: Attachments, chosen: Filter) -> NDArray[np.int64] | None:
    """Numbers of the rows that a filter lets through; None means all.

    Raises:
        CurationError: a folder is not there, a condition can't be used, or what it needs beside the index is broken.
    """
    expression = chosen.model_copy(update={"folder": ()}).expression(attachments.types)
    if expression is None and not chosen.folder:
        return None
    mask = _in_folders(index, chosen.folder) if chosen.folder else np.ones(len(index.rows), bool)
    if expression is not None:
        rows = index.rows.hstack(attachments.of(index, expression.meta.root_names()))
        try:  # beside a column, so that a condition of one value for all is stretched over them
            passes = rows.select("relative_path", _passes=expression)["_passes"]
        except UNUSABLE as error:
            raise CurationError(f"filter where={chosen.where!r}: {str(error).splitlines()[0]}") from None
        mask &= passes.fill_null(False).to_numpy()
    return np.flatnonzero(mask)


def values_of(index: SearchIndex, attachments: Attachments, text: str, called: str) -> pl.Series:
    """A column of an index or one that joins it, or what SQL makes of them: a text or null for each of its rows.

    Args:
        called: what a fault names it.

    Raises:
        CurationError: it can't be used, or what it needs beside the index is broken.
    """
    value = parse_value(text, attachments.types, called)
    rows = index.rows.hstack(attachments.of(index, value.meta.root_names()))
    try:
        return rows.select("relative_path", _value=value)["_value"]
    except UNUSABLE as error:
        raise CurationError(f"{called}: {text!r}: {str(error).splitlines()[0]}") from None


def _in_folders(index: SearchIndex, folders: Iterable[str]) -> NDArray[np.bool_]:
    """Which rows lie in one of some folders or below: as ``Filter.folder`` says, but looked up in the sorted paths."""
    mask = np.zeros(len(index.rows), bool)
    paths = index.rows["relative_path"]
    for folder in folders:
        name = folder.rstrip("/")
        low, high = paths.search_sorted(name + "/"), paths.search_sorted(name + "0")  # 0 comes after /
        here = index.rows["folder"] == name if name == "." or low == high else None  # a name that was cut, say
        if here is None:
            mask[low:high] = True
        elif here.any():
            mask |= here.to_numpy()
        else:
            raise CurationError(f"there is no folder {folder!r} with images in the index")
    return mask
