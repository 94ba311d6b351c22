"""A tiny CLIP with random weights, written at first use: real classes and files, vectors without meaning.

It lets the whole pipeline run where no trained model can be had. Whatever shows results made with it says that it is
untrained (``curation_untrained`` in its ``config.json``).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

DIMENSION = 64
_SEED = 20


def write(folder: Path) -> None:
    """Write the model into ``folder`` unless it is there already; all or nothing."""
    if folder.is_dir():
        return
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        vocabulary = _vocabulary()
        (staged / "vocab.json").write_text(json.dumps(vocabulary))
        (staged / "merges.txt").write_text("#version: 0.2\n")
        (staged / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
        )
        (staged / "preprocessor_config.json").write_text(json.dumps(_PREPROCESSOR))
        tower = {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        }
        end = vocabulary["<|endoftext|>"]
        config = transformers.CLIPConfig(
            text_config=tower
            | {
                "vocab_size": len(vocabulary),
                "max_position_embeddings": 77,
                "bos_token_id": vocabulary["<|startoftext|>"],
                "eos_token_id": end,
                "pad_token_id": end,
            },
            vision_config=tower | {"image_size": 224, "patch_size": 32},
            projection_dim=DIMENSION,
            curation_untrained=True,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            transformers.CLIPModel(config).save_pretrained(staged)
        try:
            staged.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was first: its model is the same
                raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)


_PREPROCESSOR = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "CLIPImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 224},
}


def _vocabulary() -> dict[str, int]:
    """Byte-level vocabulary without merges: every byte, every byte at the end of a word, and the two marks."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = letters + [f"{letter}</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}
