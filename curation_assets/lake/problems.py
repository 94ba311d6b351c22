"""What the libraries raise for a broken table or an unusable lake, as one line for the user."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
import pyarrow as pa
from deltalake.exceptions import CommitFailedError, DeltaError

from curation_assets.errors import CurationError, disk_full, explained
from curation_assets.lake.storage import Storage

COMMIT_PATIENCE_SECONDS = 300
_LIBRARIES = (DeltaError, pl.exceptions.PolarsError, pa.ArrowException)
_SYSTEM = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)


@contextmanager
def explained_table(storage: Storage) -> Iterator[None]:
    """Explain whatever goes wrong with a table in the block.

    Raises:
        CurationError: naming the table and the reason. Errors of the system that have nothing to do with a lake pass.
    """
    table = storage.location

    def sentence(reason: str) -> str:
        return f"table {table} can't be read or written: {reason}"

    try:
        with explained(_LIBRARIES, sentence, storage.reason):
            try:
                yield
            except CommitFailedError as error:
                raise CurationError(
                    f"table {table}: no commit landed in {COMMIT_PATIENCE_SECONDS} s: {error}"
                ) from error
    except OSError as error:
        if (full := disk_full(error)) is not None:  # pyarrow names no file, and says first what it was writing
            raise CurationError(f"lake {full.filename or table}: {os.strerror(full.errno or 0)}") from error
        if error.errno in (None, errno.ENOENT):  # a library in Rust gives no number; or a file of the table is gone
            reason = str(error) if error.errno is not None else storage.reason(error)
            raise CurationError(sentence(reason)) from error
        if error.errno not in _SYSTEM:
            raise
        raise CurationError(f"lake {error.filename or table}: {error.strerror}; check CURATION_LAKE_ROOT") from error


@contextmanager
def explained_log(storage: Storage) -> Iterator[None]:
    """The same for opening a table, where a torn log is what there is to say.

    Raises:
        CurationError: naming the table, the reason and what to do.
    """

    def said(reason: str) -> str:
        return (
            f"table {storage.location} can't be read or written: {reason}; its log is damaged, as by a power cut: "
            "`curation repair` says what can be mended"
        )

    with explained(DeltaError, said, storage.reason):
        yield
