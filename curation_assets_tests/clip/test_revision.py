"""Stored vectors: if these change, embeddings of registered versions are no longer what the code computes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from curation_assets.clip.encoder import Encoder
from curation_assets.clip.source import CODE_REVISION
from curation_assets.images.guard import DecodeOptions
from curation_assets.pipeline import Pipeline
from curation_assets_tests.conftest import jpeg

PIXELS = "14fdd35ed40a32cf"
IMAGE = [0.18331, 0.03072, -0.00452, 0.13517, 0.03533, -0.01377]
TEXT = [0.10094, 0.03763, 0.06663, 0.13085, 0.07587, -0.03691]


@pytest.fixture
def encoder(ready: Pipeline) -> Encoder:
    return ready.registry.load_encoder(ready.registry.champion(), "cpu", "float32")


def test_pixels_and_vectors_are_those_of_this_code_revision(encoder: Encoder) -> None:
    pixels = encoder.preprocessing.load(jpeg(5, (300, 200)), DecodeOptions(10**8))
    assert CODE_REVISION == 2, "a new revision has new stored values here"
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == PIXELS
    np.testing.assert_allclose(encoder.embed_images(pixels[None])[0][:6], IMAGE, atol=2e-4)
    np.testing.assert_allclose(encoder.embed_texts(["Rust on a maize leaf"])[0][:6], TEXT, atol=2e-4)
