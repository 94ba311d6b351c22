"""CLIP's image tower: the one way pixels become vectors here."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from curation_assets.clip.layers import Layers, with_bias
from curation_assets.clip.spec import Spec
from curation_assets.errors import CurationError

_EMBEDDINGS = "vision_model.embeddings"
_CLASS, _PATCHES, _POSITIONS = (
    f"{_EMBEDDINGS}.{what}" for what in ("class_embedding", "patch_embedding.weight", "position_embedding.weight")
)
_LAYERS, _PROJECTION = "vision_model.encoder.layers", "visual_projection.weight"
_FIRST_NORM, _FINAL_NORM = "vision_model.pre_layrnorm", "vision_model.post_layernorm"  # so it is written in the files


class VisionTower:
    """Pixels → vectors, not of unit length yet.

    Args:
        folder: model in Hugging Face layout, whose weights are read.
        spec: of the same model.
        device: to compute on.
        dtype: to compute in.
        fused: attention in torch's one kernel; else in plain matrix products.

    Raises:
        CurationError: the weights don't fit; the message names some of those that don't.
    """

    def __init__(self, folder: Path, spec: Spec, device: torch.device, dtype: torch.dtype, fused: bool) -> None:
        config, width = spec.images, spec.images["hidden_size"]
        self._folder, self._side, self._patch = folder, int(config["image_size"]), int(config["patch_size"])
        others = (
            {
                _CLASS: (width,),
                _PATCHES: (width, config["num_channels"], self._patch, self._patch),
                _POSITIONS: ((self._side // self._patch) ** 2 + 1, width),
                _PROJECTION: (config["projection_dim"], width),
            }
            | with_bias(_FIRST_NORM, width)
            | with_bias(_FINAL_NORM, width)
        )
        self._layers = Layers(folder, _LAYERS, config, others, device, dtype, fused)

    def embed(self, pixels: Tensor) -> Tensor:
        """(n, projection_dim) of (n, channels, image_size, image_size), standardized; within torch's inference mode.

        Raises:
            CurationError: they have another size.
        """
        side, (height, width) = self._side, pixels.shape[2:]
        if (height, width) != (side, side):
            raise CurationError(
                f"{self._folder} takes pictures of {side} x {side} pixels, not of {width} x {height}: "
                "its preprocessor_config.json doesn't fit its config.json"
            )
        weights = self._layers.weights
        patches = F.conv2d(pixels, weights[_PATCHES], stride=self._patch).flatten(2).transpose(1, 2)
        first = weights[_CLASS].expand(len(patches), 1, -1)
        hidden = torch.cat([first, patches], dim=1) + weights[_POSITIONS]
        hidden = self._layers.run(self._layers.norm(_FIRST_NORM, hidden))
        return F.linear(self._layers.norm(_FINAL_NORM, hidden[:, 0, :]), weights[_PROJECTION])
