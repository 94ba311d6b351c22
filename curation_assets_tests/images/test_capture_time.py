"""Capture times as cameras, phones and programs write them; never the time of an edit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation_assets.images.capture_time import captured_at, parsed

ORIGINAL, DIGITISED, CHANGED, MAKE, SOFTWARE = 0x9003, 0x9004, 0x0132, 0x010F, 0x0131
AT = datetime(2018, 1, 20, 11, 46, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    [
        "2018:01:20 11:46:00",
        "2018-01-20T11:46:00",
        "2018-01-20 11:46:00",
        "2018/01/20 11:46:00",
        "2018.01.20 11.46.00",
        "2018:01:20T11:46:00",
        "2018:01:20  11:46:00",
        "2018:01:20-11:46:00",
        "2018:01:20 11:46",
        "2018:1:20 11:46:0",
        "2018: 1:20 11:46: 0",
        "20180120_114600",
        "20180120T114600Z",
        "2018-01-20 11-46-00",
        "2018:01:20 11:46:00Z",
        "2018:01:20 11:46:00 UTC",
        "2018-01-20T11:46:00+00:00",
        "2018:01:20 13:46:00+02:00",
        "2018:01:20 13:46:00 +0200",
        "2018:01:20 17:16:00+05:30",
        "2018:01:20 04:46:00-07",
        "2018:01:20 11:46:00 AM",
        "2018:01:20 上午11:46:00",
        "2018:01:20 11:46:00 a.m.",
        "2018年01月20日 11:46:00",
        "Sat Jan 20 11:46:00 2018",
        "20 Jan 2018 11:46:00",
        "Saturday, January 20, 2018 11:46:00",
    ],
)
def test_every_form_is_read(written: str) -> None:
    assert parsed(written) == AT
    assert captured_at({ORIGINAL: written, CHANGED: "2024:05:05 10:00:00"}) == AT


@pytest.mark.parametrize(
    ("written", "microseconds"),
    [("11:46:00.5", 500_000), ("11:46:00,123", 123_000), ("11:46:00.123456789", 123_456), ("11:46:00:07", 70_000)],
)
def test_fractions_of_a_second_are_kept(written: str, microseconds: int) -> None:
    assert parsed(f"2018:01:20 {written}") == AT.replace(microsecond=microseconds)


@pytest.mark.parametrize(
    ("fraction", "microseconds"),
    [("5", 500_000), ("07", 70_000), ("123456", 123_456), (" 42 ", 420_000), ("x", 0), ("", 0)],
)
def test_fractions_stand_in_a_tag_of_their_own_too(fraction: str, microseconds: int) -> None:
    expected = AT.replace(microsecond=microseconds)
    assert captured_at({ORIGINAL: "2018:01:20 11:46:00", 0x9291: fraction}) == expected
    assert captured_at({DIGITISED: "2018:01:20 11:46:00", 0x9292: fraction}) == expected


def test_an_offset_in_the_time_goes_before_one_beside_it() -> None:
    assert captured_at({ORIGINAL: "2018:01:20 13:46:00+02:00", 0x9011: "-09:00"}) == AT
    assert captured_at({ORIGINAL: "2018:01:20 13:46:00", 0x9011: "+02:00"}) == AT
    assert captured_at({ORIGINAL: "2018:01:20 13:46:00", 0x9011: "+0200"}) == AT
    assert captured_at({ORIGINAL: "2018:01:20 11:46:00", 0x9011: "+99:99"}) == AT


@pytest.mark.parametrize(
    ("written", "hour"),
    [("02:31:04 PM", 14), ("12:05:00 AM", 0), ("12:05:00 pm", 12), ("下午02:31:04", 14), ("14:31:04 PM", 14)],
)
def test_halves_of_the_day_are_told_apart(written: str, hour: int) -> None:
    found = parsed(f"2018:01:20 {written}")
    assert found is not None
    assert found.hour == hour


@pytest.mark.parametrize(
    "written",
    [
        "",
        "2018:01:20",
        "0000:00:00 00:00:00",
        "    :  :     :  :  ",
        "2018:13:20 11:46:00",
        "2018:02:30 11:46:00",
        "2018:01:20 25:46:00",
        "2018:01:20 24:10:00",
        "2018:01:20 11:60:00",
        "01/02/2018 11:46:00",
        "11:46:00",
        "yesterday",
        "1516448760",
        "٢٠١٨:01:20 11:46:00",
    ],
)
def test_what_is_no_time_or_two_is_none_and_the_edit_is_never_put_in_its_place(written: str) -> None:
    assert parsed(written) is None
    tags = {ORIGINAL: written or "?", CHANGED: "2024:05:05 10:00:00", MAKE: "Kodak"}
    assert captured_at(tags) is None
    assert captured_at(tags | {DIGITISED: "2018-01-20T11:46:00"}) == AT


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, None),
        ({MAKE: "Kodak"}, AT),
        ({0x0110: "DC50"}, AT),
        ({MAKE: "Kodak", SOFTWARE: "Adobe Photoshop CS6 (Windows)"}, None),
        ({MAKE: "Kodak", 0x000B: "darktable 4"}, None),
        ({MAKE: "\0\0"}, None),
    ],
)
def test_the_time_of_the_last_change_is_a_cameras_where_nothing_else_wrote(tags: dict[int, Any], expected: Any) -> None:
    assert captured_at(tags | {CHANGED: "2018:01:20 11:46:00"}) == expected


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_none(written: str) -> None:
    found = parsed(written)
    assert found is None or found.tzinfo is not None
