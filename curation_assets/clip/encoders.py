"""Loaded encoders, kept: the one cache of them, here and in Spark's worker processes."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation_assets.clip.registry import Registry
from curation_assets.clip.versions import RegisteredModel
from curation_assets.images.guard import DEFAULT_OPTIONS, DecodeOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from curation_assets.clip.encoder import Encoder


@dataclass(frozen=True)
class Encoders:
    """Loads the encoders of a registry's versions and keeps those of the last one. Several threads may use it at once.

    Pickled, it takes nothing along that is loaded; where it is unpickled, all copies with the same arguments are one
    object, so that a worker process keeps its encoders from task to task.

    Attributes:
        registry: name, folder, and whether to ignore MLflow's variables: arguments of ``Registry``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: of the forward pass, ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        batch_size: images per forward pass; None takes what suits the device.
        decode: how images are decoded.
    """

    registry: tuple[str, Path, bool]
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    decode: DecodeOptions = DEFAULT_OPTIONS
    _loading: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)
    _loaded: dict[tuple[RegisteredModel, str], Encoder] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def load(self, model: RegisteredModel) -> Encoder:
        """A version's encoder, on the first of the devices.

        Raises:
            CurationError: its files can't be had, or the device or precision isn't there.
        """
        from curation_assets.clip.encoder import all_devices

        return self._on(all_devices(self.device)[0], model)

    def load_all(self, model: RegisteredModel, gpus: Sequence[str] = ()) -> list[Encoder]:
        """The same, one a device: those GPUs, or all GPUs, or the one device that is named.

        Args:
            gpus: numbers of the GPUs to keep to; none of them leaves it to ``device``.

        Raises:
            CurationError: as of ``load``.
        """
        from curation_assets.clip.encoder import all_devices

        devices = [f"cuda:{gpu}" for gpu in gpus] or all_devices(self.device)
        return [self._on(device, model) for device in devices]

    def _on(self, device: str, model: RegisteredModel) -> Encoder:
        with self._loading:
            if any(other != model for other, _ in self._loaded):
                self._loaded.clear()
            if (model, device) not in self._loaded:
                name, folder, own = self.registry
                encoder = Registry(name, folder, own=own).load_encoder(model, device, self.precision)
                self._loaded[model, device] = encoder
            return self._loaded[model, device]

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.registry, self.device, self.precision, self.batch_size, self.decode)
        return _of_this_process, arguments


@functools.lru_cache(maxsize=1)  # one job's at a time
def _of_this_process(*arguments: Any) -> Encoders:
    return Encoders(*arguments)
