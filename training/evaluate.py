"""How well the shipped model retrieves: ``python -m training.evaluate`` prints the table of its model card.

Everything goes through the package's own encoder and preprocessing, as in the pipeline.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curation_assets.clip.encoder import Encoder
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.demo.scenes import SCENES
from curation_assets.images.guard import DecodeOptions
from training.captions import EVALUATION_CAPTION
from training.data import HELD_OUT_SEED, rendered_image
from training.photographs import FOLDER, MAX_PIXELS, photographs

BATCH = 64
RENDERED_PER_SCENE = 20
AT = 10


@dataclass(frozen=True)
class Scores:
    """Retrieval on one set of images.

    Attributes:
        classes: names, in order.
        images: number of images of each class; one may be of several.
        top1: share of each class's images whose nearest caption is their own.
        precision: share of the ten images nearest to each class's caption that show it.
        overall: share of all images whose nearest caption is their own.
        total: number of images.
    """

    classes: list[str]
    images: list[int]
    top1: list[float]
    precision: list[float]
    overall: float
    total: int

    @property
    def mean_precision(self) -> float:
        """Mean over the captions."""
        return float(np.mean(self.precision))

    def table(self) -> str:
        """Markdown, a row a class."""
        lines = ["| class | images | top-1 | precision at 10 |", "|---|---:|---:|---:|"]
        rows = zip(self.classes, self.images, self.top1, self.precision, strict=True)
        lines += [f"| {name} | {images} | {top1:.2f} | {precision:.2f} |" for name, images, top1, precision in rows]
        balanced = float(np.mean(self.top1))
        lines.append(
            f"| **all** | **{self.total}** | **{self.overall:.3f}** (mean of classes {balanced:.3f}) "
            f"| **{self.mean_precision:.3f}** |"
        )
        return "\n".join(lines)


def scores(
    images: NDArray[np.float32], labels: list[tuple[str, ...]], classes: list[str], texts: NDArray[np.float32]
) -> Scores:
    """Zero-shot classification and text-to-image retrieval.

    Args:
        images: (n, dimension), unit length.
        labels: classes of each image; the nearest caption may be that of any of them.
        classes: their names, as many as there are captions.
        texts: (classes, dimension), unit length: a caption of each class.
    """
    similarity = images @ texts.T
    truth = np.array([[name in of_image for name in classes] for of_image in labels])
    right = truth[np.arange(len(images)), similarity.argmax(axis=1)]
    ranked = np.argsort(-similarity, axis=0, kind="stable")[:AT]
    return Scores(
        classes=classes,
        images=truth.sum(axis=0).tolist(),
        top1=[float(right[truth[:, index]].mean()) for index in range(len(classes))],
        precision=[float(truth[ranked[:, index], index].mean()) for index in range(len(classes))],
        overall=float(right.mean()),
        total=len(images),
    )


def real_scores(encoder: Encoder, folder: Path = FOLDER) -> Scores:
    """On the held-out photographs, over the captions of their 26 classes."""
    found = photographs(folder)
    classes = sorted({label for photo in found for label in photo.labels})
    held_out = [photo for photo in found if photo.held_out]
    images = _embed(encoder, (photo.path.read_bytes() for photo in held_out))
    return scores(images, [photo.labels for photo in held_out], classes, _captions(encoder, classes))


def rendered_scores(encoder: Encoder, per_scene: int = RENDERED_PER_SCENE) -> Scores:
    """On drawn scenes of a seed that training never saw, over the captions of all scenes."""
    classes = list(SCENES)
    wanted = [(scene, index) for scene in classes for index in range(per_scene)]
    images = _embed(encoder, (_jpeg(scene, index) for scene, index in wanted))
    return scores(images, [(scene,) for scene, _ in wanted], classes, _captions(encoder, classes))


def _jpeg(scene: str, index: int) -> bytes:
    buffer = io.BytesIO()
    rendered_image(scene, index, HELD_OUT_SEED).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _captions(encoder: Encoder, classes: list[str]) -> NDArray[np.float32]:
    return encoder.embed_texts([EVALUATION_CAPTION[name] for name in classes])


def _embed(encoder: Encoder, files: Iterable[bytes]) -> NDArray[np.float32]:
    with ThreadPoolExecutor() as pool:
        pixels = list(pool.map(lambda data: encoder.preprocessing.load(data, DecodeOptions(MAX_PIXELS)), files))
    batches = [np.stack(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
    return np.concatenate([encoder.embed_images(batch) for batch in batches])


def main() -> None:
    """Print both tables, or their totals as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=DEMO_FOLDER, help="folder of the model")
    parser.add_argument("--photographs", type=Path, default=FOLDER, help="folder of the real photographs")
    parser.add_argument("--json", action="store_true", help="print the totals as JSON instead of tables")
    options = parser.parse_args()
    encoder = Encoder(options.model, precision="float32")
    results = {"held-out rendered scenes": rendered_scores(encoder)}
    if options.photographs.is_dir():
        results = {"held-out photographs": real_scores(encoder, options.photographs)} | results
    if options.json:
        numbers = {name: {"top1": s.overall, "precision_at_10": s.mean_precision} for name, s in results.items()}
        print(json.dumps(numbers, indent=2))
        return
    for name, result in results.items():
        print(f"\n### {name}\n\n{result.table()}")
    if len(results) == 1:
        print(f"\nno photographs at {options.photographs}: only drawn scenes were evaluated")


if __name__ == "__main__":
    main()
