"""Which pictures have windows with nearly the same hash: many hashes looked up among many, without comparing all.

Hashes are cut into four parts of 16 bits. Whoever is within a dozen bits of another mostly has one part that differs
in no bit or in one or two, and those are the bits that were decided by the least: so each part of an asked hash is
looked up as it is, and with its most doubtful bits changed (after Lv et al., Multi-probe LSH, 2007).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.curate.duplicates.windows import hashes, in_orientations

FARTHEST = 12  # bits: beyond, of a thousand pictures a dozen others come along
_PARTS, _PART_BITS = 4, 16
# Of a part: which of its bits, the most doubtful first, are changed at a look.
_PROBES = ((), *((n,) for n in range(8)), (0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (0, 4))
_MOST_OF_A_BUCKET = 512  # windows: where there are more, thousands of pictures are all alike
_ASKED_AT_ONCE = 256  # pictures
_EXPANDED = 4_000_000  # windows compared at once: bounds memory
_SHIFTS = np.arange(_PARTS, dtype=np.uint64) * _PART_BITS


@dataclass(frozen=True)
class _Part:
    """The stored hashes in the order of one part of 16 bits."""

    hashes: NDArray[np.uint64]
    pictures: NDArray[np.int32]
    starts: NDArray[np.int64]  # (65537,)


class WindowHashes:
    """Stored hashes of pictures, to be looked up.

    Args:
        stored: (n, windows), of ``windows.STORED``.
        numbers: (n,) what each picture is called in the answers, ascending.
    """

    def __init__(self, stored: NDArray[np.uint64], numbers: NDArray[np.int32]) -> None:
        flat, pictures = stored.reshape(-1), np.repeat(numbers, stored.shape[1])
        self._parts = []
        for shift in _SHIFTS:
            key = ((flat >> shift) & np.uint64(0xFFFF)).astype(np.uint16)
            order = np.argsort(key, kind="stable")
            starts = np.searchsorted(key[order], np.arange(2**_PART_BITS + 1))
            self._parts.append(_Part(flat[order], pictures[order], starts))

    def matches(self, asked: NDArray[np.float16], numbers: NDArray[np.int32], most: int) -> Iterator[pl.DataFrame]:
        """Look pictures up.

        Args:
            asked: (m, parts, 8, 8) frequencies of ``windows.ASKED``.
            numbers: (m,) what they are called.
            most: answers a picture.

        Returns:
            A few hundred pictures at a time: ``asked``, ``found``, ``bits`` (the fewest that differ, over windows and
            orientations); the nearest first, of equals the smallest number; never a picture itself.
        """
        for start in range(0, len(asked), _ASKED_AT_ONCE):
            part = slice(start, start + _ASKED_AT_ONCE)
            yield self._matches(asked[part].astype(np.float32), numbers[part], most)

    def _matches(self, asked: NDArray[np.float32], numbers: NDArray[np.int32], most: int) -> pl.DataFrame:
        every = in_orientations(asked)  # turn, picture, part of it, 8, 8
        wanted = np.swapaxes(hashes(every), 0, 1).reshape(-1)
        doubt = np.swapaxes(np.abs(every.reshape(*every.shape[:3], -1)), 0, 1).reshape(len(wanted), -1)
        who = np.repeat(numbers, len(wanted) // max(1, len(numbers)))
        found = [pl.DataFrame(schema={"asked": pl.Int32, "found": pl.Int32, "bits": pl.UInt8})]
        for number, part in enumerate(self._parts):
            keys = _probed(wanted, doubt, number)
            begin = part.starts[keys].reshape(-1)
            count = np.minimum(part.starts[keys.astype(np.int64) + 1].reshape(-1) - begin, _MOST_OF_A_BUCKET)
            hit = np.flatnonzero(count)
            ends = np.cumsum(count[hit])
            first = 0
            while first < len(hit):
                base = ends[first - 1] if first else 0
                last = max(first + 1, int(np.searchsorted(ends, base + _EXPANDED, "right")))
                some = hit[first:last]
                found.append(_compared(part, begin[some], count[some], some // len(_PROBES), wanted, who))
                first = last
        nearest = pl.concat(found).group_by("asked", "found").agg(pl.col("bits").min())
        nearest = nearest.filter(pl.col("asked") != pl.col("found")).sort("asked", "bits", "found")
        return nearest.group_by("asked", maintain_order=True).head(most)


def _compared(
    part: _Part,
    begin: NDArray[np.int64],
    count: NDArray[np.int64],
    asked: NDArray[np.int64],
    wanted: NDArray[np.uint64],
    who: NDArray[np.int32],
) -> pl.DataFrame:
    ends = np.cumsum(count)
    at = np.arange(ends[-1]) + np.repeat(begin - (ends - count), count)
    of = np.repeat(asked, count)
    bits = np.bitwise_count(part.hashes[at] ^ wanted[of])
    near = np.flatnonzero(bits <= FARTHEST)
    frame = pl.DataFrame({"asked": who[of[near]], "found": part.pictures[at[near]], "bits": bits[near]})
    return frame.group_by("asked", "found").agg(pl.col("bits").min())


def _probed(wanted: NDArray[np.uint64], doubt: NDArray[np.float32], part: int) -> NDArray[np.uint16]:
    """(asked, probes) the keys at which a part of each asked hash is looked up."""
    key = ((wanted >> _SHIFTS[part]) & np.uint64(0xFFFF)).astype(np.uint16)
    # ``hashes`` packs the bits of a byte from the highest, and a number's bytes begin with the lowest.
    bits = np.arange(part * _PART_BITS, (part + 1) * _PART_BITS)
    place = (bits // 8 * 8 + 7 - bits % 8) - part * _PART_BITS
    frequency = np.minimum(bits + 1, doubt.shape[1] - 1)  # the last bit of all is none
    of_part = doubt[:, frequency]
    if bits[-1] == _PARTS * _PART_BITS - 1:
        of_part = of_part.copy()
        of_part[:, -1] = np.inf
    deepest = max(max(probe) for probe in _PROBES if probe) + 1
    weakest = np.argsort(of_part, axis=1, kind="stable")[:, :deepest]
    flips = (np.uint16(1) << place.astype(np.uint16))[weakest]
    keys = np.empty((len(key), len(_PROBES)), np.uint16)
    for number, probe in enumerate(_PROBES):
        keys[:, number] = key
        for bit in probe:
            keys[:, number] ^= flips[:, bit]
    return keys
