"""Which contents have a vector already, anywhere in the embeddings table; and what that leaves to be encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import polars as pl

from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed.plan import Work, plan_embed
from curation_assets.embed.vectors import is_current
from curation_assets.lake.snapshot import DataFile, Snapshot

_PART_ROWS = 500_000
_PICTURE = ["content_sha256", "pixels_as"]  # the same pixels go to the model
_NONE = pl.DataFrame(schema={"_hash": pl.UInt64, "_number": pl.UInt32})
_FOUND = {"content_sha256": pl.String, "pixels_as": pl.String, "_file": pl.String, "relative_path": pl.String}


class KnownContents:
    """An index of one model's rows, for as many folders as a process embeds one after another.

    Each file of the table is read once, its hash column alone; after a commit only the files it added. A row takes 12
    bytes (8 of its hash, the number of its file): an answer names the files that may hold a content, and those are
    asked for the whole hash.

    Args:
        model: rows of other models or versions don't count.
    """

    def __init__(self, model: RegisteredModel) -> None:
        self.model = model
        self._numbers: dict[str, int] = {}
        self._next = 0
        self._rows = _NONE

    @cached_property
    def removed(self) -> KnownContents:
        """The same of rows that left the table."""
        return KnownContents(self.model)

    def among(self, snapshots: Sequence[Snapshot], pending: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, DataFile]]:
        """Contents of some rows that have a vector in one of some snapshots of the table.

        Args:
            snapshots: of the embeddings table, at least one.
            pending: with columns ``content_sha256`` and ``pixels_as``.

        Returns:
            ``content_sha256``, ``pixels_as`` and, of one row that has them, ``_file`` and ``relative_path``; and those
            files by path.

        Raises:
            CurationError: a file of the table can't be read.
        """
        if not len(pending):
            return pl.DataFrame(schema=_FOUND), {}
        table = snapshots[0]
        files = {file.path: file for snapshot in snapshots for file in snapshot.files()}
        self._bring_up_to(table, files)
        asked = pending.select(_hash=_hash(pl.col("content_sha256"))).unique()
        hits = set(self._rows.join(asked, on="_hash", how="semi")["_number"].unique().to_list())
        candidates = [files[path] for path, number in self._numbers.items() if number in hits]
        wanted = pl.col("content_sha256").is_in(pending["content_sha256"].unique().implode())
        columns = [*_PICTURE, "relative_path"]
        found = table.read(columns, files=candidates, where=wanted & is_current(self.model))
        known = found.join(pending, on=_PICTURE, how="semi", nulls_equal=True).unique(_PICTURE).select(*_FOUND)
        named = set(known["_file"].to_list())
        return known, {path: files[path] for path in named}

    def _bring_up_to(self, table: Snapshot, files: dict[str, DataFile]) -> None:
        gone = [path for path in self._numbers if path not in files]
        if gone:
            numbers = [self._numbers.pop(path) for path in gone]
            self._rows = self._rows.filter(~pl.col("_number").is_in(numbers))
        new = [file for path, file in files.items() if path not in self._numbers]
        if new:
            numbers = list(range(self._next, self._next + len(new)))
            self._next += len(new)
            numbered = {file.path: number for file, number in zip(new, numbers, strict=True)}
            parts = [self._rows]
            for files_of_part in _in_parts(new):
                rows = table.read(["content_sha256"], files=files_of_part, where=is_current(self.model))
                parts.append(
                    rows.select(
                        _hash=_hash(pl.col("content_sha256")),
                        _number=pl.col("_file").replace_strict(numbered, return_dtype=pl.UInt32),
                    )
                )
            self._rows = pl.concat(parts)
            self._numbers |= numbered


def plan_work(
    directory: Snapshot,
    embeddings: Snapshot,
    folder: str,
    known: KnownContents,
    earlier: Snapshot | None = None,
    removed: Callable[[], Snapshot] | None = None,
) -> Work:
    """Plan a folder and look for contents that have a vector already.

    Args:
        known: of the model to embed with.
        earlier: an older snapshot of the embeddings, whose vectors may be copied too.
        removed: gives the files that lately left the embeddings; asked only where something would have to be encoded.
    """
    plan = plan_embed(directory, embeddings, folder, known.model)
    found, sources = known.among([embeddings, *([earlier] if earlier is not None else [])], plan.pending)
    lacking = plan.pending.join(found, on=_PICTURE, how="anti", nulls_equal=True)
    if removed is not None and len(lacking):
        more, more_sources = known.removed.among([removed()], lacking)
        found, sources = pl.concat([found, more]), sources | more_sources
        lacking = lacking.join(more, on=_PICTURE, how="anti", nulls_equal=True)
    return Work(
        folder=folder,
        model=known.model,
        directory=directory.reader,
        embeddings=embeddings.reader,
        plan=plan,
        copies=plan.pending.join(found, on=_PICTURE, how="inner", suffix="_from", nulls_equal=True),
        sources=sources,
        todo=lacking.sort("_file", "relative_path").unique("content_sha256", keep="first", maintain_order=True),
    )


def _in_parts(files: Sequence[DataFile]) -> Iterator[list[DataFile]]:
    """Files of ``_PART_ROWS`` rows together: whole hashes, held for a moment, take ten times what is kept of them."""
    part: list[DataFile] = []
    for file in files:
        part.append(file)
        if sum(each.rows for each in part) >= _PART_ROWS:
            yield part
            part = []
    if part:
        yield part


def _hash(sha256: pl.Expr) -> pl.Expr:
    return sha256.str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64)
