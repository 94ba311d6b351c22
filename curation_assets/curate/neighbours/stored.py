"""The graph on disk, beside the index: ``current.json`` names one immutable Arrow file, and is replaced in one step.

A reader sees one graph or the next, and a build that is killed changes nothing.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from curation_assets.errors import CurationError
from curation_assets.files import sync, write_whole
from curation_assets.search.index import IndexInfo

# Entries that are told: a few more than a distinct list has, so that a pair or two of copies needs no second look.
KNOWN = 28
DISTINCT = 20  # entries of a distinct list: candidates of duplicates are verified on at most 30
CURRENT = "current.json"
LOCK = "_writer.lock"
_FORMAT = 1
_DIGEST = 32  # bytes of a SHA-256
_KINDS: dict[pa.DataType, np.dtype[Any]] = {
    pa.int32(): np.dtype("<i4"),
    pa.int64(): np.dtype("<i8"),
    pa.float32(): np.dtype("<f4"),
}


class NeighboursInfo(BaseModel):
    """What a graph covers and how it was made.

    Attributes:
        embeddings_id, embeddings_version, directory_id, directory_version: of the index that it was made of.
        dimension: of the vectors.
        nodes: distinct contents.
        dense_from: cosine from which on nodes are of one dense part.
        exact: every list is right; else they are what the approximate index found, with exact cosines.
        file: Arrow file of the lists.
    """

    model_config = ConfigDict(frozen=True)

    format: int = _FORMAT
    model_name: str
    model_version: str
    model_fingerprint: str
    dimension: int
    embeddings_id: str
    embeddings_version: int
    directory_id: str
    directory_version: int
    nodes: int
    dense_from: float
    exact: bool
    file: str

    def covers(self, index: IndexInfo) -> bool:
        """Whether the graph is of this very state of an index."""
        return all(getattr(self, name) == getattr(index, name) for name in COVERED)


COVERED = (
    "model_name",
    "model_version",
    "model_fingerprint",
    "dimension",
    "embeddings_id",
    "embeddings_version",
    "directory_id",
    "directory_version",
)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest neighbours of every distinct content of an index; nodes are places in the order of the contents.

    Attributes:
        digests: (nodes,) ``S32``: SHA-256 of the contents as bytes, ascending.
        indices: (nodes, ``KNOWN``) int32, nearest first, of equal cosines the lower node first; -1: there are no more.
        cosines: (nodes, ``KNOWN``) float32, minus infinity where there is none. A function of the two vectors alone.
        parts: (nodes,) int32, the representative of the dense part of each.
        stored: (nodes, width) keys of ``vectors.keys_of``, as far as they are known: what an update goes on from.
    """

    info: NeighboursInfo
    digests: NDArray[np.bytes_]
    indices: NDArray[np.int32]
    cosines: NDArray[np.float32]
    parts: NDArray[np.int32]
    stored: NDArray[np.int64]
    _distinct: tuple[NDArray[np.int32], NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.digests)

    @cached_property
    def contents(self) -> pl.Series:
        """(nodes,) SHA-256 of the contents in hexadecimal, ascending."""
        raw = self.digests.tobytes()
        return pl.Series(
            "content_sha256", [raw[at : at + _DIGEST].hex() for at in range(0, len(raw), _DIGEST)], pl.String
        )

    def distinct(self, k: int = DISTINCT) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The ``k`` nearest of each node, of each dense part at most three.

        Args:
            k: at most ``DISTINCT``.

        Returns:
            (nodes, k) nodes, -1 where there are no more, and cosines, minus infinity there.
        """
        if not 0 <= k <= DISTINCT:
            raise ValueError(f"a distinct list has at most {DISTINCT} entries, not {k}")
        return self._distinct[0][:, :k], self._distinct[1][:, :k]

    def node_of(self, contents: Iterable[str]) -> NDArray[np.int64]:
        """(n,) the node of each content, given in hexadecimal; -1 where it has none."""
        return places_of(self.digests, digests_of(contents))


def digests_of(contents: Iterable[str]) -> NDArray[np.bytes_]:
    """SHA-256 in hexadecimal as ``S32``."""
    return np.frombuffer(bytes.fromhex("".join(contents)), f"S{_DIGEST}")


def places_of(digests: NDArray[np.bytes_], wanted: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Where some digests stand in ascending ones; -1 where they don't."""
    if not len(digests):
        return np.full(len(wanted), -1, np.int64)
    at = np.searchsorted(digests, wanted)
    at[at == len(digests)] = 0
    return np.where(digests[at] == wanted, at, -1)


def location_of(index: Path) -> Path:
    """Where the graph of an index lies, from where that lies."""
    return index / "neighbours"


def open_neighbours(index: Path) -> Neighbours | None:
    """The graph of the index that lies somewhere, memory-mapped; None if there is none.

    Raises:
        CurationError: it is damaged, or of another version of this package.
    """
    location = location_of(index)
    for attempt in range(5):
        info = _read_info(location)
        if info is None:
            return None
        try:
            return _opened(location, info)
        except FileNotFoundError:  # a newer one took its place and removed its file
            if _read_info(location) == info or attempt == 4:
                break
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise CurationError(f"graph of neighbours {location} can't be opened: {error}; {_REMOVE}") from error
    raise CurationError(f"graph of neighbours {location} lacks its file; {_REMOVE}")


_REMOVE = "remove that folder, and it is made anew"


def _read_info(location: Path) -> NeighboursInfo | None:
    try:
        text = (location / CURRENT).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        said = json.loads(text)
        if isinstance(said, dict) and said.get("format", _FORMAT) != _FORMAT:
            raise CurationError(f"graph of neighbours {location} is of another version of this package; {_REMOVE}")
        return NeighboursInfo.model_validate(said)
    except ValueError:
        raise CurationError(f"graph of neighbours {location} has a damaged {CURRENT}; {_REMOVE}") from None


def _opened(location: Path, info: NeighboursInfo) -> Neighbours:
    with pa.memory_map(str(location / info.file)) as source:
        table = pa.ipc.open_file(source).read_all().combine_chunks()
    if len(table) != info.nodes:
        raise ValueError(f"{info.file} has {len(table)} rows, not {info.nodes}")
    columns = {name: _array(table, name) for name in table.column_names if name != "content_sha256"}
    contents = table["content_sha256"].combine_chunks()
    digests = np.frombuffer(contents.buffers()[1] or b"", f"S{_DIGEST}", len(table), contents.offset * _DIGEST)
    return Neighbours(
        info,
        digests,
        columns["indices"],
        columns["cosines"],
        columns["part"][:, 0],
        columns["keys"],
        (columns["distinct_indices"], columns["distinct_cosines"]),
    )


def _array(table: pa.Table, name: str) -> NDArray[Any]:
    lists = table[name].combine_chunks()
    values, width = lists.flatten(), lists.type.list_size
    kind = _KINDS[values.type]  # Arrow's own `to_numpy` imports pandas, for half a second
    found = np.frombuffer(values.buffers()[1] or b"", kind, len(values), values.offset * kind.itemsize)
    return np.asarray(found.reshape(len(table), width))


def write(location: Path, made: Neighbours) -> None:
    """Write a graph and make it the current one; others that lie there are removed."""
    arrays: dict[str, NDArray[Any]] = {
        "indices": made.indices,
        "cosines": made.cosines,
        "part": made.parts[:, None],
        "keys": made.stored,
        "distinct_indices": made._distinct[0],
        "distinct_cosines": made._distinct[1],
    }
    digests = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(_DIGEST), len(made), [None, pa.py_buffer(np.ascontiguousarray(made.digests))]
    )
    columns = {"content_sha256": digests} | {
        name: pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(array).ravel()), array.shape[1])
        for name, array in arrays.items()
    }
    sweep(location)
    table = pa.table(columns)
    with pa.ipc.new_file(str(location / made.info.file), table.schema) as out:
        out.write_table(table)
    sync(location / made.info.file)
    publish(location, made.info)


def publish(location: Path, info: NeighboursInfo) -> None:
    """Make a graph whose file is written the current one."""
    write_whole(location / CURRENT, json.dumps(info.model_dump(mode="json"), indent=2).encode())
    sweep(location)


def new_file() -> str:
    """A name for the file of a graph."""
    return f"{uuid.uuid4().hex}.neighbours.arrow"


def sweep(location: Path) -> None:
    """Remove what no graph names: what a newer one replaced, and what a killed process left."""
    with suppress(CurationError):
        info = _read_info(location)
        kept = {CURRENT, LOCK} | ({info.file} if info is not None else set())
        for file in location.iterdir():
            if file.name not in kept and file.is_file():
                with suppress(OSError):
                    file.unlink()
