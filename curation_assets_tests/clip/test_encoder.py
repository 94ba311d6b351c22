from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from curation_assets.clip import tower
from curation_assets.clip.encoder import Encoder, choose_device, choose_precision
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.errors import CurationError

TEXTS = [
    "a photo of maize rust",
    "",
    "Kaffeeblatt mit Flecken",
    "木の葉 🌿",
    "UPPER and lower  space",
    "a, b; c!",
]


@pytest.fixture(scope="module")
def demo() -> Path:
    return DEMO_FOLDER


@pytest.fixture(scope="module")
def encoder(demo: Path) -> Encoder:
    return Encoder(demo, "cpu", "float32")


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (230 + 9 * i, 300, 3), dtype=np.uint8)) for i in range(count)]


def pixels_of(encoder: Encoder, images: list[Image.Image]) -> Any:
    return np.stack([encoder.preprocessing.pixels(image) for image in images])


def reference(folder: Path) -> Any:
    return transformers.CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()


def unit(features: Any) -> np.ndarray:
    vectors = features.pooler_output
    return (vectors / vectors.norm(dim=1, keepdim=True)).numpy()  # type: ignore[no-any-return]


def reference_images(folder: Path, images: list[Image.Image]) -> np.ndarray:
    values = transformers.CLIPImageProcessorPil.from_pretrained(folder)(images=images, return_tensors="pt")
    with torch.inference_mode():
        return unit(reference(folder).get_image_features(**values))


def reference_texts(folder: Path, texts: list[str]) -> np.ndarray:
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        tokens = [tokenizer([text], truncation=True, max_length=77, return_tensors="pt") for text in texts]
        return np.concatenate([unit(reference(folder).get_text_features(**one)) for one in tokens])


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one.astype(np.float64) * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def change_weights(folder: Path, name: str, value: float) -> None:
    model = reference(folder)
    with torch.no_grad():
        model.state_dict()[name].fill_(value)
    model.save_pretrained(folder)


def test_image_vectors_are_those_of_transformers_normalised(encoder: Encoder, demo: Path) -> None:
    images = pictures(6)
    ours = encoder.embed_images(pixels_of(encoder, images))
    theirs = reference_images(demo, images)
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    assert cosines(ours, theirs).min() >= 0.999999
    assert np.allclose(ours, theirs, atol=1e-5)
    assert cosines(ours[:1], ours[1:2])[0] < 0.99999  # or any vector would do


def test_text_vectors_are_those_of_transformers_normalised(encoder: Encoder, demo: Path) -> None:
    ours = encoder.embed_texts(TEXTS)
    theirs = reference_texts(demo, TEXTS)
    assert ours.dtype == np.float32
    assert cosines(ours, theirs).min() >= 0.999999
    assert np.allclose(ours, theirs, atol=1e-5)
    assert cosines(ours[:1], ours[1:2])[0] < 0.99999


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "auto"])
def test_every_vector_has_length_one(precision: str, demo: Path) -> None:
    encoder = Encoder(demo, "cpu", precision)
    for vectors in (encoder.embed_images(pixels_of(encoder, pictures(5))), encoder.embed_texts(TEXTS)):
        assert np.allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-5)


def test_vectors_in_bfloat16_are_close_to_those_in_float32(encoder: Encoder, demo: Path) -> None:
    half = Encoder(demo, "cpu", "bfloat16")
    assert half.precision == "bfloat16"
    pixels = pixels_of(encoder, pictures(6))
    for ours, exact in (
        (half.embed_images(pixels), encoder.embed_images(pixels)),
        (half.embed_texts(TEXTS), encoder.embed_texts(TEXTS)),
    ):
        assert ours.dtype == np.float32
        assert cosines(ours, exact).min() >= 0.999
        assert not np.array_equal(ours, exact)


def test_a_vector_does_not_depend_on_its_batch(encoder: Encoder) -> None:
    pixels = pixels_of(encoder, pictures(5))
    alone = np.concatenate([encoder.embed_images(pixels[index : index + 1]) for index in range(5)])
    assert np.allclose(encoder.embed_images(pixels), alone, atol=1e-5)
    alone = np.concatenate([encoder.embed_texts([text]) for text in TEXTS])
    assert np.allclose(encoder.embed_texts(TEXTS), alone, atol=1e-5)


def test_a_text_of_more_than_77_tokens_is_cut(encoder: Encoder, demo: Path) -> None:
    long, longer, short = "maize " * 100, "maize " * 75 + "rust " * 99, "maize " * 50
    ours = encoder.embed_texts([long, longer, short])
    assert np.allclose(ours, reference_texts(demo, [long, longer, short]), atol=1e-5)
    assert np.allclose(ours[0], ours[1], atol=1e-6)
    assert not np.allclose(ours[0], ours[2], atol=1e-4)


def test_a_model_of_another_dimension_gives_vectors_of_that_dimension(model_folder: Path) -> None:
    config = transformers.CLIPConfig.from_pretrained(model_folder)
    config.projection_dim = 32  # the towers' own copies keep their default of 512
    torch.manual_seed(3)
    transformers.CLIPModel(config).save_pretrained(model_folder)
    encoder = Encoder(model_folder, "cpu", "float32")
    ours = encoder.embed_images(pixels_of(encoder, pictures(2)))
    assert np.allclose(ours, reference_images(model_folder, pictures(2)), atol=1e-5)
    assert ours.shape == (2, 32)
    assert np.allclose(encoder.embed_texts(TEXTS), reference_texts(model_folder, TEXTS), atol=1e-5)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), 1e30])
def test_an_output_without_a_direction_becomes_nan_throughout(value: float, model_folder: Path) -> None:
    change_weights(model_folder, "visual_projection.weight", value)
    change_weights(model_folder, "text_projection.weight", value)
    encoder = Encoder(model_folder, "cpu", "float32")
    for vectors in (encoder.embed_images(pixels_of(encoder, pictures(2))), encoder.embed_texts(TEXTS)):
        assert vectors.shape[1] == 128
        assert np.isnan(vectors).all()


def test_a_device_that_is_not_there_is_one_error_that_names_the_setting(demo: Path) -> None:
    with pytest.raises(CurationError, match=r"CURATION_DEVICE=cuda:99"):
        Encoder(demo, "cuda:99")
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_precision_the_device_does_not_compute_in_is_one_error_that_names_the_setting(demo: Path) -> None:
    with pytest.raises(CurationError, match=r"CURATION_PRECISION=float16 needs a CUDA device"):
        Encoder(demo, "cpu", "float16")
    assert choose_precision("auto", torch.device("cpu")) in ("float32", "bfloat16")


def test_the_encoder_says_what_it_chose(demo: Path) -> None:
    encoder = Encoder(demo, "cpu", "auto")
    assert (str(encoder.device), encoder.precision) == ("cpu", choose_precision("auto", torch.device("cpu")))
    assert encoder.batch_size == 32


def test_threads_that_share_an_encoder_get_the_vectors_they_asked_for(demo: Path) -> None:
    encoder = Encoder(demo, "cpu", "float32")  # neither tower is loaded yet
    pixels = pixels_of(encoder, pictures(8))
    with ThreadPoolExecutor(8) as pool:
        ours = list(pool.map(lambda index: encoder.embed_images(pixels[index : index + 1])[0], range(8)))
    assert np.allclose(np.stack(ours), encoder.embed_images(pixels), atol=1e-5)


def test_a_folder_without_preprocessing_is_refused_before_weights_are_loaded(model_folder: Path) -> None:
    (model_folder / "preprocessor_config.json").unlink()
    with pytest.raises(CurationError, match=r"preprocessor_config\.json"):
        Encoder(model_folder, "cpu")


def test_a_folder_that_lacks_weights_is_refused_by_their_names_and_never_filled_with_random_ones(
    model_folder: Path,
) -> None:
    weights = load_file(model_folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.endswith("post_layernorm.weight")}
    save_file(kept, model_folder / "model.safetensors", metadata={"format": "pt"})
    encoder = Encoder(model_folder, "cpu", "float32")
    with pytest.raises(CurationError, match=rf"{model_folder} has no weights for .*post_layernorm\.weight"):
        encoder.embed_images(pixels_of(encoder, pictures(1)))
    assert encoder.embed_texts(["maize"]).shape == (1, 128)


def test_weights_with_the_position_ids_that_older_versions_saved_are_loaded(model_folder: Path, demo: Path) -> None:
    weights = load_file(model_folder / "model.safetensors")
    weights["vision_model.embeddings.position_ids"] = torch.arange(50)[None]
    weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(weights, model_folder / "model.safetensors", metadata={"format": "pt"})
    ours = Encoder(model_folder, "cpu", "float32").embed_texts(TEXTS)
    assert np.array_equal(ours, Encoder(demo, "cpu", "float32").embed_texts(TEXTS))


def test_threads_that_embed_at_once_load_a_tower_once(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    really_read = tower.read_weights

    def slow_read(*args: Any) -> Any:
        loads.append(threading.current_thread().name)
        time.sleep(0.3)
        return really_read(*args)

    monkeypatch.setattr(tower, "read_weights", slow_read)
    encoder = Encoder(model_folder, "cpu", "bfloat16")
    side = encoder.preprocessing.crop
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(encoder.embed_images, [pixels] * 4))
    assert len(loads) == 1
    assert all(np.array_equal(vectors, found[0]) for vectors in found)
