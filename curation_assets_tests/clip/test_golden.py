"""Whether a registered model is still what was registered: its files, and what it says of the golden inputs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import mlflow
import numpy as np
import pytest
from PIL import Image

from curation_assets.clip import golden, manifest
from curation_assets.clip.encoder import Encoder
from curation_assets.clip.registry import Registry
from curation_assets.clip.source import CODE_REVISION, DEMO_FOLDER, combine, file_digests, resolve
from curation_assets.errors import CurationError
from curation_assets.images.guard import DecodeOptions
from curation_assets.pipeline import Pipeline
from curation_assets_tests.clip.test_encoder import change_weights
from curation_assets_tests.conftest import downloaded, register

NAME = "autobricks.agriculture.clip_embedding"
EXACT = {"device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module")
def registered(registered_model: Path) -> Path:
    """Artifacts of the registered demo model; not to be changed."""
    registry = Registry(NAME, registered_model)
    return downloaded(registry, registry.champion()) / "artifacts"


@pytest.fixture
def own(ready: Pipeline, tmp_path: Path) -> tuple[Pipeline, Path]:
    """A pipeline with a version of its own, and its model folder, free to be changed."""
    folder = Path(shutil.copytree(DEMO_FOLDER, tmp_path / "other_model"))
    change_weights(folder, "logit_scale", 1.5)
    pipeline = Pipeline(ready.settings.model_copy(update={"model_source": str(folder)}))
    model, is_new = register(pipeline)
    assert is_new
    return pipeline, downloaded(pipeline.registry, model)


@pytest.fixture
def copy(registered: Path, tmp_path: Path) -> Path:
    """Artifacts free to be changed."""
    return Path(shutil.copytree(registered, tmp_path / "artifacts"))


def flip(path: Path, position: float) -> None:
    data = bytearray(path.read_bytes())
    data[int((len(data) - 1) * position)] ^= 1
    path.write_bytes(data)


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of the weights": (lambda f: flip(f / "model.safetensors", 0.7), "model.safetensors differs"),
    "another mean": (
        lambda f: change_json(f / "preprocessor_config.json", image_mean=[0.5, 0.5, 0.5]),
        "preprocessor_config.json differs",
    ),
    "another configuration": (lambda f: change_json(f / "config.json", projection_dim=32), "config.json differs"),
    "no merges": (lambda f: (f / "merges.txt").unlink(), "merges.txt is missing"),
    "another tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json was added"),
    "two files": (
        lambda f: (flip(f / "merges.txt", 0.5), flip(f / "vocab.json", 0.5)),
        "merges.txt differs, vocab.json differs",
    ),
}


@pytest.mark.parametrize(("tamper", "named"), TAMPERED.values(), ids=TAMPERED)
def test_files_that_are_not_those_registered_are_named(
    tamper: Callable[[Path], object], named: str, copy: Path
) -> None:
    before = manifest.check(copy)
    tamper(copy / "clip")
    with pytest.raises(CurationError) as caught:
        manifest.check(copy)
    message = str(caught.value)
    assert named in message
    actual = combine(file_digests(copy / "clip"))
    assert f"fingerprint {actual} instead of {before.fingerprint}" in message
    assert "fetch the version from the registry again, or register the model anew" in message
    assert "\n" not in message


@pytest.mark.parametrize("file", ["model.safetensors", "preprocessor_config.json"])
def test_a_tampered_version_is_refused_by_mlflow_and_by_the_registry(file: str, own: tuple[Pipeline, Path]) -> None:
    pipeline, version = own
    model = pipeline.registry.champion()
    mlflow.pyfunc.load_model(model.uri, model_config=EXACT)
    assert pipeline.registry.load_encoder(model, "cpu", "float32").embed_texts(["a"]).shape == (1, 128)
    path = version / "artifacts" / "clip" / file
    content = json.loads(path.read_text()) | {"image_mean": [0.5] * 3} if file.endswith("json") else None
    path.write_text(json.dumps(content)) if content else flip(path, 0.9)
    with pytest.raises(CurationError, match=rf"{file} differs"):
        mlflow.pyfunc.load_model(model.uri, model_config=EXACT)
    with pytest.raises(CurationError, match=rf"{file} differs"):
        pipeline.registry.load_encoder(model, "cpu", "float32")
    mlflow.pyfunc.load_model(model.uri, model_config=EXACT | {"verify_files": False})


def test_files_exchanged_together_with_their_manifest_are_noticed_by_the_registrys_fingerprint(
    own: tuple[Pipeline, Path],
) -> None:
    pipeline, version = own
    artifacts = version / "artifacts"
    flip(artifacts / "clip" / "model.safetensors", 0.9)
    shutil.rmtree(artifacts / "manifest")
    manifest.write(artifacts / "manifest", artifacts / "clip", combine(file_digests(artifacts / "clip")))
    with pytest.raises(CurationError, match="no file is known to have changed; fingerprint"):
        pipeline.registry.load_encoder(pipeline.registry.champion(), "cpu", "float32")


def test_a_manifest_that_cannot_be_read_is_one_clear_error(copy: Path) -> None:
    (copy / "manifest" / "manifest.json").write_text("[]")
    with pytest.raises(CurationError, match=r"manifest\.json can't be read: .*; fetch the version"):
        manifest.check(copy)


def test_a_version_of_the_first_revision_which_has_no_manifest_is_checked_by_its_fingerprint(copy: Path) -> None:
    shutil.rmtree(copy / "manifest")
    fingerprint = combine(file_digests(copy / "clip"), 1)
    found = manifest.check(copy, fingerprint)
    assert (found.fingerprint, found.code_revision, found.is_stored) == (fingerprint, 1, False)
    flip(copy / "clip" / "model.safetensors", 0.9)
    with pytest.raises(CurationError, match=f"instead of {fingerprint}"):
        manifest.check(copy, fingerprint)


def test_files_that_change_while_they_are_registered_are_refused(registered: Path, tmp_path: Path) -> None:
    with pytest.raises(CurationError, match="the model's files changed while it was registered"):
        manifest.write(tmp_path / "manifest", registered / "clip", "0" * 32)
    assert not (tmp_path / "manifest").exists()


def test_a_registered_model_gives_its_golden_vectors_again(registered: Path) -> None:
    report = golden.verify(registered, Encoder(registered / "clip", "cpu", "float32"))
    assert report.ok
    assert list(report.cosines) == ["image 0", "image 1", "text 0", "text 1"]
    assert report.worst > 0.999999
    assert (report.bound, report.precision, report.device) == (0.9999, "float32", "cpu")


def test_golden_vectors_are_those_of_the_golden_images_and_texts(registered: Path) -> None:
    content = json.loads((registered / "golden" / "golden.json").read_text())
    encoder = Encoder(registered / "clip", "cpu", "float32")
    assert [entry["text"] for entry in content["texts"]] == list(golden.TEXTS)
    stored = [entry["vector"] for entry in content["images"] + content["texts"]]
    data = [(registered / "golden" / entry["file"]).read_bytes() for entry in content["images"]]
    pixels = np.stack([encoder.preprocessing.load(image, DecodeOptions(10**6)) for image in data])
    np.testing.assert_allclose(stored[:2], encoder.embed_images(pixels), atol=1e-5)
    np.testing.assert_allclose(stored[2:], encoder.embed_texts(list(golden.TEXTS)), atol=1e-5)
    for one in range(4):
        for other in range(one):
            assert np.dot(stored[one], stored[other]) < 0.999  # or a mixed-up model would pass


def test_golden_vectors_hold_in_bfloat16_within_a_wider_bound(registered: Path) -> None:
    report = golden.verify(registered, Encoder(registered / "clip", "cpu", "bfloat16"))
    assert report.ok
    assert (report.bound, report.precision) == (0.995, "bfloat16")
    assert report.worst < 0.9999999


CHANGED: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "another mean": (
        lambda f: change_json(f / "preprocessor_config.json", image_mean=[0.5, 0.4, 0.3]),
        {"image 0", "image 1"},
    ),
    "no crop": (
        lambda f: change_json(f / "preprocessor_config.json", size={"shortest_edge": 256}),
        {"image 0", "image 1"},
    ),
    "image weights": (
        lambda f: change_weights(f, "vision_model.encoder.layers.0.mlp.fc1.weight", 0.05),
        {"image 0", "image 1"},
    ),
    "text weights": (
        lambda f: change_weights(f, "text_model.encoder.layers.0.mlp.fc1.weight", 0.05),
        {"text 0", "text 1"},
    ),
    "no direction": (lambda f: change_weights(f, "text_projection.weight", 0.0), {"text 0", "text 1"}),
}


@pytest.mark.parametrize(("change", "differ"), CHANGED.values(), ids=CHANGED)
def test_what_computes_something_else_does_not_give_the_golden_vectors(
    change: Callable[[Path], object], differ: set[str], copy: Path
) -> None:
    change(copy / "clip")
    report = golden.verify(copy, Encoder(copy / "clip", "cpu", "float32"))
    assert not report.ok
    assert {name for name, cosine in report.cosines.items() if cosine < report.bound} == differ


def test_a_version_of_another_code_revision_is_used_only_if_this_code_gives_its_golden_vectors(
    own: tuple[Pipeline, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, _ = own
    model = pipeline.registry.champion()
    monkeypatch.setattr("curation_assets.clip.source.CODE_REVISION", CODE_REVISION + 1)
    encoder = pipeline.registry.load_encoder(model, "cpu", "float32")
    assert encoder.embed_texts(["a"]).shape == (1, 128)

    def mirrored(self: object, rgb: Image.Image) -> object:
        return pixels(self, rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(40))

    pixels = type(encoder.preprocessing).pixels
    monkeypatch.setattr(type(encoder.preprocessing), "pixels", mirrored)
    with pytest.raises(CurationError, match=rf"{model.uri} was registered by code revision {CODE_REVISION}; revision"):
        pipeline.registry.load_encoder(model, "cpu", "float32")


@pytest.mark.parametrize("breakage", ["none", "empty", "an image is gone", "other text"])
def test_golden_vectors_that_cannot_be_read_are_one_clear_error(breakage: str, copy: Path) -> None:
    folder = copy / "golden"
    if breakage == "none":
        shutil.rmtree(folder)
    elif breakage == "empty":
        (folder / "golden.json").write_text("{}")
    elif breakage == "other text":
        (folder / "image_0.png").write_text("not an image")
    else:
        (folder / "image_1.png").unlink()
    with pytest.raises(CurationError, match="register the model again") as caught:
        golden.verify(copy, Encoder(copy / "clip", "cpu", "float32"))
    assert "\n" not in str(caught.value)


def test_golden_images_are_the_same_wherever_they_are_drawn(registered: Path) -> None:
    for index, data in enumerate(golden._pictures()):
        stored = Image.open(registered / "golden" / f"image_{index}.png")
        assert np.array_equal(np.array(stored), np.array(Image.open(BytesIO(data))))


def test_the_commit_of_a_hub_snapshot_is_known_and_that_of_another_folder_is_empty(
    registered: Path, tmp_path: Path
) -> None:
    commit = "32bd64288804d66eefd0ccbe215aa642df71cc41"
    snapshot = shutil.copytree(registered / "clip", tmp_path / "models--a--b" / "snapshots" / commit)
    assert resolve(str(snapshot)).hub_commit == commit
    assert resolve(str(registered / "clip")).hub_commit == ""
