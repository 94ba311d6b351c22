"""The model registry: the one place that talks to MLflow."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from filelock import FileLock

from curation_assets.clip.champion import CHAMPION, ChampionRecord, SeenSource, is_not_found
from curation_assets.clip.source import ModelSource
from curation_assets.errors import CurationError, first_line
from curation_assets.settings import source_key
from curation_assets.workspace import is_workspace, workspace_config

if TYPE_CHECKING:
    from curation_assets.clip.encoder import Encoder
    from curation_assets.clip.manifest import Manifest

_TAG = "curation."
_URI_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
_opened: set[str] = set()  # databases of default registries that this process has migrated or found migrated


class NotRegisteredError(CurationError):
    """The registry is there, but no version is registered in it yet."""


class NotOursError(CurationError):
    """A version of this name that this project didn't register."""


@dataclass(frozen=True)
class RegisteredModel:
    """A version in the registry.

    Attributes:
        name: catalog.schema.model.
        version: as in the registry, counted from 1.
        uri: ``models:/name/version``.
        fingerprint, dimension, image_size, parameters, source, demonstration: as of ``ModelSource``.
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


@dataclass(frozen=True)
class ListedVersion:
    """A version and its standing.

    Attributes:
        registered_at: in UTC.
        is_champion: embeddings and search use it.
        is_source: ``MODEL_SOURCE`` was this model when it was last looked at.
    """

    model: RegisteredModel
    registered_at: datetime
    is_champion: bool
    is_source: bool


class Registry:
    """Versions of one registered model.

    ``MLFLOW_TRACKING_URI`` and ``MLFLOW_REGISTRY_URI`` keep their meaning; without them, an SQLite file and local
    artifacts in a folder.

    Args:
        name: catalog.schema.model.
        folder: of the SQLite file ``mlflow.db`` and ``artifacts``, where there is no tracking URI; and of
            ``downloads``, where a version's files lie elsewhere.
        own: ignore MLflow's variables and use the folder.

    Raises:
        CurationError: the folder can't be used, as its path has a character that a database's URI can't have.
    """

    def __init__(self, name: str, folder: Path, own: bool = False) -> None:
        tracking, registry = (None if own else os.environ.get(variable) or None for variable in _URI_VARIABLES)
        self.name = name
        self.folder = folder
        self.tracking_uri = tracking or f"sqlite:///{folder / 'mlflow.db'}"
        self._is_default = tracking is None
        self._registry_uri = self.tracking_uri if own else registry
        self._is_registry_elsewhere = registry is not None
        if self._is_default and (found := re.search("[?]|%[0-9A-Fa-f]{2}", str(folder))):
            raise CurationError(
                f"model registry {folder} can't be used: a database's path can't have {found[0]!r} in it; "
                "choose another CURATION_LAKE_ROOT, beside which it lies"
            )

    def register(self, source: ModelSource) -> tuple[RegisteredModel, bool]:
        """Register these weights if no version has their fingerprint, and make them the champion if they are new here.

        A version that was promoted by hand stays the champion as long as the source is the one that was last
        registered or seen by a promotion: promotion decides until ``MODEL_SOURCE`` changes.

        Returns:
            The champion, and whether a version was registered. ``overruled`` tells whether it is the source's.

        Raises:
            CurationError: the registry can't be reached or written.
        """
        with self._writing() as client:
            return self._register(client, source)

    def promote(self, version: str, source: SeenSource | None = None) -> RegisteredModel:
        """Make a version the champion.

        Args:
            version: its number.
            source: what ``MODEL_SOURCE`` is now, over which the version is chosen; None is what it last was.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: there is no such version, or the registry can't be reached or written.
        """
        self._refuse_to_create()
        with self._writing() as client:
            model = self._find(client, version)
            record = self._record_to_write(client)
            record.crown(model.version)
            _note_choice(record, source)
            return model

    def rollback(self, source: SeenSource | None = None) -> RegisteredModel:
        """Make the champion before this one the champion again; a second time, the one before that.

        Args:
            source: as of ``promote``.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: there is no earlier one, or the registry can't be reached or written.
        """
        self._refuse_to_create()
        with self._writing() as client:
            known = {model.version: model for model, _ in self._listed(client)}
            if not known:
                raise self._not_registered()
            record = self._record_to_write(client)
            history = record.history()
            earlier = [version for version in history[:-1] if version in known]
            while earlier and earlier[-1] == history[-1]:  # what lay between them was deleted
                earlier.pop()
            if not earlier:
                raise CurationError(
                    f"{self.name} has no earlier champion to go back to; `curation model promote` makes any version it"
                )
            record.go_back(earlier)
            _note_choice(record, source)
            return known[earlier[-1]]

    def champion(self) -> RegisteredModel:
        """The version that embeddings and search use.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: the registry can't be reached.
        """
        with self._reading() as client:
            current = self._record(client).current()
            if current is None:
                raise self._not_registered()
            return self._describe(client, current)

    def chosen_by_hand(self, model_source: str) -> RegisteredModel | None:
        """The champion, if it was chosen by hand over this setting of ``MODEL_SOURCE``; else None.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: the registry can't be reached.
        """
        with self._reading() as client:
            record = self._record(client)
            champion, seen = self._own_champion(client, record), record.source
            if champion is None or seen is None or seen.name != source_key(model_source):
                return None
            return champion if seen.by_hand or champion.fingerprint != seen.fingerprint else None

    def version(self, version: str) -> RegisteredModel:
        """A version by its number.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: there is no such version, or the registry can't be reached.
        """
        with self._reading() as client:
            return self._find(client, version)

    def versions(self) -> list[ListedVersion]:
        """Versions that this project registered, oldest first.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: the registry can't be reached.
        """
        with self._reading() as client:
            found = self._listed(client)
            if not found:
                raise self._not_registered()
            record = self._record(client)
            current = record.current()
            return [
                ListedVersion(
                    model,
                    registered_at,
                    is_champion=current is not None and str(current.version) == model.version,
                    is_source=record.source is not None and model.fingerprint == record.source.fingerprint,
                )
                for model, registered_at in found
            ]

    def overruled(self) -> RegisteredModel | None:
        """The version of ``MODEL_SOURCE``, where another one was promoted and is the champion.

        Raises:
            CurationError: as of ``versions``.
        """
        versions = self.versions()
        if any(listed.is_champion and listed.is_source for listed in versions):
            return None
        return next((listed.model for listed in reversed(versions) if listed.is_source), None)

    def run_url(self, model: RegisteredModel) -> str | None:
        """Page of the MLflow run that logged a version; None where the tracking store has no pages.

        Raises:
            CurationError: the tracking server can't be reached.
        """
        if self._is_on_databricks:
            page = (
                f"{str(workspace_config(self.tracking_uri).host).rstrip('/')}/ml/experiments/{{}}/runs/{model.run_id}"
            )
        elif self.tracking_uri.startswith(("http://", "https://")):
            page = f"{self.tracking_uri.rstrip('/')}/#/experiments/{{}}/runs/{model.run_id}"
        else:
            return None
        with self._reading() as client:
            experiment = client.get_run(model.run_id).info.experiment_id
        return _without_password(page.format(experiment))

    def load_encoder(self, model: RegisteredModel, device: str, precision: str) -> Encoder:
        """Check a version's files and load them; files that aren't on this machine are downloaded once.

        A version that another revision of the code registered is asked for its golden vectors too, and used only if
        this code still computes them.

        Raises:
            CurationError: they can't be had, aren't those that were registered, or the device or precision isn't there.
        """
        from curation_assets.clip import golden, manifest
        from curation_assets.clip.encoder import Encoder
        from curation_assets.clip.source import CODE_REVISION

        with self._understandable_errors():
            artifacts, found = self._checked_files(self._client(), model)
        encoder = Encoder(artifacts / manifest.WEIGHTS, device, precision)
        if found.code_revision != CODE_REVISION and found.is_stored:
            report = golden.verify(artifacts, encoder)
            if not report.ok:
                raise CurationError(
                    f"{model.uri} was registered by code revision {found.code_revision}; revision {CODE_REVISION} "
                    f"computes other vectors from it (cosine {report.worst:.4f}): register the model again"
                )
        return encoder

    def _checked_files(self, client: Any, model: RegisteredModel) -> tuple[Path, Manifest]:
        """Folder of a version's artifacts: the registry's own where that is on this machine, else a copy."""
        from curation_assets.clip import manifest

        download = self._mlflow().artifacts.download_artifacts
        if self._is_here(client, model):  # then nothing is copied
            artifacts = Path(download(artifact_uri=model.uri)) / "artifacts"
            return artifacts, manifest.check(artifacts, model.fingerprint)
        downloads = self.folder / "downloads"
        copy = downloads / model.fingerprint
        downloads.mkdir(parents=True, exist_ok=True)
        with FileLock(downloads / f"{model.fingerprint}.lock"):
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

    def _is_here(self, client: Any, model: RegisteredModel) -> bool:
        """Whether the registry keeps a version's files in this machine's file system."""
        if is_workspace(self._mlflow().get_registry_uri()):
            return False
        location = client.get_model_version_download_uri(model.name, model.version)
        return urlsplit(location).scheme in ("", "file")

    @property
    def _database(self) -> Path:
        return self.folder / "mlflow.db"

    @property
    def _is_on_databricks(self) -> bool:
        return is_workspace(self.tracking_uri)

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        """A client for questions, which create nothing."""
        self._refuse_to_create()
        with self._understandable_errors():
            yield self._client()

    def _refuse_to_create(self) -> None:
        """Raises ``NotRegisteredError`` where opening the registry would make one."""
        if self._is_default and not self._is_registry_elsewhere and not self._database.exists():
            raise self._not_registered()

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        """A client that only one process of this machine has at a time."""
        with self._understandable_errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "register.lock"):
                yield self._client()

    def _not_registered(self) -> NotRegisteredError:
        hint = "materialize the asset clip_model, or use `curation run`"
        return NotRegisteredError(f"no CLIP model is registered as {self.name}: {hint}")

    def _register(self, client: Any, source: ModelSource) -> tuple[RegisteredModel, bool]:
        found = [model for model, _ in self._listed(client) if model.fingerprint == source.fingerprint]
        of_source = found[-1] if found else self._log(client, source)
        record = self._record_to_write(client)
        seen, now = record.source, SeenSource(source_key(source.name), source.fingerprint, by_hand=False)
        if seen and seen.is_model(now.name, source.fingerprint) and (kept := self._own_champion(client, record)):
            record.see(replace(now, by_hand=seen.by_hand))
            return kept, not found
        record.crown(of_source.version)
        record.see(now)
        return of_source, not found

    def _own_champion(self, client: Any, record: ChampionRecord) -> RegisteredModel | None:
        """The champion, unless there is none or it is a model that this project didn't register."""
        current = record.current()
        if current is None:
            return None
        try:
            return self._describe(client, current)
        except NotOursError:
            return None

    def _record(self, client: Any) -> ChampionRecord:
        return ChampionRecord(client, self.name, client.get_experiment_by_name(self._experiment_name))

    def _record_to_write(self, client: Any) -> ChampionRecord:
        return ChampionRecord(client, self.name, client.get_experiment(self._experiment(client)))

    def _find(self, client: Any, version: str) -> RegisteredModel:
        known = {model.version: model for model, _ in self._listed(client)}
        if not known:
            raise self._not_registered()
        if version not in known:
            raise CurationError(f"{self.name} has no version {version!r}; it has {', '.join(known)}")
        return known[version]

    def _log(self, client: Any, source: ModelSource) -> RegisteredModel:
        from curation_assets.clip import packaging

        mlflow = self._mlflow()
        tags = {_TAG + key: value for key, value in packaging.tags(source).items()}
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice about type hints; the signature is given
            packed = packaging.package(source, Path(scratch))
            mlflow.set_experiment(experiment_id=self._experiment(client))
            with mlflow.start_run(run_name=f"register {self.name}") as run:
                mlflow.set_tags(tags)
                info = mlflow.pyfunc.log_model(name="model", **packed)
        return self._create_version(client, info, run.info.run_id, tags=tags, description=packaging.description(source))

    @property
    def _experiment_name(self) -> str:
        # Databricks takes only paths of its workspace.
        return f"/Shared/{self.name}" if self._is_on_databricks else self.name

    def _experiment(self, client: Any) -> str:
        experiment = client.get_experiment_by_name(self._experiment_name)
        if experiment is not None:
            return str(experiment.experiment_id)
        location = (self.folder / "artifacts").as_uri() if self._is_default else None
        return str(client.create_experiment(self._experiment_name, artifact_location=location))

    def _create_version(
        self, client: Any, logged: Any, run_id: str, tags: dict[str, str], description: str
    ) -> RegisteredModel:
        """Register what a run has logged, as MLflow's ``log_model`` describes it."""
        self._ensure_registered_model(client)
        source, model_id = logged.model_uri, logged.model_id
        with tempfile.TemporaryDirectory() as scratch:
            if self._is_unity_catalog and not self._is_on_databricks:
                # A Unity Catalog keeps the files itself: MLflow's client uploads them from where they lie, and then
                # removes what it takes for a download, be it the tracking store's own folder. So it gets a copy.
                source = self._mlflow().artifacts.download_artifacts(artifact_uri=source, dst_path=scratch)
                model_id = None
            created = client.create_model_version(
                self.name, source=source, run_id=run_id, tags=tags, description=description, model_id=model_id
            )
        return self._describe(client, created)

    @property
    def _is_unity_catalog(self) -> bool:
        uri = self._mlflow().get_registry_uri()
        return uri.partition(":")[0] in ("uc", "databricks-uc")

    def _ensure_registered_model(self, client: Any) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.get_registered_model(self.name)
        except MlflowException as error:
            if not is_not_found(error):
                raise
            client.create_registered_model(self.name, description="CLIP embeddings of images and texts")

    def _listed(self, client: Any) -> list[tuple[RegisteredModel, datetime]]:
        """Finished versions that this project registered and when, oldest first."""
        from mlflow.exceptions import MlflowException

        found: list[Any] = []
        token: str | None = None
        try:
            while True:
                page = client.search_model_versions(f"name='{self.name}'", page_token=token)
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
            if self._is_unity_catalog:  # which lists versions without their tags
                version = client.get_model_version(self.name, version.version)
            with suppress(NotOursError):
                listed.append((self._describe(client, version), registered_at))
        return listed

    def _describe(self, client: Any, version: Any) -> RegisteredModel:
        """Raises ``NotOursError`` for a version that lacks this project's tags."""
        tags = {key.removeprefix(_TAG): value for key, value in self._tags(client, version).items()}
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

    def _tags(self, client: Any, version: Any) -> dict[str, str]:
        """Tags of a version; where the registry keeps none (``uc:``), those of the run that logged it, the same."""
        from mlflow.exceptions import MlflowException

        if version.tags or not (self._is_unity_catalog and version.run_id):
            return dict(version.tags)
        try:
            return dict(client.get_run(version.run_id).data.tags)
        except MlflowException as error:
            if not is_not_found(error):
                raise
            return {}

    def _mlflow(self) -> Any:
        """MLflow, quiet, at this registry's URIs."""
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
        theirs = {variable: os.environ.get(variable) for variable in _URI_VARIABLES}
        mlflow.set_tracking_uri(self.tracking_uri)
        mlflow.set_registry_uri(self._registry_uri)  # None: the same
        for variable, uri in theirs.items():  # MLflow leaves its choice in the environment, where the next Registry
            if uri is None:  # would take it for the user's
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = uri
        return mlflow

    def _client(self) -> Any:
        mlflow = self._mlflow()
        for uri in {self.tracking_uri, mlflow.get_registry_uri()}:
            if is_workspace(uri):
                workspace_config(uri)  # tells at once what MLflow would tell after minutes
        if not self._is_default or self.tracking_uri in _opened:
            return mlflow.MlflowClient()
        self.folder.mkdir(parents=True, exist_ok=True)
        # MLflow migrates a database that it opens, which goes wrong for good when two processes do it at once.
        with FileLock(self.folder / "open.lock") if os.access(self.folder, os.W_OK) else nullcontext():
            client = mlflow.MlflowClient()
            client.get_experiment_by_name(self._experiment_name)  # the tracking store is opened, and the registry's
            client.search_registered_models(max_results=1)
        _opened.add(self.tracking_uri)
        return client

    @contextmanager
    def _understandable_errors(self) -> Iterator[None]:
        """Turn what MLflow and its database raise into one line for the user."""
        from alembic.util.exc import CommandError
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, CommandError, ImportError, OSError) as error:
            hint = "CURATION_LAKE_ROOT, beside which it lies" if self._is_default else "MLFLOW_TRACKING_URI"
            if self._is_registry_elsewhere:
                hint = f"MLFLOW_REGISTRY_URI={self._registry_uri} and {hint}"
            message = f"model registry {self.tracking_uri} can't be used: {first_line(error)}; check {hint}"
            raise CurationError(_without_password(message)) from error


def _note_choice(record: ChampionRecord, source: SeenSource | None) -> None:
    """Note that the champion was chosen by hand, and over which ``MODEL_SOURCE``."""
    seen = record.source
    if source is None:
        source = seen
    elif source.fingerprint is None and seen is not None and seen.name == source.name:
        source = replace(source, fingerprint=seen.fingerprint)  # what it was when it could be had
    if source is not None:
        record.see(replace(source, by_hand=True))


def _without_password(text: str) -> str:
    """A text whose URIs show no user and password."""
    return re.sub("//[^/@ ]*@", "//…@", text)
