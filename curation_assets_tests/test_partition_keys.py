from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation_assets.partition_keys import folder_of_key, key_of


@given(st.text(min_size=1))
def test_every_folder_comes_back_from_its_key(folder: str) -> None:
    assert folder_of_key(key_of(folder)) == folder


@pytest.mark.parametrize("folder", ["maize", "maize/field 7", "Würzburg/mais+", "a.b", "..", ".", "100ha=1'"])
def test_an_ordinary_folder_is_its_own_key(folder: str) -> None:
    assert key_of(folder) == folder


@given(st.text(alphabet='a.,[]*"\n %', min_size=1))
def test_a_key_holds_nothing_that_dagster_reads_as_syntax(folder: str) -> None:
    key = key_of(folder)
    assert not set(key) & set(',[]*"\n')
    assert "..." not in key
    assert key == key.strip()
