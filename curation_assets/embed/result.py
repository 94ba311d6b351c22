"""What an embedding run did, and where its time went."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from time import monotonic, perf_counter

from curation_assets.errors import CurationError
from curation_assets.lake.snapshot import DataFile
from curation_assets.lake.staging import StagedFile


@dataclass
class StageSeconds:
    """Seconds of each stage, summed over the threads and processes that worked at it; stages overlap in time.

    Attributes:
        read: Parquet of the directory table, or image files.
        decode: base64, image decoding, resizing and cropping.
        forward: copying pixels to the device, normalising, the model, copying vectors back.
        write: building rows and Parquet files, committing.
    """

    read: float = 0.0
    decode: float = 0.0
    forward: float = 0.0
    write: float = 0.0

    def __iadd__(self, other: StageSeconds) -> StageSeconds:
        for stage in STAGES:
            setattr(self, stage, getattr(self, stage) + getattr(other, stage))
        return self

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the block's time to a stage; for one thread at a time."""
        started = perf_counter()
        try:
            yield
        finally:
            setattr(self, stage, getattr(self, stage) + perf_counter() - started)

    def shares(self) -> dict[str, float]:
        """Each stage's part of the worked seconds, which together are 1; empty where nothing was done."""
        total = sum(getattr(self, stage) for stage in STAGES)
        return {stage: getattr(self, stage) / total for stage in STAGES} if total else {}


STAGES = tuple(field.name for field in fields(StageSeconds))


@dataclass
class EmbedPiece:
    """A piece of finished work that one commit makes part of the table.

    Attributes:
        add: staged files that join.
        remove: files of the planned snapshot that leave.
        encoded: images that went through the model.
        copied: rows whose content already had a vector.
        removed: rows that went because their image changed or vanished.
        unusable: content hash and reason of images that got no vector.
        bytes: of the image files that were decoded.
        began: ``time.monotonic()`` when its encoding began; None where nothing was encoded.
        computed: on what; None where nothing was encoded.
    """

    add: list[StagedFile] = field(default_factory=list)
    remove: list[DataFile] = field(default_factory=list)
    encoded: int = 0
    copied: int = 0
    removed: int = 0
    unusable: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    began: float | None = None
    stages: StageSeconds = field(default_factory=StageSeconds)
    computed: DeviceUse | None = None


@dataclass(frozen=True)
class DeviceUse:
    """On what images were encoded.

    Attributes:
        device: one of them, as torch names it: ``cpu``, ``cuda:0``.
        devices: how many took part.
        precision: of the forward pass.
        flops: floating-point operations of one image's forward pass.
        limit: operations a second that one device can do in that precision; None where that is unknown, or was
            not worth measuring for so few images.
    """

    device: str
    devices: int
    precision: str
    flops: float
    limit: float | None

    def mfu(self, images: int, seconds: float) -> float | None:
        """What part of the devices' arithmetic limit encoding some images in some time is; None where unknown."""
        if not self.limit or not seconds:
            return None
        return images * self.flops / (self.limit * self.devices * seconds)


@dataclass
class EmbedResult:
    """What an embedding run did to one folder.

    Attributes:
        encoded: images that went through the model; ``bytes`` of their files.
        copied: rows whose content already had a vector.
        removed: rows that went because their image changed or vanished.
        current: rows that already had their vector.
        failed: ``relative_path`` and reason of images that got none.
        rows: rows of the folder for this model version now.
        version: of the table of vectors; ``directory_version`` of the table of images that they are vectors of.
        seconds: of all of it; ``encode_seconds`` from the first image read to the last commit, without planning.
            Loading the model counts only on Spark, where it is part of a task.
        computed: None where nothing was encoded.
        broken: why the folder was left as it is: a data file of its rows can't be read.
        lost: data files of its vectors that could not be read and were replaced, and why.
    """

    folder: str
    encoded: int = 0
    bytes: int = 0
    copied: int = 0
    removed: int = 0
    current: int = 0
    rows: int = 0
    commits: int = 0
    version: int = 0
    directory_version: int = 0
    seconds: float = 0.0
    encode_seconds: float = 0.0
    computed: DeviceUse | None = None
    stages: StageSeconds = field(default_factory=StageSeconds)
    failed: list[tuple[str, str]] = field(default_factory=list)
    broken: str | None = None
    lost: dict[str, str] = field(default_factory=dict)
    _until: float = 0.0

    def checked(self) -> EmbedResult:
        """Itself.

        Raises:
            CurationError: the folder was left as it is.
        """
        if self.broken is not None:
            raise CurationError(self.broken)
        return self

    @property
    def images_per_second(self) -> float:
        """Images encoded a second, from the first one read to the last commit; 0 where nothing was encoded."""
        return self.encoded / self.encode_seconds if self.encode_seconds else 0.0

    @property
    def mfu(self) -> float | None:
        """What part of the devices' arithmetic limit the encoding reached, end to end; None where it is unknown."""
        return self.computed.mfu(self.encoded, self.encode_seconds) if self.computed else None

    def take(self, done: EmbedPiece) -> None:
        """Count a piece of work that was committed."""
        self.encoded += done.encoded
        self.copied += done.copied
        self.removed += done.removed
        self.bytes += done.bytes
        if done.began is not None and done.encoded + len(done.unusable):
            now = monotonic()
            self.encode_seconds += now - max(done.began, self._until)  # the next piece is begun before a commit ends
            self._until = now
        self.computed = done.computed or self.computed
        self.stages += done.stages
