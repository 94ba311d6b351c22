from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from curation_assets.errors import CurationError
from curation_assets.search.query import Like, Picture, Query, Text

VECTORS = {name: np.eye(4, dtype=np.float32)[number] for number, name in enumerate(("a", "b", "c"))}


def embed(texts: list[str]) -> NDArray[np.float32]:
    return np.stack([VECTORS[text] for text in texts])


def vector(*parts: Any) -> NDArray[np.float32]:
    return Query(parts).vector(embed, lambda key: np.eye(4, dtype=np.float32)[3] if key == "stored" else VECTORS["a"])


def test_parts_are_added_by_weight_and_brought_to_unit_length() -> None:
    picture = Picture(VECTORS["c"], "f", "c.jpg", 0.5)
    found = vector(Text("a", 2), picture, Like("stored"), Text("b", -1))
    assert found.shape == (1, 4)
    assert found[0] == pytest.approx(np.array([2, -1, 0.5, 1]) / np.sqrt(6.25))


def test_one_text_is_its_own_vector() -> None:
    assert vector(Text("b"))[0] == pytest.approx(VECTORS["b"])


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([Text("a"), Text("a", -1)], "cancel"),
        ([Text("a", -1)], "only what not"),
        ([Text(" ")], "empty"),
        ([Text("\udcff")], "not valid UTF-8"),
        ([Text("a", 1e308), Text("b", 1e308)], "weigh too much"),
        ([Text("a", 0)], "weight 0"),
        ([Text("a", float("inf"))], "weight inf"),
    ],
)
def test_a_query_without_a_direction_is_one_clear_error(parts: list[Any], said: str) -> None:
    with pytest.raises(CurationError, match=said):
        vector(*parts)


def test_a_query_says_what_it_is() -> None:
    query = Query((Text("rust", 2), Like("a/b.jpg"), Picture(VECTORS["a"], "f", "leaf.jpg"), Text("water", -1)))
    assert query.describe() == "“rust” × 2 + like a/b.jpg + leaf.jpg + not “water”"
    assert query.facts() == [
        {"text": "rust", "weight": 2},
        {"like": "a/b.jpg", "weight": 1.0},
        {"image": "leaf.jpg", "weight": 1.0},
        {"text": "water", "weight": -1},
    ]
    assert Query().describe() == "all images"
