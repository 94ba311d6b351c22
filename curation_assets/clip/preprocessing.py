"""Image → the pixels CLIP was trained on; bit for bit what transformers' ``CLIPImageProcessorPil`` computes.

The picture is first turned upright and laid over white (``images.decode``), which the processor leaves to its caller.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation_assets.errors import CurationError
from curation_assets.images.decode import Picture, decoded_size, left_to_turn, orientation_of, upright_rgb, upright_size
from curation_assets.images.guard import DecodeOptions, with_picture

FILE_NAME = "preprocessor_config.json"
PROCESSOR_FILE_NAME = "processor_config.json"  # where transformers 5 puts the same, as "image_processor"
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
        """Read ``preprocessor_config.json`` of a model folder, or where there is none ``processor_config.json``.

        Raises:
            CurationError: the file is missing or asks for something this class doesn't do.
        """
        path = folder / FILE_NAME
        try:
            if not path.exists() and (folder / PROCESSOR_FILE_NAME).exists():
                path = folder / PROCESSOR_FILE_NAME
                config = json.loads(path.read_text())["image_processor"]
            else:
                config = json.loads(path.read_text())
            resize, crop = _side(config["size"], {"shortest_edge"}), _side(config["crop_size"], {"height", "width"})
            mean, std = (tuple(float(v) for v in config[key]) for key in ("image_mean", "image_std"))
            rescale = float(config.get("rescale_factor", 1 / 255))
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
        return cls(resize, crop, mean, std, rescale)

    def pixels(self, rgb: Image.Image) -> NDArray[np.uint8]:
        """Resize and crop an upright RGB image.

        Returns:
            (crop, crop, 3) uint8.
        """
        return self._resized(rgb, rgb.size, (0, 0, *rgb.size))

    def _resized(
        self, rgb: Image.Image, full: tuple[int, int], box: tuple[float, float, float, float]
    ) -> NDArray[np.uint8]:
        """Resize and crop ``box`` of an image, which is a picture of ``full`` (width, height) at whatever scale."""
        width, height = full
        short, long = min(width, height), max(width, height)
        other = int(self.resize * long / short)
        size = (self.resize, other) if width <= height else (other, self.resize)
        left, top = (size[0] - self.crop) // 2, (size[1] - self.crop) // 2
        if long > _EXTREME_ASPECT * short:
            # Resizing a 1 x 60,000 image whole would take gigabytes: compute just the part that is kept.
            scale_x, scale_y = (box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1]
            x, y = box[0] + left * scale_x, box[1] + top * scale_y
            box = (x, y, x + self.crop * scale_x, y + self.crop * scale_y)
            return np.array(rgb.resize((self.crop, self.crop), Image.Resampling.BICUBIC, box=box))
        resized = rgb.resize(size, Image.Resampling.BICUBIC, box=box)
        return np.array(resized.crop((left, top, left + self.crop, top + self.crop)))

    def lookup(self) -> NDArray[np.float32]:
        """Normalised value of each channel and byte, (3, 256): exact on any device, with one gather an image."""
        scaled = (np.arange(256).astype(np.float64) * self.rescale).astype(np.float32)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return ((scaled[None, :] - mean[:, None]) / std[:, None]).astype(np.float32)

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(…, h, w, 3) uint8 → (…, 3, h, w) float32, what the model takes."""
        table = self.lookup()
        return np.stack([table[channel][pixels[..., channel]] for channel in range(3)], axis=-3)

    def load(self, data: bytes, options: DecodeOptions, stop: threading.Event | None = None) -> NDArray[np.uint8]:
        """Bytes of an image file → (crop, crop, 3) uint8.

        Args:
            stop: ends the work when it is set.

        Raises:
            ImageError: the bytes are no usable image; the message says why.
        """
        return with_picture(_pixels, data, options, self, stop=stop)

    def of_picture(self, picture: Picture) -> NDArray[np.uint8]:
        """The same of an opened image."""
        orientation, full = orientation_of(picture), picture.size
        upright = upright_size(picture, orientation)
        scale = DECODE_MARGIN * self.resize / min(full)
        at_least = (round(full[0] * scale), round(full[1] * scale)) if scale < 1 else None
        rgb, decoded = upright_rgb(picture, orientation, at_least), decoded_size(picture, at_least)
        if decoded == full:
            return self.pixels(rgb)
        return self._resized(rgb, upright, _part(full, decoded, left_to_turn(picture, orientation)))


def _pixels(picture: Picture, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    return preprocessing.of_picture(picture)


def _part(full: tuple[int, int], decoded: tuple[int, int], orientation: int) -> tuple[float, float, float, float]:
    """The part of a JPEG decoded at 1/2, 1/4 or 1/8, and turned upright, that is the picture.

    Its size is rounded up to whole pixels, the last of them partly padding: resized with the padding, a picture of
    6000 x 1201 is shifted by half a pixel, which costs ten times the error of the scaled decoding itself.

    Args:
        full: (width, height) in the file.
        decoded: (width, height) as decoded, before it was turned.
        orientation: how it was turned.
    """
    factor = round(full[0] / decoded[0])
    width, height = full[0] / factor, full[1] / factor
    x = decoded[0] - width if orientation in (2, 3, 7, 8) else 0.0  # as stored, the padding is to the right and below
    y = decoded[1] - height if orientation in (3, 4, 6, 7) else 0.0
    return (y, x, y + height, x + width) if orientation >= 5 else (x, y, x + width, y + height)


def _side(value: int | dict[str, int], keys: set[str]) -> int:
    """A number of pixels, given plainly or as a dict with exactly these keys."""
    if isinstance(value, dict):
        sides = {int(side) for side in value.values()}
        if value.keys() != keys or len(sides) != 1:
            raise ValueError(f"{value} is not one size given as {' and '.join(sorted(keys))}")
        return sides.pop()
    return int(value)
