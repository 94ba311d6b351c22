from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from curation_assets.errors import CurationError
from curation_assets.search.filters import COLUMNS, make_filter, parse_condition

ROWS = pl.DataFrame(
    {
        "relative_path": ["a.jpg", "Coffee/1.jpg", "Coffee/rust/2.jpg", "Coffees/3.jpg", "maize/4%_x.png"],
        "folder": [".", "Coffee", "Coffee/rust", "Coffees", "maize"],
        "captured_at": [None, datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC), None, None],
        "camera": ["Canon EOS", "DJI M3M", None, "canon ixus", None],
        "format": ["JPEG", "JPEG", "JPEG", "MPO", "PNG"],
        "status": ["ok", "ok", "ok", "ok", "corrupt"],
        "size_bytes": [10, 20, 30, 40, 0],
        "width": [100, 400, 300, 200, None],
        "height": [100, 100, 300, 800, None],
        "latitude": [0.0, None, 1.0, None, None],
        "longitude": [0.0, None, None, None, None],
    },
    schema_overrides={"captured_at": pl.Datetime("us", "UTC")},
)


def passed(**conditions: Any) -> list[int]:
    expression = make_filter(**conditions).expression()
    rows = ROWS.with_row_index("_n")
    return (rows if expression is None else rows.filter(expression))["_n"].to_list()


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"folder": "Coffee"}, [1, 2]),
        ({"folder": "Coffee/"}, [1, 2]),
        ({"folder": ["Coffee/rust", "maize"]}, [2, 4]),
        ({"folder": "."}, [0]),
        ({"name": "COFFEE/"}, [1, 2]),
        ({"name": "4%_"}, [4]),
        ({"camera": "canon"}, [0, 3]),
        ({"format": ["mpo", "PNG"]}, [3, 4]),
        ({"status": "corrupt"}, [4]),
        ({"captured_from": datetime(2026, 5, 1)}, [1, 2]),
        ({"captured_from": "2026-05-02T00:00:00Z"}, [2]),
        ({"captured_to": datetime(2026, 6, 1)}, [1]),
        ({"min_side": 200}, [2, 3]),
        ({"max_side": 100}, [0, 1]),
        ({"min_bytes": 20, "max_bytes": 30}, [1, 2]),
        ({"has_gps": True}, [0]),
        ({"has_gps": False}, [1, 2, 3, 4]),
        ({"where": "width > height OR camera LIKE 'canon%'"}, [1, 3]),
        ({"where": "captured_at >= DATE '2026-05-15'"}, [2]),
        ({"where": "width > 100", "folder": "Coffees"}, [3]),
    ],
)
def test_a_condition_lets_just_these_images_through(conditions: dict[str, Any], expected: list[int]) -> None:
    assert passed(**conditions) == expected


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("nope > 1", "no column nope"),
        ("width >", "where='width >'"),
        ("width", "no condition"),
        ("(SELECT 1)", "where"),
        ("read_csv('/etc/passwd')", "read_csv can't be used"),
        ("LPAD(relative_path, 1000000000, 'x') = 'a'", "lpad can't be used"),
        ("REPLACE(camera, 'a', 'aaaaaaaaaa') = 'a'", "replace can't be used"),
        (" + ".join(["1"] * 200) + " > width", "100 operators"),
        ("||".join(["camera"] * 120) + " = 'x'", "100 operators"),
        ("width > 1" + " " * 1000, "1,000 characters"),
        ("width > 'x'", "where"),
        ("captured_at > '2026-05-15'", "DATE '2026-05-15'"),
        ("preview IS NOT NULL", "no column preview"),
        ("EXISTS (SELECT 1)", "where"),
        ("width = 1; DROP TABLE x", "where"),
        ("width > least()", "LEAST.. is given nothing"),
        ("greatest ( ) > 1", "GREATEST.. is given nothing"),
        ("coalesce()", "COALESCE.. is given nothing"),
        ("count() > 1", "COUNT.. is given nothing"),
        ("/* ' */ least() /* ' */ > 1", "can't be used"),
        ("width > 1 -- ' least()", "can't be used"),
        ("camera = $$ least() $$", "can't be used"),
        ("camera = E'\\' OR least() OR '", "can't be used"),
    ],
)
def test_what_is_no_condition_is_one_clear_error(condition: str, said: str) -> None:
    with pytest.raises(CurationError, match=said.replace("(", r"\(")) as error:
        parse_condition(condition)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"status": "fine"}, "status="),
        ({"captured_from": "yesterday"}, "captured_from="),
        ({"min_side": -1}, "min_side="),
        ({"folder": ""}, "folder="),
        ({"region": [(0, 0), (1, 1)]}, "three corners"),
        ({"region": [(0, 0), (1, 1), (float("nan"), 0)]}, "finite"),
        ({"colour": "red"}, "colour="),
    ],
)
def test_a_condition_that_cannot_be_is_named(conditions: dict[str, Any], said: str) -> None:
    with pytest.raises(CurationError, match=said):
        make_filter(**conditions)


def test_a_condition_may_begin_with_a_column_that_is_called_like_a_clause() -> None:
    rows = pl.DataFrame({"cluster": [1, 2, 3], "cluster_name": ["a", "b", "c"]})
    for condition, found in (("cluster = 2", [2]), (" cluster IN (1, 3)", [1, 3]), ("cluster_name = 'a'", [1])):
        chosen = rows.filter(parse_condition(condition, {"cluster": pl.Int64(), "cluster_name": pl.String()}))
        assert chosen["cluster"].to_list() == found


def test_the_longest_condition_is_quick_also_in_a_thread() -> None:
    condition = " AND ".join(["width>0"] * 50)
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(passed, where=condition).result(timeout=20) == [0, 1, 2, 3]
        assert threads.submit(passed, where="||".join(["camera"] * 99) + " <> ''").result(timeout=20) == [0, 1, 3]


def test_every_column_that_may_be_named_can_be_filtered_by() -> None:
    for column in COLUMNS:
        parse_condition(f"{column} IS NOT NULL")
