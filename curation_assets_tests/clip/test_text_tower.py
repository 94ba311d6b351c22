"""The text tower beside transformers' own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from curation_assets.clip.encoder import Encoder
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.clip.spec import Spec
from curation_assets.clip.text_tower import TextTower, Tokenizer
from curation_assets.errors import CurationError
from curation_assets_tests.clip.conftest import change_config, tower_of_transformers

TEXTS = ["a photo of maize rust", "", "木の葉 🌿 <|endoftext|> again", "UPPER and lower  space", "maize " * 100]


def of_transformers(folder: Path, texts: list[str], dtype: torch.dtype, attention: str) -> torch.Tensor:
    model = tower_of_transformers(
        transformers.CLIPTextModelWithProjection, folder, "text", dtype=dtype, attn_implementation=attention
    )
    tokens = transformers.CLIPTokenizer.from_pretrained(folder)(
        texts, padding=True, truncation=True, max_length=77, return_tensors="pt"
    )
    with torch.inference_mode():
        return model(**tokens).text_embeds  # type: ignore[no-any-return]


def of_ours(folder: Path, texts: list[str], dtype: torch.dtype, fused: bool) -> torch.Tensor:
    spec = Spec.read(folder)
    with torch.inference_mode():
        return TextTower(folder, spec.text, torch.device("cpu"), dtype, fused).embed(*Tokenizer(spec).tokens(texts))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1], TEXTS[1:2]], ids=["padded", "one", "empty"])
def test_outputs_are_those_of_transformers_bit_for_bit(texts: list[str], attention: str, dtype: torch.dtype) -> None:
    ours = of_ours(DEMO_FOLDER, texts, dtype, attention == "sdpa")
    theirs = of_transformers(DEMO_FOLDER, texts, dtype, attention)
    assert torch.equal(ours, theirs)
    assert len(texts) == 1 or not torch.allclose(ours[0], ours[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"eos_token_id": 2},  # as in OpenAI's files
        {"hidden_act": "gelu"},
        {"hidden_act": "gelu_pytorch_tanh"},
        {"layer_norm_eps": 0.01},
        {"num_attention_heads": 2},
        {"num_hidden_layers": 1},
    ],
    ids=str,
)
def test_what_the_configuration_says_is_heeded(changes: dict[str, Any], model_folder: Path) -> None:
    before = of_ours(model_folder, TEXTS, torch.float32, False)
    change_config(model_folder, "text", **changes)
    ours = of_ours(model_folder, TEXTS, torch.float32, False)
    assert torch.equal(ours, of_transformers(model_folder, TEXTS, torch.float32, "eager"))
    assert torch.equal(ours, before) == (changes == {"eos_token_id": 2}), "the end is the largest token here"


def test_defaults_of_the_configuration_and_its_old_second_copy_are_those_of_transformers(model_folder: Path) -> None:
    config = json.loads((model_folder / "config.json").read_text())
    text = config.pop("text_config")
    for default in ("layer_norm_eps", "hidden_act", "max_position_embeddings"):
        del text[default]
    config["text_config_dict"] = text  # as OpenAI's files had it, which counts where both are there
    config["text_config"] = {"hidden_act": "gelu"}
    (model_folder / "config.json").write_text(json.dumps(config))
    ours = of_ours(model_folder, TEXTS, torch.float32, False)
    assert torch.equal(ours, of_transformers(model_folder, TEXTS, torch.float32, "eager"))
    assert torch.equal(ours, of_ours(DEMO_FOLDER, TEXTS, torch.float32, False))


def test_weights_in_several_files_are_the_same_weights(model_folder: Path) -> None:
    model = transformers.CLIPModel.from_pretrained(model_folder)
    (model_folder / "model.safetensors").unlink()
    model.save_pretrained(model_folder, max_shard_size="500KB")
    assert len(list(model_folder.glob("model-*.safetensors"))) > 2
    ours = of_ours(model_folder, TEXTS, torch.float32, False)
    assert torch.equal(ours, of_ours(DEMO_FOLDER, TEXTS, torch.float32, False))


def test_a_tokenizer_of_one_file_cuts_texts_as_transformers_does(model_folder: Path) -> None:
    transformers.CLIPTokenizer.from_pretrained(DEMO_FOLDER).save_pretrained(model_folder)
    for name in ("vocab.json", "merges.txt"):
        (model_folder / name).unlink()
    assert (model_folder / "tokenizer.json").exists()
    assert torch.equal(
        of_ours(model_folder, TEXTS, torch.float32, False), of_ours(DEMO_FOLDER, TEXTS, torch.float32, False)
    )


def test_padding_is_the_token_that_the_files_name(model_folder: Path) -> None:
    config = json.loads((model_folder / "tokenizer_config.json").read_text())
    (model_folder / "tokenizer_config.json").write_text(json.dumps(config | {"pad_token": "!"}))
    tokens, mask = Tokenizer(Spec.read(model_folder)).tokens(TEXTS)
    padding = transformers.CLIPTokenizer.from_pretrained(model_folder).pad_token_id
    assert set(tokens[mask == 0].tolist()) == {padding}
    assert padding != transformers.CLIPTokenizer.from_pretrained(DEMO_FOLDER).pad_token_id


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda weights: weights.pop("text_model.final_layer_norm.bias"),
            r"has no weights for .*final_layer_norm\.bias",
        ),
        (
            lambda weights: weights.update({"text_projection.weight": torch.zeros(3, 128)}),
            r"has weights of another size for text_projection\.weight",
        ),
    ],
    ids=["missing", "of another size"],
)
def test_weights_that_do_not_fit_are_refused_by_their_names(damage: Any, said: str, model_folder: Path) -> None:
    weights = load_file(model_folder / "model.safetensors")
    damage(weights)
    save_file(weights, model_folder / "model.safetensors", metadata={"format": "pt"})
    encoder = Encoder(model_folder, "cpu", "float32")
    with pytest.raises(CurationError, match=rf"{model_folder} {said}: they don't fit its config\.json"):
        encoder.embed_texts(["maize"])
