"""Rows from many threads at once → unit-length vectors: decode, gather into batches, check. No MLflow, no pandas.

What a registered model does when it is asked, whatever server asks it.
"""

from __future__ import annotations

import binascii
import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

import numpy as np
import pybase64
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curation_assets.callers import LeftError, current
from curation_assets.clip.batching import Admission, LazyPool, MicroBatcher
from curation_assets.clip.rows import Row, RowError
from curation_assets.errors import CurationError
from curation_assets.images.errors import ImageError
from curation_assets.images.guard import DecodeOptions

if TYPE_CHECKING:
    from curation_assets.clip.encoder import Encoder

_SPACE = re.compile(r"\s+")
_URL_SAFE = str.maketrans("-_", "+/")  # RFC 4648, section 5
_encoders: WeakValueDictionary[tuple[str, ...], Encoder] = WeakValueDictionary()
_encoders_lock = threading.Lock()


class PredictorConfig(BaseModel):
    """What MLflow's ``model_config`` may set when a registered model is loaded.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        max_rows: in a request.
        max_pixels: of an image, by its header, before it is decoded.
        max_image_bytes: of an image file.
        max_batch: rows in a forward pass; 0: what suits the device.
        max_queue: rows being decoded, waiting or computed at once; more are refused as "busy".
        patience_ms: that a batch waits for images which other requests are decoding.
        threads: of the process that a forward pass on a CPU takes; 0: as torch has it.
        verify_files: whether the model's files are checked against its fingerprint when it is loaded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_rows: int = Field(1024, ge=1)
    max_pixels: int = Field(100_000_000, ge=1)
    max_image_bytes: int = Field(32 * 2**20, ge=1)
    max_batch: int = Field(0, ge=0)
    max_queue: int = Field(2048, ge=1)
    patience_ms: float = Field(3.0, ge=0, le=1000)
    threads: int = Field(0, ge=0)
    verify_files: bool = True

    @classmethod
    def of(cls, values: Mapping[str, Any] | None) -> PredictorConfig:
        """Validate.

        Raises:
            CurationError: naming the key that is wrong.
        """
        try:
            return cls.model_validate(dict(values or {}))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise CurationError(f"model_config {key}={first['input']!r}: {first['msg']}") from None


class ClipPredictor:
    """A CLIP that many threads may ask at once. Weights are loaded when they are first needed, or by :meth:`warm_up`.

    Args:
        folder: model in Hugging Face layout.
        config: limits, device and precision.
        fingerprint: of the model; predictors of the same one share its weights. None: those of the same folder do.

    Attributes:
        batcher: gathers what is asked; its ``observer``, ``queued`` and ``in_flight`` are what metrics show.
        config: as given.
        dimension: of the vectors.

    Raises:
        CurationError: the device isn't there or can't compute in that precision, or the folder holds no model.
    """

    def __init__(self, folder: Path, config: PredictorConfig | None = None, fingerprint: str | None = None) -> None:
        self.config = config or PredictorConfig.of(None)
        self._decode = DecodeOptions(self.config.max_pixels)
        self._encoder = _shared_encoder(folder, self.config.device, self.config.precision, fingerprint)
        if self.config.threads:
            from curation_assets.clip.encoder import limit_threads

            limit_threads(self.config.threads)
        self.dimension = int(json.loads((folder / "config.json").read_text())["projection_dim"])
        most = self.config.max_batch or self._encoder.batch_size
        self.batcher = MicroBatcher(
            {"image": self._embed_images, "text": self._encoder.embed_texts},
            max_batch={"image": most, "text": most},
            max_queue=self.config.max_queue,
            patience=self.config.patience_ms / 1000,
        )
        self._decoders = LazyPool(os.cpu_count() or 1, "clip-decode")

    def embed_rows(self, rows: Sequence[Row], timeout: float | None = None) -> NDArray[np.float32]:
        """Embed each row: (n, dimension) float32, unit length, in order. Blocks; may be called from any thread.

        Args:
            rows: images and texts, mixed as one likes.
            timeout: seconds to wait at most; what isn't begun with by then is not computed. None: no limit.

        Raises:
            RowError: a row can't be used, or there are too many; the message names the row and says why.
            BusyError: too many rows are waiting already, or the predictor is closed (``ClosedError``).
            TimeoutError: it took too long.
            LeftError: whoever this thread works for has left (``callers``).
        """
        if len(rows) > self.config.max_rows:
            raise RowError(None, f"{len(rows)} rows are more than the {self.config.max_rows} of a request (`max_rows`)")
        vectors = np.empty((len(rows), self.dimension), np.float32)
        places = {kind: [i for i, row in enumerate(rows) if row.kind == kind] for kind in ("text", "image")}
        with self.batcher.admit({kind: len(of_kind) for kind, of_kind in places.items()}, timeout) as admission:
            futures = {}
            if texts := places["text"]:
                futures["text"] = admission.submit("text", [rows[i].value for i in texts])
            if images := places["image"]:
                futures["image"] = admission.submit("image", self._decode_all(admission, rows, images))
            for kind, future in futures.items():
                vectors[places[kind]] = admission.result(future)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            raise RowError(int(np.argmin(finite)), "the model has no vector for it")
        return vectors

    def warm_up(self) -> None:
        """Load the weights of both towers, so that the first request need not wait for them."""
        side = self._encoder.preprocessing.crop
        with self.batcher.admit({"image": 1, "text": 1}) as admission:
            grey = np.full((side, side, 3), 128, np.uint8)
            for future in (admission.submit("image", [grey]), admission.submit("text", ["a photo"])):
                admission.result(future)

    def close(self, timeout: float | None = None) -> None:
        """Refuse new requests, finish those at work, and end the threads.

        Args:
            timeout: seconds after which they fail with ``ClosedError``, but for the pass in progress and pictures that
                are decoded here, which takes moments; None: however long they take.
        """
        self.batcher.close(timeout)
        self._decoders.close()

    def _embed_images(self, pixels: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return self._encoder.embed_images(np.stack(pixels))

    def _decode_all(self, admission: Admission, rows: Sequence[Row], images: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Pixels of the images among some rows, in order; the first error stands for all."""
        pool = self._decoders.get()
        coming = [pool.submit(self._pixels, admission, row, rows[row].value) for row in images]

        def cancel() -> None:
            for one in coming:
                one.cancel()

        try:
            with current().telling(cancel):
                return [one.result() for one in coming]
        except CancelledError:
            raise LeftError from None
        finally:
            cancel()

    def _pixels(self, admission: Admission, row: int, value: str | bytes) -> NDArray[np.uint8]:
        admission.check()
        data = value if isinstance(value, bytes) else self._decoded(row, value)
        self._check_bytes(row, len(data))
        try:
            return self._encoder.preprocessing.load(data, self._decode, admission.stop)
        except ImageError as error:
            admission.check()  # then nobody waits for it, and the image may be a good one
            if error.status == "too_large" and error.size is not None:
                width, height = error.size
                limit = f"more than {self.config.max_pixels:,} (`max_pixels`)"
                raise RowError(row, f"`image` has {width} x {height} pixels, {limit}") from None
            raise RowError(row, f"`image`: {error}") from None

    def _decoded(self, row: int, value: str) -> bytes:
        if value[:5].lower() == "data:":
            header, _, value = value.partition(",")
            if not header.lower().endswith(";base64"):
                raise RowError(row, "`image` is a data URL that isn't base64")
        self._check_bytes(row, len(value) * 3 // 4 - 2)  # before memory is spent on it
        try:
            return self._from_base64(value)
        except (binascii.Error, ValueError):
            raise RowError(row, "`image` is not base64") from None

    @staticmethod
    def _from_base64(value: str) -> bytes:
        try:
            return pybase64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):  # in lines, as of the command base64; for addresses; without its padding
            bare = _SPACE.sub("", value).translate(_URL_SAFE).rstrip("=")
            return pybase64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)

    def _check_bytes(self, row: int, size: int) -> None:
        if size > self.config.max_image_bytes:
            limit = f"more than {self.config.max_image_bytes:,} (`max_image_bytes`)"
            raise RowError(row, f"`image` has {size:,} bytes, {limit}")


def _shared_encoder(folder: Path, device: str, precision: str, fingerprint: str | None) -> Encoder:
    """One encoder a process for one model, device and precision, however often the model is loaded."""
    from curation_assets.clip.encoder import Encoder, choose_device, choose_precision

    chosen = choose_device(device, "model_config device")
    wanted = choose_precision(precision, chosen, "model_config precision")
    key = (fingerprint or str(folder.resolve()), str(chosen), wanted)
    with _encoders_lock:
        encoder = _encoders.get(key)
        if encoder is None:
            encoder = _encoders[key] = Encoder(folder, str(chosen), wanted)
    return encoder
