"""What others read out of exports: every image's bytes and label are the lake's."""

from __future__ import annotations

import hashlib
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from curation_assets_tests.export.conftest import BOX, IMAGES, Export, pipeline_at, publish_rows


class ImageFolder:
    """Images by class, found as torchvision's ``ImageFolder`` finds them; a map-style dataset to torch."""

    ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

    def __init__(self, root: Path) -> None:
        self.classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        self.samples = [
            (Path(folder, name), number)
            for number, label in enumerate(self.classes)
            for folder, _, names in sorted(os.walk(root / label, followlinks=True))
            for name in sorted(names)
            if name.lower().endswith(self.ENDINGS)
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, at: int) -> tuple[Any, int]:
        import numpy as np
        import torch
        from PIL import Image

        path, number = self.samples[at]
        pixels = np.asarray(Image.open(path).convert("RGB").resize((8, 8)))
        return torch.from_numpy(pixels.copy()), number


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, which keeps what it makes in a folder of the test."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    module = pytest.importorskip("datasets")
    module.disable_progress_bars()
    # It would empty the environment and fill it again, while native threads of this process read it: a crash once.
    bars = "datasets.download.download_manager.stack_multiprocessing_download_progress_bars"
    monkeypatch.setattr(bars, nullcontext)

    def load(*arguments: str, **options: str) -> Any:
        return module.load_dataset(*arguments, cache_dir=str(tmp_path / "cache"), **options)

    module.load = load
    return module


def test_torch_reads_folders_by_class(home: Path, export: Export, made: Path) -> None:
    from torch.utils.data import DataLoader

    export("folders", link="symlink")
    train = ImageFolder(home / "out/train")
    assert train.classes == ["leaf%2Fminer", "rust"]
    assert len(train) == 3
    pixels, labels = next(iter(DataLoader(train, batch_size=3)))  # type: ignore[arg-type]
    assert pixels.shape == (3, 8, 8, 3)
    assert labels.tolist() == [0, 0, 1]
    test = ImageFolder(home / "out/test")
    assert test.classes == ["%52ust", "rust"]
    contents = {hashlib.sha256(path.read_bytes()).hexdigest() for path, _ in (*train.samples, *test.samples)}
    assert contents == {hashlib.sha256((made / "images" / path).read_bytes()).hexdigest() for path in IMAGES}


@pytest.mark.parametrize("to", ["hf-imagefolder", "hf-parquet"])
def test_hugging_face_reads_bytes_labels_sides_and_boxes(
    home: Path, export: Export, made: Path, datasets: Any, to: str
) -> None:
    done = export(to)
    assert (done.images, done.from_table, done.notes) == (6, 1, [])
    found = datasets.load(str(home / "out"))
    assert list(found) == ["train", "test"]
    rows = {}
    for side, part in found.items():
        assert part.features["label"].names == ["Rust", "leaf/miner", "rust"]
        assert part.features["objects"]["category"].feature.names == ["spot"]
        shown = part[:]["image"]
        assert [image.size for image in shown] == list(zip(part["width"], part["height"], strict=True))  # upright
        for row in part.cast_column("image", datasets.Image(decode=False)):
            rows[row["relative_path"]] = (part.features["label"].int2str(row["label"]), side)
            picture = row["image"]
            data = picture["bytes"] or Path(picture["path"]).read_bytes()
            assert data == (made / "images" / row["relative_path"]).read_bytes()
            has = row["relative_path"] == "farm_a/turned.jpg"
            assert row["objects"] == {"bbox": [BOX] if has else [], "category": [0] if has else []}
    assert rows == IMAGES


@pytest.mark.parametrize("to", ["hf-imagefolder", "hf-parquet"])
def test_hugging_face_reads_versions_without_sides_with_several_labels_or_none(
    home: Path, export: Export, datasets: Any, to: str
) -> None:
    keep = {"recipe": {"labels": {"several": "keep", "unlabelled": "keep"}}}
    labels = {"farm_a/001.jpg": ("rust, miner", None), "farm_b/001.JPG": (None, None), "farm_b/x.png": ("rust", None)}
    publish_rows(pipeline_at(home), labels, keep)
    export(to)
    (part,) = datasets.load(str(home / "out")).values()
    names = part.features["labels"].feature.names
    assert names == ["miner", "rust"]
    found = {row["relative_path"]: [names[number] for number in row["labels"]] for row in part}
    assert found == {"farm_a/001.jpg": ["rust", "miner"], "farm_b/001.JPG": [], "farm_b/x.png": ["rust"]}
    publish_rows(pipeline_at(home), {"farm_a/001.jpg": (None, "plot 1"), "farm_b/001.JPG": ("rust", "plot-1")})
    assert export(to, "groups").notes == [
        "sides are called otherwise by the library: plot 1 as plot_1, plot-1 as plot_1_2"
    ]
    groups = datasets.load(str(home / "groups"))
    assert {name: part["label"][:] for name, part in groups.items()} == {"plot_1": [None], "plot_1_2": [0]}


@pytest.mark.parametrize("to", ["hf-imagefolder", "hf-parquet"])
def test_hugging_face_keeps_sides_apart_whatever_they_are_called(
    home: Path, export: Export, datasets: Any, to: str
) -> None:
    sides = dict(zip(IMAGES, ("farm", "farm-2", "all", "farm 3", "$HOME", "farm"), strict=True))
    publish_rows(pipeline_at(home), {path: ("$HOME", side) for path, side in sides.items()})
    export(to)
    found = datasets.load(str(home / "out"))
    called = {"farm": "farm", "farm-2": "farm_2", "all": "all_2", "farm 3": "farm_3", "$HOME": "_HOME"}
    seen = {row["relative_path"]: side for side, part in found.items() for row in part}
    assert seen == {path: called[side] for path, side in sides.items()}
