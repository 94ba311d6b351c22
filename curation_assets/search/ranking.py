"""The best of an index's rows for a query vector, and how many there could be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curation_assets.search.index import SearchIndex
from curation_assets.search.ordering import Photographs
from curation_assets.search.query import Query

_TIE = 6  # decimals: cosines that agree in them are of the same content


def best_rows(
    index: SearchIndex,
    query: Query,
    vector: NDArray[np.float32],
    rows: NDArray[np.int64] | None,
    k: int,
    approximate: bool,
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Rows and cosines of the best ``k``, and how many there could be; an image is not found to be like itself.

    Copies of one content come in the order of their paths, whatever ``k`` is: so all that are as good as the last one
    have to be known before the cut.
    """
    asked = {number for key in query.likes if (number := index.row_number(key)) is not None}
    wanted = k + len(asked) + (0 if approximate else 1)
    while True:
        numbers, cosines = index.nearest(vector, wanted, rows, approximate=approximate)
        found, scores = numbers[0], np.round(cosines[0], _TIE)
        is_all = len(found) < wanted
        if is_all or approximate or scores[-1] < scores[min(k + len(asked), len(scores)) - 1]:
            break
        wanted *= 2
    keep = ~np.isin(found, list(asked))
    found, scores, exact_scores = found[keep], scores[keep], cosines[0][keep]
    order = np.lexsort((found, -scores))[:k]
    if rows is None:
        total = index.info.vectors - len(asked)
    else:
        total = index.rows["position"].gather(rows).count() - int(np.isin(rows, list(asked)).sum())
    return found[order], exact_scores[order], total


def best_photographs(
    index: SearchIndex,
    query: Query,
    vector: NDArray[np.float32],
    rows: NDArray[np.int64],
    k: int,
    photographs: Photographs,
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """The same of photographs: each at the place and with the cosine of its best copy, shown as the one to keep.

    Args:
        rows: that have a vector; those that ``photographs`` is of.
    """
    wanted = k
    while True:
        found, cosines, possible = best_rows(index, query, vector, rows, wanted, approximate=False)
        places = photographs.places(found)
        if len(places) >= k or len(found) == possible:
            break
        wanted *= 4
    total = len(np.unique(photographs.first[rows]))
    return photographs.stand_in(found[places])[:k], cosines[places][:k], total
