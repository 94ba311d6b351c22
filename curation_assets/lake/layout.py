"""How large a table's Parquet files are, and when small ones are joined.

A row leaves by writing the rest of its file anew, so the size of a file is what one changed image costs; the number of
files is what every commit and every opening of the table costs (4 ms a thousand). A file is finished once it holds
``FILE_BYTES`` and ``FILE_ROWS``: a change writes 8 MB, or 64 times the row where rows are large, and a million
photographs make at most 16,000 files.
"""

from __future__ import annotations

from collections.abc import Iterable

from curation_assets.lake.snapshot import DataFile

FILE_BYTES, FILE_ROWS = 8 * 2**20, 64  # at least, both
MOST_FILE_BYTES = 256 * 2**20  # whatever the rows
SMALL_FILES = 8  # of one partition may lie about; more are joined, which writes a row three or four times in all


def is_full(size_bytes: int, rows: int) -> bool:
    """Whether that much, before it is compressed, makes a file."""
    return (size_bytes >= FILE_BYTES and rows >= FILE_ROWS) or size_bytes >= MOST_FILE_BYTES


def is_large_enough(size_bytes: int, rows: int) -> bool:
    """Whether a file that is compressed is as large as it should be: base64 shrinks to three quarters."""
    return is_full(size_bytes * 3 // 2, rows)


def small_files(files: Iterable[DataFile]) -> list[DataFile]:
    """Those that are less than half of what they should be; what :func:`is_large_enough` made is never among them."""
    return [file for file in files if not is_full(2 * file.size_bytes, 2 * file.rows)]
