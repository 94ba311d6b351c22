from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from curation_assets.clip import compute
from curation_assets.clip.encoder import Encoder, all_devices
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.errors import CurationError


def test_vit_l_14_costs_what_its_paper_counts() -> None:
    vit_l = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "patch_size": 14,
        "image_size": 224,
        "num_hidden_layers": 24,
        "projection_dim": 768,
    }
    assert compute.image_flops(vit_l) / 1e9 == pytest.approx(162.03, abs=0.01)


def test_the_formula_counts_what_torch_counts() -> None:
    encoder = Encoder(DEMO_FOLDER, "cpu", "float32")
    encoder.load_vision()
    side = encoder.preprocessing.crop
    with FlopCounterMode(display=False) as counted:
        encoder.embed_images(np.zeros((1, side, side, 3), np.uint8))
    assert encoder.image_flops == pytest.approx(counted.get_total_flops(), rel=0.02)


def test_a_cpu_is_measured_and_an_unknown_gpu_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    compute.device_limit.cache_clear()
    assert 1e9 < (compute.device_limit("cpu", "float32") or 0) < 1e15
    names = {"cuda:0": "NVIDIA H100 80GB HBM3", "cuda:1": "NVIDIA H100 PCIe", "cuda:2": "Somebody's GPU"}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[device])
    assert compute.device_limit("cuda:0", "bfloat16") == 989.4e12
    assert compute.device_limit("cuda:1", "float16") == 756e12
    assert compute.device_limit("cuda:2", "bfloat16") is None
    assert compute.device_limit("cuda:0", "float32") is None
    compute.device_limit.cache_clear()


def test_auto_means_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert all_devices("auto") == all_devices("cuda") == ["cuda:0", "cuda:1", "cuda:2"]
    assert all_devices("cuda:1") == ["cuda:1"]
    assert all_devices("cpu") == ["cpu"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert all_devices("auto") == ["auto"]


class Small(Encoder):
    """A device whose memory holds three images."""

    tried: tuple[int, ...] = ()
    holds = 3

    def _embed_at_once(self, pixels: np.ndarray) -> np.ndarray:
        self.tried += (len(pixels),)
        if len(pixels) > self.holds:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return super()._embed_at_once(pixels)


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_stays_so() -> None:
    encoder = Small(DEMO_FOLDER, "cpu", "float32")
    side = encoder.preprocessing.crop
    pixels = np.random.default_rng(0).integers(0, 255, (10, side, side, 3), np.uint8)
    whole = Encoder(DEMO_FOLDER, "cpu", "float32").embed_images(pixels)
    assert np.allclose(encoder.embed_images(pixels), whole, atol=1e-5)
    assert encoder.tried == (10, 5, 2, 2, 2, 2, 2)
    encoder.tried = ()
    encoder.embed_images(pixels[:4])
    assert encoder.tried == (2, 2)


def test_a_model_too_large_for_one_image_is_said_in_one_line() -> None:
    encoder = Small(DEMO_FOLDER, "cpu", "float32")
    encoder.holds = 0
    side = encoder.preprocessing.crop
    with pytest.raises(CurationError, match="too little memory for this model and one image"):
        encoder.embed_images(np.zeros((4, side, side, 3), np.uint8))


def test_other_errors_of_a_forward_pass_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(DEMO_FOLDER, "cpu", "float32")

    def broken(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(encoder, "_embed_at_once", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        encoder.embed_images(np.zeros((2, 128, 128, 3), np.uint8))
