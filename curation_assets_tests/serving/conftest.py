from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation_assets.clip.predictor import ClipPredictor, PredictorConfig
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets_tests.conftest import jpeg


def encoded(seed: int = 0) -> str:
    return base64.b64encode(jpeg(seed)).decode()


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The demo model's files."""
    return DEMO_FOLDER


@pytest.fixture(scope="session")
def predictor(model_folder: Path) -> Iterator[ClipPredictor]:
    """A predictor to compare with; not one to be closed by an application."""
    predictor = ClipPredictor(model_folder, PredictorConfig(device="cpu", precision="float32"))
    yield predictor
    predictor.close()
