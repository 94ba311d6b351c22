"""Two versions of a dataset beside each other, and whether a version's images are still to be had."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl

from curation_assets.images.source import ImageSource
from curation_assets.progress import Progress

CAME, WENT, MOVED, RELABELLED, REPLACED = "came", "went", "moved", "relabelled", "replaced"
_THREADS = 8


CHANGE = ("relative_path", "change", "before", "after", "witness")


def changes(one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """What is otherwise in a later version.

    Args:
        one, other: rows of the earlier and the later version.

    Returns:
        The columns of ``CHANGE``: ``change`` is ``came``, ``went``, ``moved`` to another side, ``relabelled``, or
        ``replaced`` by other bytes; ``before`` and ``after`` are side, label, or why it was or is left out; ``witness``
        is that of what went. Then what ``changes.reasons.explained`` goes by: the rows of both versions, the later's
        with ``_after``, and as ``witness_kept``, ``witness_reason`` and ``witness_witness`` what the other version says
        of a row's witness. Sorted.
    """
    both = _beside(one, other).join(_beside(other, one), on="relative_path", how="full", coalesce=True, suffix="_after")
    was, is_now = pl.col("kept").fill_null(value=False), pl.col("kept_after").fill_null(value=False)
    parts: list[tuple[str, pl.Expr, pl.Expr, pl.Expr]] = [
        (CAME, ~was & is_now, pl.col("reason").fill_null("not there"), pl.coalesce("split_after", "label_after")),
        (WENT, was & ~is_now, pl.coalesce("split", "label"), pl.col("reason_after").fill_null("not there")),
        (
            MOVED,
            was & is_now & pl.col("split").ne_missing(pl.col("split_after")),
            pl.col("split"),
            pl.col("split_after"),
        ),
        (
            RELABELLED,
            was & is_now & pl.col("label").ne_missing(pl.col("label_after")),
            pl.col("label"),
            pl.col("label_after"),
        ),
        (
            REPLACED,
            was & is_now & (pl.col("content_sha256") != pl.col("content_sha256_after")),
            pl.col("content_sha256").str.slice(0, 12),
            pl.col("content_sha256_after").str.slice(0, 12),
        ),
    ]
    found = [
        both.filter(which).with_columns(change=pl.lit(change), before=before, after=after)
        for change, which, before, after in parts
    ]
    return pl.concat(found).sort("change", "relative_path")


def as_changes(found: pl.DataFrame, further: Iterable[str] = ()) -> pl.DataFrame:
    """The columns of ``CHANGE``, and further ones."""
    return found.drop("witness").rename({"witness_after": "witness"}).select(*CHANGE, *further)


def _beside(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Rows of a version, and what another one says of their witnesses."""
    names = ["kept", "reason", "witness"]
    told = others.select(witness="relative_path", **{f"witness_{name}": name for name in names})
    columns = ["relative_path", "content_sha256", "kept", "reason", "witness", "similarity", "label", "split"]
    return rows.select(columns).join(told, on="witness", how="left")


@dataclass(frozen=True)
class Verified:
    """Whether images are still there.

    Attributes:
        images: looked at.
        gone: path → why its bytes can't be read.
        other: paths whose file has other bytes now.
    """

    images: int
    gone: dict[str, str]
    other: list[str]


def verify(kept: pl.DataFrame, source: ImageSource, progress: Progress) -> Verified:
    """Read every image of a version, and compare the hash of its bytes.

    Args:
        kept: ``relative_path`` and ``content_sha256``.
    """
    gone: dict[str, str] = {}
    other: list[str] = []
    progress.start("verify", len(kept))

    def one(path: str) -> str | OSError:
        try:
            return hashlib.sha256(source.read(path)).hexdigest()
        except OSError as error:
            return error

    with ThreadPoolExecutor(_THREADS, "verify") as pool:
        paths = kept["relative_path"].to_list()
        for path, content, found in zip(paths, kept["content_sha256"], pool.map(one, paths), strict=True):
            progress.advance(1)
            if isinstance(found, OSError):
                gone[path] = found.strerror or str(found)
            elif found != content:
                other.append(path)
    return Verified(len(kept), gone, other)
