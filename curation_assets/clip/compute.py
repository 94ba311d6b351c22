"""What a forward pass costs, and what a device could do: the two sides of "near the hardware's limit"."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any

import torch

# Dense bfloat16/float16 tensor-core TFLOP/s without sparsity, as the makers' data sheets give them. A name is looked
# for in torch's name of the device, the first that is part of it counts.
_DATA_SHEETS: tuple[tuple[str, float], ...] = (
    ("B200", 2250.0),
    ("H200", 989.4),
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H100", 989.4),
    ("A100", 312.0),
    ("A800", 312.0),
    ("A30", 165.0),
    ("A10G", 70.0),
    ("A10", 125.0),
    ("L40S", 362.05),
    ("L40", 181.05),
    ("L4", 121.0),
    ("RTX 4090", 165.2),
    ("V100", 125.0),
    ("T4", 65.0),
)
_HALF = ("bfloat16", "float16")


def image_flops(config: Mapping[str, Any]) -> float:
    """Floating-point operations of one image through a CLIP image tower, a multiplication and addition as two.

    Matrix products only, as papers count: 162.03 GFLOP for ViT-L/14 at 224 pixels.

    Args:
        config: of the tower, as ``Spec.images`` has it.
    """
    width, patch = config["hidden_size"], config["patch_size"]
    patches = (config["image_size"] // patch) ** 2
    tokens = patches + 1
    layer = _layer(config, tokens) + 4 * tokens**2 * width
    embedding = 2 * patches * 3 * patch**2 * width
    return float(config["num_hidden_layers"] * layer + embedding + 2 * width * config["projection_dim"])


def text_operations(config: Mapping[str, Any], tokens: int) -> float:
    """The same of so many tokens through the text tower, padding among them; those of attention left out.

    Args:
        config: of the tower, as ``Spec.text`` has it.
        tokens: of all texts together.
    """
    return float(config["num_hidden_layers"] * _layer(config, tokens))


def _layer(config: Mapping[str, Any], tokens: int) -> int:
    width, mlp = config["hidden_size"], config["intermediate_size"]
    return int(2 * tokens * (4 * width**2 + 2 * width * mlp))


@functools.cache
def device_limit(device: str, precision: str) -> float | None:
    """Operations a second that a device can do in a precision.

    A GPU's number is its data sheet's. A CPU's is measured, as no data sheet gives it: the best of some runs of a
    matrix product of ViT-L/14's shape on all threads, which takes a second on two cores.

    Args:
        device: as torch names it.
        precision: of the forward pass.

    Returns:
        FLOP/s; None for a GPU that isn't in the table, and for float32 on a GPU.
    """
    if torch.device(device).type == "cpu":
        return _measured(getattr(torch, precision))
    if precision not in _HALF:
        return None
    name = torch.cuda.get_device_name(device)
    return next((tera * 1e12 for part, tera in _DATA_SHEETS if part in name), None)


def _measured(dtype: torch.dtype) -> float:
    rows, inner, outer = 2056, 1024, 4096  # the tokens of eight images into the MLP's first layer
    tokens, weights = torch.randn(rows, inner).to(dtype), torch.randn(outer, inner).to(dtype)
    seconds: list[float] = []
    with torch.inference_mode():
        torch.nn.functional.linear(tokens, weights)
        while len(seconds) < 3 or sum(seconds) < 0.1:
            started = time.perf_counter()
            torch.nn.functional.linear(tokens, weights)
            seconds.append(time.perf_counter() - started)
    return 2.0 * rows * inner * outer / min(seconds)
