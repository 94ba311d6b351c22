"""CLIP's text tower in plain torch, and what it needs to know of a model: the one way texts become vectors here.

The arithmetic is that of transformers' ``CLIPTextModelWithProjection``, operation by operation, so the vectors are the
same bit for bit. Importing that class brings two seconds of modules for training, generation and quantization, which
whoever searches from a new shell would wait for. What a model's files mean is still transformers' to say: it reads
configuration and tokenizer, once for each model version where its answer can be kept (``TextSpec``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from curation_assets.clip.notes import read_note, write_note
from curation_assets.clip.weights import read_weights

MAX_TOKENS = 77
_TOKENS, _POSITIONS = (f"text_model.embeddings.{what}_embedding.weight" for what in ("token", "position"))
_LAYERS, _FINAL_NORM, _PROJECTION = "text_model.encoder.layers", "text_model.final_layer_norm", "text_projection.weight"
_MAX_CHARACTERS = 10_000  # 77 tokens need fewer; the time to cut a word into tokens grows with its length squared
_FACTS = (
    "vocab_size",
    "max_position_embeddings",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "layer_norm_eps",
    "hidden_act",
    "eos_token_id",
)


@dataclass(frozen=True)
class TextSpec:
    """A model's text side, as transformers reads it from the files.

    Attributes:
        config: what the tower is made of: ``_FACTS`` of ``CLIPTextConfig``, and the model's ``projection_dim``.
        tokenizer: in the format of the library tokenizers, with cutting and padding set.
    """

    config: dict[str, Any]
    tokenizer: str

    @classmethod
    def read(cls, folder: Path) -> TextSpec:
        """Ask transformers, which is imported for it.

        Args:
            folder: model in Hugging Face layout.
        """
        transformers = quiet_transformers()
        whole = transformers.CLIPConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        backend = tokenizer.backend_tokenizer
        backend.enable_truncation(MAX_TOKENS, direction=tokenizer.truncation_side)
        backend.enable_padding(
            direction=tokenizer.padding_side, pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token
        )
        config = {name: getattr(whole.text_config, name) for name in _FACTS}
        # A tower's own copy of the projection's size may be absent or a default.
        return cls(config | {"projection_dim": whole.projection_dim}, backend.to_str())

    def operations(self, tokens: int) -> float:
        """Floating-point operations of embedding so many tokens, padding among them; those of attention left out."""
        width, mlp = self.config["hidden_size"], self.config["intermediate_size"]
        return float(2 * tokens * self.config["num_hidden_layers"] * (4 * width**2 + 2 * width * mlp))

    @classmethod
    def kept_or_read(cls, folder: Path, kept: Path | None) -> TextSpec:
        """What was kept of an earlier answer of this version of transformers; else :meth:`read`, and keep that.

        Args:
            folder: model in Hugging Face layout.
            kept: file for these files' answer and no other's; None keeps none.
        """
        if kept is None:
            return cls.read(folder)
        libraries = {name: version(name) for name in ("transformers", "tokenizers")}
        note = read_note(kept)
        if note is not None and note.get("libraries") == libraries:
            return cls(note["config"], note["tokenizer"])
        spec = cls.read(folder)
        write_note(kept, {"libraries": libraries, "config": spec.config, "tokenizer": spec.tokenizer})
        return spec


def quiet_transformers() -> Any:
    """The library, imported now, with nothing to say of what it reads."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


class Tokenizer:
    """Texts → tokens.

    Args:
        spec: of the model.
    """

    def __init__(self, spec: TextSpec) -> None:
        from tokenizers import Tokenizer as Backend

        self._backend = Backend.from_str(spec.tokenizer)

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(n, length) int64 tokens, cut after ``MAX_TOKENS``; and the same of 1, with 0 for what is but padding."""
        found = self._backend.encode_batch([text[:_MAX_CHARACTERS] for text in texts])
        return torch.tensor([one.ids for one in found]), torch.tensor([one.attention_mask for one in found])


class TextTower:
    """Tokens → vectors, not of unit length yet.

    Args:
        folder: model in Hugging Face layout, whose weights are read.
        spec: of the same model.
        device: to compute on.
        dtype: to compute in.
        fused: attention in torch's one kernel; else in plain matrix products.

    Raises:
        CurationError: the weights don't fit; the message names some of those that don't.
    """

    def __init__(self, folder: Path, spec: TextSpec, device: torch.device, dtype: torch.dtype, fused: bool) -> None:
        self._config, self._fused = spec.config, fused
        self._activation = _activation(spec.config["hidden_act"])
        weights = read_weights(folder, _shapes(spec.config))
        self._weights = {name: weight.to(device, dtype) for name, weight in weights.items()}

    def embed(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(n, projection_dim) of what ``Tokenizer.tokens`` gives; within torch's inference mode."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        hidden = F.embedding(tokens, self._weights[_TOKENS]) + F.embedding(positions, self._weights[_POSITIONS])
        allowed = self._allowed(mask, hidden.dtype)
        for number in range(self._config["num_hidden_layers"]):
            layer = f"{_LAYERS}.{number}"
            hidden = hidden + self._attention(f"{layer}.self_attn", self._norm(f"{layer}.layer_norm1", hidden), allowed)
            wide = self._linear(f"{layer}.mlp.fc1", self._norm(f"{layer}.layer_norm2", hidden))
            hidden = hidden + self._linear(f"{layer}.mlp.fc2", self._activation(wide))
        hidden = self._norm(_FINAL_NORM, hidden)
        # Where the end's token is said to be 2, as in OpenAI's own files, that is an old mistake: it is the largest.
        end = self._config["eos_token_id"]
        last = tokens.argmax(dim=1) if end == 2 else (tokens == end).int().argmax(dim=1)
        pooled = hidden[torch.arange(len(hidden), device=hidden.device), last]
        return F.linear(pooled, self._weights[_PROJECTION])

    def _allowed(self, mask: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Which tokens each token may look at, as attention takes it: those before it that are no padding."""
        if self._fused and bool(mask.all()):
            return None  # the kernel has a way of its own for that
        length = mask.shape[1]
        before = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
        allowed = before & mask[:, None, None, :].bool()
        if self._fused:
            return allowed
        return torch.where(allowed, torch.zeros((), dtype=dtype, device=mask.device), torch.finfo(dtype).min)

    def _attention(self, name: str, hidden: Tensor, allowed: Tensor | None) -> Tensor:
        number, length, width = hidden.shape
        heads = self._config["num_attention_heads"]
        scale = (width // heads) ** -0.5
        query, key, value = (
            self._linear(f"{name}.{what}_proj", hidden).view(number, length, heads, -1).transpose(1, 2)
            for what in ("q", "k", "v")
        )
        if self._fused:
            is_causal = allowed is None and length > 1
            seen = F.scaled_dot_product_attention(query, key, value, allowed, scale=scale, is_causal=is_causal)
        else:
            weights = torch.matmul(query, key.transpose(-1, -2)) * scale
            weights = F.softmax(weights + allowed, dim=-1, dtype=torch.float32).to(query.dtype)
            seen = torch.matmul(weights, value)
        return self._linear(f"{name}.out_proj", seen.transpose(1, 2).reshape(number, length, width))

    def _linear(self, name: str, value: Tensor) -> Tensor:
        return F.linear(value, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, name: str, value: Tensor) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return F.layer_norm(value, weight.shape, weight, bias, self._config["layer_norm_eps"])


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """What the tower is made of, by the names in a model's files."""
    width, mlp = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        _TOKENS: (config["vocab_size"], width),
        _POSITIONS: (config["max_position_embeddings"], width),
        _PROJECTION: (config["projection_dim"], width),
    }

    def add(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, weight[:1]

    add(_FINAL_NORM, width)
    for number in range(config["num_hidden_layers"]):
        layer = f"{_LAYERS}.{number}"
        for norm in ("layer_norm1", "layer_norm2"):
            add(f"{layer}.{norm}", width)
        for what in ("q", "k", "v", "out"):
            add(f"{layer}.self_attn.{what}_proj", width, width)
        add(f"{layer}.mlp.fc1", mlp, width)
        add(f"{layer}.mlp.fc2", width, mlp)
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
