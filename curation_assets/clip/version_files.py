"""The files of a registered version: where they lie, or downloaded once; checked; and loaded."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from curation_assets.clip import manifest
from curation_assets.clip.connection import Connection
from curation_assets.clip.notes import are_settled, read_note, states, write_note
from curation_assets.clip.source import model_files
from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError
from curation_assets.files import can_write, waiting_lock
from curation_assets.workspace import is_workspace

if TYPE_CHECKING:
    from curation_assets.clip.encoder import Encoder


def load_encoder(connection: Connection, model: RegisteredModel, device: str, precision: str) -> Encoder:
    """What ``Registry.load_encoder`` does, over a connection."""
    from curation_assets.clip import golden
    from curation_assets.clip.encoder import Encoder
    from curation_assets.clip.source import CODE_REVISION

    note = FilesNote(connection.notes, model.fingerprint)
    if (known := note.read()) is not None:
        artifacts, found = known
    else:
        with connection.understandable_errors():
            artifacts, found = _checked_files(connection, model, note)
    spec_note = connection.notes / f"{model.fingerprint}.config.json"
    encoder = Encoder(artifacts / manifest.WEIGHTS, device, precision, spec_note)
    if found.code_revision != CODE_REVISION and found.is_stored:
        report = golden.verify(artifacts, encoder)
        if not report.ok:
            raise CurationError(
                f"{model.uri} was registered by code revision {found.code_revision}; revision {CODE_REVISION} "
                f"computes other vectors from it (cosine {report.worst:.4f}): register the model again"
            )
    return encoder


class FilesNote:
    """Where the files of a fingerprint lay that were last compared with it: they need not be read again every time.

    Args:
        folder: where notes are kept.
        fingerprint: of a version.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._path = folder / f"{fingerprint}.files.json"
        self._fingerprint = fingerprint

    def read(self) -> tuple[Path, manifest.Manifest] | None:
        """Folder of the artifacts and what they are, if nothing was written there since."""
        if (note := read_note(self._path)) is None:
            return None
        try:
            artifacts = Path(note["artifacts"])
            if note["files"] != _states(artifacts):
                return None
            return artifacts, manifest.Manifest(self._fingerprint, int(note["code_revision"]), bool(note["is_stored"]))
        except (OSError, KeyError, TypeError, ValueError):
            return None

    def check(self, artifacts: Path) -> manifest.Manifest:
        """Compare the files with the fingerprint, and note that they were found to be its.

        Raises:
            CurationError: they are not; the message names the files.
        """
        before = _states(artifacts)
        found = manifest.check(artifacts, self._fingerprint)
        if _states(artifacts) == before and are_settled(list(before.values())):
            facts = {"artifacts": str(artifacts), "files": before}
            write_note(self._path, facts | {"code_revision": found.code_revision, "is_stored": found.is_stored})
        return found


def _states(artifacts: Path) -> dict[str, list[int] | None]:
    """Of every file that is compared, by name."""
    files = [*model_files(artifacts / manifest.WEIGHTS), artifacts / manifest.FOLDER / manifest.FILE]
    return dict(zip((file.name for file in files), states(files), strict=True))


def _checked_files(connection: Connection, model: RegisteredModel, note: FilesNote) -> tuple[Path, manifest.Manifest]:
    """Folder of a version's artifacts: the registry's own where that is on this machine, else a copy."""
    client = connection.client()
    download = connection.mlflow().artifacts.download_artifacts
    if (here := _place_here(connection, client, model)) is not None:  # then nothing is copied
        # By its place: asked for by the version's name MLflow writes a file into the folder, which may be read-only.
        artifacts = Path(download(artifact_uri=here)) / "artifacts"
        return artifacts, note.check(artifacts)
    downloads = connection.folder / "downloads"
    copy = downloads / model.fingerprint
    if not can_write(downloads):
        with suppress(CurationError, OSError):
            return copy / "artifacts", note.check(copy / "artifacts")
        raise CurationError(
            f"{model.uri} has to be downloaded to {downloads}, which can't be written: make it writable, or run this "
            "once where it is"
        )
    downloads.mkdir(parents=True, exist_ok=True)
    with waiting_lock(downloads / f"{model.fingerprint}.lock"):
        with suppress(CurationError, OSError):  # not there, or no longer what was downloaded
            return copy / "artifacts", note.check(copy / "artifacts")
        staged = downloads / f"{model.fingerprint}.part"
        for leftover in (staged, copy):
            shutil.rmtree(leftover, ignore_errors=True)
        fetched = Path(download(artifact_uri=model.uri, dst_path=str(staged)))
        found = manifest.check(fetched / "artifacts", model.fingerprint)  # noted when it lies where it stays
        fetched.rename(copy)
        shutil.rmtree(staged, ignore_errors=True)
    return copy / "artifacts", found


def _place_here(connection: Connection, client: Any, model: RegisteredModel) -> str | None:
    """Where the registry keeps a version's files in this machine's file system; None if it keeps them elsewhere."""
    if is_workspace(connection.registry_uri):
        return None
    location = str(client.get_model_version_download_uri(model.name, model.version))
    return location if urlsplit(location).scheme in ("", "file") else None
