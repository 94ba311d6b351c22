"""CLIP's transformer in plain torch, which its two towers have in common.

The arithmetic is that of transformers' ``CLIPTextModelWithProjection`` and ``CLIPVisionModelWithProjection``, operation
by operation, so the vectors are the same bit for bit. Importing those classes brings seconds of modules for training,
generation and quantization, for which every process that embeds would wait. What a model's files mean is still
transformers' to say (``Spec``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from curation_assets.clip.spec import quiet_transformers
from curation_assets.clip.weights import read_weights


class Tower(ABC):
    """Weights of a tower, and its layers. What it gives isn't of unit length yet.

    Args:
        folder: model in Hugging Face layout, whose weights are read.
        config: of the tower, as the ``Spec`` of the same model has it.
        device: to compute on.
        dtype: to compute in.
        fused: attention in torch's one kernel; else in plain matrix products.

    Raises:
        CurationError: the weights don't fit; the message names some of those that don't.
    """

    _prefix: ClassVar[str]  # of the names of the layers in the files

    def __init__(
        self, folder: Path, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype, fused: bool
    ) -> None:
        self._folder, self._config, self._fused = folder, config, fused
        self._activation = _activation(config["hidden_act"])
        weights = read_weights(folder, _shapes(self._prefix, config) | self._others(config))
        self._weights = {name: weight.to(device, dtype) for name, weight in weights.items()}

    @staticmethod
    @abstractmethod
    def _others(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights beside those of the layers, by their names in the files."""

    def _run(self, hidden: Tensor, allowed: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(n, length, width) through all layers.

        Args:
            hidden: (n, length, width).
            allowed: which positions each may look at, as attention takes it; None: all, or with ``is_causal`` those
                before it.
        """
        for number in range(self._config["num_hidden_layers"]):
            layer = f"{self._prefix}.{number}"
            normed = self._norm(f"{layer}.layer_norm1", hidden)
            hidden = hidden + self._attention(f"{layer}.self_attn", normed, allowed, is_causal)
            wide = self._linear(f"{layer}.mlp.fc1", self._norm(f"{layer}.layer_norm2", hidden))
            hidden = hidden + self._linear(f"{layer}.mlp.fc2", self._activation(wide))
        return hidden

    def _norm(self, name: str, value: Tensor) -> Tensor:
        """A layer's normalization."""
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return F.layer_norm(value, weight.shape, weight, bias, self._config["layer_norm_eps"])

    def _linear(self, name: str, value: Tensor) -> Tensor:
        return F.linear(value, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _attention(self, name: str, hidden: Tensor, allowed: Tensor | None, is_causal: bool) -> Tensor:
        number, length, width = hidden.shape
        heads = self._config["num_attention_heads"]
        scale = (width // heads) ** -0.5
        query, key, value = (
            self._linear(f"{name}.{what}_proj", hidden).view(number, length, heads, -1).transpose(1, 2)
            for what in ("q", "k", "v")
        )
        if self._fused:
            seen = F.scaled_dot_product_attention(query, key, value, allowed, scale=scale, is_causal=is_causal)
        else:
            weights = torch.matmul(query, key.transpose(-1, -2)) * scale
            if allowed is not None:
                weights = weights + allowed
            weights = F.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
            seen = torch.matmul(weights, value)
        return self._linear(f"{name}.out_proj", seen.transpose(1, 2).reshape(number, length, width))


def with_bias(name: str, *weight: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a layer's weight and bias."""
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def _shapes(prefix: str, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """What the layers are made of, by the names in a model's files."""
    width, mlp = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {}
    for number in range(config["num_hidden_layers"]):
        layer = f"{prefix}.{number}"
        for norm in ("layer_norm1", "layer_norm2"):
            shapes |= with_bias(f"{layer}.{norm}", width)
        for what in ("q", "k", "v", "out"):
            shapes |= with_bias(f"{layer}.self_attn.{what}_proj", width, width)
        shapes |= with_bias(f"{layer}.mlp.fc1", mlp, width) | with_bias(f"{layer}.mlp.fc2", width, mlp)
    return shapes


def _quick_gelu(value: Tensor) -> Tensor:
    return value * torch.sigmoid(1.702 * value)


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    """Those of CLIPs; whatever else a model asks for, transformers has."""
    if name == "quick_gelu":
        return _quick_gelu
    if name == "gelu":
        return F.gelu
    quiet_transformers()
    from transformers.activations import ACT2FN

    return ACT2FN[name]  # type: ignore[no-any-return]
