from __future__ import annotations

import json
import random
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image

from curation_assets.clip.preprocessing import FILE_NAME, Preprocessing
from curation_assets.demo.render import render
from curation_assets.errors import CurationError
from curation_assets.images.decode import open_image, upright_rgb
from curation_assets.images.guard import DecodeOptions

NO_LIMIT = 10**9
SIZES = [
    (1, 1),
    (15, 18),
    (64, 48),
    (223, 225),
    (224, 224),
    (225, 224),
    (224, 333),
    (333, 225),
    (150, 10),
    (10, 150),
    (3360, 224),
    (501, 1503),
    (2001, 1501),
]
STATISTICS = {
    "CLIP's": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "halves": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "odd": ((0.1234567, 0.7654321, 0.3333333), (0.1111111, 0.9876543, 0.0271828)),
}


@pytest.fixture(scope="module")
def processor() -> Any:
    return transformers.CLIPImageProcessorPil()


@pytest.fixture(scope="module")
def preprocessing(processor: Any, tmp_path_factory: pytest.TempPathFactory) -> Preprocessing:
    """Read from the file that transformers itself writes."""
    folder = tmp_path_factory.mktemp("processor")
    processor.save_pretrained(folder)
    return Preprocessing.from_folder(folder)


def noise(size: tuple[int, int], seed: int = 1) -> Image.Image:
    """Every byte value and every sharp edge: the hardest picture to agree on."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **save: Any) -> bytes:
    out = BytesIO()
    image.save(out, kind, **save)
    return out.getvalue()


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_pixels_are_bit_identical_to_the_reference_processor(
    size: tuple[int, int], mode: str, processor: Any, preprocessing: Preprocessing
) -> None:
    image = noise(size).convert(mode)
    out = BytesIO()
    image.save(out, "TIFF")
    ours = preprocessing.normalise(preprocessing.pixels(upright_rgb(open_image(out.getvalue(), NO_LIMIT), None)))
    theirs = processor(images=image, return_tensors="np")["pixel_values"][0]
    assert ours.dtype == theirs.dtype == np.float32
    assert np.array_equal(ours, theirs)


def test_pixels_are_bit_identical_for_sizes_drawn_at_random(processor: Any, preprocessing: Preprocessing) -> None:
    rng = random.Random(5)
    for _ in range(25):
        short = rng.randint(1, 700)
        size = (short, min(int(short * rng.uniform(1, 15)), 4000))
        image = noise(size if rng.random() < 0.5 else size[::-1], seed=rng.randrange(10**6))
        ours = preprocessing.normalise(preprocessing.pixels(image))
        assert np.array_equal(ours, processor(images=image, return_tensors="np")["pixel_values"][0]), image.size


def test_pixels_are_bit_identical_for_another_resize_and_crop(tmp_path: Path) -> None:
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 257}, crop_size={"height": 192, "width": 192})
    processor.save_pretrained(tmp_path)
    preprocessing = Preprocessing.from_folder(tmp_path)
    for size in [(100, 90), (257, 300), (800, 431)]:
        image = noise(size)
        ours = preprocessing.normalise(preprocessing.pixels(image))
        assert ours.shape == (3, 192, 192)
        assert np.array_equal(ours, processor(images=image, return_tensors="np")["pixel_values"][0])


@pytest.mark.parametrize("statistics", STATISTICS.values(), ids=STATISTICS)
def test_each_byte_is_normalised_exactly_as_the_reference_does(
    statistics: tuple[tuple[float, ...], tuple[float, ...]], tmp_path: Path
) -> None:
    mean, std = statistics
    processor = transformers.CLIPImageProcessorPil(image_mean=list(mean), image_std=list(std))
    processor.save_pretrained(tmp_path)
    preprocessing = Preprocessing.from_folder(tmp_path)
    bytes_ = np.resize(np.arange(256, dtype=np.uint8), (224, 224, 3))
    theirs = processor(images=Image.fromarray(bytes_), return_tensors="np")["pixel_values"][0]
    assert np.array_equal(preprocessing.normalise(bytes_), theirs)
    assert preprocessing.lookup().shape == (3, 256)


def test_a_batch_is_normalised_like_each_of_its_images(preprocessing: Preprocessing) -> None:
    batch = np.stack([np.asarray(noise((224, 224), seed)) for seed in range(3)])
    together = preprocessing.normalise(batch)
    assert together.shape == (3, 3, 224, 224)
    for one, image in zip(together, batch, strict=True):
        assert np.array_equal(one, preprocessing.normalise(image))


@pytest.mark.parametrize("size", [(17 * 40, 40), (40, 17 * 40), (6000, 224)], ids=str)
def test_an_image_just_over_the_extreme_aspect_is_close_to_the_reference(
    size: tuple[int, int], processor: Any, preprocessing: Preprocessing
) -> None:
    image = render("maize_rust", random.Random(3), size)
    ours = preprocessing.normalise(preprocessing.pixels(image))
    assert cosine(ours, processor(images=image, return_tensors="np")["pixel_values"][0]) >= 0.9999


@pytest.mark.parametrize("turned", [False, True])
def test_a_line_of_60000_pixels_gives_the_part_around_its_middle(turned: bool, preprocessing: Preprocessing) -> None:
    line = noise((1, 60_000))
    middle = line.crop((0, 29_950, 1, 30_050))  # the kept square is one pixel of the line, and bicubic sees two around
    resized = middle.resize((224, 22_400), Image.Resampling.BICUBIC)
    top = (60_000 * 224 - 224) // 2 - 29_950 * 224
    expected = np.asarray(resized.crop((0, top, 224, top + 224))).astype(int)
    ours = preprocessing.pixels(line.transpose(Image.Transpose.TRANSPOSE) if turned else line)
    if turned:
        ours = ours.transpose(1, 0, 2)
    assert abs(ours.astype(int) - expected).max() <= 1


def test_a_line_of_60000_pixels_is_prepared_in_bounded_memory(preprocessing: Preprocessing) -> None:
    script = """
import resource
from PIL import Image
from curation_assets.clip.preprocessing import Preprocessing
from curation_assets.images.guard import DecodeOptions
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
preprocessing = Preprocessing(224, 224, (0, 0, 0), (1, 1, 1), 1 / 255)
preprocessing.pixels(Image.new("RGB", (300, 300)))
before = peak()
for size in [(1, 60_000), (60_000, 1)]:
    assert preprocessing.pixels(Image.new("RGB", size)).shape == (224, 224, 3)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 64 * 1024  # KiB; resized whole it would be 12 GB


@pytest.mark.parametrize("size", [(4000, 3000), (3001, 4003), (6000, 1201), (1793, 1795)], ids=str)
def test_a_large_jpeg_gives_nearly_the_pixels_of_a_full_decode(
    size: tuple[int, int], preprocessing: Preprocessing
) -> None:
    data = encoded(render("maize_rust", random.Random(size[0]), size), quality=90)
    full = preprocessing.pixels(upright_rgb(open_image(data, NO_LIMIT), None))
    loaded = preprocessing.load(data, DecodeOptions(NO_LIMIT))
    assert cosine(loaded, full) >= 0.9999
    assert abs(loaded.astype(int) - full).mean() < 0.6  # resized with a JPEG's padding it is up to 5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("size", [(64, 48), (448, 448), (700, 600)], ids=str)
def test_a_small_file_gives_exactly_the_pixels_of_a_full_decode(
    size: tuple[int, int], kind: str, preprocessing: Preprocessing
) -> None:
    data = encoded(noise(size), kind)
    with Image.open(BytesIO(data)) as image:
        expected = preprocessing.pixels(image.convert("RGB"))
    assert np.array_equal(preprocessing.load(data, DecodeOptions(NO_LIMIT)), expected)


STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def as_stored_by_a_camera(upright: Image.Image, orientation: int, kind: str, **save: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright.transpose(STORED_AS[orientation]) if orientation in STORED_AS else upright
    return encoded(stored, kind, exif=exif, **save)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_turned_in_the_camera_gives_the_pixels_of_the_upright_one(
    orientation: int, kind: str, preprocessing: Preprocessing
) -> None:
    upright = noise((301, 260))
    turned = preprocessing.load(as_stored_by_a_camera(upright, orientation, kind), DecodeOptions(NO_LIMIT))
    assert np.array_equal(turned, preprocessing.pixels(upright))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_jpeg_turned_in_the_camera_gives_nearly_the_pixels_of_the_upright_one(
    orientation: int, preprocessing: Preprocessing
) -> None:
    upright = render("tomato", random.Random(4), (2403, 1201))
    data = as_stored_by_a_camera(upright, orientation, "JPEG", quality=95, subsampling=0)
    loaded, expected = preprocessing.load(data, DecodeOptions(NO_LIMIT)), preprocessing.pixels(upright)
    assert cosine(loaded, expected) >= 0.9999
    assert abs(loaded.astype(int) - expected).mean() < 0.8


def good_config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads(transformers.CLIPImageProcessorPil().to_json_string())
    return config


@pytest.mark.parametrize(
    "change",
    [
        {"do_resize": False},
        {"do_center_crop": False},
        {"do_normalize": False},
        {"do_rescale": False},
        {"resample": 2},
        {"image_mean": [0.5, 0.5]},
        {"image_mean": 0.5},
        {"image_std": [0.5, 0.5, 0.5, 0.5]},
        {"image_std": ["a", "b", "c"]},
        {"size": {"height": 224, "width": 200}},
        {"size": {"height": 224, "width": 224}},
        {"size": {"shortest_edge": 224, "longest_edge": 224}},
        {"crop_size": {"shortest_edge": 224}},
        {"size": None},
        {"size": "large"},
        {"size": {"shortest_edge": 200}},
        {"crop_size": {}},
        {"rescale_factor": None},
        {"rescale_factor": "1/255"},
    ],
    ids=str,
)
def test_a_configuration_that_is_not_clips_is_refused_by_name(change: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(good_config() | change))
    with pytest.raises(CurationError, match=FILE_NAME):
        Preprocessing.from_folder(tmp_path)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", "{}", "\x00"], ids=repr)
def test_a_configuration_file_that_is_missing_or_broken_is_refused_by_name(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(CurationError, match=FILE_NAME):
        Preprocessing.from_folder(tmp_path)


def test_sizes_given_as_plain_numbers_are_understood(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(good_config() | {"size": 224, "crop_size": 224}))
    found = Preprocessing.from_folder(tmp_path)
    assert (found.resize, found.crop) == (224, 224)


def test_what_transformers_5_saves_is_read_unless_the_older_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": good_config() | {"size": 256}}))
    assert Preprocessing.from_folder(tmp_path).resize == 256
    (tmp_path / FILE_NAME).write_text(json.dumps(good_config()))
    assert Preprocessing.from_folder(tmp_path).resize == 224


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"image_processor": null}', '{"image_processor": []}'])
def test_a_processor_file_without_usable_preprocessing_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "processor_config.json").write_text(text)
    with pytest.raises(CurationError, match=r"processor_config\.json"):
        Preprocessing.from_folder(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_picture_that_its_decoder_turns_is_turned_once(
    orientation: int, preprocessing: Preprocessing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation_assets.images.decode.BIG_PIXELS", 400_000)  # so that half of its sides are decoded
    upright = render("tomato", random.Random(4), (1203, 1001))
    data = as_stored_by_a_camera(upright, orientation, "TIFF")
    loaded, expected = preprocessing.load(data, DecodeOptions(NO_LIMIT)), preprocessing.pixels(upright)
    assert cosine(loaded, expected) >= 0.999
    assert abs(loaded.astype(int) - expected).mean() < 2.5
