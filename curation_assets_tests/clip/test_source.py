from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import transformers
from huggingface_hub.constants import HF_HUB_CACHE

from curation_assets.clip.encoder import Encoder
from curation_assets.clip.source import DEMO_FOLDER, resolve
from curation_assets.errors import CurationError

ABSENT_ID = "nobody-at-all/clip-that-is-not-there"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model in a local folder, free to be broken."""
    return Path(shutil.copytree(DEMO_FOLDER, tmp_path / "model"))


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_hub_model_that_cannot_be_reached_is_one_clear_error_with_both_ways_out() -> None:
    assert not (Path(HF_HUB_CACHE) / f"models--{ABSENT_ID.replace('/', '--')}").exists()
    with pytest.raises(CurationError) as caught:
        resolve(ABSENT_ID)
    message = str(caught.value)
    assert f"CURATION_MODEL_SOURCE={ABSENT_ID}" in message
    assert "local folder" in message
    assert "`demo`" in message
    assert "can't be reached" in message
    assert "\n" not in message


@pytest.mark.parametrize("download", [True, False])
def test_the_hub_is_asked_only_where_that_is_meant(
    download: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def snapshot(hub_id: str, *, local_files_only: bool, **_: object) -> str:
        asked.append(local_files_only)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert resolve(ABSENT_ID, download=download).folder == folder
    assert asked == [not download]


@pytest.mark.parametrize("source", ["no such/model/at all", "a/b/c", "--x--", "./models/not_here", "naïve"])
def test_a_source_that_is_neither_folder_nor_hub_id_says_so(source: str) -> None:
    with pytest.raises(CurationError, match=r"neither a folder nor a model id.*`demo`"):
        resolve(source)


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("config.json", "config.json"),
        ("preprocessor_config.json", "preprocessor_config.json"),
        ("vocab.json", "tokenizer.json"),
        ("merges.txt", "tokenizer.json"),
        ("model.safetensors", "model.safetensors"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused_by_the_files_name(file: str, named: str, folder: Path) -> None:
    (folder / file).unlink()
    with pytest.raises(CurationError) as caught:
        resolve(str(folder))
    assert f"{folder} has no {named}" in str(caught.value)


def test_a_folder_that_lacks_one_of_several_weight_files_is_refused_by_the_files_name(folder: Path) -> None:
    shards = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors").rename(folder / min(shards))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict(zip("ab", sorted(shards), strict=True))}))
    with pytest.raises(CurationError, match=f"{folder} has no {max(shards)}"):
        resolve(str(folder))
    shutil.copy(folder / min(shards), folder / max(shards))
    assert len(resolve(str(folder)).files) == 8


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


BROKEN: dict[str, Callable[[Path], object]] = {
    "another architecture": lambda f: change_json(f / "config.json", model_type="siglip"),
    "no architecture": lambda f: (f / "config.json").write_text("{}"),
    "no dimension": lambda f: change_json(f / "config.json", projection_dim=None),
    "configuration is a list": lambda f: (f / "config.json").write_text("[]"),
    "configuration is not JSON": lambda f: (f / "config.json").write_text("<html>"),
    "configuration is not text": lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"),
    "empty weights": lambda f: (f / "model.safetensors").write_bytes(b""),
    "weights cut in the header": lambda f: cut(f / "model.safetensors", 1000),
    "weights cut in the middle": lambda f: cut(f / "model.safetensors", 200_000),
    "weights cut at the last byte": lambda f: cut(
        f / "model.safetensors", (f / "model.safetensors").stat().st_size - 1
    ),
    "a pointer instead of weights": lambda f: (f / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1710540580\n"
    ),
    "a web page instead of weights": lambda f: (f / "model.safetensors").write_text("<!DOCTYPE html><html></html>"),
    "a list as header": lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"[]"),
    "preprocessing of another model": lambda f: change_json(f / "preprocessor_config.json", resample=2),
    "index is not JSON": lambda f: (f / "model.safetensors.index.json").write_text("nothing"),
}


@pytest.mark.parametrize("breakage", BROKEN.values(), ids=BROKEN)
def test_a_folder_that_holds_no_whole_clip_is_refused_by_its_name(
    breakage: Callable[[Path], object], folder: Path
) -> None:
    breakage(folder)
    with pytest.raises(CurationError) as caught:
        resolve(str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_fingerprint_is_of_the_content_and_not_of_the_place(folder: Path, tmp_path: Path) -> None:
    first = resolve(str(folder))
    elsewhere = Path(shutil.copytree(folder, tmp_path / "else where"))
    again = resolve(str(elsewhere))
    assert first.fingerprint == again.fingerprint == resolve(str(folder)).fingerprint
    assert len(first.fingerprint) == 32


@pytest.mark.parametrize("position", [0.4, 0.6, 1.0])
def test_the_fingerprint_changes_with_any_byte_of_the_weights(position: float, folder: Path) -> None:
    before = resolve(str(folder)).fingerprint
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[int((len(weights) - 1) * position)] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert resolve(str(folder)).fingerprint != before


@pytest.mark.parametrize(
    "file", ["config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.json", "merges.txt"]
)
def test_the_fingerprint_changes_with_configuration_preprocessing_and_tokenizer(file: str, folder: Path) -> None:
    before = resolve(str(folder)).fingerprint
    with (folder / file).open("a") as out:
        out.write("\n")
    assert resolve(str(folder)).fingerprint != before


def test_the_fingerprint_changes_when_a_tokenizer_file_is_added(folder: Path) -> None:
    before = resolve(str(folder)).fingerprint
    (folder / "special_tokens_map.json").write_text("{}")
    assert resolve(str(folder)).fingerprint != before


def test_files_that_are_not_the_models_change_neither_fingerprint_nor_files(folder: Path) -> None:
    before = resolve(str(folder))
    for name in ["README.md", "pytorch_model.bin", ".DS_Store", "training_args.json", "flax_model.msgpack"]:
        (folder / name).write_text("not part of it")
    (folder / ".cache").mkdir()
    after = resolve(str(folder))
    assert after.fingerprint == before.fingerprint
    assert after.files == before.files


def test_a_clip_made_with_transformers_is_described_by_its_own_numbers(folder: Path) -> None:
    config = transformers.CLIPConfig.from_pretrained(folder)
    config.projection_dim = 32
    del config.curation_demonstration
    model = transformers.CLIPModel(config)
    model.save_pretrained(folder)
    found = resolve(str(folder))
    assert found.dimension == 32
    assert found.parameters == sum(weight.numel() for weight in model.parameters())
    assert found.image_size == 128
    assert not found.demonstration
    assert found.name == str(folder)


def test_a_model_of_symbolic_links_as_in_the_hubs_cache_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    blobs = folder.rename(tmp_path / "blobs")
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for blob in list(blobs.iterdir()):
        hashed = blob.rename(blobs / f"hash-of-{blob.name}")
        (snapshot / blob.name).symlink_to(Path("..", "..", "blobs", hashed.name))
    linked, plain = resolve(str(snapshot)), resolve(str(DEMO_FOLDER))
    assert linked.fingerprint == plain.fingerprint
    assert linked.parameters == plain.parameters


def test_the_demo_model_ships_with_the_package_and_says_what_it_is_for() -> None:
    found = resolve("demo")
    assert found.demonstration
    assert found.folder == DEMO_FOLDER
    assert (found.dimension, found.image_size) == (128, 128)
    card = (DEMO_FOLDER / "README.md").read_text()
    assert "for demonstration, not for decisions" in card.lower()


def test_a_folder_saved_by_transformers_5_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    before = resolve(str(folder))
    processor = transformers.CLIPProcessor(
        transformers.CLIPImageProcessorPil.from_pretrained(folder), transformers.CLIPTokenizer.from_pretrained(folder)
    )
    saved = tmp_path / "saved"
    processor.save_pretrained(saved)
    transformers.CLIPModel.from_pretrained(folder).save_pretrained(saved)
    assert (saved / "processor_config.json").exists()
    assert not (saved / "preprocessor_config.json").exists()
    found = resolve(str(saved))
    assert (found.dimension, found.image_size, found.parameters) == (128, 128, before.parameters)
    assert saved / "processor_config.json" in found.files
    encoders = [Encoder(path, "cpu", "float32") for path in (folder, saved)]
    assert encoders[0].preprocessing == encoders[1].preprocessing
    texts = [encoder.embed_texts(["Rust on a maize leaf", "ü!"]) for encoder in encoders]
    np.testing.assert_allclose(*texts, atol=1e-6)


def test_a_processor_file_counts_only_where_it_is_read(folder: Path) -> None:
    before = resolve(str(folder))
    (folder / "processor_config.json").write_text('{"processor_class": "CLIPProcessor"}')
    assert resolve(str(folder)) == before
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CurationError, match=r"has no preprocessor_config\.json"):
        resolve(str(folder))
