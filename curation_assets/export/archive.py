"""An export as a ZIP archive that goes to whoever takes it while it is made: nothing of it lies on a disk as a whole.

Its directory comes last, so an archive that was broken off is none: no program takes it for a smaller one. Images are
stored, not compressed, as they would get no smaller.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from curation_assets.errors import explained
from curation_assets.export.staging import HashingFile, Stage, Written

_CHUNK = 1 << 20


@dataclass(frozen=True)
class ArchiveTarget:
    """Who takes an archive; as text, what to call that.

    Attributes:
        name: of the folder in it.
        by: whose download it is; None: not known.
        out: takes the bytes, one after the other, and may keep the writer waiting.
    """

    name: str
    by: str | None
    out: IO[bytes] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.name}.zip, a download{f' by {self.by}' if self.by else ''}"


class ArchiveStage(Stage):
    """An export that is being sent; use :func:`staged_in_archive`."""

    is_hidden = goes_on = False

    def __init__(self, place: Path, target: ArchiveTarget) -> None:
        super().__init__(place, place / "files", is_file=False)
        self._name = target.name
        self._out = _Out(target.out)
        self._archive = zipfile.ZipFile(cast("IO[bytes]", self._out), "w")
        self._adding = threading.Lock()
        self._moment = time.localtime()[:6]

    def write(self, name: str, data: bytes, written: Written) -> None:  # noqa: ARG002
        """Send a file. Threads may."""
        with self._adding:
            self._archive.writestr(self._entry(name), data)

    @contextmanager
    def file(self, name: str) -> Iterator[HashingFile]:
        """A file to write, which is sent meanwhile."""
        with self._adding, self._archive.open(self._entry(name), "w", force_zip64=True) as out:
            yield HashingFile(out)

    def publish(self) -> None:
        """Send what is left, and the directory."""
        for above, _, names in sorted(os.walk(self._files)):
            for name in sorted(names):
                file = Path(above) / name
                with self.file(file.relative_to(self._files).as_posix()) as out, file.open("rb") as data:
                    while chunk := data.read(_CHUNK):
                        out.write(chunk)
        self._archive.close()

    def close(self) -> None:
        """Send nothing more."""
        self._out.end()
        self._archive.close()  # writes its directory, if it wasn't published; nobody takes that
        super().close()

    def _entry(self, name: str) -> zipfile.ZipInfo:
        entry = zipfile.ZipInfo(f"{self._name}/{name}", self._moment)
        entry.external_attr = 0o100644 << 16  # a file that its owner may write to
        return entry


class _Out:
    """What takes the archive's bytes, until it takes no more."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out: IO[bytes] | None = out

    def write(self, data: Any) -> int:
        if self._out is not None:
            self._out.write(data)
        return memoryview(data).nbytes

    def flush(self) -> None:
        if self._out is not None:
            self._out.flush()

    def end(self) -> None:
        self._out = None


@contextmanager
def staged_in_archive(target: ArchiveTarget) -> Iterator[Stage]:
    """Make an export as an archive.

    Raises:
        CurationError: there is no place for what is written before it is sent, or nobody takes it any more.
    """
    with (
        explained(OSError, lambda reason: f"{target} can't be sent: {reason}"),
        tempfile.TemporaryDirectory(prefix="curation-archive-") as place,
    ):
        stage = ArchiveStage(Path(place), target)
        try:
            yield stage
        finally:
            stage.close()
