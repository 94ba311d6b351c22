"""The files of a registered version: where they lie, or downloaded once; checked; and loaded."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from curation_assets.clip.connection import Connection
from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError
from curation_assets.files import waiting_lock
from curation_assets.workspace import is_workspace

if TYPE_CHECKING:
    from curation_assets.clip.encoder import Encoder
    from curation_assets.clip.manifest import Manifest


def load_encoder(connection: Connection, model: RegisteredModel, device: str, precision: str) -> Encoder:
    """What ``Registry.load_encoder`` does, over a connection."""
    from curation_assets.clip import golden, manifest
    from curation_assets.clip.encoder import Encoder
    from curation_assets.clip.source import CODE_REVISION

    with connection.understandable_errors():
        artifacts, found = _checked_files(connection, model)
    encoder = Encoder(artifacts / manifest.WEIGHTS, device, precision)
    if found.code_revision != CODE_REVISION and found.is_stored:
        report = golden.verify(artifacts, encoder)
        if not report.ok:
            raise CurationError(
                f"{model.uri} was registered by code revision {found.code_revision}; revision {CODE_REVISION} "
                f"computes other vectors from it (cosine {report.worst:.4f}): register the model again"
            )
    return encoder


def _checked_files(connection: Connection, model: RegisteredModel) -> tuple[Path, Manifest]:
    """Folder of a version's artifacts: the registry's own where that is on this machine, else a copy."""
    from curation_assets.clip import manifest

    client = connection.client()
    download = connection.mlflow().artifacts.download_artifacts
    if _is_here(connection, client, model):  # then nothing is copied
        artifacts = Path(download(artifact_uri=model.uri)) / "artifacts"
        return artifacts, manifest.check(artifacts, model.fingerprint)
    downloads = connection.folder / "downloads"
    copy = downloads / model.fingerprint
    downloads.mkdir(parents=True, exist_ok=True)
    with waiting_lock(downloads / f"{model.fingerprint}.lock"):
        with suppress(CurationError, OSError):  # not there, or no longer what was downloaded
            return copy / "artifacts", manifest.check(copy / "artifacts", model.fingerprint)
        staged = downloads / f"{model.fingerprint}.part"
        for leftover in (staged, copy):
            shutil.rmtree(leftover, ignore_errors=True)
        fetched = Path(download(artifact_uri=model.uri, dst_path=str(staged)))
        found = manifest.check(fetched / "artifacts", model.fingerprint)
        fetched.rename(copy)
        shutil.rmtree(staged, ignore_errors=True)
    return copy / "artifacts", found


def _is_here(connection: Connection, client: Any, model: RegisteredModel) -> bool:
    """Whether the registry keeps a version's files in this machine's file system."""
    if is_workspace(connection.registry_uri):
        return False
    location = client.get_model_version_download_uri(model.name, model.version)
    return urlsplit(location).scheme in ("", "file")
