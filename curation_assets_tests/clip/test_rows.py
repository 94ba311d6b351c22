from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from curation_assets.clip.rows import Row, RowError, rows_of

URL = "data:image/png;base64,aGVsbG8="
A, B = Row("text", "a"), Row("text", "b")


@pytest.mark.parametrize(
    "data",
    [
        pd.DataFrame({"text": ["a", "b"]}),
        pd.DataFrame({"text": ["a", "b"]}, index=[7, 7]),
        pd.DataFrame({"text": ["a", "b"], "image": [None, np.nan], "id": [1, 2]}),
        pd.DataFrame({"text": ["a", "b"], "image": ["", "  "]}),
        pd.DataFrame({"text": ["a", "b"], "image": [pd.NA, pd.NaT]}, dtype=object),
        pd.DataFrame({"text": ["a", "b"]}).astype("category"),
        pd.DataFrame(["a", "b"]),
        pd.DataFrame({"0": ["a", "b"]}),
        pd.DataFrame({"input_data": ["a", "b"]}),
        pd.Series(["a", "b"]),
        pd.Series(["a", "b"], name="text"),
        [{"text": "a"}, {"text": "b"}],
        [{"text": "a", "image": None}, {"input_data": "b"}],
        [{"text": np.array("a")}, {"text": np.array("b")}],
        {"text": ["a", "b"]},
        {"text": ("a", "b"), "image": [None, None]},
        {"text": np.array(["a", "b"])},
        {"text": pd.Series(["a", "b"])},
        ["a", "b"],
        ("a", "b"),
        np.array(["a", "b"]),
        np.array([["a"], ["b"]]),
        np.array(["a", "b"], dtype=object),
    ],
    ids=str,
)
def test_every_way_to_send_two_texts_gives_the_same_two_rows(data: Any) -> None:
    assert rows_of(data) == [A, B]
    assert rows_of(data, "text") == [A, B]


@pytest.mark.parametrize("data", ["a", {"text": "a"}, [{"text": "a"}], np.array("a"), {"text": np.array("a")}], ids=str)
def test_a_single_value_is_one_row(data: Any) -> None:
    assert rows_of(data) == [A]


@pytest.mark.parametrize("column", ["input_data", 0])
def test_what_a_value_is_goes_by_the_parameter_and_without_it_by_what_it_looks_like(column: Any) -> None:
    frame = pd.DataFrame({column: ["a", URL, b"raw", "data: of 2024"]}, dtype=object)
    assert [row.kind for row in rows_of(frame)] == ["text", "image", "image", "text"]
    assert [row.kind for row in rows_of(frame, "")] == ["text", "image", "image", "text"]
    assert [row.kind for row in rows_of(frame, "image")] == ["image"] * 4
    assert [row.kind for row in rows_of(frame.iloc[:2], "text")] == ["text"] * 2


def test_the_parameter_changes_nothing_about_columns_that_say_what_they_are() -> None:
    records = [{"image": "aGk="}, {"text": "a"}]
    assert rows_of(records, "text") == rows_of(records, "image") == [Row("image", "aGk="), A]


def test_images_and_texts_may_be_mixed_and_keep_their_order() -> None:
    frame = pd.DataFrame({"image": ["x", None, b"y", None], "text": [None, "a", "", "b"]}, dtype=object)
    assert rows_of(frame) == [Row("image", "x"), A, Row("image", b"y"), B]


@pytest.mark.parametrize("value", [bytearray(b"x"), memoryview(b"x")])
def test_bytes_of_any_kind_are_bytes(value: Any) -> None:
    assert rows_of([{"image": value}]) == [Row("image", b"x")]


@pytest.mark.parametrize("data", [pd.DataFrame({"text": []}), {"image": []}, [], pd.Series([], dtype=str)], ids=str)
def test_no_rows_are_no_rows(data: Any) -> None:
    assert rows_of(data) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"image": 1}, "`image` must be a string (base64 or a data URL), not int"),
        ({"image": 123.0}, "`image` must be a string (base64 or a data URL), not float"),
        ({"image": ["x"]}, "`image` must be a string (base64 or a data URL), not list"),
        ({"text": True}, "`text` must be a string, not bool"),
        ({"text": b"a"}, "`text` must be a string, not bytes"),
        ({"text": {"a": 1}}, "`text` must be a string, not dict"),
        ({"input_data": 5}, "`input_data` must be a string, not int"),
        ({"text": "half \ud83c"}, "`text` is no valid Unicode text: it holds half of a surrogate pair"),
        ({"image": "x", "text": "a"}, "`image` and `text` are both given"),
        ({"text": "a", "input_data": "a"}, "`text` and `input_data` are both given"),
        ({"image": None, "text": " \n"}, "nothing is given"),
        ({"picture": "x"}, "nothing is given"),
        ({}, "nothing is given"),
    ],
    ids=str,
)
def test_a_row_that_cannot_be_used_is_refused_by_its_number(value: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError) as caught:
        rows_of([{"text": "a"}, {"image": "x"}, value])
    assert str(caught.value).startswith("row 2: ")
    assert message in str(caught.value)
    assert caught.value.row == 2


@pytest.mark.parametrize("value", [["a", "b"], ["a"], ("a", "b"), np.array(["a", "b"])], ids=str)
@pytest.mark.parametrize("as_frame", [True, False])
def test_a_record_whose_value_is_a_list_is_one_row_and_no_text(value: Any, as_frame: bool) -> None:
    records = [{"text": value}]
    with pytest.raises(RowError) as caught:
        rows_of(pd.DataFrame(records) if as_frame else records)
    kind = type(value).__name__
    assert str(caught.value).startswith(f"row 0: `text` must be a string, not {kind} (of a dict of lists MLflow makes")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (5, "type int can't be read"),
        (None, "type NoneType can't be read"),
        (pd.DataFrame({"picture": ["x"]}), "there is only `picture`"),
        (pd.DataFrame(), "there is no such column"),
        ({"picture": ["x"], "caption": ["y"]}, "there is only `picture`, `caption`"),
        ({"image": ["x"], "text": ["a", "b"]}, "columns of different lengths: 1, 2 rows"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "columns of the same name: `text`"),
        (pd.DataFrame([["a", "b"]], columns=[0, "0"]), "columns of the same name"),
    ],
    ids=str,
)
def test_a_request_without_rows_to_name_is_refused_with_its_reason(data: Any, message: str) -> None:
    with pytest.raises(RowError) as caught:
        rows_of(data)
    assert message in str(caught.value)
    assert caught.value.row is None


@pytest.mark.parametrize("input_type", ["video", "Image", 1])
def test_a_parameter_that_is_neither_image_nor_text_is_refused(input_type: Any) -> None:
    with pytest.raises(RowError, match="`input_type` must be `image` or `text`, not"):
        rows_of(["a"], input_type)
