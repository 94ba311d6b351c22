"""Folders in Hugging Face layout with the published shapes of OpenAI's CLIP models, and random weights.

OpenAI's weights can't be had everywhere; their sizes can, and speed depends on nothing else.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from curation_assets.clip.source import DEMO_FOLDER

# The numbers of each model's published config.json.
_VISION: dict[str, dict[str, int]] = {
    "ViT-B/32": {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12, "patch_size": 32},
    "ViT-L/14": {"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14},
}
_TEXT: dict[str, dict[str, int]] = {
    "ViT-B/32": {"hidden_size": 512, "num_attention_heads": 8, "num_hidden_layers": 12},
    "ViT-L/14": {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12},
}
NAMES = tuple(_VISION)


def write_model(name: str, folder: Path) -> None:
    """Write one of ``NAMES`` with random weights; the vocabulary is the demo model's."""
    import torch
    import transformers

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(DEMO_FOLDER / file, folder)
    preprocessing = json.loads((DEMO_FOLDER / "preprocessor_config.json").read_text())
    preprocessing |= {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    # As published: with 2 as the end, transformers takes the token of the largest id.
    words = {"vocab_size": 49408, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    config = transformers.CLIPConfig(
        text_config=_with_mlp(_TEXT[name]) | words,
        vision_config=_with_mlp(_VISION[name]) | {"image_size": 224},
        projection_dim=_TEXT[name]["hidden_size"],
    )
    transformers.CLIPModel(config).save_pretrained(folder)


def _with_mlp(tower: dict[str, int]) -> dict[str, Any]:
    return tower | {"intermediate_size": 4 * tower["hidden_size"]}
