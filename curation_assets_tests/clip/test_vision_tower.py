"""The image tower beside transformers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from curation_assets.clip.encoder import Encoder
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.clip.spec import Spec
from curation_assets.clip.vision_tower import VisionTower
from curation_assets.errors import CurationError
from curation_assets_tests.clip.conftest import change_config, tower_of_transformers


def pixels(dtype: torch.dtype, number: int = 3) -> torch.Tensor:
    side = Spec.read(DEMO_FOLDER).images["image_size"]
    return torch.randn(number, 3, side, side, generator=torch.Generator().manual_seed(5)).to(dtype)


def of_transformers(folder: Path, dtype: torch.dtype, attention: str) -> torch.Tensor:
    model = tower_of_transformers(
        transformers.CLIPVisionModelWithProjection, folder, "vision", dtype=dtype, attn_implementation=attention
    )
    with torch.inference_mode():
        return model(pixel_values=pixels(dtype)).image_embeds  # type: ignore[no-any-return]


def of_ours(folder: Path, dtype: torch.dtype, fused: bool) -> torch.Tensor:
    with torch.inference_mode():
        return VisionTower(folder, Spec.read(folder).images, torch.device("cpu"), dtype, fused).embed(pixels(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_outputs_are_those_of_transformers_bit_for_bit(attention: str, dtype: torch.dtype) -> None:
    ours = of_ours(DEMO_FOLDER, dtype, attention == "sdpa")
    assert torch.equal(ours, of_transformers(DEMO_FOLDER, dtype, attention))
    assert not torch.allclose(ours[0], ours[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "quick_gelu"},
        {"hidden_act": "gelu_pytorch_tanh"},
        {"layer_norm_eps": 0.01},
        {"num_attention_heads": 2},
        {"num_hidden_layers": 1},
    ],
    ids=str,
)
def test_what_the_configuration_says_is_heeded(changes: dict[str, Any], model_folder: Path) -> None:
    before = of_ours(model_folder, torch.float32, False)
    change_config(model_folder, "vision", **changes)
    ours = of_ours(model_folder, torch.float32, False)
    assert torch.equal(ours, of_transformers(model_folder, torch.float32, "eager"))
    assert not torch.equal(ours, before)


def test_pictures_of_another_size_than_the_models_are_refused(model_folder: Path) -> None:
    encoder = Encoder(model_folder, "cpu", "float32")
    side = encoder.preprocessing.crop * 2
    with pytest.raises(CurationError, match=rf"not of {side} x {side}: its preprocessor_config"):
        encoder.embed_images(np.zeros((1, side, side, 3), np.uint8))
