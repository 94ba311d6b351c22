"""CLIP's text tower: the one way texts become vectors here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from curation_assets.clip.spec import Spec
from curation_assets.clip.tower import Tower, with_bias

_TOKENS, _POSITIONS = (f"text_model.embeddings.{what}_embedding.weight" for what in ("token", "position"))
_FINAL_NORM, _PROJECTION = "text_model.final_layer_norm", "text_projection.weight"
_MAX_CHARACTERS = 10_000  # 77 tokens need fewer; the time to cut a word into tokens grows with its length squared


class Tokenizer:
    """Texts → tokens.

    Args:
        spec: of the model.
    """

    def __init__(self, spec: Spec) -> None:
        from tokenizers import Tokenizer as Backend

        self._backend = Backend.from_str(spec.tokenizer)

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(n, length) int64 tokens, cut after ``MAX_TOKENS``; and the same of 1, with 0 for what is but padding."""
        found = self._backend.encode_batch([text[:_MAX_CHARACTERS] for text in texts])
        return torch.tensor([one.ids for one in found]), torch.tensor([one.attention_mask for one in found])


class TextTower(Tower):
    """Tokens → vectors."""

    _prefix = "text_model.encoder.layers"

    @staticmethod
    def _others(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        width = config["hidden_size"]
        return {
            _TOKENS: (config["vocab_size"], width),
            _POSITIONS: (config["max_position_embeddings"], width),
            _PROJECTION: (config["projection_dim"], width),
        } | with_bias(_FINAL_NORM, width)

    def embed(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(n, projection_dim) of what ``Tokenizer.tokens`` gives; within torch's inference mode."""
        weights, end = self._weights, self._config["eos_token_id"]
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        hidden = F.embedding(tokens, weights[_TOKENS]) + F.embedding(positions, weights[_POSITIONS])
        allowed = self._allowed(mask, hidden.dtype)
        is_causal = allowed is None and tokens.shape[1] > 1
        hidden = self._norm(_FINAL_NORM, self._run(hidden, allowed, is_causal))
        # Where the end's token is said to be 2, as in OpenAI's own files, that is an old mistake: it is the largest.
        last = tokens.argmax(dim=1) if end == 2 else (tokens == end).int().argmax(dim=1)
        pooled = hidden[torch.arange(len(hidden), device=hidden.device), last]
        return F.linear(pooled, weights[_PROJECTION])

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
