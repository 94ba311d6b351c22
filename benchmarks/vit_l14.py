"""The production model's code path with its real shapes: CLIP ViT-L/14, 768 floats, 224 pixels, random weights.

    python -m benchmarks.vit_l14 [--images N] [--save]

OpenAI's weights can't be had everywhere; their sizes can. A folder in Hugging Face layout with the configuration of
``openai/clip-vit-large-patch14`` (its published numbers) and random weights goes through everything that the real one
goes through: description and fingerprint, registration with golden vectors, loading with its check, embedding into the
table. Beside it, the rival of the original notebooks: transformers' processor and model, called once an image in
float32. ``--save`` writes ``benchmarks/results/vit_l14.md``.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import resource
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.measure import cpu_name
from benchmarks.models import write_model

RIVAL_IMAGES = 6
AGREEMENT = 0.999  # cosine of float32, one by one, and bfloat16 in batches


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=48, help="photographs to embed (default 48)")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/vit_l14.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report = _report(arguments.images, _measure(Path(scratch), arguments.images))
    print(report)
    if arguments.save:
        (Path(__file__).parent / "results" / "vit_l14.md").write_text(report)


def _measure(home: Path, images: int) -> dict[str, Any]:
    from curation_assets.demo.sample import write_sample
    from curation_assets.ingest import scan_changed
    from curation_assets.pipeline import Pipeline
    from curation_assets.progress import LogProgress
    from curation_assets.settings import load_settings

    write_model("ViT-L/14", home / "vit-l14")
    write_sample(home / "images", images)
    settings = load_settings(
        images_root=home / "images", lake_root=home / "lake", model_source=str(home / "vit-l14"), max_pixels=10**8
    )
    pipeline, progress, facts = Pipeline(settings, own_registry=True), LogProgress(), {}
    scan_changed(pipeline, pipeline.source.list_folders(), progress)
    started = time.perf_counter()
    model = pipeline.selection.choose().model
    facts["register"] = time.perf_counter() - started
    facts["stored"] = sum(path.stat().st_size for path in settings.mlflow_dir.rglob("*") if path.is_file())
    started = time.perf_counter()
    encoder = pipeline.encoders.load(model)
    side = encoder.preprocessing.crop
    encoder.embed_images(np.zeros((1, side, side, 3), np.uint8))  # a tower's weights are read when it is first used
    encoder.embed_texts(["a photo"])
    facts["load"] = time.perf_counter() - started
    facts["precision"], facts["device"] = encoder.precision, str(encoder.device)
    encoded, started = 0, time.perf_counter()
    for folder in sorted(pipeline.tables.status(pipeline.selection.current())["folder"]):
        encoded += pipeline.embed(folder, model, progress).encoded
    facts["embed"], facts["encoded"] = time.perf_counter() - started, encoded
    rows = pipeline.tables.embeddings.snapshot().read(["file_path", "embeddings"])
    vectors = np.stack(rows["embeddings"].to_list())
    if vectors.shape[1] != 768 or not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5):
        raise SystemExit(f"vectors of {vectors.shape[1]} floats, or not of unit length")
    facts |= _rival(home / "vit-l14", rows, vectors)
    facts["parameters"] = model.parameters
    facts["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return facts


def _rival(folder: Path, rows: pl.DataFrame, vectors: np.ndarray[Any, Any]) -> dict[str, float]:
    """The notebooks' loop over the same files: seconds an image, and how its vectors agree."""
    import torch
    from PIL import Image, ImageOps
    from transformers import CLIPImageProcessorPil, CLIPModel

    processor, model = CLIPImageProcessorPil.from_pretrained(folder), CLIPModel.from_pretrained(folder).eval()
    chosen = random.Random(1).sample(range(len(rows)), RIVAL_IMAGES)
    cosines, seconds = [], []
    for index in chosen:
        started = time.perf_counter()
        with Image.open(rows["file_path"][index]) as image:
            pixels = processor(ImageOps.exif_transpose(image).convert("RGB"), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            found = model.get_image_features(pixel_values=pixels).pooler_output[0].numpy()
        seconds.append(time.perf_counter() - started)
        cosines.append(float(found @ vectors[index] / np.linalg.norm(found)))
    if min(cosines) < AGREEMENT:
        raise SystemExit(f"vectors differ from those of transformers' own classes: cosine {min(cosines):.5f}")
    return {"rival": float(np.median(seconds)), "cosine": min(cosines)}


def _report(images: int, facts: dict[str, Any]) -> str:
    rate, rival = facts["encoded"] / facts["embed"], 1 / facts["rival"]
    return "\n".join(
        [
            "# ViT-L/14 with random weights, through the whole pipeline",
            "",
            "| step | measured |",
            "|---|---:|",
            f"| parameters | {facts['parameters']:,} |",
            f"| register (fingerprint, golden vectors, copy) | {facts['register']:.1f} s |",
            f"| stored in the registry | {facts['stored'] / 1e9:.2f} GB |",
            f"| load: check of the files, weights, first image and text | {facts['load']:.1f} s |",
            f"| embed {facts['encoded']} images, {facts['device']} in {facts['precision']} | {rate:.2f} images/s |",
            f"| transformers once an image, float32, {RIVAL_IMAGES} of the images | {rival:.2f} images/s |",
            f"| ratio | **{rate / rival:.2f}** |",
            f"| smallest cosine between the two | {facts['cosine']:.5f} |",
            f"| peak memory of the process, rival included | {facts['peak']:,.0f} MB |",
            "",
            f"- Command: `python -m benchmarks.vit_l14 --images {images} --save`",
            f"- Machine: {os.cpu_count()} cores, {cpu_name()}, Python {platform.python_version()}",
            f"- Versions: torch {version('torch')}, transformers {version('transformers')}, mlflow {version('mlflow')}",
            "",
        ]
    )


if __name__ == "__main__":
    main()
