"""Golden vectors: what a model said of two images and two texts when it was registered, so that any copy can be asked.

They are computed in float32 on a CPU and stored beside the weights, the images as files, so that decoding,
preprocessing, tokenizer, weights and code are all in the answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from curation_assets.errors import CurationError
from curation_assets.images.errors import ImageError
from curation_assets.images.guard import DecodeOptions

if TYPE_CHECKING:
    from curation_assets.clip.encoder import Encoder

FOLDER = "golden"
TEXTS = ("a photo of a maize leaf with rust", "Reife Tomaten, fünf Stück – von oben fotografiert!")
_FILE = "golden.json"
# Smallest cosine that passes. In float32 only the order of additions differs from machine to machine; bfloat16 keeps
# 8 bits of each number: 0.99991 was measured with random weights in ViT-L/14's shape, and trained ones reach further.
_BOUNDS = {"float32": 0.9999}
_BOUND_BELOW_FLOAT32 = 0.995
_OPTIONS = DecodeOptions(10**6)


@dataclass(frozen=True)
class GoldenReport:
    """How a model's answers compare with those stored.

    Attributes:
        cosines: by what was embedded: ``image 0``, ``image 1``, ``text 0``, ``text 1``.
        bound: smallest cosine that passes in this precision.
        precision, device: of the encoder that was asked.
    """

    cosines: dict[str, float]
    bound: float
    precision: str
    device: str

    @property
    def worst(self) -> float:
        """Smallest cosine."""
        return min(self.cosines.values())

    @property
    def ok(self) -> bool:
        """Whether every answer is the stored one, up to the precision."""
        return all(cosine >= self.bound for cosine in self.cosines.values())


def write(folder: Path, encoder: Encoder, dimension: int) -> None:
    """Embed the golden images and texts and store them with their vectors.

    Args:
        folder: to be made.
        encoder: in float32 on a CPU.
        dimension: that vectors should have.

    Raises:
        ValueError: they have another, or the model has no finite vector for an image or a text.
    """
    folder.mkdir()
    files = [f"image_{index}.png" for index in range(2)]
    for file, data in zip(files, _pictures(), strict=True):
        (folder / file).write_bytes(data)
    vectors = _embed(encoder, [folder / file for file in files], list(TEXTS))
    if vectors.shape[1] != dimension:
        raise ValueError(f"its vectors have {vectors.shape[1]} numbers, not {dimension}")
    if not np.isfinite(vectors).all():
        raise ValueError("it has no finite vector for a plain image or a short text")
    content = {
        "images": [{"file": file, "vector": row.tolist()} for file, row in zip(files, vectors[:2], strict=True)],
        "texts": [{"text": text, "vector": row.tolist()} for text, row in zip(TEXTS, vectors[2:], strict=True)],
    }
    (folder / _FILE).write_text(json.dumps(content, ensure_ascii=False))


def verify(artifacts: Path, encoder: Encoder) -> GoldenReport:
    """Embed a registered model's golden images and texts again and compare.

    Args:
        artifacts: of the model version: the folder above the weights', ``encoder.folder.parent``.
        encoder: of these weights, on any device and in any precision.

    Raises:
        CurationError: the version has no golden vectors, or they can't be read.
    """
    folder = artifacts / FOLDER
    try:
        content = json.loads((folder / _FILE).read_text())
        images = [folder / Path(entry["file"]).name for entry in content["images"]]
        texts = [str(entry["text"]) for entry in content["texts"]]
        stored = np.array([entry["vector"] for entry in content["images"] + content["texts"]], np.float64)
        found = _embed(encoder, images, texts).astype(np.float64)
        if found.shape != stored.shape:
            raise ValueError(f"{stored.shape[1:]} numbers a vector where the model has {found.shape[1:]}")
    except FileNotFoundError as error:
        raise CurationError(
            f"{artifacts} has no golden vectors ({error.filename}): this version was registered without them; register "
            "the model again"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, IndexError, ImageError) as error:
        raise CurationError(f"{folder / _FILE} can't be read: {error}; register the model again") from None
    names = [f"image {index}" for index in range(len(images))] + [f"text {index}" for index in range(len(texts))]
    cosines = (found * stored).sum(axis=1) / np.linalg.norm(stored, axis=1)
    return GoldenReport(
        cosines={name: float(np.nan_to_num(cosine, nan=-1.0)) for name, cosine in zip(names, cosines, strict=True)},
        bound=_BOUNDS.get(encoder.precision, _BOUND_BELOW_FLOAT32),
        precision=encoder.precision,
        device=str(encoder.device),
    )


def _embed(encoder: Encoder, images: list[Path], texts: list[str]) -> NDArray[np.float32]:
    pixels = np.stack([encoder.preprocessing.load(path.read_bytes(), _OPTIONS) for path in images])
    return np.concatenate([encoder.embed_images(pixels), encoder.embed_texts(texts)])


def example_image() -> bytes:
    """A small PNG that shows what a request looks like."""
    return _png(_leaf().resize((32, 24)))


def _pictures() -> list[bytes]:
    """A landscape photograph's worth of gradients and edges; a portrait with transparency. PNG, the same every time."""
    down, across = np.mgrid[0:400, 0:300]
    alpha = ((down + across) % 256).astype(np.uint8)
    colours = np.stack([down % 256, across * 7 % 256, (down * across) % 256, alpha], axis=-1).astype(np.uint8)
    return [_png(_leaf()), _png(Image.fromarray(colours, "RGBA"))]


def _leaf() -> Image.Image:
    down, across = np.mgrid[0:240, 0:320]
    soil = np.stack([120 - down // 4, 90 + across // 8, 60 + (down + across) // 16], axis=-1).astype(np.uint8)
    image = Image.fromarray(soil)
    draw = ImageDraw.Draw(image)
    draw.polygon([(20, 120), (100, 60), (220, 70), (300, 120), (220, 170), (100, 180)], fill=(84, 150, 52))
    draw.line([(20, 120), (300, 120)], fill=(150, 190, 110), width=4)
    for x, y in ((90, 100), (140, 140), (190, 95), (230, 130)):
        draw.ellipse((x - 8, y - 6, x + 8, y + 6), fill=(156, 84, 30))
    return image


def _png(image: Image.Image) -> bytes:
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
