import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from curation_assets.clip.source import describe
from curation_assets.demo.render import render
from training.augment import colour_jitter, erase, mix, random_view
from training.data import Pictures
from training.evaluate import scores
from training.photographs import Photograph, gradient_hash, photographs, split
from training.tokenizer import write_tokenizer
from training.train import Recipe, Texts, Trainer

TINY = replace(
    Recipe(),
    side=32,
    patch=16,
    width=32,
    layers=2,
    heads=2,
    text_width=32,
    text_layers=1,
    text_heads=2,
    dimension=16,
    vocabulary=600,
    epochs=2,
    balanced_epochs=1,
    balanced_per_class=4,
    batch=4,
    warm_up_epochs=1,
    rendered_per_epoch=6,
    queries_per_step=2,
)  # fmt: skip
TEXTS = Texts(
    {"apple": ("an apple", "a red apple"), "maize_rust": ("rust on maize", "a maize leaf with rust")},
    (("a fruit", frozenset({"apple"})), ("a photo", frozenset({"apple", "maize_rust"}))),
)


def pictures(number: int, seed: str) -> Pictures:
    rng = random.Random(seed)
    labels = [("apple", "maize_rust")[index % 2] for index in range(number)]
    drawn = [np.asarray(render(label, rng, (160, 160))).transpose(2, 0, 1).copy() for label in labels]
    return Pictures([torch.from_numpy(pixels) for pixels in drawn], [(label,) for label in labels])


def trainer(folder: Path, recipe: Recipe = TINY) -> Trainer:
    return Trainer(pictures(10, "real"), pictures(8, "drawn"), TEXTS, recipe, folder)


def save(path: Path, seed: int, side: int = 90, quality: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8))
    noise.resize((360, 360), Image.Resampling.BICUBIC).resize((side, side)).save(path, quality=quality)
    return path


def test_copies_of_one_content_are_one_photograph_and_unknown_files_are_none(tmp_path):
    first = save(tmp_path / "fruit" / "train" / "apple_1.jpg", 1)
    copy = tmp_path / "fruit" / "test" / "apple_77.jpg"
    copy.parent.mkdir()
    copy.write_bytes(first.read_bytes())
    both = tmp_path / "rice" / "Thrips" / "a.jpg"
    both.parent.mkdir(parents=True)
    both.write_bytes(first.read_bytes())
    (tmp_path / "fruit" / "train" / "apple_1.xml").write_text("<annotation/>")
    found = photographs(tmp_path)
    assert [(photo.path, photo.labels) for photo in found] == [(copy, ("apple", "rice_thrips"))]


def test_no_held_out_photograph_and_no_copy_at_another_size_is_trained_on(tmp_path):
    found = []
    for seed in range(40):
        for name, side, quality in (("a", 300, 90), ("b", 180, 75)):
            path = save(tmp_path / f"{seed}{name}.jpg", seed, side, quality)
            found.append(Photograph(path, (str(seed),), f"{seed * 2 + (name == 'b'):08x}"))
    hashes = np.stack([gradient_hash(photo.image()) for photo in found])
    train, held_out = split(found, hashes)
    assert held_out == [index for index, photo in enumerate(found) if int(photo.sha256, 16) % 5 == 0]
    assert not {found[i].labels for i in train} & {found[i].labels for i in held_out}
    assert len(train) == 48  # of 80: 16 are held out, and 16 look like those


def test_about_a_fifth_is_held_out_by_hash_alone():
    rng = random.Random(3)
    share = np.mean([Photograph(Path("x"), ("apple",), f"{rng.getrandbits(256):064x}").held_out for _ in range(4000)])
    assert 0.17 < share < 0.23


def test_a_view_keeps_the_colours_of_its_picture_and_depends_on_the_generator_alone():
    picture = torch.stack([torch.full((160, 240), value, dtype=torch.uint8) for value in (200, 90, 10)])
    view = random_view(picture, 64, torch.Generator().manual_seed(5))
    assert view.shape == (3, 64, 64)
    assert torch.allclose(view.mean(dim=(1, 2)), torch.tensor([200.0, 90.0, 10.0]), atol=0.01)
    noisy = torch.randint(0, 255, (3, 160, 200), dtype=torch.uint8)
    first, again, other = (random_view(noisy, 64, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_mixing_moves_targets_as_much_as_pixels():
    rng = torch.Generator().manual_seed(1)
    images = torch.zeros(2, 3, 32, 32)
    images[1] = 1
    targets = torch.eye(2)
    for _ in range(20):
        mixed, moved = mix(images, targets, rng)
        assert torch.allclose(moved.sum(dim=1), torch.ones(2))
        assert mixed.mean(dim=(1, 2, 3)) == pytest.approx(moved[:, 1].numpy(), abs=1e-5)


def test_jittered_images_stay_images():
    rng = torch.Generator().manual_seed(2)
    jittered = erase(colour_jitter(torch.rand(8, 3, 32, 32), rng), rng)
    assert jittered.min() >= 0
    assert jittered.max() <= 1


def test_the_tokenizer_learns_words_of_the_captions_and_has_tokens_for_any_text(tmp_path):
    entries = write_tokenizer(["coffee rust on a leaf"] * 3, tmp_path, 700)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize("Coffee RUST") == ["coffee</w>", "rust</w>"]
    ids = tokenizer("Rost auf Kaffee, 咖啡 🌽").input_ids
    assert max(ids) < entries
    assert ids[0] == entries - 2
    assert ids[-1] == entries - 1
    assert entries - 1 not in ids[1:-1]


def test_training_stopped_and_resumed_gives_the_weights_of_one_run(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    one = trainer(whole)
    one.run()
    trainer(parts).run(until=2)
    resumed = trainer(parts)
    resumed.run()
    assert resumed.epoch == 3
    for name, weight in one.average.state_dict().items():
        assert torch.equal(weight, resumed.average.state_dict()[name]), name


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    trainer(tmp_path).run(until=1)
    with pytest.raises(SystemExit, match="another recipe"):
        trainer(tmp_path, replace(TINY, learning_rate=1e-4)).run()


def test_what_training_exports_is_a_model_the_pipeline_takes(tmp_path):
    made = trainer(tmp_path / "work")
    made.run(until=1)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").write_text("card")
    made.export(tmp_path / "model")
    source = describe("tiny", tmp_path / "model")
    assert (source.dimension, source.image_size) == (16, 32)
    assert (tmp_path / "model" / "README.md").read_text() == "card"


def test_scores_count_the_nearest_caption_and_the_ten_nearest_images():
    texts = np.eye(2, dtype=np.float32)
    images = np.array([[0.9, 0.1]] * 12 + [[0.2, 0.8]] * 3 + [[0.6, 0.4]], np.float32)
    found = scores(images, [("a",)] * 12 + [("b",)] * 3 + [("a", "b")], ["a", "b"], texts)
    assert found.images == [13, 4]
    assert found.top1 == [1.0, 1.0]
    assert found.precision == [1.0, 0.4]
    assert found.mean_precision == pytest.approx(0.7)
    assert "| b | 4 | 1.00 | 0.40 |" in found.table()
    wrong = scores(images, [("b",)] * 12 + [("a",)] * 4, ["a", "b"], texts)
    assert wrong.overall == 1 / 16
