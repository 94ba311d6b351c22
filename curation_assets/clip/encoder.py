"""Pixels or text → unit-length vectors, on the device and in the precision at hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from curation_assets.clip.compute import image_flops, text_operations
from curation_assets.clip.preprocessing import Preprocessing
from curation_assets.clip.spec import Spec
from curation_assets.clip.text_tower import TextTower, Tokenizer
from curation_assets.clip.vision_tower import VisionTower
from curation_assets.errors import CurationError

# `cached_property` has no lock since Python 3.12.
_loading = threading.Lock()
_CPU_BATCH, _CUDA_BATCH = 32, 256
_SHARED_OPERATIONS = 1e9  # some ten milliseconds of a core
_BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")


class Encoder:
    """A CLIP model ready to embed. Each tower is loaded when it is first used.

    Args:
        folder: model in Hugging Face layout.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: of the forward pass: ``auto`` (bfloat16 where the device computes in it, else float32),
            ``float32``, ``bfloat16`` or ``float16``.
        spec_note: where to keep what transformers reads of the files' configuration; None keeps it nowhere.

    Raises:
        CurationError: the device isn't there, or can't compute in that precision.
    """

    def __init__(
        self, folder: Path, device: str = "auto", precision: str = "auto", spec_note: Path | None = None
    ) -> None:
        self.folder = folder
        self._spec_note = spec_note
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.preprocessing = Preprocessing.from_folder(folder)
        self._dtype: torch.dtype = getattr(torch, self.precision)
        self._lookup = torch.from_numpy(self.preprocessing.lookup()).to(self.device, self._dtype)
        self._most: int | None = None  # images of a forward pass that fits the memory; None until one doesn't

    @property
    def batch_size(self) -> int:
        """Images per forward pass that suit the device."""
        return _CUDA_BATCH if self.device.type == "cuda" else _CPU_BATCH

    def load_vision(self) -> None:
        """Load the image tower now; where several threads are to embed images, before they begin."""
        _ = self._vision

    @property
    def image_flops(self) -> float:
        """Floating-point operations of one image's forward pass."""
        return image_flops(self._spec.images)

    def embed_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, crop, crop, 3) uint8 from ``Preprocessing.load`` → (n, dimension) float32, unit length.

        A row that can't have unit length (a zero or non-finite output) is NaN throughout. Where the device's memory is
        too small for n at once, fewer are taken, then and from then on.

        Raises:
            CurationError: the memory is too small for one image.
        """
        vectors: list[NDArray[np.float32]] = []
        done = 0
        while done < len(pixels) or not vectors:
            part = pixels[done : done + (self._most or len(pixels))]
            try:
                vectors.append(self._embed_at_once(part))
                done += len(part)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                if len(part) == 1:
                    raise CurationError(f"{self.device} has too little memory for this model and one image") from error
                self._most = len(part) // 2
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
        return vectors[0] if len(vectors) == 1 else np.concatenate(vectors)

    def _embed_at_once(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            index = torch.from_numpy(np.ascontiguousarray(pixels))
            if self.device.type == "cuda":  # from pinned memory the copy goes on beside the other lanes' kernels
                index = index.pin_memory().to(self.device, non_blocking=True)
            number, height, width, channels = index.shape
            values = torch.empty((number, channels, height, width), dtype=self._dtype, device=self.device)
            for channel in range(channels):  # each index_select a third of the time of indexing all at once
                plane = index[..., channel].reshape(-1).int()
                values[:, channel] = self._lookup[channel].index_select(0, plane).view(number, height, width)
            return _unit(self._vision.embed(values))

    def embed_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Texts → (n, dimension) float32, unit length. A text of more than 77 tokens is cut."""
        tokens, mask = self._tokenizer.tokens(texts)
        with torch.inference_mode(), _threads_worth(text_operations(self._spec.text, tokens.numel())):
            return _unit(self._text.embed(tokens.to(self.device), mask.to(self.device)))

    @property
    def _is_fused(self) -> bool:
        """Plain matrix products beat torch's fused kernel of attention on CPUs (benchmarks/NOTES.md)."""
        return str(self.device.type) != "cpu"

    @cached_property
    def _spec(self) -> Spec:
        return Spec.kept_or_read(self.folder, self._spec_note)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer(self._spec)

    @property
    def _text(self) -> TextTower:
        with _loading:
            return self._text_tower

    @property
    def _vision(self) -> VisionTower:
        with _loading:
            return self._vision_tower

    @cached_property
    def _text_tower(self) -> TextTower:
        return TextTower(self.folder, self._spec.text, self.device, self._dtype, self._is_fused)

    @cached_property
    def _vision_tower(self) -> VisionTower:
        return VisionTower(self.folder, self._spec.images, self.device, self._dtype, self._is_fused)


@contextmanager
def _threads_worth(operations: float) -> Iterator[None]:
    """Keep what is done in a moment to one thread: calling others, on a busy machine, is what takes long."""
    before = number_of_threads()
    if operations < _SHARED_OPERATIONS:
        limit_threads(1)
    try:
        yield
    finally:
        limit_threads(before)


def limit_threads(number: int) -> None:
    """Set how many threads of this process a forward pass on a CPU takes."""
    torch.set_num_threads(number)


def number_of_threads() -> int:
    """How many threads a forward pass on a CPU takes."""
    return int(torch.get_num_threads())


def choose_device(device: str, setting: str = "CURATION_DEVICE") -> torch.device:
    """The device that ``DEVICE`` means here.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        setting: what an error calls it.

    Raises:
        CurationError: it isn't there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = torch.device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise CurationError(f"{setting}={device}: this machine shows {torch.cuda.device_count()} CUDA devices")
    return chosen


def choose_precision(precision: str, device: torch.device, setting: str = "CURATION_PRECISION") -> str:
    """The precision that ``PRECISION`` means on a device.

    Args:
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: where it computes.
        setting: what an error calls it.

    Raises:
        CurationError: the device doesn't compute in it.
    """
    if precision == "auto":
        if device.type == "cuda":
            return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        flags = torch.cpu.get_capabilities()
        return "bfloat16" if any(flags.get(flag) for flag in _BF16_FLAGS) else "float32"
    if precision == "float16" and device.type == "cpu":
        raise CurationError(f"{setting}=float16 needs a CUDA device; on a CPU use bfloat16, float32 or auto")
    return precision


def all_devices(device: str) -> list[str]:
    """The devices that a step uses: every visible GPU for ``auto`` and ``cuda``, else the one that is named."""
    number = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    return [f"cuda:{index}" for index in range(number)] or [device]


def _is_out_of_memory(error: Exception) -> bool:
    """Whether torch couldn't allocate memory; on a CPU it says so in a plain RuntimeError."""
    said = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "can't allocate memory" in said
        or "not enough memory" in said
    )


def _unit(vectors: torch.Tensor) -> NDArray[np.float32]:
    vectors = vectors.float()
    norms = vectors.norm(dim=1, keepdim=True)
    usable = torch.isfinite(norms) & (norms > 1e-12)
    unit = torch.where(usable, vectors / norms, torch.full_like(vectors, torch.nan))
    result: NDArray[np.float32] = unit.cpu().numpy()
    return result
