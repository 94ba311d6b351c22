"""A moment of what ``benchmarks/reliability.py`` does for long."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation_assets.settings import Settings
from curation_assets_tests.conftest import copy_registry
from curation_assets_tests.stores.reliability import meet_faults, meet_kills, small_lake
from curation_assets_tests.stores.s3_server import S3

pytestmark = pytest.mark.slow


@pytest.fixture
def in_store(s3: S3, tmp_path: Path, registered_model: Path) -> Settings:
    copy_registry(registered_model, tmp_path / "mlflow")
    return small_lake(s3, tmp_path)


def test_twenty_faults_lose_and_double_nothing(in_store: Settings, s3: S3) -> None:
    told = meet_faults(in_store, s3, seed=7, faults=20)
    assert told.wrong == []
    assert told.faults.total() >= 20
    assert len(told.faults) >= 4, "or little was tried"


def test_killed_writers_lose_and_double_nothing(in_store: Settings) -> None:
    told = meet_kills(in_store, seed=7, kills=15)
    assert told.wrong == []
    assert told.kills >= 15
