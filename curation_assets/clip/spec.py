"""What a CLIP model in Hugging Face layout is made of, as transformers reads it: asked once for each model version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from curation_assets.clip.notes import read_note, write_note

MAX_TOKENS = 77
_OF_A_TOWER = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "layer_norm_eps",
    "hidden_act",
)
_OF_TEXT = (*_OF_A_TOWER, "vocab_size", "max_position_embeddings", "eos_token_id")
_OF_IMAGES = (*_OF_A_TOWER, "image_size", "patch_size", "num_channels")


@dataclass(frozen=True)
class Spec:
    """What both towers are made of, and how text is cut.

    Attributes:
        text: ``_OF_TEXT`` of ``CLIPTextConfig``, and the model's ``projection_dim``.
        images: ``_OF_IMAGES`` of ``CLIPVisionConfig``, and the model's ``projection_dim``.
        tokenizer: in the format of the library tokenizers, with cutting and padding set.
    """

    text: dict[str, Any]
    images: dict[str, Any]
    tokenizer: str

    @classmethod
    def read(cls, folder: Path) -> Spec:
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

        def facts(config: Any, names: Sequence[str]) -> dict[str, Any]:
            # A tower's own copy of the projection's size may be absent or a default.
            return {name: getattr(config, name) for name in names} | {"projection_dim": whole.projection_dim}

        return cls(facts(whole.text_config, _OF_TEXT), facts(whole.vision_config, _OF_IMAGES), backend.to_str())

    @classmethod
    def kept_or_read(cls, folder: Path, kept: Path | None) -> Spec:
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
            return cls(note["text"], note["images"], note["tokenizer"])
        spec = cls.read(folder)
        write_note(kept, {"libraries": libraries} | asdict(spec))
        return spec


def quiet_transformers() -> Any:
    """The library, imported now, with nothing to say of what it reads."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers
