"""The nearest of each row so far, while blocks of approximate cosines come in: what beats a row's worst is kept."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from curation_assets.curate.neighbours.vectors import NO_COSINE, NONE, Floats, Ids, keys_of, values_of

# Widths that a row has memory for: it is put in order only when that is full. A second block has about as many above
# the bar as the first, so a row that is in order has to have room for more than its width.
_ROOM = 3


class Scratch(threading.local):
    """Memory that a thread uses again for each block: fresh memory costs as much as looking through it."""

    def __init__(self) -> None:
        self._floats: Floats = np.empty(0, np.float32)
        self._marks = np.empty(0, bool)

    def floats(self, rows: int, columns: int) -> Floats:
        """(rows, columns) of anything."""
        if self._floats.size < rows * columns:
            self._floats = np.empty(rows * columns, np.float32)
        return self._floats[: rows * columns].reshape(rows, columns)

    def marks(self, rows: int, columns: int) -> NDArray[np.bool_]:
        """(rows, columns) of anything."""
        if self._marks.size < rows * columns:
            self._marks = np.empty(rows * columns, bool)
        return self._marks[: rows * columns].reshape(rows, columns)


class Lists:
    """The ``width`` nearest of each row, by the cosines that were offered. Threads may offer to different rows at once.

    Args:
        rows: how many.
        width: entries that a row keeps.

    Attributes:
        bar: (rows,) a row's smallest cosine that is kept; minus infinity while there is room. Nothing above it was left
            out.
    """

    def __init__(self, rows: int, width: int) -> None:
        self.bar: Floats = np.full(rows, NO_COSINE, np.float32)
        self._width = width
        self._scratch = Scratch()
        self._keys = np.full((rows, _ROOM * width), NONE, np.int64)
        self._filled = np.zeros(rows, np.int64)

    def offer(self, rows: Ids, cosines: Floats, ids: Ids) -> None:
        """Offer a block: (r, c) cosines of nodes ``ids`` (c,) to ``rows`` (r,), each of which occurs once."""
        row, column = np.divmod(np.flatnonzero(self._above(cosines, self.bar[rows][:, None])), max(1, len(ids)))
        counts = np.bincount(row, minlength=len(rows))
        most = (_ROOM - 1) * self._width
        heavy = np.flatnonzero(counts > most)
        if len(heavy):
            best = np.argpartition(cosines[heavy], -self._width, axis=1)[:, -self._width :]
            light = counts[row] <= most
            row = np.concatenate([row[light], np.repeat(heavy, self._width)])
            column = np.concatenate([column[light], best.ravel()])
            counts[heavy] = self._width
            order = np.argsort(row, kind="stable")
            row, column = row[order], column[order]
        self._append(rows, counts, row, keys_of(cosines[row, column], ids[column]))

    def offer_to_columns(self, rows: Ids, cosines: Floats, ids: Ids) -> None:
        """Offer a block whose columns are the rows of these lists: (c, r) cosines of nodes ``ids`` (c,)."""
        column, row = np.divmod(np.flatnonzero(self._above(cosines, self.bar[rows])), max(1, len(rows)))
        counts = np.bincount(row, minlength=len(rows))
        if (counts > (_ROOM - 1) * self._width).any():
            self.offer(rows, np.ascontiguousarray(cosines.T), ids)
            return
        order = np.argsort(row, kind="stable")
        row, column = row[order], column[order]
        self._append(rows, counts, row, keys_of(cosines[column, row], ids[column]))

    def finished(self) -> Ids:
        """(rows, width) keys, in no order; ``bar`` is that of the end."""
        for start in range(0, len(self.bar), 4096):
            self._tidy(np.arange(start, min(start + 4096, len(self.bar))))
        return self._keys[:, : self._width]

    def _above(self, cosines: Floats, bar: Floats) -> NDArray[np.bool_]:
        return np.greater(cosines, bar, out=self._scratch.marks(*cosines.shape))

    def _append(self, rows: Ids, counts: NDArray[np.int64], row: Ids, keys: Ids) -> None:
        """Keep keys (p,) of rows ``rows[row]``, sorted by ``row``; at most ``_ROOM - 1`` widths a row."""
        full = self._filled[rows] + counts > _ROOM * self._width
        self._tidy(rows[full])
        begins = np.cumsum(counts) - counts
        place = self._filled[rows][row] + np.arange(len(row)) - begins[row]
        self._keys[rows[row], place] = keys
        self._filled[rows] += counts
        # A row that has enough for the first time gets its bar at once, or every block would be kept whole.
        self._tidy(rows[(self._filled[rows] >= self._width) & (self.bar[rows] == NO_COSINE)])

    def _tidy(self, rows: Ids) -> None:
        if not len(rows):
            return
        best = np.partition(self._keys[rows], -self._width, axis=1)[:, -self._width :]
        self._keys[rows, : self._width] = best
        self._keys[rows, self._width :] = NONE
        self._filled[rows] = np.minimum(self._filled[rows], self._width)
        # The rest is NONE in front: a row with room has a bar of minus infinity.
        self.bar[rows] = values_of(best.min(axis=1))
