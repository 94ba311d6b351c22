"""The squares and hashes of all contents, as arrays beside the index: made of the previews once, mapped into memory.

``current.json`` names immutable files beside it and is replaced in one step. All of it can be made anew from the
directory table at any time.
"""

from __future__ import annotations

import json
import os
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.curate.duplicates.squares import SIDE, square
from curation_assets.curate.duplicates.windows import ASKED, STORED, frequencies, hashes
from curation_assets.embed.reader import row_groups
from curation_assets.errors import CurationError, explained
from curation_assets.files import sync, waiting_lock, write_whole
from curation_assets.images.errors import ImageError
from curation_assets.lake.snapshot import Snapshot
from curation_assets.progress import Progress

_FORMAT = 1  # one more whenever a square or a hash would be another
_CURRENT, _LOCK = "current.json", "_writer.lock"
_KINDS = ("squares", "hashes", "asked")
_A_SEGMENT = 16_384  # pictures, 280 MB: what a kill can cost
_AT_ONCE = 32  # previews a thread is handed
_MAX_SEGMENTS, _MAX_DEAD = 64, 0.25
_COPIED_AT_ONCE = 1024
_KEYS = pl.Schema({"content_sha256": pl.String, "pixels_as": pl.String, "error": pl.String})


@dataclass(frozen=True)
class _Segment:
    """Files of some pictures: ``<name>.squares.npy`` and so on, and ``<name>.keys.arrow``."""

    name: str
    rows: int


class Pictures:
    """Squares and hashes of contents, opened.

    Attributes:
        keys: ``content_sha256``, ``pixels_as``, ``error`` (why there is no square), one row a picture; a picture's
            number is its row.
    """

    def __init__(self, path: Path, segments: Sequence[_Segment]) -> None:
        self.segments = list(segments)
        frames = [pl.read_ipc(path / f"{s.name}.keys.arrow") for s in segments]
        self.keys = pl.concat([pl.DataFrame(schema=_KEYS), *frames])
        self._arrays = {
            kind: [np.load(path / f"{s.name}.{kind}.npy", mmap_mode="r") for s in segments] for kind in _KINDS
        }
        self._starts = np.cumsum([0, *(s.rows for s in segments)])

    def squares(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(n, SIDE, SIDE) of pictures by number."""
        return self._take("squares", numbers)

    def hashes(self, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
        """(n, windows) of ``windows.STORED``."""
        return self._take("hashes", numbers)

    def asked(self, numbers: NDArray[np.int64]) -> NDArray[np.float16]:
        """(n, parts, 8, 8) frequencies of ``windows.ASKED``."""
        return self._take("asked", numbers)

    def _take(self, kind: str, numbers: NDArray[np.int64]) -> NDArray:  # type: ignore[type-arg]
        empty = _empty(kind, 0)
        found = np.empty((len(numbers), *empty.shape[1:]), empty.dtype)
        for place, array in enumerate(self._arrays[kind]):
            here = (numbers >= self._starts[place]) & (numbers < self._starts[place + 1])
            if here.any():
                found[here] = array[numbers[here] - self._starts[place]]
        return found


def open_pictures(path: Path) -> Pictures:
    """Those that lie somewhere."""
    return Pictures(path, _segments(path))


def refresh_pictures(
    path: Path, directory: Snapshot, contents: pl.DataFrame, progress: Progress, threads: int
) -> Pictures:
    """Make the squares of contents that have none yet, and open all.

    Args:
        path: of the folder they lie in.
        directory: the version of the directory table.
        contents: ``content_sha256``, ``pixels_as``; of an image with it ``relative_path``, ``file_path``, ``_file``.

    Raises:
        CurationError: they can't be written, or a file of the table is broken.
    """
    with explained(OSError, lambda reason: f"pictures {path} can't be written: {reason}"):
        path.mkdir(parents=True, exist_ok=True)
        with waiting_lock(path / _LOCK, lambda: progress.note(f"waiting for another process that is writing {path}")):
            segments = _segments(path)
            _sweep(path, segments)
            pictures = Pictures(path, segments)
            key = ["content_sha256", "pixels_as"]
            new = contents.join(pictures.keys, on=key, how="anti", nulls_equal=True, maintain_order="left")
            progress.start("pictures", len(new))
            for start in range(0, len(new), _A_SEGMENT):
                made = _made(path, directory, new.slice(start, _A_SEGMENT), progress, threads)
                segments.append(made)
                _publish(path, segments)
            dead = pictures.keys.join(contents, on=key, how="anti", nulls_equal=True)
            if len(dead) > _MAX_DEAD * max(1, len(pictures.keys)) or len(segments) > _MAX_SEGMENTS:
                segments = _laid_out(path, Pictures(path, segments), contents.select(key))
                _publish(path, segments)
                _sweep(path, segments)
            return Pictures(path, segments)


def _made(path: Path, directory: Snapshot, rows: pl.DataFrame, progress: Progress, threads: int) -> _Segment:
    arrays = {kind: _empty(kind, len(rows)) for kind in _KINDS[1:]}
    name = uuid.uuid4().hex
    squares = np.lib.format.open_memmap(
        path / f"{name}.squares.npy", mode="w+", dtype=np.uint8, shape=(len(rows), SIDE, SIDE)
    )
    with (path / f"{name}.squares.npy").open("r+b") as file:  # a page of the map without room would end the process
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    keys: list[tuple[str, str | None, str | None]] = []
    for some in _drawn(directory, rows, threads):
        first = len(keys)
        for content, pixels_as, drawn, error in some:
            if drawn is not None:
                squares[len(keys)] = drawn
            keys.append((content, pixels_as, error))
        part = slice(first, len(keys))
        arrays["hashes"][part] = hashes(frequencies(squares[part], STORED))
        arrays["asked"][part] = np.clip(frequencies(squares[part], ASKED), -60_000, 60_000)
        progress.advance(len(some))
    if len(keys) != len(rows):
        raise CurationError(f"table {directory.storage.location} lost rows while it was read; run again")
    squares.flush()
    del squares
    for kind, array in arrays.items():
        np.save(path / f"{name}.{kind}.npy", array)
    pl.DataFrame(keys, schema=_KEYS, orient="row").write_ipc(path / f"{name}.keys.arrow", compression="uncompressed")
    for kind in (*(f"{kind}.npy" for kind in _KINDS), "keys.arrow"):
        sync(path / f"{name}.{kind}")
    return _Segment(name, len(rows))


_Drawn = tuple[str, str | None, NDArray[np.uint8] | None, str | None]


def _drawn(directory: Snapshot, rows: pl.DataFrame, threads: int) -> Iterator[list[_Drawn]]:
    """Squares of rows, some at a time, decoded in threads; in the order in which they are stored."""
    pool = ThreadPoolExecutor(threads, "pictures")
    waiting: deque[Future[list[_Drawn]]] = deque()
    try:
        for some in _previews(directory, rows):
            while len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
            waiting.append(pool.submit(_draw_all, some))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _previews(directory: Snapshot, rows: pl.DataFrame) -> Iterator[list[tuple[str, str | None, bytes | None]]]:
    reader = directory.reader
    for group in row_groups(reader, rows, ["pixels_as"]):
        named = group.rows.select("relative_path", "content_sha256", "pixels_as")
        of_path = {path: (content, pixels_as) for path, content, pixels_as in named.iter_rows()}
        with reader.parquet(group.file) as parquet:
            columns = ["relative_path", "preview"]
            for batch in parquet.iter_batches(batch_size=_AT_ONCE, row_groups=[group.index], columns=columns):
                cells = zip(batch["relative_path"].to_pylist(), batch["preview"].to_pylist(), strict=True)
                some = [(*of_path[path], preview) for path, preview in cells if path in of_path]
                if some:
                    yield some


def _draw_all(some: list[tuple[str, str | None, bytes | None]]) -> list[_Drawn]:
    return [_draw(*each) for each in some]


def _draw(content: str, pixels_as: str | None, preview: bytes | None) -> _Drawn:
    if preview is None:
        return content, pixels_as, None, "it has no preview"
    try:
        return content, pixels_as, square(preview), None
    except ImageError as error:
        return content, pixels_as, None, str(error)


def _laid_out(path: Path, old: Pictures, living: pl.DataFrame) -> list[_Segment]:
    """The living pictures in few segments."""
    numbered = old.keys.with_row_index("_at")
    kept = numbered.join(living, on=living.columns, how="semi", nulls_equal=True).unique(living.columns, keep="last")
    numbers = kept["_at"].sort().to_numpy().astype(np.int64)
    segments = []
    for start in range(0, len(numbers), _A_SEGMENT):
        some = numbers[start : start + _A_SEGMENT]
        name = uuid.uuid4().hex
        for kind in _KINDS:
            empty = _empty(kind, 0)
            target = np.lib.format.open_memmap(
                path / f"{name}.{kind}.npy", mode="w+", dtype=empty.dtype, shape=(len(some), *empty.shape[1:])
            )
            for first in range(0, len(some), _COPIED_AT_ONCE):
                target[first : first + _COPIED_AT_ONCE] = old._take(kind, some[first : first + _COPIED_AT_ONCE])
            target.flush()
            sync(path / f"{name}.{kind}.npy")
        old.keys[some].write_ipc(path / f"{name}.keys.arrow", compression="uncompressed")
        sync(path / f"{name}.keys.arrow")
        segments.append(_Segment(name, len(some)))
    return segments


def _empty(kind: str, rows: int) -> NDArray:  # type: ignore[type-arg]
    if kind == "squares":
        return np.zeros((rows, SIDE, SIDE), np.uint8)
    if kind == "hashes":
        return np.zeros((rows, len(STORED)), np.uint64)
    return np.zeros((rows, len(ASKED), 8, 8), np.float16)


def _segments(path: Path) -> list[_Segment]:
    """What is there; nothing where it is of another version or damaged: it is made anew."""
    try:
        said = json.loads((path / _CURRENT).read_bytes())
        segments = (
            [_Segment(str(s["name"]), int(s["rows"])) for s in said["segments"]] if said["format"] == _FORMAT else []
        )
        Pictures(path, segments)
    except (OSError, ValueError, KeyError, TypeError, EOFError, pl.exceptions.PolarsError):
        return []
    return segments


def _publish(path: Path, segments: Sequence[_Segment]) -> None:
    said = {"format": _FORMAT, "segments": [{"name": s.name, "rows": s.rows} for s in segments]}
    write_whole(path / _CURRENT, json.dumps(said, indent=1).encode())


def _sweep(path: Path, segments: Sequence[_Segment]) -> None:
    """Remove what nothing names: of a killed process, or before it was laid out anew."""
    named = {s.name for s in segments}
    for file in path.iterdir():
        if file.name not in (_CURRENT, _LOCK) and file.name.partition(".")[0] not in named:
            with suppress(OSError):
                file.unlink()
