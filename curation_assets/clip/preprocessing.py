"""Image → the pixels CLIP was trained on; bit for bit what transformers' ``CLIPImageProcessorPil`` computes.

The picture is first turned upright and laid over white (``images.decode``), which the processor leaves to its caller.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation_assets.errors import CurationError
from curation_assets.images.decode import open_image, orientation_of, upright_rgb

FILE_NAME = "preprocessor_config.json"
# A large JPEG is decoded at the scale that leaves at least this many times the model's size: a third of the time of
# a full decode at a pixel cosine of 0.99996.
DECODE_MARGIN = 2
_EXTREME_ASPECT = 16


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shortest edge (bicubic), crop the centre, scale to 0–1, normalise.

    Attributes:
        resize: pixels of the shortest edge.
        crop: pixels of the square that goes to the model.
        mean, std: per channel, R G B.
        rescale: factor from 0–255, 1/255.
    """

    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float

    @classmethod
    def from_folder(cls, folder: Path) -> Preprocessing:
        """Read ``preprocessor_config.json`` of a model folder.

        Raises:
            CurationError: the file is missing or asks for something this class doesn't do.
        """
        path = folder / FILE_NAME
        try:
            config = json.loads(path.read_text())
            resize, crop = _side(config["size"]), _side(config["crop_size"])
            mean, std = (tuple(float(v) for v in config[key]) for key in ("image_mean", "image_std"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CurationError(f"{path} is not the configuration of a CLIP image processor: {error!r}") from None
        expected = {
            "do_resize": True,
            "do_center_crop": True,
            "do_normalize": True,
            "do_rescale": True,
            "resample": 3,
        }
        other = [f"{key}={config[key]}" for key, value in expected.items() if config.get(key, value) != value]
        if other or len(mean) != 3 or len(std) != 3 or crop > resize:
            raise CurationError(f"{path} asks for preprocessing that isn't CLIP's: {', '.join(other) or config}")
        return cls(resize, crop, mean, std, float(config.get("rescale_factor", 1 / 255)))

    def pixels(self, rgb: Image.Image) -> NDArray[np.uint8]:
        """Resize and crop an upright RGB image.

        Returns:
            (crop, crop, 3) uint8.
        """
        width, height = rgb.size
        short, long = min(width, height), max(width, height)
        other = int(self.resize * long / short)
        size = (self.resize, other) if width <= height else (other, self.resize)
        left, top = (size[0] - self.crop) // 2, (size[1] - self.crop) // 2
        if long > _EXTREME_ASPECT * short:
            # Resizing a 1 x 60,000 image whole would take gigabytes: compute just the part that is kept.
            scale_x, scale_y = width / size[0], height / size[1]
            box = (left * scale_x, top * scale_y, (left + self.crop) * scale_x, (top + self.crop) * scale_y)
            return np.asarray(rgb.resize((self.crop, self.crop), Image.Resampling.BICUBIC, box=box))
        resized = rgb.resize(size, Image.Resampling.BICUBIC)
        return np.asarray(resized.crop((left, top, left + self.crop, top + self.crop)))

    def lookup(self) -> NDArray[np.float32]:
        """Normalised value of each channel and byte, (3, 256): exact on any device, with one gather an image."""
        scaled = (np.arange(256).astype(np.float64) * self.rescale).astype(np.float32)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return ((scaled[None, :] - mean[:, None]) / std[:, None]).astype(np.float32)

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(…, h, w, 3) uint8 → (…, 3, h, w) float32, what the model takes."""
        table = self.lookup()
        return np.stack([table[channel][pixels[..., channel]] for channel in range(3)], axis=-3)

    def load(self, data: bytes, max_pixels: int) -> NDArray[np.uint8]:
        """Bytes of an image file → (crop, crop, 3) uint8.

        Raises:
            ImageError: the bytes are no usable image; the message says why.
        """
        image = open_image(data, max_pixels)
        orientation = orientation_of(image)
        scale = DECODE_MARGIN * self.resize / min(image.size)
        at_least = (round(image.width * scale), round(image.height * scale)) if scale < 1 else None
        return self.pixels(upright_rgb(image, orientation, at_least))


def _side(value: int | dict[str, int]) -> int:
    if isinstance(value, dict):
        sides = {int(side) for side in value.values()}
        if len(sides) != 1:
            raise ValueError(f"{value} is not one size")
        return sides.pop()
    return int(value)
