"""Stored vectors: if these change, embeddings of registered versions are no longer what the code computes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from curation_assets.clip.encoder import Encoder
from curation_assets.clip.source import CODE_REVISION
from curation_assets.pipeline import Pipeline
from curation_assets_tests.conftest import jpeg

PIXELS = "38b44a39ad2e503b"
IMAGE = [-0.01751, -0.02966, 0.08585, -0.05122, 0.01639, -0.17388]
TEXT = [-0.01665, -0.05837, 0.13476, -0.04804, -0.14977, -0.11062]


@pytest.fixture
def encoder(ready: Pipeline) -> Encoder:
    return ready.registry.load_encoder(ready.registry.champion(), "cpu", "float32")


def test_pixels_and_vectors_are_those_of_this_code_revision(encoder: Encoder) -> None:
    pixels = encoder.preprocessing.load(jpeg(5, (300, 200)), 10**8)
    assert CODE_REVISION == 2, "a new revision has new stored values here"
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == PIXELS
    np.testing.assert_allclose(encoder.embed_images(pixels[None])[0][:6], IMAGE, atol=2e-4)
    np.testing.assert_allclose(encoder.embed_texts(["Rust on a maize leaf"])[0][:6], TEXT, atol=2e-4)
