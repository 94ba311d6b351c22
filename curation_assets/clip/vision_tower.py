"""CLIP's image tower: the one way pixels become vectors here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from curation_assets.clip.tower import Tower, with_bias
from curation_assets.errors import CurationError

_EMBEDDINGS = "vision_model.embeddings"
_CLASS, _PATCHES, _POSITIONS = (
    f"{_EMBEDDINGS}.{what}" for what in ("class_embedding", "patch_embedding.weight", "position_embedding.weight")
)
_PROJECTION = "visual_projection.weight"
_FIRST_NORM, _FINAL_NORM = "vision_model.pre_layrnorm", "vision_model.post_layernorm"  # so it is written in the files


class VisionTower(Tower):
    """Pixels → vectors."""

    _prefix = "vision_model.encoder.layers"

    @staticmethod
    def _others(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        width, patch = config["hidden_size"], config["patch_size"]
        shapes = {
            _CLASS: (width,),
            _PATCHES: (width, config["num_channels"], patch, patch),
            _POSITIONS: ((config["image_size"] // patch) ** 2 + 1, width),
            _PROJECTION: (config["projection_dim"], width),
        }
        return shapes | with_bias(_FIRST_NORM, width) | with_bias(_FINAL_NORM, width)

    def embed(self, pixels: Tensor) -> Tensor:
        """(n, projection_dim) of (n, channels, image_size, image_size), standardized; within torch's inference mode.

        Raises:
            CurationError: they have another size.
        """
        side, (height, width) = self._config["image_size"], pixels.shape[2:]
        if (height, width) != (side, side):
            raise CurationError(
                f"{self._folder} takes pictures of {side} x {side} pixels, not of {width} x {height}: "
                "its preprocessor_config.json doesn't fit its config.json"
            )
        weights = self._weights
        patches = F.conv2d(pixels, weights[_PATCHES], stride=self._config["patch_size"]).flatten(2).transpose(1, 2)
        first = weights[_CLASS].expand(len(patches), 1, -1)
        hidden = torch.cat([first, patches], dim=1) + weights[_POSITIONS]
        hidden = self._run(self._norm(_FIRST_NORM, hidden))
        return F.linear(self._norm(_FINAL_NORM, hidden[:, 0, :]), weights[_PROJECTION])
