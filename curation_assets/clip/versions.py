"""Versions of a registered model, as the registry describes them: their facts, their tags, and adding one."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from curation_assets.clip.champion import CHAMPION, is_not_found
from curation_assets.clip.connection import Connection
from curation_assets.errors import CurationError

_TAG = "curation."


class NotOursError(CurationError):
    """A version of this name that this project didn't register."""


@dataclass(frozen=True)
class RegisteredModel:
    """A version in the registry.

    Attributes:
        name: catalog.schema.model.
        version: its number in the registry, counted from 1.
        uri: ``models:/name/version``.
        fingerprint: of the model's weights, configuration, tokenizer, preprocessing and code.
        dimension: numbers of a vector.
        image_size: pixels of a side that the model sees.
        parameters: how many it has.
        source: ``MODEL_SOURCE`` when it was registered.
        demonstration: whether it is the embedded model, on which no decision should rest.
        run_id: MLflow run that logged it.
    """

    name: str
    version: str
    fingerprint: str
    dimension: int
    image_size: int
    parameters: int
    source: str
    demonstration: bool
    run_id: str

    @property
    def uri(self) -> str:
        """How MLflow names the version."""
        return f"models:/{self.name}/{self.version}"


class Versions:
    """The versions of one registered model.

    Args:
        connection: to the registry.
        client: an MLflow client of it.
        name: catalog.schema.model.
    """

    def __init__(self, connection: Connection, client: Any, name: str) -> None:
        self._connection = connection
        self._client = client
        self._name = name

    def listed(self) -> list[tuple[RegisteredModel, datetime]]:
        """Finished versions that this project registered and when, oldest first."""
        from mlflow.exceptions import MlflowException

        found: list[Any] = []
        token: str | None = None
        try:
            while True:
                page = self._client.search_model_versions(f"name='{self._name}'", page_token=token)
                found += [version for version in page if version.status == "READY"]
                token = page.token
                if not token:
                    break
        except MlflowException as error:  # a Unity Catalog has no versions of a model that isn't there
            if not is_not_found(error):
                raise
        listed = []
        for version in sorted(found, key=lambda version: int(version.version)):
            registered_at = datetime.fromtimestamp((version.creation_timestamp or 0) / 1000, UTC)
            if self._connection.is_unity_catalog:  # which lists versions without their tags
                version = self._client.get_model_version(self._name, version.version)
            with suppress(NotOursError):
                listed.append((self.describe(version), registered_at))
        return listed

    def ready(self, version: str) -> RegisteredModel | None:
        """A finished version that this project registered, by its number; None where ``listed`` wouldn't have it."""
        from mlflow.exceptions import MlflowException

        if not version.isdecimal():
            return None
        try:
            found = self._client.get_model_version(self._name, version)
        except MlflowException as error:
            if not is_not_found(error):
                raise
            return None
        if found.status != "READY" or str(found.version) != version:
            return None
        with suppress(NotOursError):
            return self.describe(found)
        return None

    def describe(self, version: Any) -> RegisteredModel:
        """A version's facts, which its tags hold.

        Args:
            version: how MLflow describes it.

        Raises:
            NotOursError: it lacks this project's tags.
        """
        tags = {key.removeprefix(_TAG): value for key, value in self._tags(version).items()}
        try:
            return RegisteredModel(
                name=version.name,
                version=str(version.version),
                fingerprint=tags["fingerprint"],
                dimension=int(tags["dimension"]),
                image_size=int(tags["image_size"]),
                parameters=int(tags["parameters"]),
                source=tags["source"],
                demonstration=tags.get("demonstration") == "True",
                run_id=version.run_id,
            )
        except (KeyError, ValueError):
            raise NotOursError(
                f"version {version.version} of {version.name} was not registered by this project: give its alias "
                f"{CHAMPION} to a version that was, or choose another CURATION_MODEL_NAME"
            ) from None

    def create(self, logged: Any, run_id: str, tags: dict[str, str], description: str) -> RegisteredModel:
        """Make a version of what a run has logged.

        Args:
            logged: how MLflow's ``log_model`` describes it.
            tags: as :func:`version_tags` gives them.
        """
        self._ensure_registered_model()
        source, model_id = logged.model_uri, logged.model_id
        with tempfile.TemporaryDirectory() as scratch:
            if self._connection.is_unity_catalog and not self._connection.is_on_databricks:
                # A Unity Catalog keeps the files itself: MLflow's client uploads them from where they lie, and then
                # removes what it takes for a download, be it the tracking store's own folder. So it gets a copy.
                artifacts = self._connection.mlflow().artifacts
                source = artifacts.download_artifacts(artifact_uri=source, dst_path=scratch)
                model_id = None
            created = self._client.create_model_version(
                self._name, source=source, run_id=run_id, tags=tags, description=description, model_id=model_id
            )
        return self.describe(created)

    def _ensure_registered_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_registered_model(self._name)
        except MlflowException as error:
            if not is_not_found(error):
                raise
            self._client.create_registered_model(self._name, description="CLIP embeddings of images and texts")

    def _tags(self, version: Any) -> dict[str, str]:
        """Tags of a version; where the registry keeps none (``uc:``), those of the run that logged it, the same."""
        from mlflow.exceptions import MlflowException

        if version.tags or not (self._connection.is_unity_catalog and version.run_id):
            return dict(version.tags)
        try:
            return dict(self._client.get_run(version.run_id).data.tags)
        except MlflowException as error:
            if not is_not_found(error):
                raise
            return {}


def version_tags(facts: dict[str, str]) -> dict[str, str]:
    """Tags of a version and of its run that hold some facts of its model."""
    return {_TAG + key: value for key, value in facts.items()}
