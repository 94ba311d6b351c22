"""What a registration writes before a version names it, and what is left of registrations that were killed.

Everything here is for who has the sole client of the registry. Files are removed where this project keeps them, in the
folder beside the lake; a tracking server's are its own.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from curation_assets.clip.champion import is_not_found
from curation_assets.clip.connection import Connection
from curation_assets.files import sync_tree

RUN_NAME = "register "  # and the model's name
_SCRATCH = "registering-"


@contextmanager
def scratch(connection: Connection) -> Iterator[Path]:
    """A folder for what is being put together; the next registration removes that of a dead one."""
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=connection.folder) as folder:
        yield Path(folder)


def sync_model(connection: Connection, client: Any, model_id: str) -> None:
    """Bring a logged model's files to the disk, before a version names them."""
    if connection.is_default and (folder := _folder_of(client.get_logged_model(model_id))) is not None:
        sync_tree(folder)


def sweep(connection: Connection, client: Any, experiment: str) -> None:
    """Remove what killed registrations left: what they were putting together, and models that no version names.

    Args:
        experiment: id of that of the registration runs.
    """
    for left in connection.folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    if connection.database is None:
        return
    logged = list(_every(lambda token: client.search_logged_models([experiment], page_token=token)))
    named = [f"{version.model_id} {version.source}" for version in _every(_versions(client))] if logged else []
    for model in logged:
        if any(model.model_id in each for each in named) or not _was_registering(client, model):
            continue
        folder = _folder_of(model)
        client.delete_logged_model(model.model_id)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _versions(client: Any) -> Callable[[str | None], Any]:
    return lambda token: client.search_model_versions(page_token=token)


def _every(page_at: Callable[[str | None], Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = page_at(token)
        yield from page
        token = page.token
        if not token:
            return


def _folder_of(model: Any) -> Path | None:
    """Of a logged model's files, where it is on this machine and holds nothing else."""
    place = urlsplit(model.artifact_location)
    folder = Path(unquote(place.path)).parent
    return folder if place.scheme in ("", "file") and folder.name == model.model_id and folder.is_dir() else None


def _was_registering(client: Any, model: Any) -> bool:
    """Whether a registration logged a model, and not a user; a run that is left of it is ended."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(model.source_run_id)
    except MlflowException as error:
        if not is_not_found(error):
            raise
        return False
    if not str(run.info.run_name).startswith(RUN_NAME):
        return False
    if run.info.status == "RUNNING":
        client.set_terminated(run.info.run_id, "KILLED")
    return True
