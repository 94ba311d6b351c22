"""Makes the archive of a small lake, index, map and registry, to be opened by later ones; run at the version to keep.

    python -m curation_assets_tests.earlier.make_lake DEST.tar.xz

The archive holds ``images``, ``lake``, ``lake_index``, ``mlflow`` and ``model`` as they lay in the folder that
``root.txt`` names: rows and registry hold absolute paths of it.
"""

from __future__ import annotations

import os
import random
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

FOLDERS = {"maize/plot 1": 4, "x=1": 3, "ü%20": 2, ".": 1}
LABELS = ["a green leaf", "brown soil"]


def write_images(root: Path) -> None:
    """Ten photographs, one of them twice; a file that is none, and one that is cut off."""
    for folder, count in FOLDERS.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            rng = random.Random(f"{folder} {number}")
            image = Image.new("RGB", (8, 8))
            image.putdata([(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(64)])
            exif = Image.Exif()
            exif[0x9003] = f"2026:05:0{number + 1} 10:00:00"
            path = root / folder / f"photo_{number}.jpg"
            image.resize((64, 48), Image.Resampling.BICUBIC).save(path, "JPEG", exif=exif)
            os.utime(path, (1_770_000_000 + number, 1_770_000_000 + number))  # archives keep whole seconds
    copy = root / "x=1" / "copy.jpg"
    copy.write_bytes((root / "maize/plot 1/photo_0.jpg").read_bytes())
    (root / "x=1" / "page.jpg").write_text("<html>not an image</html>")
    (root / "maize/plot 1/cut.jpg").write_bytes(copy.read_bytes()[:300])
    for path in (copy, root / "x=1" / "page.jpg", root / "maize/plot 1/cut.jpg"):
        os.utime(path, (1_770_000_000, 1_770_000_000))


def write_model(folder: Path) -> None:
    """A CLIP of a few thousand random weights, with the demo model's tokenizer and preprocessing."""
    import shutil

    import torch
    import transformers

    from curation_assets.clip.source import DEMO_FOLDER

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    for file in DEMO_FOLDER.iterdir():
        if file.suffix in (".json", ".txt") and file.name != "config.json":
            shutil.copy(file, folder)
    old = transformers.CLIPConfig.from_pretrained(DEMO_FOLDER)
    tower: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
    }
    words = {key: getattr(old.text_config, key) for key in ("vocab_size", "bos_token_id", "eos_token_id")}
    config = transformers.CLIPConfig(
        text_config=tower | words,
        vision_config=tower | {"image_size": old.vision_config.image_size, "patch_size": 16},
        projection_dim=8,
    )
    transformers.CLIPModel(config).save_pretrained(folder)


def main(target: Path) -> None:
    """Make everything in a temporary folder, and pack it."""
    from curation_assets.ingest import run
    from curation_assets.pipeline import Pipeline
    from curation_assets.progress import LogProgress
    from curation_assets.search import image_map
    from curation_assets.settings import load_settings

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write_images(root / "images")
        write_model(root / "model")
        pipeline = Pipeline(
            load_settings(
                images_root=root / "images",
                lake_root=root / "lake",
                model_source=str(root / "model"),
                labels=LABELS,
            )
        )
        run(pipeline, LogProgress())
        image_map.refresh(pipeline.searcher.open(), LogProgress())
        for folder in FOLDERS:
            pipeline.label_zero_shot(folder, pipeline.registry.champion())
        (root / "root.txt").write_text(str(root))
        with tarfile.open(target, "w:xz", format=tarfile.PAX_FORMAT) as archive:
            for name in ("root.txt", "images", "lake", "lake_index", "mlflow", "model"):
                archive.add(root / name, name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
