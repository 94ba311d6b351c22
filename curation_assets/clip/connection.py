"""How the registry is reached: MLflow's URIs, a quiet client, and what MLflow raises as one line for the user.

Nothing here knows of models or versions.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from curation_assets.clip import database
from curation_assets.errors import CurationError, explained
from curation_assets.files import waiting_lock
from curation_assets.workspace import is_workspace, workspace_config

_URI_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
# Databases of default registries that this process has migrated or found migrated, and the inodes that were opened.
_opened: dict[str, int] = {}


class Connection:
    """MLflow at the URIs of one configuration.

    ``MLFLOW_TRACKING_URI`` and ``MLFLOW_REGISTRY_URI`` keep their meaning; without them, an SQLite file and local
    artifacts in a folder.

    Args:
        folder: of the SQLite file ``mlflow.db`` and ``artifacts``, where there is no tracking URI.
        own: ignore MLflow's variables and use the folder.
        artifacts: where the files of runs and models of new experiments go; None: into the folder, or where the
            tracking server says.

    Attributes:
        tracking_uri: where runs and experiments are.
        is_default: that is the SQLite file in the folder.

    Raises:
        CurationError: the folder can't be used, as its path has a character that a database's URI can't have.
    """

    def __init__(self, folder: Path, own: bool = False, artifacts: str | None = None) -> None:
        tracking, registry = (None if own else os.environ.get(variable) or None for variable in _URI_VARIABLES)
        self.folder = folder
        self._artifacts = artifacts
        self.tracking_uri = tracking or f"sqlite:///{folder / 'mlflow.db'}"
        self.is_default = tracking is None
        self._registry_uri = self.tracking_uri if own else registry
        self._is_registry_elsewhere = registry is not None
        if self.is_default and (found := re.search("[?]|%[0-9A-Fa-f]{2}", str(folder))):
            raise CurationError(
                f"model registry {folder} can't be used: a database's path can't have {found[0]!r} in it; "
                "choose another CURATION_LAKE_ROOT, beside which it lies"
            )

    @property
    def notes(self) -> Path:
        """Folder of what was found out of this registry; see ``notes.py``."""
        return self.folder / "notes"

    @property
    def database(self) -> Path | None:
        """The SQLite file that runs and versions are in; None where either are elsewhere."""
        return self.folder / "mlflow.db" if self.is_default and not self._is_registry_elsewhere else None

    @property
    def opened_inode(self) -> int | None:
        """Of the database's file as MLflow has it open in this process, whatever lies in its place by now."""
        return _opened.get(self.tracking_uri)

    @property
    def is_on_databricks(self) -> bool:
        """Whether runs and experiments are in a Databricks workspace."""
        return is_workspace(self.tracking_uri)

    @property
    def is_unity_catalog(self) -> bool:
        """Whether versions are in a Unity Catalog, Databricks' or the open-source one."""
        return self.registry_uri.partition(":")[0] in ("uc", "databricks-uc")

    @property
    def registry_uri(self) -> str:
        """Where versions are, as MLflow makes it out."""
        return str(self.mlflow().get_registry_uri())

    @property
    def has_pages(self) -> bool:
        """Whether runs have pages: those of a server or a workspace have."""
        return self.is_on_databricks or self.tracking_uri.startswith(("http://", "https://"))

    def run_url(self, experiment_id: str, run_id: str) -> str:
        """Page of an MLflow run, where runs have pages.

        Raises:
            CurationError: the workspace doesn't answer.
        """
        if self.is_on_databricks:
            host = str(workspace_config(self.tracking_uri).host).rstrip("/")
            return without_password(f"{host}/ml/experiments/{experiment_id}/runs/{run_id}")
        return without_password(f"{self.tracking_uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}")

    def would_create(self) -> bool:
        """Whether a client would make a registry, as there is none yet."""
        return self.database is not None and not self.database.exists()

    def mlflow(self) -> Any:
        """MLflow, quiet, at these URIs."""
        for variable, value in (
            ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
            ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),  # where --json prints one document
            ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"),  # or a server that isn't there is waited for for minutes
            ("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1"),
        ):
            os.environ.setdefault(variable, value)
        import mlflow

        for name in ("mlflow", "alembic", "databricks.sdk"):
            logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # logs what it raises as well
        theirs = {variable: os.environ.get(variable) for variable in _URI_VARIABLES}
        mlflow.set_tracking_uri(self.tracking_uri)
        mlflow.set_registry_uri(self._registry_uri)  # None: the same
        for variable, uri in theirs.items():  # MLflow leaves its choice in the environment, where the next connection
            if uri is None:  # would take it for the user's
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = uri
        return mlflow

    def client(self) -> Any:
        """A client of MLflow; use it within :meth:`understandable_errors`."""
        mlflow = self.mlflow()
        for uri in {self.tracking_uri, mlflow.get_registry_uri()}:
            if is_workspace(uri):
                workspace_config(uri)  # tells at once what MLflow would tell after minutes
        if not self.is_default or self.tracking_uri in _opened:
            return mlflow.MlflowClient()
        self.folder.mkdir(parents=True, exist_ok=True)
        # MLflow migrates a database that it opens, which goes wrong for good when two processes do it at once.
        is_ours = os.access(self.folder, os.W_OK)
        with waiting_lock(self.folder / "open.lock") if is_ours else nullcontext():
            if is_ours:
                database.put_in_line(self.folder / "mlflow.db")
            client = mlflow.MlflowClient()
            client.get_experiment_by_name("Default")  # the tracking store is opened, and the registry's
            client.search_registered_models(max_results=1)
        _opened[self.tracking_uri] = (self.folder / "mlflow.db").stat().st_ino
        return client

    def experiment(self, client: Any, name: str) -> str:
        """The id of an experiment, which is made if need be; its artifacts lie where those of this configuration do."""
        wanted = self.experiment_name(name)
        found = client.get_experiment_by_name(wanted)
        if found is not None:
            return str(found.experiment_id)
        location = self._artifacts or ((self.folder / "artifacts").as_uri() if self.is_default else None)
        return str(client.create_experiment(wanted, artifact_location=location))

    def experiment_name(self, name: str) -> str:
        """What an experiment is called: Databricks takes only paths of its workspace."""
        return f"/Shared/{name}" if self.is_on_databricks else name

    @contextmanager
    def sole_client(self) -> Iterator[Any]:
        """A client that only one process of this machine has at a time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with waiting_lock(self.folder / "register.lock"):
            yield self.client()

    @contextmanager
    def understandable_errors(self) -> Iterator[None]:
        """Turn what MLflow and its database raise into one line for the user."""
        from alembic.util.exc import CommandError
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        ours = (MlflowException, SQLAlchemyError, sqlite3.Error, CommandError, ImportError, OSError)
        hint = "CURATION_LAKE_ROOT, beside which it lies" if self.is_default else "MLFLOW_TRACKING_URI"
        if self._is_registry_elsewhere:
            hint = f"MLFLOW_REGISTRY_URI={self._registry_uri} and {hint}"

        def sentence(reason: str) -> str:
            return without_password(f"model registry {self.tracking_uri} can't be used: {reason}; check {hint}")

        with explained(ours, sentence):
            yield


def without_password(text: str) -> str:
    """A text whose URIs show no user and password."""
    return re.sub("//[^/@ ]*@", "//…@", text)
